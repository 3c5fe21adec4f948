//! `Scoreboard`: what of a flow's data in flight its peer has, behind what it lacks (RFC 2018, RFC 6675).
//!
//! A flow has one only while something of it is missing; there are so many, and a flow that finds none recovers as one
//! whose peer has no SACK.

use std::num::NonZeroU16;

use arrayvec::ArrayVec;

/// Blocks kept of one flow; of more, those that come last are not noted, and so perhaps sent again.
const BLOCKS: usize = 16;

/// Scoreboards of a core.
const BOARDS: usize = 512;

/// Which of a core's scoreboards a flow has.
pub(crate) type BoardNumber = NonZeroU16;

/// A range of sequence numbers: the first, and the one behind the last.
pub(crate) type Block = (u32, u32);

/// What the peer has of what is in flight, and what was sent again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scoreboard {
    /// In order, with something missing between any two.
    blocks: ArrayVec<Block, BLOCKS>,
    /// What is missing before it was sent again in this round.
    pub(crate) resent_to: u32,
    /// What had been sent when this round began.
    pub(crate) round_end: u32,
    /// What is missing before it is lost, whatever the blocks say.
    pub(crate) lost_to: u32,
}

/// Whether `a` comes before `b`.
#[inline]
pub(crate) fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// The later of the two.
#[inline]
pub(crate) fn later(a: u32, b: u32) -> u32 {
    if before(a, b) { b } else { a }
}

impl Scoreboard {
    /// An empty one, of a flow of which `una` is the earliest number in flight.
    fn begin(&mut self, una: u32) {
        self.blocks.clear();
        (self.resent_to, self.round_end, self.lost_to) = (una, una, una);
    }

    /// Notes that the peer has a block.
    pub(crate) fn note(&mut self, (mut left, mut right): Block) {
        // Those that it joins become a part of it.
        self.blocks.retain(|&mut (from, to)| {
            let apart = before(to, left) || before(right, from);
            if !apart {
                left = if before(from, left) { from } else { left };
                right = later(right, to);
            }
            apart
        });
        let at = self.blocks.iter().position(|&(from, _)| before(left, from)).unwrap_or(self.blocks.len());
        // A full board keeps what it has.
        let _ = self.blocks.try_insert(at, (left, right));
    }

    /// Forgets what comes before `una`, which was acknowledged.
    pub(crate) fn acknowledged(&mut self, una: u32) {
        self.blocks.retain(|&mut (_, to)| before(una, to));
        if let Some((from, _)) = self.blocks.first_mut() {
            *from = later(*from, una);
        }
        self.resent_to = later(self.resent_to, una);
        self.lost_to = later(self.lost_to, una);
    }

    /// Whether nothing is noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Bytes that the peer has.
    pub(crate) fn held(&self) -> u32 {
        self.blocks.iter().map(|&(from, to)| to.wrapping_sub(from)).sum()
    }

    /// Before which number what is missing is lost, since more than `much` bytes behind it have arrived (RFC 6675 §4,
    /// IsLost).
    pub(crate) fn lost_before(&self, much: u32) -> Option<u32> {
        let mut arrived = 0;
        for &(from, to) in self.blocks.iter().rev() {
            arrived += to.wrapping_sub(from);
            if arrived > much {
                return Some(from);
            }
        }
        None
    }

    /// Bytes that are missing from `from` up to `to`.
    pub(crate) fn missing(&self, from: u32, to: u32) -> u32 {
        self.holes(from, to).map(|(from, to)| to.wrapping_sub(from)).sum()
    }

    /// What is missing from `from` up to `to`.
    pub(crate) fn holes(&self, from: u32, to: u32) -> impl Iterator<Item = Block> {
        let mut at = from;
        let mut blocks = self.blocks.iter();
        std::iter::from_fn(move || {
            while before(at, to) {
                let (left, right) = blocks.next().copied().unwrap_or((to, to));
                let hole = (at, if before(to, left) { to } else { left });
                at = later(at, right);
                if before(hole.0, hole.1) {
                    return Some(hole);
                }
            }
            None
        })
    }
}

/// The scoreboards of a core.
#[derive(Debug)]
pub(crate) struct Scoreboards {
    boards: Vec<Scoreboard>,
    free: Vec<BoardNumber>,
}

impl Scoreboards {
    pub(crate) fn new() -> Self {
        let numbers = (1..=BOARDS as u16).rev().filter_map(NonZeroU16::new);
        Self { boards: vec![Scoreboard::default(); BOARDS], free: numbers.collect() }
    }

    /// The scoreboard of a flow, which gets one if it has none; `None`: all are taken.
    pub(crate) fn take(&mut self, board: &mut Option<BoardNumber>, una: u32) -> Option<&mut Scoreboard> {
        if board.is_none() {
            *board = self.free.pop();
            self.get((*board)?).begin(una);
        }
        Some(self.get((*board)?))
    }

    /// That of the number.
    pub(crate) fn get(&mut self, number: BoardNumber) -> &mut Scoreboard {
        &mut self.boards[usize::from(number.get()) - 1]
    }

    /// Takes a flow's back.
    pub(crate) fn give_back(&mut self, board: &mut Option<BoardNumber>) {
        self.free.extend(board.take());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn board(una: u32) -> Scoreboard {
        let mut board = Scoreboard::default();
        board.begin(una);
        board
    }

    #[test]
    fn what_is_missing_is_lost_once_enough_behind_it_has_arrived() {
        let mut board = board(1_000);
        board.note((2_000, 3_000));
        assert_eq!((board.held(), board.missing(1_000, 4_000)), (1_000, 2_000));
        assert_eq!(board.lost_before(2_000), None);
        board.note((4_000, 6_000));
        assert_eq!(board.lost_before(2_000), Some(2_000));
        board.note((6_000, 6_001));
        assert_eq!(board.lost_before(2_000), Some(4_000));
        assert_eq!(board.holes(1_500, 9_000).collect::<Vec<_>>(), [(1_500, 2_000), (3_000, 4_000), (6_001, 9_000)]);
        board.acknowledged(4_500);
        assert_eq!((board.held(), board.missing(4_500, 6_001)), (1_501, 0));
    }

    #[test]
    fn a_flow_keeps_its_board_until_it_gives_it_back() {
        let mut boards = Scoreboards::new();
        let mut taken: Vec<Option<BoardNumber>> = vec![None; BOARDS];
        for board in &mut taken {
            boards.take(board, 5).expect("there is one").note((7, 9));
        }
        assert!(boards.take(&mut None, 0).is_none());
        assert!(boards.free.is_empty());
        boards.give_back(&mut taken[3]);
        let mut again = None;
        assert!(boards.take(&mut again, 1).expect("there is one").is_empty(), "nothing of the flow before");
        assert_eq!(boards.take(&mut taken[4], 1).expect("its own").held(), 2);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_map_of_every_number(
            start in any::<u32>(),
            steps in prop::collection::vec((0u32..60, 1u32..8, 0u32..12), 1..40),
        ) {
            let mut board = board(start);
            let mut has = [false; 80];
            let mut una = 0;
            for (left, len, act) in steps {
                if act == 0 {
                    una = una.max(left);
                    board.acknowledged(start.wrapping_add(una));
                } else if left >= una {
                    board.note((start.wrapping_add(left), start.wrapping_add(left + len)));
                    has[left as usize..(left + len) as usize].fill(true);
                }
                let held = has[una as usize..].iter().filter(|&&has| has).count() as u32;
                // Of more blocks than there is room for, some are not noted.
                prop_assert!(board.held() <= held);
                if board.blocks.len() < BLOCKS {
                    prop_assert_eq!(board.held(), held);
                }
                let missing = board.missing(start.wrapping_add(una), start.wrapping_add(80));
                prop_assert_eq!(missing, 80 - una - board.held());
                let sorted = board.blocks.windows(2).all(|two| before(two[0].1, two[1].0));
                prop_assert!(sorted, "{:?}", board.blocks);
            }
        }
    }
}
