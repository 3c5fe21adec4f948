//! `Scoreboard`: what of a flow's data in flight its peer has, behind what it lacks (RFC 2018, RFC 6675), and what was sent
//! again, in which order (RFC 8985).
//!
//! What was sent again is lost again once something that was sent later has arrived: so a lost retransmission needs no
//! time-out, whether anything new is sent behind it or not.
//!
//! A flow has one only while something of it is missing; there are so many, and a flow that finds none recovers as one
//! whose peer has no SACK.

use std::num::NonZeroU16;

use arrayvec::ArrayVec;

/// Blocks kept of one flow; of more, those that come last are not noted, and so perhaps sent again.
const BLOCKS: usize = 32;

/// Pieces sent again that are kept of one flow; more are not sent again before some of these have arrived.
const PIECES: usize = 16;

/// Scoreboards of a core.
const BOARDS: usize = 512;

/// Which of a core's scoreboards a flow has.
pub(crate) type BoardNumber = NonZeroU16;

/// A range of sequence numbers: the first, and the one behind the last.
pub(crate) type Block = (u32, u32);

/// What is to be sent again at once.
pub(crate) type Wanted = ArrayVec<Block, PIECES>;

/// A range that was sent again.
#[derive(Debug, Clone, Copy)]
struct Piece {
    from: u32,
    to: u32,
    /// What had been sent for the first time by then.
    snd_nxt: u32,
    /// The low bits of that moment's microseconds.
    at: u32,
}

/// What the peer has of what is in flight, and what was sent again.
#[derive(Debug, Clone, Default)]
pub(crate) struct Scoreboard {
    /// In order, with something missing between any two.
    blocks: ArrayVec<Block, BLOCKS>,
    /// What was sent again and has not arrived, in the order in which that was done.
    pieces: ArrayVec<Piece, PIECES>,
    /// What is missing before it is lost, whatever the blocks say.
    pub(crate) lost_to: u32,
    /// The earliest in flight when it was last looked at.
    una: u32,
}

/// How long something that was sent again must have been under way.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ages {
    /// For what arrives to be it, and not what was sent first, in microseconds.
    pub(crate) arrives: u32,
    /// For it to be lost, since something sent later has arrived.
    pub(crate) lost: u32,
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
        self.pieces.clear();
        (self.lost_to, self.una) = (una, una);
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

    /// Forgets what comes before `una`, which was acknowledged. Returns whether something is that was missing and was not sent
    /// again.
    ///
    /// A peer that acknowledges all before something that it has told of, and not that, has thrown it away (RFC 2018 §8): all
    /// that it has told of is lost.
    pub(crate) fn acknowledged(&mut self, una: u32) -> bool {
        let resent = self.pieces.iter().any(|piece| !before(self.una, piece.from) && before(self.una, piece.to));
        if self.blocks.iter().any(|&(from, to)| !before(una, from) && before(una, to)) {
            self.lost_to = later(self.lost_to, self.end());
            self.blocks.clear();
            self.pieces.clear();
        }
        self.blocks.retain(|&mut (_, to)| before(una, to));
        self.lost_to = later(self.lost_to, una);
        let came = before(self.una, una) && !resent;
        self.una = una;
        came
    }

    /// Forgets, of what was sent again, what has arrived, and what is lost again: what was sent before something that has
    /// arrived, or before something new of which more than `much` bytes have, `reach` being where that ends.
    pub(crate) fn sort_out(&mut self, now: u32, ages: Ages, reach: Option<u32>) {
        let mut newest = None;
        let mut pieces = std::mem::take(&mut self.pieces);
        for (at, piece) in pieces.iter_mut().enumerate() {
            let from = later(piece.from, self.una);
            // What of it has not arrived: what comes before something of it that has is lost.
            let rest =
                self.holes(from, piece.to).last().filter(|&(_, end)| end == piece.to).unwrap_or((piece.to, piece.to));
            if rest.0 != piece.from && now.wrapping_sub(piece.at) >= ages.arrives {
                newest = Some(at);
            }
            piece.from = rest.0;
        }
        let is_lost = |at: usize, piece: &Piece| {
            let overtaken =
                newest.is_some_and(|newest| at < newest) || reach.is_some_and(|reach| before(piece.snd_nxt, reach));
            overtaken && now.wrapping_sub(piece.at) >= ages.lost
        };
        let rest = pieces.iter().enumerate().filter(|&(at, piece)| before(piece.from, piece.to) && !is_lost(at, piece));
        self.pieces = rest.map(|(_, &piece)| piece).collect();
    }

    /// Notes that a range was sent again at `now`, when all up to `snd_nxt` had been sent for the first time.
    pub(crate) fn sent_again(&mut self, (from, to): Block, snd_nxt: u32, now: u32) {
        if let Some(last) = self.pieces.last_mut()
            && (last.to, last.snd_nxt, last.at) == (from, snd_nxt, now)
        {
            last.to = to;
            return;
        }
        // A list that is full had `wanted` return nothing.
        let _ = self.pieces.try_push(Piece { from, to, snd_nxt, at: now });
    }

    /// All that was sent again is lost.
    pub(crate) fn lose_again(&mut self) {
        self.pieces.clear();
    }

    /// What is missing before `to` and is not under way, and how many bytes that is; of it, so much as may be sent now, at
    /// most about `most` bytes.
    pub(crate) fn wanted(&self, to: u32, most: u32) -> (Wanted, u32) {
        let (mut wanted, mut bytes, mut left) = (Wanted::new(), 0, most);
        let room = self.pieces.remaining_capacity();
        for (mut at, end) in self.holes(self.una, to) {
            while before(at, end) {
                if let Some(piece) = self.pieces.iter().find(|piece| !before(at, piece.from) && before(at, piece.to)) {
                    at = piece.to;
                    continue;
                }
                let starts = self.pieces.iter().map(|piece| piece.from).filter(|&from| before(at, from));
                let next = starts.fold(end, |next, from| if before(from, next) { from } else { next });
                let len = next.wrapping_sub(at);
                bytes += len;
                if left > 0 && wanted.len() < room {
                    let taken = len.min(left);
                    wanted.push((at, at.wrapping_add(taken)));
                    left -= taken;
                }
                at = next;
            }
        }
        (wanted, bytes)
    }

    /// Whether nothing is noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Behind the last that the peer has.
    pub(crate) fn end(&self) -> u32 {
        self.blocks.last().map_or(self.una, |&(_, to)| to)
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

    /// Bytes that are missing from `from` up to `to`.
    fn missing(board: &Scoreboard, from: u32, to: u32) -> u32 {
        board.holes(from, to).map(|(from, to)| to.wrapping_sub(from)).sum()
    }

    fn wanted(board: &Scoreboard, to: u32, most: u32) -> (Vec<Block>, u32) {
        let (wanted, bytes) = board.wanted(to, most);
        (wanted.to_vec(), bytes)
    }

    #[test]
    fn what_was_sent_again_is_lost_again_when_something_sent_later_has_arrived() {
        let mut board = board(1_000);
        for block in [(2_000, 3_000), (4_000, 5_000), (6_000, 9_000)] {
            board.note(block);
        }
        assert_eq!(wanted(&board, 6_000, 9_000), (vec![(1_000, 2_000), (3_000, 4_000), (5_000, 6_000)], 3_000));
        assert_eq!(wanted(&board, 6_000, 1_500), (vec![(1_000, 2_000), (3_000, 3_500)], 3_000), "as much as may be");
        let ages = Ages { arrives: 50, lost: 0 };
        for (at, hole) in [(0, (1_000, 2_000)), (0, (3_000, 4_000)), (1, (5_000, 6_000))] {
            board.sent_again(hole, 9_000, at);
        }
        board.sort_out(100, ages, Some(9_000));
        assert_eq!(wanted(&board, 6_000, 9_000), (vec![], 0), "all is under way");
        board.note((3_000, 4_000));
        board.sort_out(40, ages, Some(9_000));
        assert_eq!(wanted(&board, 6_000, 9_000), (vec![], 0), "that was sent first, and came late");
        board.sent_again((3_000, 4_000), 9_000, 50);
        board.sort_out(100, ages, Some(9_000));
        assert_eq!(wanted(&board, 6_000, 9_000), (vec![(1_000, 2_000), (5_000, 6_000)], 2_000), "sent before it");
        board.sent_again((1_000, 2_000), 9_000, 200);
        board.sort_out(210, Ages { arrives: 50, lost: 20 }, Some(9_001));
        assert_eq!(wanted(&board, 5_000, 9_000), (vec![], 0), "new data has overtaken it, but only just");
        board.sort_out(220, Ages { arrives: 50, lost: 20 }, Some(9_001));
        assert_eq!(wanted(&board, 5_000, 9_000), (vec![(1_000, 2_000)], 1_000));
    }

    #[test]
    fn of_what_was_sent_again_in_one_piece_the_first_part_is_lost_when_the_last_arrives() {
        let mut board = board(0);
        board.note((5_000, 9_000));
        board.sent_again((0, 2_000), 9_000, 0);
        board.sent_again((2_000, 5_000), 9_000, 0);
        board.note((3_000, 4_000));
        board.sort_out(100, Ages::default(), None);
        assert_eq!(wanted(&board, 5_000, 9_000), (vec![(0, 3_000)], 3_000), "what comes behind it is under way");
        board.acknowledged(4_000);
        board.sort_out(100, Ages::default(), None);
        assert_eq!(wanted(&board, 5_000, 9_000), (vec![], 0));
        board.lose_again();
        assert_eq!(wanted(&board, 5_000, 9_000), (vec![(4_000, 5_000)], 1_000));
    }

    #[test]
    fn what_is_missing_is_lost_once_enough_behind_it_has_arrived() {
        let mut board = board(1_000);
        board.note((2_000, 3_000));
        assert_eq!((board.held(), missing(&board, 1_000, 4_000)), (1_000, 2_000));
        assert_eq!(board.lost_before(2_000), None);
        board.note((4_000, 6_000));
        assert_eq!(board.lost_before(2_000), Some(2_000));
        board.note((6_000, 6_001));
        assert_eq!(board.lost_before(2_000), Some(4_000));
        assert_eq!(board.holes(1_500, 9_000).collect::<Vec<_>>(), [(1_500, 2_000), (3_000, 4_000), (6_001, 9_000)]);
        board.acknowledged(3_500);
        assert_eq!((board.held(), missing(&board, 3_500, 6_001)), (2_001, 500));
    }

    #[test]
    fn a_peer_that_acknowledges_not_all_that_it_has_told_of_has_none_of_it() {
        for una in [2_000, 2_500] {
            let mut board = board(1_000);
            board.note((2_000, 3_000));
            board.note((4_000, 6_000));
            board.sent_again((1_000, 2_000), 6_000, 0);
            board.acknowledged(una);
            assert_eq!((board.held(), board.lost_to), (0, 6_000));
            assert_eq!(wanted(&board, board.lost_to, 9_000), (vec![(una, 6_000)], 6_000 - una));
        }
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
                    if has[una as usize] {
                        // It does not have that, so nothing.
                        has.fill(false);
                    }
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
                let missing = missing(&board, start.wrapping_add(una), start.wrapping_add(80));
                prop_assert_eq!(missing, 80 - una - board.held());
                let sorted = board.blocks.windows(2).all(|two| before(two[0].1, two[1].0));
                prop_assert!(sorted, "{:?}", board.blocks);
            }
        }
    }
}
