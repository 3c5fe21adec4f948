//! How a core's connections share what each of them needs to be served at all: entries, landing slots.
//!
//! The first of each connection is its own: it is always there, whatever the others hold. Beyond these is a number that
//! all share, and of that a connection may hold a part of what is left: the connection that holds most is the first to
//! get no more, and the more connections want some, the less each of them can have. So a connection never waits for
//! another one, but for its own replies to leave, and none need be closed.
//!
//! Read first: Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches" (1998).

/// A connection may hold one in so many of those that are left, beyond its first.
const PART: usize = 8;

/// What is taken beyond the first of each connection.
#[derive(Debug)]
pub(crate) struct Share {
    extra: usize,
    beyond: usize,
}

impl Share {
    /// Connections share `extra` beyond the first of each.
    pub(crate) fn new(extra: usize) -> Share {
        Share { extra, beyond: 0 }
    }

    /// Whether a connection that holds `held` may have one more. Its first it may.
    #[inline]
    pub(crate) fn allows(&self, held: usize) -> bool {
        held == 0 || held <= self.extra.saturating_sub(self.beyond).div_ceil(PART)
    }

    /// A connection that holds `held` takes one more.
    #[inline]
    pub(crate) fn take(&mut self, held: usize) {
        self.beyond += usize::from(held > 0);
    }

    /// A connection that holds `held` after that has given one back.
    #[inline]
    pub(crate) fn give_back(&mut self, held: usize) {
        self.beyond -= usize::from(held > 0);
    }

    /// A connection that holds `held` after that has left one behind, for as long as an answer to it may come.
    pub(crate) fn leave(&mut self, held: usize) {
        self.beyond += usize::from(held == 0);
    }

    /// One that was left behind has been given back.
    pub(crate) fn give_back_left(&mut self) {
        self.beyond -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many connections take as many as they can, each gets its first, all get about the same, and one that
    /// comes late gets as many as those who were there.
    #[test]
    fn a_share_is_the_same_for_all_however_many_they_are() {
        for connections in [1, 3, 32, 200, 1000] {
            let mut share = Share::new(512);
            let mut held = vec![0; connections];
            for _ in 0..64 {
                for held in &mut held {
                    if share.allows(*held) {
                        share.take(*held);
                        *held += 1;
                    }
                }
            }
            let (least, most) = (held.iter().min().expect("some"), held.iter().max().expect("some"));
            assert!(*least >= 1 && most - least <= 1, "{connections} connections hold {least} to {most}");
            let mut late = 0;
            while share.allows(late) {
                share.take(late);
                late += 1;
            }
            assert!(late >= 1 && 5 * late >= 4 * *least, "{connections}: {late} for the last, {least} for others");
            while late > 0 {
                late -= 1;
                share.give_back(late);
            }
            for mut held in held {
                while held > 0 {
                    held -= 1;
                    share.leave(held);
                    share.give_back_left();
                }
            }
            assert_eq!(share.beyond, 0);
        }
    }
}
