//! `Stash`: what has come behind more holes than smoltcp keeps islands, until what is missing before it has come.
//!
//! smoltcp has room for eight islands in each socket, and throws away what would be a ninth. The segments of that kind, of
//! all flows of a core, lie here, as many of one flow as make 64 islands with smoltcp's own. What has been taken in is told
//! to the peer (RFC 2018) and stays until the flow gets there, or ends; where there is no room the segment is dropped. A flow has no
//! more places than it leaves to others: some flows with many holes leave room for those that come after them.
//! The memory is the kernel's until it is used. Off the path of a flow without holes.

use arrayvec::ArrayVec;

use crate::sack::Island;
use crate::scoreboard::{before, later};

/// Segments of all flows together, and of one flow: 64 islands with the eight of its socket.
const SEGMENTS: usize = 256;
const MOST_OF_ONE: usize = 56;

/// A flow: its number and how many flows had that before.
pub(crate) type Owner = (u32, u32);

/// A segment that is kept.
#[derive(Debug, Clone, Copy)]
struct Kept {
    owner: Owner,
    seq: u32,
    len: u16,
    /// Which part of the memory it has.
    place: u16,
}

/// The segments of a core's flows that came behind too many holes.
pub(crate) struct Stash {
    kept: Vec<Kept>,
    free: Vec<u16>,
    memory: Box<[u8]>,
    place_bytes: usize,
}

impl Stash {
    /// Memory for segments of packets of up to `ip_mtu` bytes.
    pub(crate) fn new(ip_mtu: usize) -> Self {
        Self {
            kept: Vec::with_capacity(SEGMENTS),
            free: (0..SEGMENTS as u16).collect(),
            memory: vec![0; SEGMENTS * ip_mtu].into(),
            place_bytes: ip_mtu,
        }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Keeps the data of a segment. Returns the island that it is part of, as far as that lies here; `None`: there is no room.
    pub(crate) fn keep(&mut self, owner: Owner, seq: u32, data: &[u8]) -> Option<Island> {
        let len = u16::try_from(data.len()).ok()?;
        let end = seq.wrapping_add(u32::from(len));
        let mut islands: ArrayVec<Island, MOST_OF_ONE> = ArrayVec::new();
        for kept in self.kept.iter().filter(|kept| kept.owner == owner) {
            islands.try_push((kept.seq, kept.end())).ok()?;
        }
        let is_here = islands.iter().any(|&(from, to)| !before(seq, from) && !before(to, end));
        if !is_here {
            let is_share = islands.len() < self.free.len();
            if islands.is_full() || !is_share || data.len() > self.place_bytes {
                return None;
            }
            let place = self.free.pop()?;
            let at = usize::from(place) * self.place_bytes;
            self.memory.get_mut(at..at + data.len())?.copy_from_slice(data);
            self.kept.push(Kept { owner, seq, len, place });
        }
        islands.sort_unstable_by_key(|island| island.0.wrapping_sub(seq) as i32);
        let mut whole = (seq, end);
        for &(from, to) in &islands {
            if !before(whole.1, from) {
                whole.1 = later(whole.1, to);
            }
        }
        for &(from, to) in islands.iter().rev() {
            if !before(to, whole.0) && before(from, whole.0) {
                whole.0 = from;
            }
        }
        Some(whole)
    }

    /// Takes out what begins at `next`, or before it and ends behind it, and throws away what does not.
    pub(crate) fn take(&mut self, owner: Owner, next: u32) -> Option<&[u8]> {
        let mut at = 0;
        while let Some(&kept) = self.kept.get(at) {
            if kept.owner != owner || before(next, kept.seq) {
                at += 1;
                continue;
            }
            self.kept.swap_remove(at);
            // A segment more is never kept before the caller has done with this one.
            self.free.push(kept.place);
            if before(next, kept.end()) {
                let from = usize::from(kept.place) * self.place_bytes;
                let had = next.wrapping_sub(kept.seq) as usize;
                return self.memory.get(from + had..from + usize::from(kept.len));
            }
        }
        None
    }

    /// Throws away all of a flow that has ended.
    #[cold]
    pub(crate) fn forget(&mut self, owner: Owner) {
        let free = &mut self.free;
        self.kept.retain(|kept| {
            let stays = kept.owner != owner;
            if !stays {
                free.push(kept.place);
            }
            stays
        });
    }
}

impl Kept {
    /// The sequence number behind its last.
    fn end(&self) -> u32 {
        self.seq.wrapping_add(u32::from(self.len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Owner = (1, 1);
    const OTHER: Owner = (1, 2);

    #[test]
    fn an_island_is_told_as_far_as_it_reaches_across_the_wrap() {
        let mut stash = Stash::new(1_500);
        let at = |offset: u32| (u32::MAX - 100).wrapping_add(offset);
        assert_eq!(stash.keep(ONE, at(100), &[1; 50]), Some((at(100), at(150))));
        assert_eq!(stash.keep(ONE, at(200), &[3; 50]), Some((at(200), at(250))));
        assert_eq!(stash.keep(OTHER, at(150), &[9; 50]), Some((at(150), at(200))), "another's");
        assert_eq!(stash.keep(ONE, at(250), &[4; 50]), Some((at(200), at(300))));
        assert_eq!(stash.keep(ONE, at(150), &[2; 50]), Some((at(100), at(300))));
        assert_eq!(stash.keep(ONE, at(160), &[2; 10]), Some((at(100), at(300))), "it is here");
        assert_eq!(stash.kept.len(), 5);
    }

    #[test]
    fn what_is_next_is_taken_and_what_is_over_thrown_away() {
        let mut stash = Stash::new(1_500);
        for (seq, byte) in [(100, 1), (150, 2), (300, 3)] {
            stash.keep(ONE, seq, &[byte; 50]);
        }
        stash.keep(OTHER, 100, &[9; 50]);
        assert_eq!(stash.take(ONE, 99), None);
        assert_eq!(stash.take(ONE, 160), Some(&[2; 40][..]), "the rest of it");
        assert_eq!(stash.take(ONE, 200), None);
        assert_eq!((stash.kept.len(), stash.free.len()), (2, SEGMENTS - 2), "100 to 150 is over");
        stash.forget(ONE);
        assert_eq!(stash.take(ONE, 300), None);
        assert_eq!(stash.take(OTHER, 100), Some(&[9; 50][..]));
        assert_eq!((stash.is_empty(), stash.free.len()), (true, SEGMENTS));
    }

    #[test]
    fn a_flow_has_56_segments_and_never_more_than_it_leaves_to_others() {
        let mut stash = Stash::new(1_500);
        let fill = |stash: &mut Stash, owner: u32| {
            (0..60).filter(|number| stash.keep((owner, 0), number * 200, &[7; 100]).is_some()).count()
        };
        let kept: Vec<_> = (0..12).map(|owner| fill(&mut stash, owner)).collect();
        assert_eq!(kept, [56, 56, 56, 44, 22, 11, 6, 3, 1, 1, 0, 0]);
        assert_eq!(kept.iter().sum::<usize>(), SEGMENTS);
        // Whoever had many and got there leaves them.
        stash.forget((2, 0));
        assert_eq!((fill(&mut stash, 13), fill(&mut stash, 14)), (28, 14));
        assert_eq!(stash.keep((9, 0), 0, &[7; 1_501]), None);
        assert!(stash.keep((20, 0), 0, &[7; 1_500]).is_some());
    }
}
