//! Our IPv4 addresses beside those in a row, each of a network of its own. Asked only where there are some, or where nothing
//! is fast.

use std::net::Ipv4Addr;

use super::Local;
use crate::drop_reason::DropReason;

impl Local {
    #[cold]
    pub(super) fn has_beside(&self, address: u32) -> bool {
        self.others.iter().any(|&(other, _)| other == address)
    }

    /// The address of ours with this number, those beside the row first; `None`: there are not so many.
    pub(crate) fn nth(&self, number: u32) -> Option<Ipv4Addr> {
        let beside = self.others.len() as u32;
        let bits = match self.others.get(number as usize) {
            Some(&(other, _)) => other,
            None if number - beside < self.addresses => self.address.to_bits().wrapping_add(number - beside),
            None => return None,
        };
        Some(Ipv4Addr::from_bits(bits))
    }

    /// The address of ours that is of the network of `address`, or else the first, if there is any.
    pub(crate) fn facing(&self, address: Ipv4Addr) -> Option<Ipv4Addr> {
        let first = (self.addresses > 0).then_some(self.address);
        if first.is_some() && self.is_on_first_link(address.to_bits()) {
            return first;
        }
        let beside = self.others.iter().find(|&&(other, mask)| (other ^ address.to_bits()) & mask == 0);
        let some = beside.or_else(|| self.others.first().filter(|_| first.is_none()));
        some.map(|&(other, _)| Ipv4Addr::from_bits(other)).or(first)
    }

    /// Whether a connection to `address` makes sense: one other host has it.
    pub(crate) fn may_reach(&self, address: Ipv4Addr) -> bool {
        let address = address.to_bits();
        !self.has(address) && !self.is_martian(address) && !self.is_odd_beside(address)
    }

    /// Whether `address` is on our own link.
    pub(crate) fn is_on_link(&self, address: u32) -> bool {
        self.is_on_first_link(address) || self.others.iter().any(|&(other, mask)| (other ^ address) & mask == 0)
    }

    /// Whether it is of the network of our first address.
    #[inline]
    pub(super) fn is_on_first_link(&self, address: u32) -> bool {
        (address ^ self.address.to_bits()) & self.mask == 0
    }

    /// Whether it is that of everyone in the network of an address beside the row, or that network's number.
    #[cold]
    pub(super) fn is_odd_beside(&self, address: u32) -> bool {
        self.others.iter().any(|&(other, mask)| {
            let host = address & !mask;
            mask < 0xffff_fffe && mask != 0 && (other ^ address) & mask == 0 && (host == 0 || host == !mask)
        })
    }

    /// Why no packet comes from `source`, as far as our addresses beside the row say.
    #[cold]
    pub(super) fn odd_source(&self, source: u32) -> Option<DropReason> {
        if self.has_beside(source) {
            return Some(DropReason::Land);
        }
        self.is_odd_beside(source).then_some(DropReason::IpMartian)
    }
}
