//! What merging knows between two operations. `shard/merge.rs` says what it is for.

use crate::store::ghost::Ghost;
use crate::store::header::HEAT_PER_HIT;
use crate::store::item::ItemRef;
use crate::store::worth::Cutoff;

/// The heat of an item on second trial.
pub(super) const TRIAL_HEAT: u8 = 1;
/// Second trials go on while one item in so many is asked for.
const TRIALS_FOR_A_HIT: u32 = 32;
/// Items that second trials are judged by.
const TRIALS_JUDGED: u32 = 2048;
/// While second trials are off, one item in so many has one all the same, to see whether times have changed.
const PROBE_EVERY: u32 = 16;

/// The segment being merged and how far it is.
#[derive(Debug)]
pub(super) struct Merging {
    pub(super) victim: Option<Victim>,
    /// Where the search for dead space goes on.
    pub(super) hand: u32,
    /// Operations to let pass before the next search.
    pub(super) pause: u32,
    /// Whether the shard is full: segments go as others are taken.
    pub(super) full: bool,
    /// While it is: bytes taken for which none have gone yet; below zero, bytes that have gone ahead.
    pub(super) owed: isize,
    pub(super) trials: Trials,
    /// What an item of main must be worth.
    pub(super) cutoff: Cutoff,
    /// What is remembered of evicted items.
    pub(super) ghost: Ghost,
    /// Segments that the ghost lies in.
    pub(super) ghost_segments: usize,
}

impl Merging {
    /// Nothing is merged yet. `ghost` lies in `ghost_segments` segments.
    pub(super) fn new(ghost: Ghost, ghost_segments: usize) -> Merging {
        Merging {
            victim: None,
            hand: 0,
            pause: 0,
            full: false,
            owed: 0,
            trials: Trials::default(),
            cutoff: Cutoff::new(),
            ghost,
            ghost_segments,
        }
    }
}

/// How items fared that had a second trial.
#[derive(Debug, Default)]
pub(super) struct Trials {
    hit: u32,
    missed: u32,
    refused: u32,
}

impl Trials {
    /// Whether the next item may have one.
    pub(super) fn are_worthwhile(&mut self) -> bool {
        if self.hit * TRIALS_FOR_A_HIT >= self.missed {
            return true;
        }
        self.refused = (self.refused + 1) % PROBE_EVERY;
        self.refused == 0
    }

    /// Looks at an item of main with this heat.
    pub(super) fn note(&mut self, heat: u8) {
        match heat {
            TRIAL_HEAT => self.missed += 1,
            heat if heat % HEAT_PER_HIT == TRIAL_HEAT => self.hit += 1,
            _ => return,
        }
        if self.hit + self.missed > TRIALS_JUDGED {
            (self.hit, self.missed) = (self.hit / 2, self.missed / 2);
        }
    }
}

/// The heat after a round of main.
pub(super) fn cooled(heat: u8) -> u8 {
    match heat {
        0..=2 => 0,
        3 => 2,
        heat => heat / 2,
    }
}

/// A sealed segment, looked at up to the offset of `at`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Victim {
    pub(super) at: ItemRef,
    /// Whether every live item is kept.
    pub(super) sparse: bool,
}
