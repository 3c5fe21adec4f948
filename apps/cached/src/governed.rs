//! The answering end of the control channel: what `sidestep ctl` asks for, answered by a thread beside the cores.
//!
//! It reads what all cores share and sets what all cores read, none of it locked on a request's path; no core looks for
//! what it is asked. Read first: `sidestep_control`.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use cache::{Shared, Stopping, stats_list};
use control::{QueueRow, Reply, Request, Setting};

use crate::clock::Clock;
use crate::confine::{Role, restrict};
use crate::log::{level, set_log_filter};
use crate::losses::Losses;

/// Settings that [`Governed::answer`] can change.
const CHANGEABLE: [&str; 4] = ["verbosity", "detail_enabled", "lru_crawler", LOG_FILTER];

/// What the log lets through: no setting of memcached's.
const LOG_FILTER: &str = "log_filter";

/// What is governed.
pub struct Governed {
    shared: Arc<Shared>,
    losses: Arc<Losses>,
    clock: Clock,
    log_filter: String,
    /// Wakes whoever waits for a reason to stop.
    wake: Box<dyn Fn() + Send>,
}

impl std::fmt::Debug for Governed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governed").field("log_filter", &self.log_filter).finish_non_exhaustive()
    }
}

impl Governed {
    /// The cores that share `shared` and `losses`; `wake` is called once the server is to stop.
    pub fn new(shared: Arc<Shared>, losses: Arc<Losses>, clock: Clock, wake: Box<dyn Fn() + Send>) -> Governed {
        let log_filter = std::env::var("RUST_LOG").unwrap_or_else(|_| level(shared.control.verbosity()).to_owned());
        Governed { shared, losses, clock, log_filter, wake }
    }

    /// Answers what comes over `stream`, in a thread that ends with the other end of it.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(mut self, stream: UnixStream) -> io::Result<JoinHandle<()>> {
        let serve = move || {
            if let Err(error) = restrict(Role::Control) {
                tracing::error!(%error, "the thread of the control channel cannot be confined: it is not served");
                return;
            }
            if let Err(error) = control::serve(stream, |request| self.answer(request)) {
                tracing::error!(%error, "the control channel has ended");
            }
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(serve)
    }

    /// Does what is asked.
    pub fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Settings => Reply::Settings(self.settings()),
            Request::Set { name, value } => match self.set(&name, &value) {
                Ok(()) => {
                    tracing::info!(name, value, "set by sidestep ctl");
                    Reply::Done(format!("{name} is {value}"))
                }
                Err(why) => Reply::Error(format!("{name} stays as it is: {why}")),
            },
            Request::Stats { kind } => match self.list(&kind) {
                Some(lines) => Reply::Stats(lines),
                None => Reply::Error(format!(
                    "there are no stats {kind}; ask for nothing, or for settings, items, slabs, sizes or sidestep"
                )),
            },
            Request::Queues => self.queues(),
            Request::Shutdown => {
                tracing::info!("told to stop by sidestep ctl");
                self.shared.control.stop(Stopping::Graceful);
                (self.wake)();
                Reply::Done("the server answers what has arrived, and ends".to_owned())
            }
        }
    }

    fn list(&self, kind: &str) -> Option<Vec<(String, String)>> {
        let now = self.shared.control.shown(self.clock.read().1);
        stats_list(kind, &self.shared, now)
    }

    /// What `stats settings` says, and which of it can change.
    fn settings(&self) -> Vec<Setting> {
        let changeable = |name: &str| CHANGEABLE.contains(&name);
        let lines = self.list("settings").unwrap_or_default().into_iter();
        let lines = lines.chain([(LOG_FILTER.to_owned(), self.log_filter.clone())]);
        lines.map(|(name, value)| Setting { changeable: changeable(&name), name, value }).collect()
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let yes = |value: &str| match value {
            "yes" | "on" => Ok(true),
            "no" | "off" => Ok(false),
            _ => Err("it is yes or no".to_owned()),
        };
        let control = &self.shared.control;
        match name {
            "verbosity" => {
                let verbosity = value.parse().ok().filter(|verbosity| *verbosity <= 2).ok_or("it is 0, 1 or 2")?;
                set_log_filter(level(verbosity))?;
                self.log_filter = level(verbosity).to_owned();
                control.set_verbosity(verbosity);
            }
            LOG_FILTER => {
                set_log_filter(value)?;
                self.log_filter = value.to_owned();
            }
            "detail_enabled" => self.shared.counters.set_detail(yes(value)?),
            "lru_crawler" => control.set_lru_crawler(yes(value)?),
            _ if self.settings().iter().any(|setting| setting.name == name) => {
                return Err("it is decided when the server starts".to_owned());
            }
            _ => return Err(format!("there is no such setting; these can change: {}", CHANGEABLE.join(", "))),
        }
        Ok(())
    }

    fn queues(&self) -> Reply {
        let Some(arrivals) = self.losses.arrivals() else {
            let rule = "there are fewer queues than cores: frames are handed over between cores, by a hash of addresses and ports, and nothing is counted by queue";
            return Reply::Queues { rule: rule.to_owned(), queues: Vec::new() };
        };
        let row = |count: crate::arrivals::QueueCount| QueueRow {
            queue: count.queue.0,
            core: count.core,
            connections: count.connections,
            as_predicted: count.as_predicted,
            elsewhere: count.as_predicted.map(|_| count.elsewhere()),
        };
        Reply::Queues { rule: arrivals.rule(), queues: arrivals.counts().map(row).collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use cache::{CacheConfig, Core, Now};

    use super::*;

    fn plane() -> (Governed, Arc<Shared>, Arc<AtomicBool>) {
        let caches = Core::mesh(&CacheConfig::default(), [7; 16]).expect("the defaults");
        let shared = caches[0].shared().clone();
        let woken = Arc::new(AtomicBool::new(false));
        let sets = woken.clone();
        let wake = Box::new(move || sets.store(true, Ordering::Relaxed));
        (Governed::new(shared.clone(), Arc::new(Losses::new(1)), Clock::start(), wake), shared, woken)
    }

    #[test]
    fn stats_settings_and_the_channel_agree_before_and_after_a_change() {
        let (mut plane, shared, _) = plane();
        let now = Now { secs: 2, unix_epoch: 0 };
        for (name, value) in [("", ""), ("detail_enabled", "yes"), ("lru_crawler", "no")] {
            if !name.is_empty() {
                let set = Request::Set { name: name.to_owned(), value: value.to_owned() };
                assert_eq!(plane.answer(set), Reply::Done(format!("{name} is {value}")));
            }
            let Reply::Settings(settings) = plane.answer(Request::Settings) else { panic!("settings") };
            let shown: Vec<_> = settings.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
            let said = stats_list("settings", &shared, now).expect("there is such a list");
            assert_eq!(shown[..said.len()], said[..]);
            assert_eq!(shown[said.len()..].iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(), [LOG_FILTER]);
            if !name.is_empty() {
                assert!(said.contains(&(name.to_owned(), value.to_owned())), "{name}");
            }
            let changeable = settings.iter().filter(|one| one.changeable).map(|one| &one.name[..]);
            let mut changeable: Vec<_> = changeable.collect();
            let mut promised = CHANGEABLE.to_vec();
            changeable.sort_unstable();
            promised.sort_unstable();
            assert_eq!(changeable, promised, "each that can change is shown once");
        }
    }

    #[test]
    fn what_cannot_change_says_why() {
        let (mut plane, _, _) = plane();
        let mut why = |name: &str, value: &str| {
            let set = Request::Set { name: name.to_owned(), value: value.to_owned() };
            match plane.answer(set) {
                Reply::Error(why) => why,
                reply => panic!("{name}={value}: {reply:?}"),
            }
        };
        assert!(why("tcpport", "1").contains("when the server starts"));
        assert!(why("colour", "red").contains("no such setting"));
        assert!(why("verbosity", "3").contains("0, 1 or 2"));
        assert!(why("detail_enabled", "perhaps").contains("yes or no"));
    }

    #[test]
    fn the_lists_of_stats_are_those_of_the_protocol_and_others_are_refused() {
        let (mut plane, _, _) = plane();
        for kind in ["", "settings", "slabs", "sizes", "sidestep"] {
            let reply = plane.answer(Request::Stats { kind: kind.to_owned() });
            assert!(matches!(&reply, Reply::Stats(lines) if !lines.is_empty()), "{kind}: {reply:?}");
        }
        assert!(matches!(plane.answer(Request::Stats { kind: "nothing".to_owned() }), Reply::Error(_)));
    }

    #[test]
    fn shutdown_sets_the_reason_and_wakes_who_waits() {
        let (mut plane, shared, woken) = plane();
        assert!(matches!(plane.answer(Request::Shutdown), Reply::Done(_)));
        assert!(woken.load(Ordering::Relaxed));
        assert_eq!(shared.control.stopping(), Some(Stopping::Graceful));
    }
}
