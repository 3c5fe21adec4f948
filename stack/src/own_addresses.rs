//! `OwnAddress`; `OwnIpv6`: our own IPv6 addresses, each with what is known of whether somebody else has it (RFC 4862 §5.4).

use std::net::{IpAddr, Ipv6Addr};

use crate::link::Mac;

/// An address of the stack's own, and the network on the link that it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnAddress {
    /// The address.
    pub address: IpAddr,
    /// Leading bits that the hosts of its network have in common.
    pub prefix_len: u8,
}

impl OwnAddress {
    /// The address `address`/`prefix_len`.
    pub fn new(address: impl Into<IpAddr>, prefix_len: u8) -> Self {
        Self { address: address.into(), prefix_len }
    }
}

impl std::fmt::Display for OwnAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_len)
    }
}

/// Every node of the link (RFC 4291 §2.7.1).
pub(crate) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Every router of the link.
pub(crate) const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// Whether an address of ours is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is being asked whether somebody has it: nothing but NDP about it is taken.
    Tentative,
    /// Nobody has answered.
    Assigned,
    /// Somebody else had it before us.
    Duplicate,
}

#[derive(Debug, Clone, Copy)]
struct Own {
    address: Ipv6Addr,
    prefix_len: u8,
    standing: Standing,
}

/// Our IPv6 addresses, by number.
#[derive(Debug)]
pub(crate) struct OwnIpv6 {
    own: Box<[Own]>,
}

impl OwnIpv6 {
    /// Those of `addresses` that are IPv6 ones. `asked`: they are used once nobody has answered for them; else at once.
    pub(crate) fn new(addresses: &[OwnAddress], asked: bool) -> Self {
        let standing = if asked { Standing::Tentative } else { Standing::Assigned };
        let of_ipv6 = |own: &OwnAddress| match own.address {
            IpAddr::V6(address) => Some(Own { address, prefix_len: own.prefix_len, standing }),
            IpAddr::V4(_) => None,
        };
        Self { own: addresses.iter().filter_map(of_ipv6).collect() }
    }

    /// Whether there is any.
    #[inline]
    pub(crate) fn is_there(&self) -> bool {
        !self.own.is_empty()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.own.len()
    }

    /// The address with this number.
    #[inline]
    pub(crate) fn get(&self, number: usize) -> Option<Ipv6Addr> {
        self.own.get(number).map(|own| own.address)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Ipv6Addr> + '_ {
        self.own.iter().map(|own| own.address)
    }

    /// The number of an address of ours, in whatever standing.
    #[inline]
    pub(crate) fn position(&self, address: &Ipv6Addr) -> Option<usize> {
        self.own.iter().position(|own| own.address == *address)
    }

    /// The standing of the address with this number.
    #[inline]
    pub(crate) fn standing(&self, number: usize) -> Standing {
        self.own.get(number).map_or(Standing::Duplicate, |own| own.standing)
    }

    /// Has it in another.
    pub(crate) fn set_standing(&mut self, number: usize, standing: Standing) {
        if let Some(own) = self.own.get_mut(number) {
            own.standing = standing;
        }
    }

    /// Whether `address` is on our link, as far as our addresses say: of one of their networks, or link-local.
    pub(crate) fn is_on_link(&self, address: &Ipv6Addr) -> bool {
        is_link_local(address) || self.own.iter().any(|own| shares_prefix(&own.address, address, own.prefix_len))
    }

    /// Whether one of our addresses has `group` as its solicited-node group (RFC 4291 §2.7.1).
    pub(crate) fn is_solicited_by(&self, group: &Ipv6Addr) -> bool {
        self.own.iter().any(|own| solicited_node(&own.address) == *group)
    }

    /// The number of the address from which `to` is spoken to (RFC 6724 §5, rules 1, 2 and 8): one in use, of the same
    /// scope, that has most leading bits in common.
    pub(crate) fn facing(&self, to: &Ipv6Addr) -> Option<usize> {
        let rank = |own: &Own| {
            let common = (own.address.to_bits() ^ to.to_bits()).leading_zeros();
            (is_link_local(&own.address) == is_link_local(to), common)
        };
        let in_use = self.own.iter().enumerate().filter(|(_, own)| own.standing == Standing::Assigned);
        // Of equals the first.
        in_use.rev().max_by_key(|(_, own)| rank(own)).map(|(number, _)| number)
    }
}

/// Whether the first `prefix_len` bits are the same.
pub(crate) fn shares_prefix(a: &Ipv6Addr, b: &Ipv6Addr, prefix_len: u8) -> bool {
    (a.to_bits() ^ b.to_bits()).leading_zeros() >= u32::from(prefix_len.min(128))
}

/// Whether `address` is of use on its link alone (RFC 4291 §2.5.6).
pub(crate) fn is_link_local(address: &Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

/// Whether one other host can have `address`.
#[inline]
pub(crate) fn is_host(address: &Ipv6Addr) -> bool {
    // What IPv4 hosts are called in IPv6 interfaces is on no wire (RFC 4291 §2.5.5.2, RFC 6890).
    let odd = || address.is_unspecified() || address.is_loopback() || address.to_ipv4_mapped().is_some();
    // All of these begin with 64 bits of nothing.
    !address.is_multicast() && (address.to_bits() >> 64 != 0 || !odd())
}

/// The group in which the holder of `address` is asked for (RFC 4291 §2.7.1).
pub(crate) fn solicited_node(address: &Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The Ethernet address of a group (RFC 2464 §7).
pub(crate) fn group_station(group: &Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str, prefix_len: u8) -> OwnAddress {
        OwnAddress::new(text.parse::<Ipv6Addr>().expect("an address"), prefix_len)
    }

    fn at(text: &str) -> Ipv6Addr {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_is_asked_for_in_its_group_at_the_groups_station() {
        let group = solicited_node(&at("4037::1:800:200e:8c6c"));
        assert_eq!(group, at("ff02::1:ff0e:8c6c"), "RFC 4291's example");
        assert_eq!(group_station(&group), Mac([0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
    }

    #[test]
    fn who_is_spoken_to_is_spoken_to_from_the_nearest_address_in_use() {
        let all = [own("fd00::1", 64), own("fe80::1", 64), own("fd00:0:0:1::1", 64)];
        let mut mine = OwnIpv6::new(&all, true);
        assert_eq!(mine.facing(&at("fd00::9")), None, "none is in use yet");
        (0..3).for_each(|number| mine.set_standing(number, Standing::Assigned));
        let wanted = [("fd00::9", 0), ("fd00:0:0:1::9", 2), ("fe80::9", 1), ("2001:db8::1", 0)];
        for (to, number) in wanted {
            assert_eq!(mine.facing(&at(to)), Some(number), "{to}");
        }
        assert!(mine.is_on_link(&at("fe80::77")) && mine.is_on_link(&at("fd00:0:0:1::77")));
        assert!(!mine.is_on_link(&at("fd00:0:0:2::77")));
        assert!(mine.is_solicited_by(&at("ff02::1:ff00:1")) && !mine.is_solicited_by(&at("ff02::1:ff00:2")));
    }

    #[test]
    fn groups_loopback_and_what_ipv4_hosts_are_called_are_no_hosts() {
        assert!(["::", "::1", "ff02::1", "::ffff:10.0.0.1"].iter().all(|text| !is_host(&at(text))));
        assert!(["fd00::1", "fe80::1", "2001:db8::1"].iter().all(|text| is_host(&at(text))));
    }
}
