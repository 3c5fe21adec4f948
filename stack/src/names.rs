//! `Names`: IPv6 addresses in 32 bits, so that whatever is kept of a flow is as small as if it were IPv4's.
//!
//! Inside the stack an IPv6 address is a number out of 240.0.0.0/4, which no IPv4 host has and no packet brings in:
//!
//! | number | names | for |
//! |---|---|---|
//! | 240.0.0.0 + n | our own address n | ever |
//! | 240.1.0.0 + n | a *passer-by*: who was seen in a frame and is kept nowhere | the burst |
//! | 240.2.0.0 + n | who waits for a SYN cookie, in place n of that queue | as long as it waits |
//! | 240.16.0.0 + n | a *station*: a host of which something is kept | as long as anything holds it, and then until its place is needed |
//!
//! A flow, asleep or awake, and a TIME-WAIT record hold their station; a frame alone never makes one, so that a flood of
//! made-up addresses finds nothing to fill. Which addresses are known can change only between bursts for who was seen in
//! this one: a station that a frame of the burst has named stays what it is until the next.
//!
//! Invariant: two addresses never have the same name at a time, and an address has at most one as a station. All memory is
//! reserved at the start, and none where the stack has no IPv6 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::asking::MOST_ASKING;
use crate::config::{Secrets, StackConfig};
pub(crate) use crate::flow_id::is_name;
use crate::flow_id::{Ends, FIRST_NAME, FlowKey};
use crate::own_addresses::OwnIpv6;
use crate::table::{FlowTable, TableHash};

/// The first names of passers-by, of those that wait for cookies, and of stations.
const PASSING: u32 = 0xf001_0000;
const ASKING: u32 = 0xf002_0000;
const STATIONS: u32 = 0xf010_0000;

/// Most stations: names are left over for nothing else.
pub(crate) const MOST_STATIONS: usize = 1 << 27;

/// Passers-by remembered: of each frame of a burst one, and another of whom it speaks.
const PASSERS: usize = 4 * nic::BURST;

/// Idle stations looked at for one that can be forgotten.
const LOOKS: usize = 16;

/// No station.
const NONE: u32 = u32::MAX;

/// Whether it is that of nobody who is kept.
#[inline]
pub(crate) fn is_passing(address: Ipv4Addr) -> bool {
    (PASSING..STATIONS).contains(&address.to_bits())
}

/// The name of our own address with this number.
pub(crate) fn of_own(number: usize) -> Ipv4Addr {
    Ipv4Addr::from_bits(FIRST_NAME + number as u32)
}

/// Under what an IPv6 address counts where answers to strangers are limited; see [`Names::payer`].
pub(crate) fn payer_of(address: &Ipv6Addr) -> u64 {
    // No IPv4 address has the first bit of 64.
    (address.to_bits() >> 64) as u64 | 1 << 63
}

/// A host of which something is kept.
#[derive(Debug, Clone, Copy)]
struct Station {
    address: Ipv6Addr,
    /// What keeps it.
    holders: u32,
    /// The burst in which it was last seen in a frame.
    seen: u32,
    /// Neighbours in the list of those that nothing holds, the longest first.
    before: u32,
    behind: u32,
}

/// The names in use.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) own: OwnIpv6,
    stations: Vec<Station>,
    most: usize,
    table: FlowTable,
    hash: TableHash,
    passing: Box<[Ipv6Addr]>,
    next_passing: usize,
    asking: Box<[Ipv6Addr]>,
    next_asking: usize,
    first_idle: u32,
    last_idle: u32,
    burst: u32,
    label_secret: u64,
}

impl Names {
    /// The names of the stack that is told `config`.
    pub(crate) fn of(config: &StackConfig, secrets: &Secrets) -> Self {
        let own = OwnIpv6::new(&config.others, config.arp);
        let most = match config.stations {
            // And some beside them: neighbours of which nothing is kept but where they are.
            0 => config.max_flows + config.time_wait_records + config.neighbors,
            most => most,
        };
        Self::new(own, most, MOST_ASKING, secrets.table)
    }

    /// The names of a stack with the addresses `own`, at most `most` stations, and `asking` places for who waits for a cookie.
    pub(crate) fn new(own: OwnIpv6, most: usize, asking: usize, secret: [u64; 2]) -> Self {
        let there = own.is_there();
        let most = if there { most.min(MOST_STATIONS) } else { 0 };
        let nobody = |count: usize| vec![Ipv6Addr::UNSPECIFIED; if there { count } else { 0 }].into_boxed_slice();
        Self {
            own,
            stations: Vec::with_capacity(most),
            most,
            table: FlowTable::new(most),
            hash: TableHash::new([secret[1], !secret[0]]),
            passing: nobody(PASSERS),
            next_passing: 0,
            asking: nobody(asking),
            next_asking: 0,
            first_idle: NONE,
            last_idle: NONE,
            burst: 1,
            label_secret: (secret[0].rotate_left(32) ^ secret[1].wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1,
        }
    }

    /// Whether there is any IPv6 here.
    #[inline]
    pub(crate) fn are_there(&self) -> bool {
        self.own.is_there()
    }

    /// A burst of frames begins.
    #[inline]
    pub(crate) fn begin_burst(&mut self) {
        self.burst = self.burst.wrapping_add(1);
    }

    fn hash_of(&self, address: &Ipv6Addr) -> u32 {
        let bits = address.to_bits();
        self.hash.of_words((bits >> 64) as u64, bits as u64)
    }

    fn number_of(&self, address: &Ipv6Addr) -> Option<u32> {
        self.table.find(self.hash_of(address), |number| self.stations[number as usize].address == *address)
    }

    /// The name of the station at `address`.
    pub(crate) fn find(&self, address: &Ipv6Addr) -> Option<Ipv4Addr> {
        self.number_of(address).map(name_of)
    }

    /// The name of `address`, seen in a frame: that of its station, or else that of a passer-by.
    #[inline]
    pub(crate) fn see(&mut self, address: &Ipv6Addr) -> Ipv4Addr {
        match self.number_of(address) {
            Some(number) => {
                self.stations[number as usize].seen = self.burst;
                name_of(number)
            }
            None => self.pass(*address),
        }
    }

    fn pass(&mut self, address: Ipv6Addr) -> Ipv4Addr {
        let place = self.next_passing;
        self.next_passing = (place + 1) % PASSERS;
        if let Some(passer) = self.passing.get_mut(place) {
            *passer = address;
        }
        Ipv4Addr::from_bits(PASSING + place as u32)
    }

    /// The name, for one that waits for a cookie, of whom `name` names. No more wait than there are places.
    pub(crate) fn ask(&mut self, name: Ipv4Addr) -> Ipv4Addr {
        if !is_name(name) {
            return name;
        }
        let address = self.address(name);
        let place = self.next_asking;
        self.next_asking = (place + 1) % self.asking.len().max(1);
        if let Some(asker) = self.asking.get_mut(place) {
            *asker = address;
        }
        Ipv4Addr::from_bits(ASKING + place as u32)
    }

    /// The address that `name` names, if it does; else ::.
    pub(crate) fn address(&self, name: Ipv4Addr) -> Ipv6Addr {
        let bits = name.to_bits();
        let found = match bits {
            STATIONS.. => self.stations.get((bits - STATIONS) as usize).map(|station| station.address),
            ASKING.. => self.asking.get((bits - ASKING) as usize).copied(),
            PASSING.. => self.passing.get((bits - PASSING) as usize).copied(),
            FIRST_NAME.. => self.own.get((bits - FIRST_NAME) as usize),
            _ => None,
        };
        found.unwrap_or(Ipv6Addr::UNSPECIFIED)
    }

    /// The same, or the IPv4 address.
    pub(crate) fn ip(&self, address: Ipv4Addr) -> IpAddr {
        if is_name(address) { self.address(address).into() } else { address.into() }
    }

    /// Both ends of a flow as they are on the wire.
    pub(crate) fn ends(&self, key: &FlowKey) -> Ends {
        let FlowKey { remote, local, remote_port, local_port } = *key;
        Ends { remote: self.ip(remote), local: self.ip(local), remote_port, local_port }
    }

    /// Under what an address counts where answers to strangers are limited: each IPv4 address by itself, those of IPv6 by
    /// their first 64 bits, since one host can have all of these (RFC 4291 §2.5.1).
    pub(crate) fn payer(&self, address: Ipv4Addr) -> u64 {
        if !is_name(address) {
            return address.to_bits().into();
        }
        payer_of(&self.address(address))
    }

    /// The flow label of packets of the flow `key`, whose peer is `remote`: the same for all of them, whatever the peer is
    /// called, and of another flow another (RFC 6437 §3).
    pub(crate) fn label(&self, remote: &Ipv6Addr, key: &FlowKey) -> u32 {
        let (bits, secret) = (remote.to_bits(), self.label_secret);
        let ports = u64::from(key.remote_port) << 16 | u64::from(key.local_port);
        let mixed = ((bits >> 64) as u64 ^ ports).wrapping_mul(secret) ^ bits as u64;
        let mixed = (mixed ^ mixed >> 29).wrapping_mul(secret);
        ((mixed ^ mixed >> 32).wrapping_mul(secret) >> 44) as u32
    }

    /// Has the station that `name` names, or the address of a passer-by, kept until it is [released](Self::release) as often
    /// as it was held. Returns its name, and that of a station which had to be forgotten for it; `None`: there is no room.
    /// IPv4 addresses are kept nowhere. `busy` says of which station something is still waited for.
    pub(crate) fn hold(&mut self, name: Ipv4Addr, busy: impl Fn(Ipv4Addr) -> bool) -> Option<Held> {
        let held = self.know(name, busy)?;
        if let Some(number) = number_in(held.name)
            && let Some(station) = self.stations.get_mut(number as usize)
        {
            station.holders += 1;
            if station.holders == 1 {
                self.unlink(number);
            }
        }
        Some(held)
    }

    /// The same without holding it: it is known until its place is needed.
    pub(crate) fn know(&mut self, name: Ipv4Addr, busy: impl Fn(Ipv4Addr) -> bool) -> Option<Held> {
        if !is_passing(name) {
            return Some(Held { name, forgotten: None });
        }
        let address = self.address(name);
        if let Some(number) = self.number_of(&address) {
            return Some(Held { name: name_of(number), forgotten: None });
        }
        let (number, forgotten) = self.place(busy)?;
        self.stations[number as usize] = Station { address, holders: 0, seen: self.burst, before: NONE, behind: NONE };
        self.table.insert(self.hash_of(&address), number);
        self.append(number);
        Some(Held { name: name_of(number), forgotten })
    }

    /// A place for a station, and whose it was.
    fn place(&mut self, busy: impl Fn(Ipv4Addr) -> bool) -> Option<(u32, Option<Ipv4Addr>)> {
        if self.stations.len() < self.most {
            let empty = Station { address: Ipv6Addr::UNSPECIFIED, holders: 0, seen: 0, before: NONE, behind: NONE };
            self.stations.push(empty);
            return Some((self.stations.len() as u32 - 1, None));
        }
        for _ in 0..LOOKS {
            let number = self.first_idle;
            let station = self.stations.get(number as usize)?;
            let (seen, hash) = (station.seen, self.hash_of(&station.address));
            self.unlink(number);
            if seen != self.burst && !busy(name_of(number)) {
                self.table.remove(hash, number);
                return Some((number, Some(name_of(number))));
            }
            // The next who asks shall find others.
            self.append(number);
        }
        None
    }

    /// Gives a station up that was [held](Self::hold); of IPv4 nothing was.
    pub(crate) fn release(&mut self, name: Ipv4Addr) {
        let Some(number) = number_in(name) else { return };
        let Some(station) = self.stations.get_mut(number as usize) else { return };
        debug_assert!(station.holders > 0, "{name} was not held");
        station.holders = station.holders.saturating_sub(1);
        if station.holders == 0 {
            self.append(number);
        }
    }

    /// Stations that are known, and what holds them together.
    pub(crate) fn census(&self) -> (usize, usize) {
        (self.table.len(), self.stations.iter().map(|station| station.holders as usize).sum())
    }

    /// Puts a station that nothing holds behind the others of which that is so.
    fn append(&mut self, number: u32) {
        let last = std::mem::replace(&mut self.last_idle, number);
        let station = &mut self.stations[number as usize];
        (station.before, station.behind) = (last, NONE);
        match self.stations.get_mut(last as usize) {
            Some(last) => last.behind = number,
            None => self.first_idle = number,
        }
    }

    fn unlink(&mut self, number: u32) {
        let Station { before, behind, .. } = self.stations[number as usize];
        match self.stations.get_mut(before as usize) {
            Some(before) => before.behind = behind,
            None => self.first_idle = behind,
        }
        match self.stations.get_mut(behind as usize) {
            Some(behind) => behind.before = before,
            None => self.last_idle = before,
        }
    }
}

/// What came of naming somebody for longer than a burst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) name: Ipv4Addr,
    /// A name that was another's until now: what is known under it is no longer true.
    pub(crate) forgotten: Option<Ipv4Addr>,
}

/// The name of the station with this number.
fn name_of(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(STATIONS + number)
}

/// The number of the station that `name` names.
fn number_in(name: Ipv4Addr) -> Option<u32> {
    name.to_bits().checked_sub(STATIONS)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand_xoshiro::Xoshiro256PlusPlus;
    use rand_xoshiro::rand_core::{RngCore, SeedableRng};

    use super::*;
    use crate::own_addresses::OwnAddress;

    fn address(number: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(0xfd00_0000_0000_0000_0000_0000_0000_0000 | u128::from(number))
    }

    fn names(most: usize) -> Names {
        let own = [OwnAddress::new(address(0xffff), 64)];
        Names::new(OwnIpv6::new(&own, false), most, 4, [1, 2])
    }

    fn nobody(_: Ipv4Addr) -> bool {
        false
    }

    #[test]
    fn who_is_seen_is_kept_nowhere_until_something_holds_it() {
        let mut names = names(4);
        for number in 0..10_000 {
            let name = names.see(&address(number));
            assert!(is_name(name) && is_passing(name));
            assert_eq!(names.address(name), address(number));
        }
        assert_eq!(names.census(), (0, 0));
        let name = names.see(&address(7));
        let held = names.hold(name, nobody).expect("there is room");
        assert!(!is_passing(held.name) && held.forgotten.is_none());
        assert_eq!((names.address(held.name), names.see(&address(7))), (address(7), held.name));
        assert_eq!(names.find(&address(8)), None);
        assert_eq!(names.census(), (1, 1));
    }

    #[test]
    fn what_is_held_stays_and_what_is_not_gives_way_the_longest_first() {
        let mut names = names(3);
        let mut held = Vec::new();
        for number in 0..3 {
            let passing = names.see(&address(number));
            held.push(names.hold(passing, nobody).expect("there is room").name);
        }
        let fourth = names.see(&address(3));
        assert_eq!(names.hold(fourth, nobody), None, "all are held");
        names.release(held[1]);
        names.release(held[0]);
        assert_eq!(names.hold(fourth, nobody), None, "this burst may have named them");
        names.begin_burst();
        let busy = held[1];
        let taken = names.hold(fourth, |name| name == busy).expect("one can be forgotten");
        assert_eq!(taken, Held { name: held[0], forgotten: Some(held[0]) });
        assert_eq!((names.find(&address(0)), names.find(&address(1))), (None, Some(held[1])));
        // One that is known again is held again, where it was.
        let known = names.see(&address(1));
        assert_eq!(names.hold(known, nobody), Some(Held { name: held[1], forgotten: None }));
        assert_eq!(names.census(), (3, 3));
    }

    #[test]
    fn many_that_cannot_be_forgotten_hide_no_other_for_long() {
        let mut names = names(40);
        for number in 0..40 {
            let passing = names.see(&address(number));
            names.know(passing, nobody).expect("there is room");
        }
        names.begin_burst();
        let last = names.find(&address(39)).expect("it is known");
        let certain = |name| name != last;
        let passing = names.see(&address(99));
        let tried: Vec<_> = (0..3).map(|_| names.know(passing, certain).and_then(|known| known.forgotten)).collect();
        assert_eq!(tried, [None, None, Some(last)], "sixteen are looked at each time");
        assert_eq!(names.census(), (40, 0));
    }

    #[test]
    fn who_waits_for_a_cookie_is_named_for_as_long() {
        let mut names = names(1);
        let waiting: Vec<_> = (0..4)
            .map(|number| {
                let passing = names.see(&address(number));
                names.ask(passing)
            })
            .collect();
        (100..1_000).for_each(|number| {
            names.see(&address(number));
        });
        let addresses: Vec<_> = waiting.iter().map(|&name| names.address(name)).collect();
        assert_eq!(addresses, (0..4).map(address).collect::<Vec<_>>());
        let ipv4 = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(names.ask(ipv4), ipv4);
    }

    /// Against a map, with a table so small that everything is always forgotten.
    #[test]
    fn an_address_has_one_name_and_a_name_one_address_whatever_comes_and_goes() {
        let seed = 4_291;
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut names = names(16);
        let mut holders: HashMap<u32, (Ipv4Addr, u32)> = HashMap::new();
        for step in 0..200_000 {
            if rng.next_u32() % 8 == 0 {
                names.begin_burst();
            }
            let number = rng.next_u32() % 40;
            let seen = names.see(&address(number));
            assert_eq!(names.address(seen), address(number), "step {step}, seed {seed}");
            match (rng.next_u32() % 3, holders.get_mut(&number)) {
                (0, Some((name, count))) => {
                    assert_eq!(*name, seen);
                    names.release(*name);
                    *count -= 1;
                    if *count == 0 {
                        holders.remove(&number);
                    }
                }
                (1, held) => match (names.hold(seen, nobody), held) {
                    (Some(new), Some((name, count))) => {
                        assert_eq!(new, Held { name: *name, forgotten: None });
                        *count += 1;
                    }
                    (Some(new), None) => {
                        assert!(holders.values().all(|&(name, _)| name != new.name), "step {step}, seed {seed}");
                        holders.insert(number, (new.name, 1));
                    }
                    (None, held) => assert!(held.is_none()),
                },
                _ => {}
            }
            assert!(holders.len() <= 16);
        }
        let held: u32 = holders.values().map(|&(_, count)| count).sum();
        assert_eq!(names.census().1, held as usize);
    }

    #[test]
    fn hosts_of_one_network_share_what_strangers_get_and_labels_are_the_flows() {
        let mut names = names(4);
        let [one, other] = [1, 2].map(|number| names.see(&address(number)));
        let far = names.see(&Ipv6Addr::new(0xfd00, 0, 0, 1, 0, 0, 0, 1));
        assert_eq!(names.payer(one), names.payer(other));
        assert_ne!(names.payer(one), names.payer(far));
        assert_eq!(names.payer(Ipv4Addr::new(10, 0, 0, 1)), 0x0a00_0001);
        let key = FlowKey { remote: one, local: of_own(0), ..FlowKey::OF_TESTS };
        let ports = (0..1_000).map(|port| (address(1), port));
        let hosts = (1_000..2_000).map(|host| (address(host), 7));
        let labels: std::collections::HashSet<_> = ports
            .chain(hosts)
            .map(|(remote, port)| names.label(&remote, &FlowKey { remote_port: port, ..key }))
            .collect();
        assert!(labels.len() > 1_980 && labels.iter().all(|&label| label < 1 << 20), "{}", labels.len());
    }
}
