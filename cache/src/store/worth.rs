//! Which items are worth their bytes: hits for each byte, and the line above which they are kept.
//!
//! An item's score is the logarithm of its heat plus one over its bytes, in quarters of a doubling, so that an item
//! half as long is as good as one asked for twice as often. [`Cutoff`] counts the bytes of each score among the items
//! lately looked at and draws the line so that a set share of the bytes lies above it. Items on the line are kept in
//! turn, so that the share is met where many items score alike.
//!
//! Read first: Berger et al., "AdaptSize" (NSDI 2017) for why bytes count; "Segcache" (NSDI 2021) §3.4 for merging.

/// Scores are below this.
pub(crate) const SCORES: usize = 128;

/// Quarters of a doubling.
const STEPS: u32 = 4;

/// Bytes looked at between two lines drawn, at the least.
const PERIOD_BYTES: u64 = 32 << 10;

/// The score of an item of `bytes` bytes with `heat`; above 0.
#[inline]
pub(crate) fn score(heat: u8, bytes: u32) -> u8 {
    // Items are below 2^30 bytes (`-I` 1024m), so this never falls to 0.
    let score = 31 * STEPS + log2(u32::from(heat) + 1) - log2(bytes.max(1));
    score.min(SCORES as u32 - 1) as u8
}

/// The base-2 logarithm of `n`, from 1 on, in quarters.
#[inline]
fn log2(n: u32) -> u32 {
    let whole = n.ilog2();
    whole * STEPS + ((u64::from(n) << 2 >> whole) as u32 & 3)
}

/// The line between what is kept and what is not.
#[derive(Debug)]
pub(crate) struct Cutoff {
    /// Bytes of each score lately looked at, older ones counting less.
    bytes: [u64; SCORES],
    /// Bytes looked at since the line was drawn.
    since: u64,
    /// Scores above are kept, scores below are not.
    line: u8,
    /// Of 256 bytes on the line, so many are kept.
    on_line: u32,
    /// What is left of the last share on the line.
    carry: u32,
}

impl Cutoff {
    /// No item looked at yet: every item is kept.
    pub(crate) fn new() -> Cutoff {
        Cutoff { bytes: [0; SCORES], since: 0, line: 0, on_line: 0, carry: 0 }
    }

    /// Whether a line has been drawn and a score is above it.
    pub(crate) fn passes(&self, score: u8) -> bool {
        self.line != 0 && score > self.line
    }

    /// Looks at an item. Returns whether it is to be kept, when `share` of 256 bytes should be.
    pub(crate) fn keeps(&mut self, score: u8, bytes: u32, share: u32) -> bool {
        self.bytes[usize::from(score) % SCORES] += u64::from(bytes);
        self.since += u64::from(bytes);
        if self.since >= PERIOD_BYTES {
            self.draw(share);
        }
        if score != self.line {
            return score > self.line;
        }
        self.carry += self.on_line;
        let keep = self.carry >= 256;
        self.carry %= 256;
        keep
    }

    /// Draws the line anew and lets what was counted fade.
    fn draw(&mut self, share: u32) {
        self.since = 0;
        let wanted = self.bytes.iter().sum::<u64>() * u64::from(share) / 256;
        let mut above = 0;
        (self.line, self.on_line) = (0, 0);
        for score in (1..SCORES).rev() {
            let here = self.bytes[score];
            if above + here > wanted {
                self.line = score as u8;
                self.on_line = ((wanted - above) * 256 / here) as u32;
                break;
            }
            above += here;
        }
        self.bytes.iter_mut().for_each(|bytes| *bytes -= *bytes / 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_as_hot_is_as_good_as_half_as_long() {
        for bytes in [16, 100, 1000, 1 << 20] {
            assert_eq!(score(3, bytes * 2), score(1, bytes));
            assert_eq!(score(15, bytes), score(7, bytes) + 4);
            assert_eq!(score(15, bytes), score(15, bytes * 4) + 8);
        }
        assert!(score(0, (1 << 30) - 1) > 0);
        assert!(usize::from(score(15, 15)) < SCORES);
    }

    #[test]
    fn the_share_is_met_whatever_the_scores_are() {
        for (share, spread) in [(128, 1), (128, 3), (192, 40), (64, 100), (240, 7)] {
            let mut cutoff = Cutoff::new();
            let (mut kept, mut seen) = (0u64, 0u64);
            for n in 0..200_000u64 {
                let (score, bytes) = (1 + (n * 7919 % spread) as u8, 50 + (n * 31 % 100) as u32);
                let keep = cutoff.keeps(score, bytes, share);
                if n > 50_000 {
                    (kept, seen) = (kept + u64::from(bytes) * u64::from(keep), seen + u64::from(bytes));
                }
            }
            let met = kept * 256 / seen;
            assert!(met.abs_diff(u64::from(share)) <= 4, "{met} of {share}, {spread} scores");
        }
    }

    #[test]
    fn nothing_passes_a_line_that_is_not_drawn() {
        let mut cutoff = Cutoff::new();
        assert!(!cutoff.passes(SCORES as u8 - 1));
        for n in 0..10_000u64 {
            cutoff.keeps(20 + (n % 10) as u8, 100, 128);
        }
        assert!(cutoff.passes(26) && !cutoff.passes(23));
    }
}
