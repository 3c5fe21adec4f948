//! `Reassembly`: datagrams and segments that came in fragments, put together. TCP comes so where a router has cut what its
//! sender allowed to be cut.
//!
//! A fixed number of buffers, made at the start, whose pages the kernel makes as they are first written. A fragment that
//! overlaps another, other than as its exact copy, gives up all of its datagram (RFC 5722 §4, which IPv4 does not forbid):
//! only a mistake or an attack sends one. A datagram that is not whole in time is given up, and so is the oldest
//! when all buffers are taken; the sender of the former can be told, by its first fragment.
//!
//! NICs spread fragments by their addresses alone, so that those of one packet meet at one core, which need not be that of
//! their flow: a whole segment that no flow here knows goes the way of strays (`stray.rs`).
//!
//! Fragments of IPv6 have buffers of their own, made only where there is IPv6; what is put together of them has no extension
//! headers.
//!
//! Invariant: what is returned has every byte written by a fragment of its own key, each once. Read first: RFC 791 §3.2,
//! RFC 1858, RFC 8200 §4.5.

use std::ops::Range;
use std::time::Duration;

use arrayvec::ArrayVec;

use nic::checksum;

use crate::clock::Time;
use crate::drop_reason::DropReason;
use crate::link::TAGGED_BYTES;
use crate::wire::{IPV4_BYTES, IPV6_BYTES};

/// Datagrams that may be half there.
const BUFFERS: usize = 8;

/// Fragments of one datagram: as many as the longest has at an MTU of 1500, and some.
const FRAGMENTS_MAX: usize = 64;

/// What differs between the families.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// Bytes of room in front of those that are put together, for the headers of the first fragment, and then of the whole.
    head: usize,
    /// The longest payload of a packet.
    most: usize,
    /// How long a datagram may take to be whole.
    life: Duration,
    /// Whether more of a datagram that was given up is refused for that long.
    remembers: bool,
}

/// Deviates: RFC 1122 §3.3.2 recommends a minute for the ways of its time. Fragments leave their host together, and a fast host
/// is through with its 65,536 numbers within the second (RFC 4963).
const IPV4: Rules = Rules {
    head: TAGGED_BYTES + IPV4_BYTES,
    most: 65_535 - IPV4_BYTES,
    life: Duration::from_secs(1),
    // Numbers come round too soon.
    remembers: false,
};

/// RFC 8200 §4.5, RFC 5722 §4. No header in front of a fragment's bytes ends behind what a byte can tell ([`Fragment6`]); and
/// what is put together is read behind an IPv4 header (`ipv6.rs`), so that the last 20 of the 65,535 bytes of IPv6 are not to be had.
const IPV6: Rules =
    Rules { head: u8::MAX as usize, most: 65_535 - IPV4_BYTES, life: Duration::from_secs(60), remembers: true };

/// What fragments of one datagram have in common (RFC 791 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FragmentKey {
    pub(crate) source: u32,
    pub(crate) destination: u32,
    pub(crate) id: u16,
    pub(crate) protocol: u8,
}

/// What fragments of one packet of IPv6 have in common (RFC 8200 §4.5), and of which protocol it is, as the first says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ipv6FragmentKey {
    ends: [u8; 32],
    id: [u8; 4],
    protocol: u8,
}

/// A fragment of a datagram for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub(crate) key: FragmentKey,
    /// Where its bytes belong.
    pub(crate) offset: u16,
    /// Others follow it.
    pub(crate) more: bool,
    /// Length of the link header: where the IPv4 packet begins.
    pub(crate) at: u8,
    /// Length of its bytes.
    pub(crate) len: u16,
}

/// A fragment of an IPv6 packet for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment6 {
    /// Length of the link header: where the packet begins.
    pub(crate) at: u8,
    /// Where its bytes begin, behind the fragment header, and how many there are.
    pub(crate) payload_at: u8,
    pub(crate) len: u16,
    /// Where they belong.
    pub(crate) offset: u16,
    /// Others follow it.
    pub(crate) more: bool,
    pub(crate) protocol: u8,
}

/// A piece of a datagram: where it belongs, its bytes, and whether others follow it.
type Piece<'a> = (usize, &'a [u8], bool);

/// One datagram, as far as it has come.
#[derive(Debug)]
struct Partial<K> {
    key: Option<K>,
    since: Time,
    /// A fragment has contradicted others: no more of it is taken, be it what it should have been (RFC 5722 §4).
    refused: bool,
    /// Of the first fragment, if it has come: how many bytes of headers it has, and how many more.
    first: Option<(usize, usize)>,
    /// Of each fragment, its first byte and the one behind its last.
    ranges: ArrayVec<(usize, usize), FRAGMENTS_MAX>,
    total: Option<usize>,
    here: usize,
    /// The headers' room, then the payload. Empty while a [`Whole`] has it.
    bytes: Box<[u8]>,
}

/// A packet that is whole, as a frame like any other. To be given back.
#[derive(Debug)]
pub(crate) struct Whole {
    bytes: Box<[u8]>,
    frame: Range<usize>,
    place: usize,
}

impl Whole {
    /// The frame that nobody has cut.
    pub(crate) fn frame_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.frame.clone()).unwrap_or_default()
    }
}

impl<K> Partial<K> {
    fn begin(&mut self, key: K, now: Time) {
        (self.key, self.since, self.total, self.here) = (Some(key), now, None, 0);
        (self.refused, self.first) = (false, None);
        self.ranges.clear();
    }

    /// Puts a fragment, behind the headers of its frame, in its place. Returns whether the datagram is whole.
    fn put(&mut self, head: usize, headers: &[u8], piece: Piece<'_>) -> Result<bool, DropReason> {
        let (start, payload, more) = piece;
        let end = start + payload.len();
        if self.ranges.contains(&(start, end)) {
            return Ok(false);
        }
        let ends = |total: usize| if more { end < total } else { end == total };
        let overlaps = self.ranges.iter().any(|&(from, to)| start < to && from < end);
        let beyond = !more && self.ranges.iter().any(|&(_, to)| to > end);
        if overlaps || beyond || self.total.is_some_and(|total| !ends(total)) {
            return Err(DropReason::FragmentOverlap);
        }
        let Some(place) = self.bytes.get_mut(head + start..head + end) else {
            return Err(DropReason::FragmentMalformed);
        };
        if self.ranges.try_push((start, end)).is_err() {
            return Err(DropReason::FragmentMalformed);
        }
        place.copy_from_slice(payload);
        self.here += payload.len();
        if let Some(room) = head.checked_sub(headers.len()).and_then(|at| self.bytes.get_mut(at..head))
            && start == 0
        {
            room.copy_from_slice(headers);
            self.first = Some((headers.len(), payload.len()));
        }
        if !more {
            self.total = Some(end);
        }
        Ok(self.total == Some(self.here))
    }
}

impl Partial<FragmentKey> {
    /// Puts the headers of `cut`, the frame of one of the fragments, in front of what is whole. Returns where the frame is.
    fn write_headers(&mut self, cut: &[u8], at: usize) -> Range<usize> {
        let frame = (IPV4.head - IPV4_BYTES).saturating_sub(at)..IPV4.head + self.here;
        if let (Some(room), Some(headers)) = (self.bytes.get_mut(frame.start..IPV4.head), cut.get(..at + IPV4_BYTES))
            && room.len() == headers.len()
        {
            room.copy_from_slice(headers);
            let ip = &mut room[at..];
            let len = (IPV4_BYTES + self.here) as u16;
            ip[2..4].copy_from_slice(&len.to_be_bytes());
            ip[6..8].fill(0);
            ip[10..12].fill(0);
            let sum = checksum::field(checksum::add(0, ip));
            ip[10..12].copy_from_slice(&sum);
        }
        frame
    }
}

impl Partial<Ipv6FragmentKey> {
    /// The same. The fragment header is gone, and all that was in front of it but the IPv6 header.
    fn write_headers(&mut self, cut: &[u8], at: usize, protocol: u8) -> Range<usize> {
        let frame = (IPV6.head - IPV6_BYTES).saturating_sub(at)..IPV6.head + self.here;
        let room = self.bytes.get_mut(frame.start..IPV6.head);
        if let (Some(room), Some(headers)) = (room, cut.get(..at + IPV6_BYTES))
            && room.len() == headers.len()
        {
            room.copy_from_slice(headers);
            let ip = &mut room[at..];
            ip[4..6].copy_from_slice(&(self.here as u16).to_be_bytes());
            ip[6] = protocol;
        }
        frame
    }
}

/// The datagrams of a core that are half there.
#[derive(Debug)]
pub(crate) struct Reassembly<K> {
    partials: Box<[Partial<K>]>,
    rules: Rules,
    given_up: u64,
}

impl Reassembly<FragmentKey> {
    /// Buffers for eight datagrams.
    pub(crate) fn new() -> Self {
        Self::with_buffers(BUFFERS, IPV4)
    }

    /// Takes a fragment, `frame` being its own. Returns the packet that is whole with it, if it is, which must be
    /// [given back](Self::give_back).
    ///
    /// # Errors
    /// Why the fragment, or all of its datagram, was dropped.
    pub(crate) fn take(&mut self, now: Time, fragment: &Fragment, frame: &[u8]) -> Result<Option<Whole>, DropReason> {
        let at = usize::from(fragment.at);
        let (headers, rest) = frame.split_at_checked(at + IPV4_BYTES).unwrap_or_default();
        let payload = rest.get(..usize::from(fragment.len)).unwrap_or_default();
        let piece = (usize::from(fragment.offset), payload, fragment.more);
        let whole = self.take_piece(now, fragment.key, headers, piece)?;
        Ok(whole.map(|place| {
            let frame = self.partials[place].write_headers(frame, at);
            self.lend(place, frame)
        }))
    }
}

impl Reassembly<Ipv6FragmentKey> {
    /// Buffers for eight packets, if `there` is any IPv6.
    pub(crate) fn of_ipv6(there: bool) -> Self {
        Self::with_buffers(if there { BUFFERS } else { 0 }, IPV6)
    }

    /// As [`take`](Reassembly::take).
    ///
    /// # Errors
    /// As there.
    pub(crate) fn take_ipv6(
        &mut self,
        now: Time,
        fragment: &Fragment6,
        frame: &[u8],
    ) -> Result<Option<Whole>, DropReason> {
        let (at, from) = (usize::from(fragment.at), usize::from(fragment.payload_at));
        let (headers, rest) = frame.split_at_checked(from).unwrap_or_default();
        let payload = rest.get(..usize::from(fragment.len));
        let ends = headers.get(at + 8..).and_then(|rest| rest.first_chunk::<32>());
        let id = headers.last_chunk::<4>();
        let (Some(payload), Some(&ends), Some(&id)) = (payload, ends, id) else {
            return Err(DropReason::FragmentMalformed);
        };
        let key = Ipv6FragmentKey { ends, id, protocol: fragment.protocol };
        let piece = (usize::from(fragment.offset), payload, fragment.more);
        let whole = self.take_piece(now, key, headers, piece)?;
        Ok(whole.map(|place| {
            let frame = self.partials[place].write_headers(frame, at, fragment.protocol);
            self.lend(place, frame)
        }))
    }
}

impl<K: Copy + PartialEq> Reassembly<K> {
    fn with_buffers(count: usize, rules: Rules) -> Self {
        let partial = |_| Partial {
            key: None,
            since: Time::ZERO,
            refused: false,
            first: None,
            ranges: ArrayVec::new(),
            total: None,
            here: 0,
            bytes: vec![0; rules.head + rules.most].into_boxed_slice(),
        };
        Self { partials: (0..count).map(partial).collect(), rules, given_up: 0 }
    }

    /// When the time of a datagram is over next, if any is half there.
    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let begun = self.partials.iter().filter(|partial| partial.key.is_some());
        begun.map(|partial| partial.since).min().map(|since| since.after(self.rules.life))
    }

    /// Gives up a datagram whose time is over, if there is one. Returns its first fragment, as the frame that it came in; nothing,
    /// if that has not come or the datagram is one that nothing more was taken of.
    pub(crate) fn expire(&mut self, now: Time) -> Option<&[u8]> {
        let Rules { head, life, .. } = self.rules;
        let over = |partial: &&mut Partial<K>| partial.key.is_some() && now.since(partial.since) >= life;
        let partial = self.partials.iter_mut().find(over)?;
        partial.key = None;
        self.given_up += u64::from(!partial.refused);
        let first = partial.first.filter(|_| !partial.refused);
        Some(first.and_then(|(headers, len)| partial.bytes.get(head - headers..head + len)).unwrap_or_default())
    }

    /// Takes a piece of the datagram of `key`, which came behind `headers`. Returns where the datagram is, if it is whole.
    fn take_piece(&mut self, now: Time, key: K, headers: &[u8], piece: Piece<'_>) -> Result<Option<usize>, DropReason> {
        let Rules { head, most, remembers, .. } = self.rules;
        let (start, payload, more) = piece;
        // RFC 791 §3.2: all but the last are multiples of eight bytes.
        if payload.is_empty() || more && !payload.len().is_multiple_of(8) || start + payload.len() > most {
            return Err(DropReason::FragmentMalformed);
        }
        let found = self.partials.iter().position(|partial| partial.key == Some(key));
        let index = match found {
            Some(index) => index,
            None => {
                let free = self.partials.iter().position(|partial| partial.key.is_none());
                let oldest = || (0..self.partials.len()).min_by_key(|&index| self.partials[index].since);
                let index = free.or_else(oldest).ok_or(DropReason::FragmentsIncomplete)?;
                self.given_up += u64::from(free.is_none());
                self.partials[index].begin(key, now);
                index
            }
        };
        let partial = &mut self.partials[index];
        if partial.refused {
            return Err(DropReason::FragmentOverlap);
        }
        let put = partial.put(head, headers, piece);
        partial.refused = put.is_err() && remembers;
        if put != Ok(false) && !partial.refused {
            partial.key = None;
        }
        Ok(put?.then_some(index))
    }

    /// Lends the packet at `place`, which is whole, as a frame.
    fn lend(&mut self, place: usize, frame: Range<usize>) -> Whole {
        Whole { bytes: std::mem::take(&mut self.partials[place].bytes), frame, place }
    }

    /// Takes back what `take` has given.
    pub(crate) fn give_back(&mut self, whole: Whole) {
        if let Some(partial) = self.partials.get_mut(whole.place) {
            partial.bytes = whole.bytes;
        }
    }

    /// Datagrams given up since it was last asked, because they were not whole in time or others needed the room.
    pub(crate) fn take_given_up(&mut self) -> u64 {
        std::mem::take(&mut self.given_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: FragmentKey = FragmentKey { source: 1, destination: 2, id: 3, protocol: 17 };

    fn at(millis: u64) -> Time {
        Time::from_duration(Duration::from_millis(millis))
    }

    /// Bytes `from..to` of a datagram of `total` bytes.
    fn take(
        all: &mut Reassembly<FragmentKey>,
        key: FragmentKey,
        from: usize,
        to: usize,
        total: usize,
        now: Time,
    ) -> Taken {
        while all.expire(now).is_some() {}
        let mut frame = vec![0xee; 34];
        frame.extend((from..to).map(|at| (at % 251) as u8));
        // What is behind the packet is nobody's.
        frame.extend([0xee; 9]);
        let fragment = Fragment { key, offset: from as u16, more: to < total, at: 14, len: (to - from) as u16 };
        let whole = all.take(now, &fragment, &frame)?;
        Ok(whole.map(|mut whole| {
            let frame = whole.frame_mut().to_vec();
            all.give_back(whole);
            assert!(checksum::is_right(checksum::add(0, &frame[14..34])));
            assert_eq!(frame[16..18], ((frame.len() - 14) as u16).to_be_bytes());
            frame[34..].to_vec()
        }))
    }

    type Taken = Result<Option<Vec<u8>>, DropReason>;

    fn whole(total: usize) -> Taken {
        Ok(Some((0..total).map(|at| (at % 251) as u8).collect()))
    }

    #[test]
    fn fragments_make_their_datagram_in_any_order_and_copies_of_them_do_no_harm() {
        let pieces = [(0, 1_480), (1_480, 2_960), (2_960, 4_104)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
            let mut all = Reassembly::new();
            for (step, &piece) in order.iter().enumerate() {
                let (from, to) = pieces[piece];
                let taken = take(&mut all, KEY, from, to, 4_104, at(1));
                assert_eq!(taken, if step == 2 { whole(4_104) } else { Ok(None) }, "{order:?}");
                if step < 2 {
                    assert_eq!(take(&mut all, KEY, from, to, 4_104, at(1)), Ok(None));
                }
            }
        }
        let mut all = Reassembly::new();
        assert_eq!(take(&mut all, KEY, 0, 40_000, IPV4.most, at(1)), Ok(None));
        assert_eq!(take(&mut all, KEY, 40_000, IPV4.most, IPV4.most, at(1)), whole(IPV4.most));
    }

    #[test]
    fn what_overlaps_or_contradicts_gives_up_the_datagram() {
        use DropReason::{FragmentMalformed, FragmentOverlap};
        // Teardrop: one lies within another; one shifted by eight bytes; two ends; bytes behind the end.
        for (first, second, total) in [
            ((0, 80), (8, 16), 200),
            ((0, 80), (72, 160), 200),
            ((100, 200), (120, 240), 240),
            ((160, 200), (0, 240), 240),
        ] {
            let mut all = Reassembly::new();
            let first_total = if first.1 == 200 { 200 } else { total };
            assert_eq!(take(&mut all, KEY, first.0, first.1, first_total, at(1)), Ok(None));
            assert_eq!(take(&mut all, KEY, second.0, second.1, total, at(1)), Err(FragmentOverlap), "{second:?}");
            // Nothing of it is left.
            assert_eq!(take(&mut all, KEY, 0, 200, 240, at(1)), Ok(None));
        }
        let mut all = Reassembly::new();
        // Ping of death, an empty one, and one that is no multiple of eight.
        for (from, to) in [(65_512, 65_520), (16, 16), (0, 9)] {
            assert_eq!(take(&mut all, KEY, from, to, 70_000, at(1)), Err(FragmentMalformed), "{from}..{to}");
        }
        for piece in 0..FRAGMENTS_MAX {
            assert_eq!(take(&mut all, KEY, 16 * piece, 16 * piece + 8, 60_000, at(1)), Ok(None));
        }
        assert_eq!(take(&mut all, KEY, 50_000, 50_008, 60_000, at(1)), Err(FragmentMalformed));
    }

    #[test]
    fn of_what_is_not_whole_in_time_the_first_fragment_is_given_as_it_came() {
        let mut all = Reassembly::new();
        let other = FragmentKey { id: 9, ..KEY };
        assert_eq!((all.next_deadline(), all.expire(at(9_000))), (None, None));
        for (key, from, to, now) in [(KEY, 80, 160, 5), (KEY, 0, 40, 7), (KEY, 40, 80, 8), (other, 80, 160, 9)] {
            assert_eq!(take(&mut all, key, from, to, 240, at(now)), Ok(None));
        }
        assert_eq!((all.next_deadline(), all.expire(at(1_004))), (Some(at(1_005)), None));
        let came: Vec<u8> = [0xee; 34].into_iter().chain(0..40).collect();
        assert_eq!(all.expire(at(1_005)), Some(&came[..]));
        assert_eq!((all.next_deadline(), all.expire(at(1_005))), (Some(at(1_009)), None));
        assert_eq!(all.expire(at(1_009)), Some(&[][..]), "its first has not come");
        assert_eq!((all.next_deadline(), all.take_given_up()), (None, 2));
        // Nor has that of the next in the same room.
        assert_eq!(take(&mut all, KEY, 80, 160, 240, at(2_000)), Ok(None));
        assert_eq!(all.expire(at(3_000)), Some(&[][..]));
    }

    #[test]
    fn datagrams_that_are_not_whole_in_time_or_are_too_many_are_given_up() {
        let mut all = Reassembly::new();
        let key = |id| FragmentKey { id, ..KEY };
        for id in 0..1_000 {
            assert_eq!(take(&mut all, key(id), 0, 80, 160, at(u64::from(id) / 10)), Ok(None));
        }
        assert_eq!(all.take_given_up(), 992);
        assert_eq!(take(&mut all, key(999), 80, 160, 160, at(100)), whole(160));
        assert_eq!(take(&mut all, key(0), 80, 160, 160, at(100)), Ok(None));
        assert_eq!(take(&mut all, key(998), 80, 160, 160, at(1_200)), Ok(None));
        assert_eq!(all.take_given_up(), 8);
        // The same number in packets of two protocols.
        let tcp = FragmentKey { protocol: 6, ..KEY };
        assert_eq!(take(&mut all, KEY, 0, 80, 160, at(1_300)), Ok(None));
        assert_eq!(take(&mut all, tcp, 80, 160, 160, at(1_300)), Ok(None));
        assert_eq!(take(&mut all, tcp, 0, 80, 160, at(1_300)), whole(160));
    }
}
