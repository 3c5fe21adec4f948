//! `Script`: an input as a set-up and steps.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | bits 0-1: cores (2, 1, 3, 2); bits 2-3: mode (settled twice, free, scarce); bit 4: `-Y`, user `u`, password `p`; bit 6: `shutdown`, `debugtime` and `stats detail` are on; bit 7: `-M` |
//! | 1 | how bytes are cut: 0 one by one, others seed the choice |
//! | from 2 on | what connection 0 says, with marks |
//!
//! A mark is the byte [`MARK`] and a letter: `0` to `3` the connection that speaks from here on, `p` a pause in which
//! everything settles, `t` a second passes, `T` half a minute, `d` the connection stops reading, `r` it reads again,
//! `s` it has said all (its slot gets a new one), `c` it dies. `MARK MARK` is the byte itself, and so is a mark without
//! such a letter. Marks are bytes that text never has and packets seldom, so that a recorded session is an input as it
//! is.

/// Begins a mark.
pub const MARK: u8 = 0xf5;

/// Connections at one time.
pub const SLOTS: usize = 4;

/// Connections that one input may end; further ends are passed over.
const ENDS_MAX: usize = 12;

/// Bytes of an input that are read.
const INPUT_MAX: usize = 16 << 10;

/// How steps follow each other, and how much there is of everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything settles after each step: what is answered does not depend on how the bytes were cut.
    Settled,
    /// Steps follow each other within a few turns.
    Free,
    /// The same, with too little of everything, the store included.
    Scarce,
}

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// The connection of `slot` says this; a new one if there is none.
    Say { slot: usize, bytes: &'a [u8] },
    /// Everything settles.
    Pause,
    /// So many seconds pass.
    Tick(u32),
    /// It reads what comes, or not.
    Reads { slot: usize, reads: bool },
    /// The connection is gone.
    Die { slot: usize },
    /// It will say no more, and reads on.
    ShutDown { slot: usize },
}

/// An input, taken apart.
#[derive(Debug)]
pub struct Script<'a> {
    pub cores: usize,
    pub mode: Mode,
    pub asks_who: bool,
    pub obeys_all: bool,
    pub evicts: bool,
    pub seed: u64,
    pub steps: Vec<Step<'a>>,
}

impl<'a> Script<'a> {
    /// Reads an input; `None` when it says nothing.
    pub fn read(input: &'a [u8]) -> Option<Script<'a>> {
        let (&[setup, seed], said) = input.split_first_chunk::<2>()?;
        let said = &said[..said.len().min(INPUT_MAX)];
        let script = Script {
            cores: [2, 1, 3, 2][usize::from(setup & 3)],
            mode: [Mode::Settled, Mode::Settled, Mode::Free, Mode::Scarce][usize::from(setup >> 2 & 3)],
            asks_who: setup & 0x10 != 0,
            obeys_all: setup & 0x40 != 0,
            evicts: setup & 0x80 == 0,
            seed: u64::from(seed),
            steps: steps(said),
        };
        (!script.steps.is_empty()).then_some(script)
    }
}

fn steps(said: &[u8]) -> Vec<Step<'_>> {
    let (mut steps, mut slot, mut ends) = (Vec::new(), 0, 0);
    let (mut start, mut at) = (0, 0);
    while let Some(found) = said[at..].iter().position(|&byte| byte == MARK) {
        let mark = at + found;
        let letter = said.get(mark + 1).copied().unwrap_or_default();
        let mut end = |step: Step<'static>| {
            ends += 1;
            (ends <= ENDS_MAX).then_some(step)
        };
        let step = match letter {
            b'0'..=b'3' => None,
            b'p' => Some(Step::Pause),
            b't' => Some(Step::Tick(1)),
            b'T' => Some(Step::Tick(30)),
            b'd' => Some(Step::Reads { slot, reads: false }),
            b'r' => Some(Step::Reads { slot, reads: true }),
            b's' => end(Step::ShutDown { slot }),
            b'c' => end(Step::Die { slot }),
            _ => {
                // The byte itself; of a doubled one the second is passed over.
                if letter == MARK {
                    steps.push(Step::Say { slot, bytes: &said[start..=mark] });
                    start = mark + 2;
                }
                at = (mark + 1 + usize::from(letter == MARK)).min(said.len());
                continue;
            }
        };
        if mark > start {
            steps.push(Step::Say { slot, bytes: &said[start..mark] });
        }
        steps.extend(step);
        if let b'0'..=b'3' = letter {
            slot = usize::from(letter - b'0');
        }
        (start, at) = (mark + 2, mark + 2);
    }
    if start < said.len() {
        steps.push(Step::Say { slot, bytes: &said[start..] });
    }
    steps
}
