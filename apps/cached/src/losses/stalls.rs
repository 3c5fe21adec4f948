//! `Stalls`: which cores take no turns. One that has nothing to do takes two a second; one that takes none hangs, or something
//! else has its processor: a real-time process, a debugger.
//!
//! Whoever reaches its connections by it waits meanwhile, and so does who asks for its keys; nothing is lost, and all others are
//! served. A core copies its counts every [`COPY_INTERVAL`](super::COPY_INTERVAL): that is what is looked at.

use std::time::Duration;

use super::Losses;

/// The least time between two looks that count.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Looks in a row that find a core where it was, until it counts as stalled. Two: a process that was stopped whole and goes on
/// finds its cores where they were too, once.
const LOOKS: u32 = 2;

/// What has become of a core.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StallNews {
    /// It has taken no turn for some seconds.
    Stalls {
        /// Its number.
        core: usize,
    },
    /// It takes turns again.
    GoesOn {
        /// Its number.
        core: usize,
        /// How long after it was found to stall.
        after: Duration,
    },
}

/// What is known of one core.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    copies: u64,
    /// Looks in a row that have found it there.
    looks: u32,
    stalls_since: Option<Duration>,
}

/// Looks after all cores. The main thread's.
#[derive(Debug, Default)]
pub struct Stalls {
    cores: Vec<Seen>,
    looked: Option<Duration>,
}

impl Stalls {
    /// Looks, at `now` since some start, unless it has looked less than a second before; what has changed.
    pub fn look(&mut self, now: Duration, losses: &Losses) -> Vec<StallNews> {
        if self.looked.is_some_and(|looked| now.saturating_sub(looked) < LOOK_INTERVAL) {
            return Vec::new();
        }
        self.looked = Some(now);
        let copies = losses.copies();
        self.cores.resize(copies.len(), Seen::default());
        let news = self.cores.iter_mut().zip(copies).enumerate();
        news.filter_map(|(core, (seen, copies))| seen.note(core, copies.0.value(), now)).collect()
    }

    /// The same, and says it in the log.
    pub fn say(&mut self, now: Duration, losses: &Losses) {
        for news in self.look(now, losses) {
            match news {
                StallNews::Stalls { core } => tracing::warn!(
                    "core {core} takes no turns: its clients wait, and so does who asks for its keys, until it goes on. It hangs, or something else has its processor: a process with a real-time policy, a debugger"
                ),
                StallNews::GoesOn { core, after } => {
                    tracing::warn!("core {core} takes turns again, {:.1} s after this was said", after.as_secs_f64());
                }
            }
        }
    }

    /// How many take none.
    pub fn stalled(&self) -> u64 {
        self.cores.iter().filter(|seen| seen.stalls_since.is_some()).count() as u64
    }
}

impl Seen {
    fn note(&mut self, core: usize, copies: u64, now: Duration) -> Option<StallNews> {
        if copies != std::mem::replace(&mut self.copies, copies) {
            self.looks = 0;
            let since = self.stalls_since.take()?;
            return Some(StallNews::GoesOn { core, after: now.saturating_sub(since) });
        }
        self.looks += 1;
        let stalls = self.looks >= LOOKS && self.stalls_since.is_none();
        stalls.then(|| {
            self.stalls_since = Some(now);
            StallNews::Stalls { core }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_core_that_was_twice_found_where_it_was_stalls_until_it_takes_a_turn() {
        let losses = Losses::new(2);
        let mut stalls = Stalls::default();
        let mut at = |time, moves: &[usize]| {
            moves.iter().for_each(|&core| losses.set_core(core, &Default::default()));
            let news = stalls.look(millis(time), &losses);
            (news, stalls.stalled())
        };
        assert_eq!(at(0, &[0, 1]), (vec![], 0));
        assert_eq!(at(1_000, &[0]), (vec![], 0));
        assert_eq!(at(1_999, &[0]), (vec![], 0), "too early to be a look");
        assert_eq!(at(2_000, &[0]), (vec![StallNews::Stalls { core: 1 }], 1));
        assert_eq!(at(9_000, &[0]), (vec![], 1), "it is said once");
        let goes_on = StallNews::GoesOn { core: 1, after: millis(8_000) };
        assert_eq!(at(10_000, &[0, 1]), (vec![goes_on], 0));
        assert_eq!(at(11_000, &[0]), (vec![], 0), "one look is none");
        assert_eq!(at(12_000, &[0, 1]), (vec![], 0));
    }
}
