//! The answering end of the control channel: what `sidestep ctl` asks for, answered by a thread beside the cores.
//!
//! It reads what all cores share and sets what all cores read, none of it locked on a request's path; what only a core can
//! do or tell is an order to it (`orders.rs`), which it looks at between turns. A request that waits for cores holds up none
//! that does not. Read first: `sidestep_control`.

/// What every core must do before it is so.
mod changes;
/// What cores say to an order.
mod core_answers;
/// What is governed, and how it is to end.
mod cores;
/// Connections, core by core.
mod lists;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cache::{Stopping, stats_list};
use control::{Answers, QueueRow, Reply, Request, Setting};

use crate::confine::{Role, restrict};
use crate::idle::Idle;
use crate::log::{level, set_log_filter};
use crate::orders::Order;
use changes::{Change, Changes, ORDER_LIMIT};
use core_answers::takes_no_more;
pub use cores::{Cores, Ending};
use lists::Lists;

/// Settings that [`Governed`] can change.
const CHANGEABLE: [&str; 7] =
    ["maxbytes", "maxconns", "idle_timeout", "verbosity", "detail_enabled", "lru_crawler", LOG_FILTER];

/// Where clients reach the server: no setting of memcached's.
const ADDRESSES: &str = "addresses";

/// What the log lets through: no setting of memcached's.
const LOG_FILTER: &str = "log_filter";

/// The least that memory is limited to, as for cache_memlimit.
const MEMORY_MIN_BYTES: u64 = 8 << 20;

/// The longest idle time-out, in seconds, as at the start.
const IDLE_MAX_SECS: u32 = 1 << 31;

/// What is governed.
pub struct Governed {
    cores: Cores,
    log_filter: String,
    /// How long cores may take for the orders of one request.
    order_limit: Duration,
    lists: Lists,
    changes: Changes,
}

impl std::fmt::Debug for Governed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governed").field("log_filter", &self.log_filter).finish_non_exhaustive()
    }
}

impl Governed {
    /// These cores.
    pub fn new(cores: Cores) -> Governed {
        Governed::within(cores, ORDER_LIMIT)
    }

    /// These cores, which may take so long for the orders of one request.
    fn within(cores: Cores, order_limit: Duration) -> Governed {
        let set = std::env::var("RUST_LOG");
        let log_filter = set.unwrap_or_else(|_| level(cores.shared.control.verbosity()).to_owned());
        Governed { cores, log_filter, order_limit, lists: Lists::default(), changes: Changes::new(order_limit) }
    }

    /// Answers what comes over `stream`, in a thread that ends with the other end of it, and drops `confined` once it is.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(self, stream: UnixStream, confined: Sender<()>) -> io::Result<JoinHandle<()>> {
        let serve = move || {
            if let Err(error) = restrict(Role::Control) {
                tracing::error!(%error, "the thread of the control channel cannot be confined: it is not served");
                return;
            }
            drop(confined);
            if let Err(error) = control::serve(stream, self) {
                tracing::error!(%error, "the control channel has ended");
            }
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(serve)
    }

    /// Does what is asked at `now`. `None` if its reply is owed until a core has done its part.
    fn ask_at(&mut self, number: u32, request: Request, descriptor: Option<OwnedFd>, now: Instant) -> Option<Reply> {
        let takes_one = matches!(request, Request::Capture { .. });
        if descriptor.is_some() && !takes_one {
            return Some(Reply::Error("this request takes no descriptor".to_owned()));
        }
        let change = match request {
            Request::Settings => return Some(Reply::Settings(self.settings())),
            Request::Set { name, value } if name == "maxbytes" => match memory(&value) {
                Ok(bytes) => Change::Memory { bytes },
                Err(why) => return Some(stays(&name, &why)),
            },
            Request::Set { name, value } => return Some(self.set_at_once(&name, &value)),
            Request::Stats { kind } => return Some(self.stats(&kind)),
            Request::Queues => return Some(self.queues()),
            Request::Connections { core, from } => {
                return self.lists.ask(&self.cores.orders, (number, core, from), now);
            }
            Request::Capture { on, limit } => match (on, descriptor) {
                (true, None) => return Some(Reply::Error("no file came along to record to".to_owned())),
                (false, Some(_)) => {
                    return Some(Reply::Error("a file came along, and nothing is to be recorded".to_owned()));
                }
                (true, Some(file)) => Change::CaptureOn { file: file.into(), limit },
                (false, None) => Change::CaptureOff,
            },
            Request::Drain { seconds } => Change::Drain { within: seconds.map(Duration::from_secs) },
            Request::Shutdown => {
                tracing::info!("told to stop by sidestep ctl");
                self.cores.shared.control.stop(Stopping::Graceful);
                (self.cores.wake)(Ending::Now);
                return Some(Reply::Done("the server answers what has arrived, and ends".to_owned()));
            }
        };
        self.changes.ask(number, change, now);
        None
    }

    /// A reply that was owed and is known at `now`.
    fn owed_at(&mut self, now: Instant) -> Option<(u32, Reply)> {
        let list = self.lists.owed(&self.cores.orders, now, self.order_limit);
        list.or_else(|| self.changes.owed(&mut self.cores, now))
    }

    fn stats(&self, kind: &str) -> Reply {
        match self.list(kind) {
            Some(lines) => Reply::Stats(lines),
            None => Reply::Error(format!(
                "there are no stats {kind}; ask for nothing, or for settings, items, slabs, sizes or sidestep"
            )),
        }
    }

    fn list(&self, kind: &str) -> Option<Vec<(String, String)>> {
        let now = self.cores.shared.control.shown(self.cores.clock.read().1);
        stats_list(kind, &self.cores.shared, now)
    }

    /// What `stats settings` says, and which of it can change.
    fn settings(&self) -> Vec<Setting> {
        let changeable = |name: &str| CHANGEABLE.contains(&name);
        let lines = self.list("settings").unwrap_or_default().into_iter();
        let own = self.cores.shared.server().locals.iter();
        let own = own.map(|local| local.ip().to_string()).collect::<Vec<_>>().join(",");
        let lines = lines.chain([(ADDRESSES.to_owned(), own), (LOG_FILTER.to_owned(), self.log_filter.clone())]);
        lines.map(|(name, value)| Setting { changeable: changeable(&name), name, value }).collect()
    }

    fn set_at_once(&mut self, name: &str, value: &str) -> Reply {
        match self.set(name, value) {
            Ok(()) => {
                tracing::info!(name, value, "set by sidestep ctl");
                Reply::Done(format!("{name} is {value}"))
            }
            Err(why) => stays(name, &why),
        }
    }

    /// Sets what waits for nobody.
    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let yes = |value: &str| match value {
            "yes" | "on" => Ok(true),
            "no" | "off" => Ok(false),
            _ => Err("it is yes or no".to_owned()),
        };
        let control = &self.cores.shared.control;
        match name {
            "maxconns" => {
                let reserved = self.cores.reserved;
                let most = value.parse::<usize>().ok().filter(|most| (1..=reserved).contains(most));
                let most = most.ok_or_else(|| format!("it is 1 to {reserved}, for which -c has reserved memory"))?;
                self.cores.admission.set_limit(most);
                control.set_connections(most as u32);
            }
            "idle_timeout" => {
                let seconds = value.parse::<u32>().ok().filter(|seconds| *seconds <= IDLE_MAX_SECS);
                self.set_idle_timeout(seconds.ok_or("it is a number of seconds, 0 for never")?)?;
            }
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
            "detail_enabled" => self.cores.shared.counters.set_detail(yes(value)?),
            "lru_crawler" => control.set_lru_crawler(yes(value)?),
            _ if self.settings().iter().any(|setting| setting.name == name) => {
                return Err("it is decided when the server starts".to_owned());
            }
            _ => return Err(format!("there is no such setting; these can change: {}", CHANGEABLE.join(", "))),
        }
        Ok(())
    }

    fn set_idle_timeout(&self, seconds: u32) -> Result<(), String> {
        let orders = &self.cores.orders;
        if let Some(core) = orders.crowded(1) {
            return Err(takes_no_more(core));
        }
        for core in 0..orders.cores() {
            let idle = (seconds > 0).then(|| Box::new(Idle::among(seconds, self.cores.flows_per_core)));
            // There is room, and nobody else gives orders.
            orders.give(core, Order::CloseIdle(idle));
        }
        self.cores.shared.control.set_idle_timeout(seconds);
        Ok(())
    }

    fn queues(&self) -> Reply {
        let Some(arrivals) = self.cores.losses.arrivals() else {
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

impl Answers for Governed {
    fn ask(&mut self, number: u32, request: Request, descriptor: Option<OwnedFd>) -> Option<Reply> {
        self.ask_at(number, request, descriptor, Instant::now())
    }

    fn owed(&mut self) -> Option<(u32, Reply)> {
        self.owed_at(Instant::now())
    }

    fn owes(&self) -> bool {
        self.lists.are_owed() || self.changes.are_owed()
    }
}

/// What memory may be limited to.
fn memory(value: &str) -> Result<u64, String> {
    let bytes = value.parse::<u64>().ok().filter(|bytes| *bytes >= MEMORY_MIN_BYTES);
    bytes.ok_or_else(|| format!("it is a number of bytes, {MEMORY_MIN_BYTES} at least"))
}

fn stays(name: &str, why: &str) -> Reply {
    Reply::Error(format!("{name} stays as it is: {why}"))
}

#[cfg(test)]
mod tests;
