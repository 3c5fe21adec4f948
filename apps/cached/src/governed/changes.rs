//! `Changes`: what every core must do before it is so: one after the other, in the order in which they are asked for.
//!
//! ```text
//!  ask ──► waiting ──► begun: every core is given the order ──► all have obeyed, or one has not in time ──► owed
//! ```
//! Invariant: a change has its reply within the limit of its own, counted from when it was asked for, and half a second more
//! where a file is to be finished; how long those before it take does not add to that. One whose time is over before it
//! begins does not begin. The front answers in place of a plane that takes longer ([`control::ANSWER_LIMIT`]).

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use control::Reply;

use super::core_answers::{CoreAnswers, takes_no_more};
use super::{Cores, Ending};
use crate::live_capture::{Capture, CaptureEnd};
use crate::orders::Order;

/// How long cores may take for all orders of one request.
pub(super) const ORDER_LIMIT: Duration = Duration::from_secs(2);

/// How long the end of a capture waits for its file, after the cores.
const FILE_LIMIT: Duration = Duration::from_millis(500);

// What went wrong is told before the front answers for the plane, with half a second for the way.
const _: () = assert!(ORDER_LIMIT.as_millis() + FILE_LIMIT.as_millis() + 500 <= control::ANSWER_LIMIT.as_millis());

/// Orders of a change to each core: the one that begins it, and the one that takes it back where another core does not obey.
const ORDERS_EACH: usize = 2;

/// What is to change.
#[derive(Debug)]
pub(super) enum Change {
    /// All shards together have so many bytes, or none of them has other than before.
    Memory { bytes: u64 },
    /// No connection is accepted any more, and the server ends with the last, after that time at the latest.
    Drain { within: Option<Duration> },
    /// Every frame is recorded to that file, of at most so many bytes.
    CaptureOn { file: File, limit: u64 },
    /// No frame is recorded any more.
    CaptureOff,
}

/// One that has been asked for.
#[derive(Debug)]
struct Asked {
    number: u32,
    since: Instant,
    change: Change,
}

/// What is waited for.
#[derive(Debug)]
enum Step {
    Memory {
        bytes: u64,
        can: CoreAnswers<bool>,
    },
    Drain {
        within: Option<Duration>,
        done: CoreAnswers<()>,
    },
    Capture {
        on: bool,
        done: CoreAnswers<()>,
    },
    /// The file of a capture that was to begin or to end: `why` it is not whole, whatever its writer says.
    File {
        on: bool,
        why: Option<String>,
        until: Instant,
        end: Option<Receiver<CaptureEnd>>,
    },
}

/// The one that has begun.
#[derive(Debug)]
struct Begun {
    number: u32,
    since: Instant,
    step: Step,
}

/// What became of a step.
enum Became {
    Waits(Step),
    Over(Reply),
}

/// Those that were asked for and have no reply yet.
#[derive(Debug)]
pub(super) struct Changes {
    begun: Option<Begun>,
    waiting: VecDeque<Asked>,
    /// Whether all cores have been told to accept no connection.
    drains: bool,
    limit: Duration,
}

impl Changes {
    /// Of cores that may take so long.
    pub(super) fn new(limit: Duration) -> Changes {
        Changes { begun: None, waiting: VecDeque::new(), drains: false, limit }
    }

    /// Takes one, at `now`.
    pub(super) fn ask(&mut self, number: u32, change: Change, now: Instant) {
        self.waiting.push_back(Asked { number, since: now, change });
    }

    /// Whether any has no reply yet.
    pub(super) fn are_owed(&self) -> bool {
        self.begun.is_some() || !self.waiting.is_empty()
    }

    /// The reply to one of them, if it is known at `now`.
    pub(super) fn owed(&mut self, cores: &mut Cores, now: Instant) -> Option<(u32, Reply)> {
        let Begun { number, since, step } = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let Asked { number, since, change } = self.waiting.pop_front()?;
                if self.is_over(since, now) {
                    return Some((number, not_begun()));
                }
                match self.begin(cores, change) {
                    Became::Over(reply) => return Some((number, reply)),
                    Became::Waits(step) => Begun { number, since, step },
                }
            }
        };
        match self.go_on(cores, step, since, now) {
            Became::Over(reply) => return Some((number, reply)),
            Became::Waits(step) => self.begun = Some(Begun { number, since, step }),
        }
        // The first of those that wait has waited for longest.
        let first = self.waiting.front()?.since;
        let given_up = if self.is_over(first, now) { self.waiting.pop_front() } else { None };
        given_up.map(|asked| (asked.number, not_begun()))
    }

    /// Whether the time of one that was asked for at `since` is over.
    fn is_over(&self, since: Instant, now: Instant) -> bool {
        now.duration_since(since) >= self.limit
    }

    /// Tells the cores.
    fn begin(&mut self, cores: &mut Cores, change: Change) -> Became {
        // Nobody is told anything that could not be taken back.
        if let Some(core) = cores.orders.crowded(ORDERS_EACH) {
            return Became::Over(Reply::Error(takes_no_more(core)));
        }
        Became::Waits(match change {
            Change::Memory { bytes } => Step::Memory { bytes, can: tell_memory(cores, bytes) },
            Change::Drain { within } if self.drains => return Became::Over(drains(cores, within, None)),
            Change::Drain { within } => {
                let all = 0..cores.orders.cores();
                let done = CoreAnswers::ask(&cores.orders, all, |done| Order::StopListening { done });
                Step::Drain { within, done }
            }
            Change::CaptureOn { file, limit } => match cores.writer.begin(cores.orders.cores(), file, limit) {
                Ok(capture) => Step::Capture { on: true, done: tell_of_capture(cores, Some(&capture)) },
                Err(why) => return Became::Over(Reply::Error(why.to_owned())),
            },
            Change::CaptureOff if !cores.writer.is_on() => {
                return Became::Over(Reply::Error("no capture is on".to_owned()));
            }
            Change::CaptureOff => Step::Capture { on: false, done: tell_of_capture(cores, None) },
        })
    }

    /// Looks what has become of a step of the change that was asked for at `since`.
    fn go_on(&mut self, cores: &mut Cores, mut step: Step, since: Instant, now: Instant) -> Became {
        let over = self.is_over(since, now);
        match &mut step {
            Step::Memory { bytes, can } => {
                let (bytes, can) = (*bytes, can.look(over).map(|all| all.map(|all| !all.contains(&false))));
                match can {
                    Ok(None) => Became::Waits(step),
                    Ok(Some(can)) => Became::Over(limit_memory(cores, bytes, can)),
                    Err(why) => Became::Over(keep_memory(cores, &why)),
                }
            }
            Step::Drain { within, done } => {
                let within = *within;
                match done.look(over).map(|all| all.is_some()) {
                    Ok(false) => Became::Waits(step),
                    obeyed => {
                        // A core that has obeyed accepts nobody any more, and one that has not will not either: it finds the order
                        // before anything else.
                        self.drains = true;
                        Became::Over(drains(cores, within, obeyed.err()))
                    }
                }
            }
            Step::Capture { on, done } => {
                let (on, obeyed) = (*on, done.look(over).map(|all| all.is_some()));
                match obeyed {
                    Ok(false) => Became::Waits(step),
                    Ok(true) if on => Became::Over(Reply::Done("every frame is recorded from now on".to_owned())),
                    obeyed => {
                        if on {
                            // A core that comes round late finds both orders, one behind the other.
                            tell_of_capture(cores, None);
                        }
                        let end = cores.writer.begin_end();
                        file_looked_at(on, obeyed.err(), now + FILE_LIMIT, end, now)
                    }
                }
            }
            Step::File { on, why, until, end } => file_looked_at(*on, why.take(), *until, end.take(), now),
        }
    }
}

fn not_begun() -> Reply {
    Reply::Error("it was not begun: what was asked for before it waits for a core, or for its file".to_owned())
}

/// Tells every core what its part of so many bytes is; each says whether it can.
fn tell_memory(cores: &Cores, bytes: u64) -> CoreAnswers<bool> {
    let all = cores.orders.cores();
    let each = (bytes / all as u64) as usize;
    CoreAnswers::ask(&cores.orders, 0..all, |obeyed| Order::MemoryLimit { bytes: each, obeyed })
}

fn limit_memory(cores: &Cores, bytes: u64, can: bool) -> Reply {
    if !can {
        return keep_memory(cores, "it is more than was reserved at the start, or too little for the longest item");
    }
    cores.shared.control.set_limit_bytes(bytes);
    tracing::info!(name = "maxbytes", value = bytes, "set by sidestep ctl");
    Reply::Done(format!("maxbytes is {bytes}"))
}

/// Those that could are to be as they were: what they were told before they can.
fn keep_memory(cores: &Cores, why: &str) -> Reply {
    tell_memory(cores, cores.shared.control.limit_bytes());
    Reply::Error(format!("maxbytes stays as it is: {why}"))
}

/// All cores have been told: has whoever waits for the server's end know; `late` says who has not obeyed yet.
fn drains(cores: &Cores, within: Option<Duration>, late: Option<String>) -> Reply {
    let open = cores.admission.open();
    tracing::info!(connections = open, "told to drain by sidestep ctl");
    (cores.wake)(Ending::WithLastConnection { within });
    let limit = within.map_or(String::new(), |within| format!(", in {} s at the latest", within.as_secs()));
    let late = late.map_or(String::new(), |late| format!("; {late}, and will once it goes on"));
    Reply::Done(format!(
        "{open} connections go on and no new one is accepted; the server ends with the last{limit}{late}"
    ))
}

/// Tells every core to record, or not to.
fn tell_of_capture(cores: &Cores, capture: Option<&Arc<Capture>>) -> CoreAnswers<()> {
    let all = 0..cores.orders.cores();
    CoreAnswers::ask(&cores.orders, all, |done| Order::Capture { capture: capture.cloned(), done })
}

/// Looks whether the file of a capture has ended; `why` the capture is not whole all the same.
fn file_looked_at(
    on: bool,
    why: Option<String>,
    until: Instant,
    end: Option<Receiver<CaptureEnd>>,
    now: Instant,
) -> Became {
    let ended = end.as_ref().and_then(|end| end.try_recv().ok());
    if ended.is_none() && end.is_some() && now < until {
        return Became::Waits(Step::File { on, why, until, end });
    }
    Became::Over(match (why, ended) {
        (Some(why), _) if on => Reply::Error(why),
        (Some(why), _) => Reply::Error(format!("the capture has ended, and is not whole: {why}")),
        (None, None) => Reply::Error("the file is still being written".to_owned()),
        (None, Some(CaptureEnd { recorded, unrecorded, bytes, error: None })) => {
            Reply::Done(format!("recorded {recorded} frames, {bytes} bytes; {unrecorded} frames went by unrecorded"))
        }
        (None, Some(CaptureEnd { bytes, error: Some(error), .. })) => {
            Reply::Error(format!("the capture is not whole: its file took {bytes} bytes, then: {error}"))
        }
    })
}
