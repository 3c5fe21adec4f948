//! `SynQueue`: connections in SYN-RECEIVED, in a cache line each.
//!
//! A SYN comes from anybody, so it gets no block: what there is to know of it is a record, of which a bounded number is kept,
//! and which has a timer of its own for the SYN-ACK that is to be sent again. The ACK that proves its sender real makes a
//! flow of it (`net_stack/half_open.rs`). From half of it on, SYNs are answered with cookies (`net_stack/cookies.rs`); what
//! is left is for those that cannot be, since they follow an earlier connection. A SYN beyond it is dropped, and the client
//! sends it again (RFC 4987 §3). The accept queue is the ready list.

use crate::clock::Time;
use crate::flow_id::FlowKey;
use crate::link::LinkHeader;
use crate::options::SynOptions;
use crate::table::FlowTable;
use crate::timer::TimerWheel;

/// No window scale; the largest that there is.
const NO_SCALE: u8 = u8::MAX;
const MOST_SCALE: u8 = 14;

/// A connection whose SYN was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfOpen {
    pub(crate) key: FlowKey,
    /// Our initial sequence number, and the sequence number that follows the peer's SYN.
    pub(crate) isn: u32,
    pub(crate) rcv_nxt: u32,
    /// When the SYN came.
    pub(crate) since: Time,
    /// No challenge ACK before this, in milliseconds, the upper bits cut off.
    challenge_at: u32,
    /// The port by which answers leave, and the window that came with the SYN.
    pub(crate) port: u16,
    pub(crate) peer_window: u16,
    /// The window that the peer was told, which is not shifted (RFC 7323 §2.2).
    pub(crate) window: u16,
    /// What the peer's SYN offered: 0 and [`NO_SCALE`] stand for nothing.
    mss: u16,
    scale: u8,
    sack_permitted: bool,
    /// How often the SYN-ACK was sent again.
    pub(crate) tries: u8,
    pub(crate) link: LinkHeader,
}

const _: () = assert!(size_of::<HalfOpen>() <= 64, "a half-open connection fits a cache line");

/// What a SYN is, from which a record is made.
#[derive(Debug)]
pub(crate) struct Syn {
    pub(crate) key: FlowKey,
    pub(crate) isn: u32,
    pub(crate) rcv_nxt: u32,
    pub(crate) port: u16,
    pub(crate) peer_window: u16,
    pub(crate) window: u16,
    pub(crate) options: SynOptions,
    pub(crate) link: LinkHeader,
}

impl HalfOpen {
    /// The record of a SYN that came at `now`.
    pub(crate) fn new(now: Time, syn: &Syn) -> Self {
        Self {
            key: syn.key,
            isn: syn.isn,
            rcv_nxt: syn.rcv_nxt,
            since: now,
            challenge_at: millis(now),
            port: syn.port,
            peer_window: syn.peer_window,
            window: syn.window,
            mss: syn.options.mss.unwrap_or(0),
            // RFC 7323 §2.3.
            scale: syn.options.window_scale.map_or(NO_SCALE, |bits| bits.min(MOST_SCALE)),
            sack_permitted: syn.options.sack_permitted,
            tries: 0,
            link: syn.link,
        }
    }

    /// What the peer's SYN offered.
    pub(crate) fn options(&self) -> SynOptions {
        SynOptions {
            mss: (self.mss != 0).then_some(self.mss),
            window_scale: (self.scale != NO_SCALE).then_some(self.scale),
            sack_permitted: self.sack_permitted,
            ambiguous: false,
        }
    }

    /// Whether a challenge ACK may be sent, as far as the connection itself goes.
    pub(crate) fn may_challenge(&self, now: Time) -> bool {
        millis(now).wrapping_sub(self.challenge_at) as i32 >= 0
    }

    /// One was sent: none for so many milliseconds.
    pub(crate) fn challenged(&mut self, now: Time, gap_millis: u32) {
        self.challenge_at = millis(now).wrapping_add(gap_millis);
    }
}

/// Milliseconds of `now`, the upper bits cut off: no handshake takes 24 days.
fn millis(now: Time) -> u32 {
    (now.as_micros() / 1_000) as u32
}

/// Records by 4-tuple, each with a timer.
#[derive(Debug)]
pub(crate) struct SynQueue {
    records: Vec<HalfOpen>,
    free: Vec<u32>,
    table: FlowTable,
    wheel: TimerWheel,
    capacity: usize,
}

impl SynQueue {
    /// A queue of at most `capacity` records.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            records: Vec::with_capacity(capacity),
            free: Vec::with_capacity(capacity),
            table: FlowTable::new(capacity),
            wheel: TimerWheel::new(capacity, Time::ZERO),
            capacity,
        }
    }

    /// Handshakes under way.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no further handshake can begin.
    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }

    /// Whether so many handshakes are under way that no stranger's SYN shall begin another.
    pub(crate) fn is_half_full(&self) -> bool {
        self.len() * 2 >= self.capacity
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
    pub(crate) fn get(&self, number: u32) -> &HalfOpen {
        &self.records[number as usize]
    }

    /// The same, to be changed.
    pub(crate) fn get_mut(&mut self, number: u32) -> &mut HalfOpen {
        &mut self.records[number as usize]
    }

    /// Enters a record, of which there is none yet, and whose timer runs out at `at`. `None`: the queue is full.
    pub(crate) fn insert(&mut self, hash: u32, record: HalfOpen, at: Time) -> Option<u32> {
        if self.is_full() {
            return None;
        }
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
        self.wheel.arm_no_later(number, at);
        Some(number)
    }

    /// Ends the record, and returns it.
    pub(crate) fn remove(&mut self, hash: u32, number: u32) -> HalfOpen {
        self.table.remove(hash, number);
        self.wheel.cancel(number);
        self.free.push(number);
        self.records[number as usize]
    }

    /// A record whose timer has run out, if any.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<u32> {
        self.wheel.pop_due(now)
    }

    /// Has the timer of a record run out at `at`.
    pub(crate) fn arm(&mut self, number: u32, at: Time) {
        self.wheel.arm_no_later(number, at);
    }

    /// No timer runs out before this moment; `None`: there is no record.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.wheel.next_deadline()
    }

    /// Timers that run: one for each record.
    pub(crate) fn timers(&self) -> usize {
        self.wheel.armed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn(port: u16) -> Syn {
        Syn {
            key: FlowKey { remote_port: port, ..FlowKey::OF_TESTS },
            isn: 7,
            rcv_nxt: 8,
            port: 0,
            peer_window: 9,
            window: 10,
            options: SynOptions::default(),
            link: LinkHeader::EMPTY,
        }
    }

    fn add(queue: &mut SynQueue, port: u16) -> Option<u32> {
        let now = Time::from_millis(1);
        queue.insert(u32::from(port) * 3, HalfOpen::new(now, &syn(port)), Time::from_millis(200))
    }

    #[test]
    fn there_is_room_again_when_a_handshake_ends() {
        let mut queue = SynQueue::new(2);
        let first = add(&mut queue, 1).expect("there is room");
        assert!(!queue.is_full() && add(&mut queue, 2).is_some() && queue.is_full());
        assert_eq!(add(&mut queue, 3), None);
        assert_eq!((queue.find(3, &syn(1).key), queue.find(3, &syn(2).key)), (Some(first), None));
        assert_eq!(queue.remove(3, first).key, syn(1).key);
        assert_eq!((queue.len(), queue.timers(), queue.find(3, &syn(1).key)), (1, 1, None));
        assert_eq!(add(&mut queue, 3), Some(first));
    }

    #[test]
    fn it_is_half_full_with_half_of_it_or_more() {
        for (capacity, from) in [(1, 1), (2, 1), (3, 2), (4, 2), (1_024, 512)] {
            let mut queue = SynQueue::new(capacity);
            (1..from).for_each(|port| assert!(add(&mut queue, port).is_some()));
            assert!(!queue.is_half_full(), "{capacity}");
            add(&mut queue, from);
            assert!(queue.is_half_full(), "{capacity}");
        }
    }

    #[test]
    fn each_record_has_its_timer_until_it_ends() {
        let mut queue = SynQueue::new(4);
        let numbers: Vec<u32> = (1..4).map(|port| add(&mut queue, port).expect("there is room")).collect();
        queue.remove(2 * 3, numbers[1]);
        let late = Time::from_millis(300);
        let mut due: Vec<u32> = std::iter::from_fn(|| queue.pop_due(late)).collect();
        due.sort_unstable();
        assert_eq!(due, [numbers[0], numbers[2]]);
        queue.arm(numbers[0], Time::from_millis(400));
        assert_eq!((queue.timers(), queue.pop_due(late)), (1, None));
        assert!(queue.next_deadline() <= Some(Time::from_millis(401)));
    }

    #[test]
    fn what_the_syn_offered_is_known_again() {
        for options in [
            SynOptions::default(),
            SynOptions { mss: Some(1_460), window_scale: Some(0), sack_permitted: true, ambiguous: false },
            SynOptions { mss: None, window_scale: Some(14), sack_permitted: false, ambiguous: false },
        ] {
            assert_eq!(HalfOpen::new(Time::ZERO, &Syn { options, ..syn(1) }).options(), options);
        }
    }

    #[test]
    fn a_challenge_is_not_followed_by_another_at_once_though_the_milliseconds_wrap() {
        let now = Time::from_millis(u64::from(u32::MAX) - 100);
        let mut record = HalfOpen::new(now, &syn(1));
        assert!(record.may_challenge(now));
        record.challenged(now, 500);
        let later = |millis| now.after(std::time::Duration::from_millis(millis));
        assert!(!record.may_challenge(later(499)) && record.may_challenge(later(500)));
    }
}
