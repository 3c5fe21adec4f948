//! ARP: answers for our own addresses, and a bounded table of who is at which Ethernet address (RFC 826).
//!
//! A flow keeps the station at which its handshake found its peer; the table is asked when the stack sends of its own
//! accord, or when a flow's station is in doubt. Anyone on the link can say anything by ARP. So an entry that was only
//! told of serves to open connections, and one that was *confirmed*, by an answer to a question of ours, may move the
//! flows of the station that was silent then; neither is overwritten by what somebody says unasked
//! (`net_stack/neighbors.rs`).
//!
//! The table is four-way set-associative under a keyed hash, so it can neither grow nor be made slow; a full set forgets
//! the neighbour that was heard longest ago, those not confirmed first.

use std::net::Ipv4Addr;
use std::time::Duration;

use nic::{Frame, FrameTooShort};

use crate::classify::Local;
use crate::clock::Time;
use crate::link::{ETHERNET_BYTES, ETHERTYPE_ARP, LinkHeader, Mac, TAGGED_BYTES, turn_round};
use crate::names::is_name;

const WAYS: usize = 4;

/// How long an answer to a question of ours settles where a neighbour is (RFC 1122 §2.3.2.1 has a minute; Linux 30 s).
pub(crate) const REACHABLE: Duration = Duration::from_secs(30);

/// After how long without a word a neighbour is asked for anew before something is sent to it (RFC 1122 §2.3.2.1: of the
/// order of a minute).
const AGE: Duration = Duration::from_secs(60);

/// Length of an ARP packet for IPv4 over Ethernet, in bytes.
const ARP_BYTES: usize = 28;

/// What is known of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neighbor {
    address: Ipv4Addr,
    pub(crate) mac: Mac,
    /// The station that it has left: that one did not answer when it was asked by itself.
    left: Option<Mac>,
    heard_at: Time,
    /// When it last answered a question of ours.
    confirmed_at: Option<Time>,
}

impl Neighbor {
    /// Whether it has left the station `mac` for where it is now.
    pub(crate) fn has_left(&self, mac: Mac) -> bool {
        self.left == Some(mac)
    }

    /// Whether it has ever answered a question of ours.
    pub(crate) fn was_confirmed(&self) -> bool {
        self.confirmed_at.is_some()
    }

    /// Whether it has answered a question of ours within the last `span`.
    pub(crate) fn is_confirmed(&self, now: Time, span: Duration) -> bool {
        self.confirmed_at.is_some_and(|at| now.since(at) < span)
    }
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

    fn put(&mut self, neighbor: Neighbor) {
        let set = self.set_of(neighbor.address);
        let ways = &mut self.sets[set];
        let way = ways
            .iter()
            .position(|way| way.is_some_and(|n| n.address == neighbor.address))
            .or_else(|| ways.iter().position(Option::is_none))
            .or_else(|| (0..WAYS).min_by_key(|&way| ways[way].map(|n| (n.confirmed_at.is_some(), n.heard_at))))
            .unwrap_or(0);
        ways[way] = Some(neighbor);
    }

    /// Notes that `address` says it is at `mac`, if nothing is known of it, or just that.
    pub(crate) fn learn(&mut self, now: Time, address: Ipv4Addr, mac: Mac) {
        match self.get(address) {
            None => self.put(Neighbor { address, mac, left: None, heard_at: now, confirmed_at: None }),
            Some(known) if known.mac == mac => self.put(Neighbor { heard_at: now, ..known }),
            Some(_) => {}
        }
    }

    /// Notes that `address` is at `mac`: it was asked. `left` is the station that was heard first and was silent, if any.
    pub(crate) fn confirm(&mut self, now: Time, address: Ipv4Addr, mac: Mac, left: Option<Mac>) {
        let left = left.or_else(|| self.get(address).filter(|known| known.mac == mac)?.left);
        self.put(Neighbor { address, mac, left, heard_at: now, confirmed_at: Some(now) });
    }

    /// What is known of `address`.
    pub(crate) fn get(&self, address: Ipv4Addr) -> Option<Neighbor> {
        let set = &self.sets[self.set_of(address)];
        set.iter().flatten().find(|n| n.address == address).copied()
    }

    /// Where `address` is, if it was heard not too long ago.
    pub(crate) fn find(&self, now: Time, address: Ipv4Addr) -> Option<Mac> {
        self.get(address).filter(|n| now.since(n.heard_at) < AGE).map(|n| n.mac)
    }

    /// Notes that something was heard of `address` by way of the station `mac`: what is known of it does not age.
    pub(crate) fn hear(&mut self, now: Time, address: Ipv4Addr, mac: Mac) {
        if let Some(known) = self.get(address).filter(|known| known.mac == mac) {
            self.put(Neighbor { heard_at: now, ..known });
        }
    }

    /// An address that is at the station `mac`, or else one that has left it: the name of one of IPv6, if `of_ipv6`, which alone can
    /// be asked for from such; of several the one heard last. Looks at the whole table.
    pub(crate) fn address_of(&self, mac: Mac, of_ipv6: bool) -> Option<Ipv4Addr> {
        let of_family = self.sets.iter().flatten().flatten().filter(|n| is_name(n.address) == of_ipv6);
        let those = of_family.filter(|n| n.mac == mac || n.has_left(mac));
        those.max_by_key(|n| (n.mac == mac, n.confirmed_at.is_some(), n.heard_at)).map(|n| n.address)
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
}

/// What an ARP packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    /// Whether it asks; else it answers.
    pub(crate) asks: bool,
    /// Its sender; unspecified in a probe, whose sender has no address yet (RFC 5227 §2.1.1).
    pub(crate) sender: Ipv4Addr,
    /// Where the sender says it is.
    pub(crate) mac: Mac,
    /// Who is asked, or answered.
    pub(crate) target: Ipv4Addr,
}

impl Arp {
    /// Reads the ARP packet `at` in `frame`, which `classify` has checked.
    pub(crate) fn read(frame: &[u8], at: usize) -> Option<Self> {
        let packet = frame.get(at..)?.first_chunk::<ARP_BYTES>()?;
        let address = |at: usize| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]);
        Some(Self {
            asks: packet[7] == 1,
            sender: address(14),
            mac: Mac([packet[8], packet[9], packet[10], packet[11], packet[12], packet[13]]),
            target: address(24),
        })
    }
}

/// Turns the ARP request `at` in `frame`, which `classify` has checked, into the answer for the address asked for,
/// which is ours; in place.
pub(crate) fn answer(local: &Local, frame: &mut [u8], at: usize) {
    let Some(packet) = frame.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<ARP_BYTES>()) else { return };
    packet[7] = 2;
    let asked = [packet[24], packet[25], packet[26], packet[27]];
    packet.copy_within(8..18, 18);
    packet[8..14].copy_from_slice(&local.mac.0);
    packet[14..18].copy_from_slice(&asked);
    turn_round(frame);
    if let Some(source) = frame.get_mut(6..12) {
        // A request to everyone is not answered from everyone.
        source.copy_from_slice(&local.mac.0);
    }
}

/// Writes into `frame` a request for the Ethernet address of `target`, sent `to` a station or to all, from `source`,
/// which is ours and at `own`, with the tag control information `tag` if there is one.
///
/// # Errors
/// The frame has no room for 46 bytes.
pub(crate) fn write_request(
    frame: &mut Frame,
    (own, source): (Mac, Ipv4Addr),
    to: Mac,
    tag: Option<u16>,
    target: Ipv4Addr,
) -> Result<(), FrameTooShort> {
    let link = LinkHeader::new(to, own, tag, ETHERTYPE_ARP);
    debug_assert!(matches!(link.len(), ETHERNET_BYTES | TAGGED_BYTES));
    frame.resize(link.len() + ARP_BYTES)?;
    let bytes = frame.bytes_mut();
    bytes.fill(0);
    link.write(bytes);
    let packet = &mut bytes[link.len()..];
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
    const OTHER: Mac = Mac([2, 0, 0, 0, 0, 3]);
    const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const SOON: Time = Time::from_millis(1_000);

    #[test]
    fn a_full_table_forgets_whom_it_heard_longest_ago_and_never_grows() {
        let mut table = NeighborTable::new(4, 77);
        for host in 0..1_000u32 {
            table.learn(Time::from_millis(u64::from(host)), Ipv4Addr::from_bits(host), PEER);
        }
        assert_eq!(table.sets.len(), 1);
        assert_eq!(table.find(SOON, Ipv4Addr::from_bits(999)), Some(PEER));
        assert_eq!(table.find(SOON, Ipv4Addr::from_bits(996)), Some(PEER));
        assert_eq!(table.find(SOON, Ipv4Addr::from_bits(995)), None);
    }

    #[test]
    fn a_flood_of_claims_does_not_push_out_who_was_confirmed() {
        let mut table = NeighborTable::new(4, 77);
        table.confirm(Time::ZERO, HOST, PEER, None);
        for host in 0..1_000u32 {
            table.learn(Time::from_millis(u64::from(host)), Ipv4Addr::from_bits(host), OTHER);
        }
        assert_eq!(table.find(SOON, HOST), Some(PEER));
    }

    #[test]
    fn what_is_known_ages_unless_something_is_heard_of_it() {
        let mut table = NeighborTable::new(4, 77);
        table.confirm(Time::ZERO, HOST, PEER, None);
        assert_eq!(table.find(Time::from_millis(59_999), HOST), Some(PEER));
        assert_eq!(table.find(Time::from_millis(60_000), HOST), None);
        table.hear(Time::from_millis(60_000), HOST, OTHER);
        assert_eq!(table.find(Time::from_millis(60_000), HOST), None, "it was heard elsewhere");
        table.hear(Time::from_millis(60_000), HOST, PEER);
        assert_eq!(table.find(Time::from_millis(119_999), HOST), Some(PEER));
        // What was confirmed is not, for having been heard.
        assert!(!table.get(HOST).is_some_and(|known| known.is_confirmed(Time::from_millis(60_000), AGE)));
    }

    #[test]
    fn what_is_said_unasked_overwrites_nothing() {
        let mut table = NeighborTable::new(4, 77);
        table.learn(Time::ZERO, HOST, PEER);
        table.learn(Time::from_millis(9_000), HOST, OTHER);
        let known = table.get(HOST).expect("it was learned");
        assert_eq!((known.mac, known.is_confirmed(Time::ZERO, Duration::MAX)), (PEER, false));
        table.confirm(Time::from_millis(9_000), HOST, OTHER, None);
        let known = table.get(HOST).expect("it was confirmed");
        assert!(known.mac == OTHER && known.is_confirmed(Time::from_millis(9_999), Duration::from_secs(1)));
        assert!(!known.is_confirmed(Time::from_millis(10_000), Duration::from_secs(1)));
    }

    #[test]
    fn a_station_of_several_addresses_is_the_one_heard_last() {
        let mut table = NeighborTable::new(64, 77);
        assert_eq!(table.address_of(PEER, false), None);
        for host in 1..9 {
            table.learn(Time::from_millis(u64::from(host)), Ipv4Addr::from_bits(host), PEER);
        }
        assert_eq!(table.address_of(PEER, false), Some(Ipv4Addr::from_bits(8)));
        table.confirm(Time::ZERO, Ipv4Addr::from_bits(3), PEER, None);
        assert_eq!(table.address_of(PEER, false), Some(Ipv4Addr::from_bits(3)));
        // Who has left is found by where it was, if nobody else is there.
        for left in [Some(PEER), None] {
            table.confirm(Time::ZERO, Ipv4Addr::from_bits(3), OTHER, left);
        }
        assert_eq!(table.address_of(PEER, false), Some(Ipv4Addr::from_bits(8)));
        (1..9).filter(|&host| host != 3).for_each(|host| table.forget(Ipv4Addr::from_bits(host)));
        assert_eq!(table.address_of(PEER, false), Some(Ipv4Addr::from_bits(3)));
        // Its address of the other family cannot be asked for in this one's stead.
        let named = Ipv4Addr::new(240, 16, 0, 7);
        table.learn(SOON, named, OTHER);
        assert_eq!(table.address_of(OTHER, false), Some(Ipv4Addr::from_bits(3)));
        assert_eq!((table.address_of(OTHER, true), table.address_of(PEER, true)), (Some(named), None));
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
        let read = Arp { asks: true, sender: HOST, mac: PEER, target: Ipv4Addr::new(10, 0, 0, 2) };
        assert_eq!(Arp::read(&frame, 14), Some(read));
        super::answer(&local, &mut frame, 14);
        let mut answer = Vec::new();
        answer.extend(PEER.0);
        answer.extend(OWN.0);
        answer.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        answer.extend(OWN.0);
        answer.extend([10, 0, 0, 2]);
        answer.extend(PEER.0);
        answer.extend([10, 0, 0, 1]);
        assert_eq!(frame, answer);
    }
}
