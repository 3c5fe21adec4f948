//! `Homes`: of the connections that this core has asked for lately, those whose answers have come to another core.
//!
//! Learned from what arrives, where nobody says how frames are spread (veth, virtio, clouds). A table of fixed size: a
//! later connection takes the place of an earlier one, and what is older than ten minutes says nothing, since a NIC may be
//! set otherwise. Read first: `net_stack/homing.rs`.

use std::time::Duration;

use crate::clock::Time;

/// Connections that are remembered: as many as a quarter of the source ports towards one server.
const PLACES: usize = 4_096;

/// How long.
const MEMORY: Duration = Duration::from_secs(600);

#[derive(Debug, Clone, Copy)]
struct Seen {
    hash: u32,
    at: Time,
}

/// Connections, by their hash in the flow table, whose answers have come to another core.
#[derive(Debug)]
pub(crate) struct Homes {
    seen: Box<[Option<Seen>]>,
}

impl Homes {
    /// An empty table; none where there is no other core.
    pub(crate) fn new(peers: u8) -> Self {
        Self { seen: vec![None; if peers == 0 { 0 } else { PLACES }].into_boxed_slice() }
    }

    /// The answers of the connection with this hash have come to another core.
    pub(crate) fn note_elsewhere(&mut self, now: Time, hash: u32) {
        if let Some(place) = self.seen.get_mut(hash as usize % PLACES) {
            *place = Some(Seen { hash, at: now });
        }
    }

    /// Whether they have lately. That of another connection may be taken for it, once in a million.
    pub(crate) fn are_elsewhere(&self, now: Time, hash: u32) -> bool {
        let seen = self.seen.get(hash as usize % PLACES).copied().flatten();
        seen.is_some_and(|seen| seen.hash == hash && now.since(seen.at) < MEMORY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_elsewhere_is_remembered_for_ten_minutes_and_as_long_as_nothing_takes_its_place() {
        let mut homes = Homes::new(1);
        let at = |secs| Time::from_duration(Duration::from_secs(secs));
        assert!(!homes.are_elsewhere(at(0), 7));
        homes.note_elsewhere(at(0), 7);
        assert!(homes.are_elsewhere(at(599), 7) && !homes.are_elsewhere(at(599), 8));
        assert!(!homes.are_elsewhere(at(600), 7));
        homes.note_elsewhere(at(600), 7 + PLACES as u32);
        assert!(!homes.are_elsewhere(at(600), 7));
    }

    #[test]
    fn one_core_alone_remembers_nothing() {
        let mut homes = Homes::new(0);
        homes.note_elsewhere(Time::ZERO, 7);
        assert!(!homes.are_elsewhere(Time::ZERO, 7));
    }
}
