//! TIME-WAIT records: what is left of a flow that we closed first, so that its block can serve another.
//!
//! smoltcp would hold the socket for its whole TIME-WAIT and ignore a new SYN meanwhile. A record of 64 bytes answers
//! for it: the FIN is acknowledged again, a SYN with a higher sequence number begins a new connection
//! (RFC 9293 §3.10.7.4, MAY-2; RFC 6191), an RST is ignored (RFC 1337). A SYN with a lower one may be old: it is
//! challenged, and if its sender answers with an exact RST, as a host that waits for a SYN-ACK must (RFC 9293 §3.10.7.3),
//! its next SYN begins the connection. The table is bounded: when it is full, the oldest record gives way.

use std::time::Duration;

use crate::clock::Time;
use crate::flow_id::FlowKey;
use crate::link::LinkHeader;
use crate::table::FlowTable;

/// No record.
const NONE: u32 = u32::MAX;

/// Least time between two answers for one record.
const ANSWER_GAP_MILLIS: u32 = 500;

/// Whether somebody else may have the 4-tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Claim {
    /// Nobody has asked for it, except by a SYN above all that the old connection received.
    None,
    /// A SYN that might be an old one has asked for it, and was challenged.
    Asked,
    /// Its sender has said by RST that there is no old connection: the next SYN has it.
    Granted,
}

/// A connection in TIME-WAIT.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeWait {
    pub(crate) key: FlowKey,
    hash: u32,
    pub(crate) snd_nxt: u32,
    pub(crate) rcv_nxt: u32,
    until: Time,
    pub(crate) link: LinkHeader,
    /// Neighbours in the order of `until`.
    older: u32,
    younger: u32,
    /// When the next answer may be sent, in milliseconds, the upper bits cut off: a record lives no 24 days.
    answer_at: u32,
    pub(crate) claim: Claim,
}

const _: () = assert!(size_of::<TimeWait>() <= 64, "a TIME-WAIT record fits a cache line");

/// Records by 4-tuple, and in a list by age, so that any can go in constant time.
#[derive(Debug)]
pub(crate) struct TimeWaitTable {
    records: Vec<TimeWait>,
    free: Vec<u32>,
    table: FlowTable,
    oldest: u32,
    youngest: u32,
    lifetime: Duration,
}

impl TimeWaitTable {
    /// A table of at most `capacity` records that live for `lifetime`.
    pub(crate) fn new(capacity: usize, lifetime: Duration) -> Self {
        Self {
            records: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            table: FlowTable::new(capacity),
            oldest: NONE,
            youngest: NONE,
            lifetime,
        }
    }

    /// Records that are live.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// The record of `key`.
    #[inline]
    pub(crate) fn find(&self, hash: u32, key: &FlowKey) -> Option<u32> {
        if self.table.len() == 0 {
            return None;
        }
        self.table.find(hash, |number| self.records[number as usize].key == *key)
    }

    /// The record with this number.
    pub(crate) fn record(&self, number: u32) -> &TimeWait {
        &self.records[number as usize]
    }

    /// Makes a record. Returns the key of another if that had to give way.
    pub(crate) fn insert(
        &mut self,
        now: Time,
        key: FlowKey,
        hash: u32,
        sequence: (u32, u32),
        link: LinkHeader,
    ) -> Option<FlowKey> {
        let full = self.records.len() == self.records.capacity() && self.free.is_empty();
        let evicted = full.then(|| self.remove(self.oldest));
        let (snd_nxt, rcv_nxt) = sequence;
        let until = now.after(self.lifetime);
        let (older, younger, answer_at) = (NONE, NONE, millis(now));
        let claim = Claim::None;
        let record = TimeWait { key, hash, snd_nxt, rcv_nxt, until, link, older, younger, answer_at, claim };
        let number = match self.free.pop() {
            Some(number) => {
                self.records[number as usize] = record;
                number
            }
            None => {
                self.records.push(record);
                self.records.len() as u32 - 1
            }
        };
        self.table.insert(hash, number);
        self.append(number);
        evicted
    }

    /// Whether the peer has said nothing since the record was made, or last restarted, for at least `age`.
    pub(crate) fn is_older(&self, now: Time, number: u32, age: Duration) -> bool {
        self.records[number as usize].until.since(now).saturating_add(age) <= self.lifetime
    }

    /// Sets whether somebody else may have the record's 4-tuple.
    pub(crate) fn set_claim(&mut self, number: u32, claim: Claim) {
        self.records[number as usize].claim = claim;
    }

    /// Whether the record may answer now; not again for half a second then.
    pub(crate) fn may_answer(&mut self, now: Time, number: u32) -> bool {
        let record = &mut self.records[number as usize];
        let due = millis(now).wrapping_sub(record.answer_at) as i32 >= 0;
        if due {
            record.answer_at = millis(now).wrapping_add(ANSWER_GAP_MILLIS);
        }
        due
    }

    /// Starts the record's time again: its peer has sent its FIN again (RFC 9293 §3.10.7.4).
    pub(crate) fn restart(&mut self, now: Time, number: u32) {
        self.unlink(number);
        self.records[number as usize].until = now.after(self.lifetime);
        self.append(number);
    }

    /// Ends the record: a new connection takes its place. Its contents can be read until the next one is made. Returns whose it
    /// was.
    pub(crate) fn remove(&mut self, number: u32) -> FlowKey {
        self.unlink(number);
        let TimeWait { key, hash, .. } = self.records[number as usize];
        self.table.remove(hash, number);
        self.free.push(number);
        key
    }

    /// Forgets records whose time is over, at most `budget` of them, and tells `forgotten` whose they were.
    pub(crate) fn expire(&mut self, now: Time, budget: usize, mut forgotten: impl FnMut(&FlowKey)) {
        for _ in 0..budget {
            let oldest = self.oldest;
            if oldest == NONE || self.records[oldest as usize].until > now {
                return;
            }
            forgotten(&self.remove(oldest));
        }
    }

    /// Puts a record in no list behind the youngest.
    fn append(&mut self, number: u32) {
        let youngest = std::mem::replace(&mut self.youngest, number);
        let record = &mut self.records[number as usize];
        record.older = youngest;
        record.younger = NONE;
        match youngest {
            NONE => self.oldest = number,
            youngest => self.records[youngest as usize].younger = number,
        }
    }

    /// Takes a record out of the list.
    fn unlink(&mut self, number: u32) {
        let TimeWait { older, younger, .. } = self.records[number as usize];
        match older {
            NONE => self.oldest = younger,
            older => self.records[older as usize].younger = younger,
        }
        match younger {
            NONE => self.youngest = older,
            younger => self.records[younger as usize].older = older,
        }
    }
}

/// Milliseconds of `now`, the upper bits cut off.
fn millis(now: Time) -> u32 {
    (now.as_micros() / 1_000) as u32
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn key(port: u16) -> FlowKey {
        FlowKey {
            remote: Ipv4Addr::new(10, 0, 0, 1),
            local: Ipv4Addr::new(10, 0, 0, 2),
            remote_port: port,
            local_port: 80,
        }
    }

    fn add(table: &mut TimeWaitTable, now: u64, port: u16) -> bool {
        let hash = u32::from(port) * 3;
        table.insert(Time::from_millis(now), key(port), hash, (1, 2), LinkHeader::EMPTY).is_some()
    }

    fn there(table: &TimeWaitTable, port: u16) -> bool {
        table.find(u32::from(port) * 3, &key(port)).is_some()
    }

    #[test]
    fn records_expire_in_order_and_a_restarted_one_later() {
        let mut table = TimeWaitTable::new(4, Duration::from_secs(10));
        add(&mut table, 0, 1);
        add(&mut table, 1_000, 2);
        let first = table.find(3, &key(1)).expect("just made");
        table.restart(Time::from_millis(9_000), first);
        for now in [10_500, 11_500, 11_600] {
            table.expire(Time::from_millis(now), 10, |_| {});
        }
        assert!(there(&table, 1) && !there(&table, 2));
        table.expire(Time::from_millis(19_001), 10, |_| {});
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn a_full_table_lets_the_oldest_go() {
        let mut table = TimeWaitTable::new(3, Duration::from_secs(10));
        let evicted = (1..=1_000).filter(|&port| add(&mut table, u64::from(port), port)).count();
        assert_eq!((evicted, table.len()), (997, 3));
        assert!(there(&table, 1_000) && there(&table, 998) && !there(&table, 997));
    }

    #[test]
    fn a_removed_record_makes_room_at_once_wherever_it_was() {
        for removed in 1..=3 {
            let mut table = TimeWaitTable::new(3, Duration::from_secs(10));
            for port in 1..=3 {
                add(&mut table, 0, port);
            }
            let number = table.find(u32::from(removed) * 3, &key(removed)).expect("just made");
            table.remove(number);
            assert!(!add(&mut table, 1, 4), "nothing live gave way");
            assert!((1..=4).all(|port| there(&table, port) == (port != removed)));
            table.expire(Time::from_millis(10_000), 10, |_| {});
            assert!(there(&table, 4) && table.len() == 1);
        }
    }

    #[test]
    fn a_record_ages_from_when_its_peer_was_last_heard() {
        let mut table = TimeWaitTable::new(1, Duration::from_secs(10));
        add(&mut table, 5_000, 1);
        let number = table.find(3, &key(1)).expect("just made");
        let second = Duration::from_secs(1);
        assert!(!table.is_older(Time::from_millis(5_999), number, second));
        assert!(table.is_older(Time::from_millis(6_000), number, second));
        table.restart(Time::from_millis(6_000), number);
        assert!(!table.is_older(Time::from_millis(6_999), number, second));
        assert!(!table.is_older(Time::from_millis(60_000), number, Duration::from_secs(11)), "longer than it lives");
    }
}
