//! `LossShare`: of the segments that a flow has sent lately, how many were lost.

/// What a share is of; an eighth of it is the most that is told apart.
const WHOLE: u32 = 1 << 19;
/// The share from which on a way is full (2 %, as draft-ietf-ccwg-bbr has it).
const MUCH: u32 = WHOLE / 50;
/// About how many segments it is taken over: 1 % of them has a standard deviation of 0.3 %.
const SEGMENTS: u32 = 512;

/// A share, in which what was long ago counts ever less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct LossShare(u16);

impl LossShare {
    /// So many segments more, at least one, are lost, or have arrived.
    pub(crate) fn note(&mut self, segments: u32, lost: bool) {
        let segments = segments.clamp(1, SEGMENTS);
        let share = u32::from(self.0);
        let share =
            if lost { share + (WHOLE - share) / SEGMENTS * segments } else { share - share * segments / SEGMENTS };
        self.0 = u16::try_from(share).unwrap_or(u16::MAX);
    }

    /// The window was cut for it: so that it is not again for the same losses.
    pub(crate) fn halve(&mut self) {
        self.0 /= 2;
    }

    /// Whether so much is lost that the way is full.
    pub(crate) fn is_much(self) -> bool {
        u32::from(self.0) >= MUCH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether that is much, at the end, if of every `of` segments one is lost.
    fn one(of: u32) -> bool {
        let mut share = LossShare::default();
        for at in 0..10_000 {
            share.note(1, at % of == 0);
        }
        share.is_much()
    }

    #[test]
    fn one_percent_is_little_and_three_are_much() {
        assert!(!one(100) && !one(70));
        assert!(one(33) && one(10));
    }

    #[test]
    fn a_burst_of_losses_is_much_and_is_forgotten() {
        let mut share = LossShare::default();
        share.note(10, true);
        assert!(!share.is_much(), "{share:?}");
        share.note(2, true);
        assert!(share.is_much(), "{share:?}");
        share.note(512, false);
        assert_eq!(share, LossShare::default());
    }
}
