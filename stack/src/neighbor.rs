//! ARP: answers for our own addresses, and a bounded table of who is at which Ethernet address (RFC 826).
//!
//! Answers to packets go to where the packet came from and need no table; the table is for what the stack sends of its
//! own accord. It is four-way set-associative under a keyed hash, so it can neither grow nor be made slow; a full set
//! forgets the neighbour that was heard longest ago.

use std::net::Ipv4Addr;

use nic::{Frame, FrameTooShort};

use crate::classify::Local;
use crate::clock::Time;
use crate::link::{ETHERNET_BYTES, ETHERTYPE_ARP, LinkHeader, Mac, turn_round};

const WAYS: usize = 4;

#[derive(Debug, Clone, Copy)]
struct Neighbor {
    address: Ipv4Addr,
    mac: Mac,
    heard_at: Time,
}

/// Neighbours, by address.
#[derive(Debug)]
pub(crate) struct NeighborTable {
    sets: Vec<[Option<Neighbor>; WAYS]>,
    secret: u64,
}

impl NeighborTable {
    /// A table of at least `capacity` entries.
    pub(crate) fn new(capacity: usize, secret: u64) -> Self {
        Self { sets: vec![[None; WAYS]; capacity.div_ceil(WAYS).next_power_of_two()], secret: secret | 1 }
    }

    fn set_of(&self, address: Ipv4Addr) -> usize {
        let product = (u64::from(address.to_bits()) ^ self.secret >> 32).wrapping_mul(self.secret);
        (product >> 32) as usize & (self.sets.len() - 1)
    }

    /// Notes that `address` is at `mac`.
    pub(crate) fn learn(&mut self, now: Time, address: Ipv4Addr, mac: Mac) {
        let set = self.set_of(address);
        let ways = &mut self.sets[set];
        let way = ways
            .iter()
            .position(|way| way.is_some_and(|n| n.address == address))
            .or_else(|| ways.iter().position(Option::is_none))
            .or_else(|| (0..WAYS).min_by_key(|&way| ways[way].map(|n| n.heard_at)))
            .unwrap_or(0);
        ways[way] = Some(Neighbor { address, mac, heard_at: now });
    }

    /// Where `address` was last heard.
    pub(crate) fn find(&self, address: Ipv4Addr) -> Option<Mac> {
        let set = &self.sets[self.set_of(address)];
        set.iter().flatten().find(|n| n.address == address).map(|n| n.mac)
    }

    /// Forgets where `address` is: what was sent there was not answered.
    pub(crate) fn forget(&mut self, address: Ipv4Addr) {
        let set = self.set_of(address);
        for way in &mut self.sets[set] {
            if way.is_some_and(|n| n.address == address) {
                *way = None;
            }
        }
    }

    /// Takes in the ARP packet `at` in `frame`, which `classify` has checked, and turns a request into its answer, in
    /// place. Returns whether there is an answer to send.
    pub(crate) fn take_in(&mut self, now: Time, local: &Local, frame: &mut [u8], at: usize) -> bool {
        let Some(packet) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<28>()) else {
            return false;
        };
        let sender = Ipv4Addr::new(packet[14], packet[15], packet[16], packet[17]);
        let mac = Mac([packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]]);
        // A probe has no address yet (RFC 5227 §2.1.1): answered, not learned.
        if !sender.is_unspecified() && mac.is_unicast() {
            self.learn(now, sender, mac);
        }
        if packet[7] != 1 {
            return false;
        }
        packet[7] = 2;
        // `classify` has let the packet pass because the address asked for is one of ours.
        let asked = [packet[24], packet[25], packet[26], packet[27]];
        packet.copy_within(8..18, 18);
        packet[8..14].copy_from_slice(&local.mac.0);
        packet[14..18].copy_from_slice(&asked);
        turn_round(frame);
        if let Some(source) = frame.get_mut(6..12) {
            // A request to everyone is not answered from everyone.
            source.copy_from_slice(&local.mac.0);
        }
        true
    }
}

/// Writes into `frame` the request of `source`, which is ours, for the Ethernet address of `target`.
///
/// # Errors
/// The frame has no room for 42 bytes.
pub(crate) fn write_request(
    frame: &mut Frame,
    own: Mac,
    source: Ipv4Addr,
    target: Ipv4Addr,
) -> Result<(), FrameTooShort> {
    frame.resize(ETHERNET_BYTES + 28)?;
    let bytes = frame.bytes_mut();
    bytes.fill(0);
    let (header, packet) = bytes.split_at_mut(ETHERNET_BYTES);
    header.copy_from_slice(LinkHeader::new(Mac::BROADCAST, own, None, ETHERTYPE_ARP).bytes());
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&own.0);
    packet[14..18].copy_from_slice(&source.octets());
    packet[24..28].copy_from_slice(&target.octets());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn a_full_table_forgets_whom_it_heard_longest_ago_and_never_grows() {
        let mut table = NeighborTable::new(4, 77);
        for host in 0..1_000u32 {
            table.learn(Time::from_millis(u64::from(host)), Ipv4Addr::from_bits(host), PEER);
        }
        assert_eq!(table.sets.len(), 1);
        assert_eq!(table.find(Ipv4Addr::from_bits(999)), Some(PEER));
        assert_eq!(table.find(Ipv4Addr::from_bits(996)), Some(PEER));
        assert_eq!(table.find(Ipv4Addr::from_bits(995)), None);
    }

    #[test]
    fn a_request_becomes_its_answer_in_place() {
        let local = Local::new(Ipv4Addr::new(10, 0, 0, 2), 24, OWN);
        let mut frame = Vec::new();
        frame.extend(Mac::BROADCAST.0);
        frame.extend(PEER.0);
        frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame.extend(PEER.0);
        frame.extend([10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let mut table = NeighborTable::new(4, 1);
        assert!(table.take_in(Time::ZERO, &local, &mut frame, 14));
        let mut answer = Vec::new();
        answer.extend(PEER.0);
        answer.extend(OWN.0);
        answer.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        answer.extend(OWN.0);
        answer.extend([10, 0, 0, 2]);
        answer.extend(PEER.0);
        answer.extend([10, 0, 0, 1]);
        assert_eq!(frame, answer);
        assert_eq!(table.find(Ipv4Addr::new(10, 0, 0, 1)), Some(PEER));
    }
}
