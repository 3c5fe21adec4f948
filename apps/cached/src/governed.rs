//! The answering end of the control channel: what `sidestep ctl` asks for, answered by a thread beside the cores.
//!
//! It reads what all cores share and sets what all cores read, none of it locked on a request's path; what only a core can
//! do or tell is an order to it (`orders.rs`), which it looks at between turns. Read first: `sidestep_control`.

/// How long a request waits.
mod patience;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;
use std::time::Duration;

use cache::{Shared, Stopping, stats_list};
use control::{ConnectionRow, QueueRow, Reply, Request, Setting};

use crate::admission::Admission;
use crate::clock::Clock;
use crate::confine::{Role, restrict};
use crate::idle::Idle;
use crate::live_capture::{Capture, CaptureEnd, CaptureWriter};
use crate::log::{level, set_log_filter};
use crate::losses::Losses;
use crate::orders::{ConnectionLook, Listing, Order, Orders};
use patience::{FILE_LIMIT, ORDER_LIMIT, Patience};

/// Settings that [`Governed::answer`] can change.
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

/// Connections told in one reply: some 80 KiB of JSON.
const CONNECTIONS_AT_ONCE: usize = 400;

/// How the server is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Once what has arrived is answered.
    Now,
    /// Once the last connection has ended, or after a time.
    WithLastConnection {
        /// The time, if there is one.
        within: Option<Duration>,
    },
}

/// The cores, as who governs them has them.
pub struct Cores {
    /// What they share of the cache.
    pub shared: Arc<Shared>,
    /// What they lose.
    pub losses: Arc<Losses>,
    /// Who writes what they capture.
    pub writer: CaptureWriter,
    /// The way to each of them.
    pub orders: Arc<Orders>,
    /// Their connections.
    pub admission: Arc<Admission>,
    /// Connections for which memory was reserved at the start.
    pub reserved: usize,
    /// The most connections that one core has.
    pub flows_per_core: usize,
    /// Their time.
    pub clock: Clock,
    /// Tells whoever waits for a reason to stop.
    pub wake: Box<dyn Fn(Ending) + Send>,
}

/// What is governed.
pub struct Governed {
    cores: Cores,
    log_filter: String,
    drains: bool,
    /// How long cores may take for the orders of one request.
    order_limit: Duration,
    /// What is left of it for the present one.
    patience: Patience,
}

impl std::fmt::Debug for Governed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Governed").field("log_filter", &self.log_filter).finish_non_exhaustive()
    }
}

impl Governed {
    /// These cores.
    pub fn new(cores: Cores) -> Governed {
        let set = std::env::var("RUST_LOG");
        let log_filter = set.unwrap_or_else(|_| level(cores.shared.control.verbosity()).to_owned());
        let patience = Patience::new(ORDER_LIMIT);
        Governed { cores, log_filter, drains: false, order_limit: ORDER_LIMIT, patience }
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
            if let Err(error) = control::serve(stream, |request, descriptor| self.answer(request, descriptor)) {
                tracing::error!(%error, "the control channel has ended");
            }
        };
        std::thread::Builder::new().name("control".to_owned()).spawn(serve)
    }

    /// Does what is asked.
    pub fn answer(&mut self, request: Request, descriptor: Option<OwnedFd>) -> Reply {
        self.patience = Patience::new(self.order_limit);
        if let Request::Capture { on, limit } = request {
            return self.capture(on, descriptor, limit);
        }
        if descriptor.is_some() {
            return Reply::Error("this request takes no descriptor".to_owned());
        }
        match request {
            Request::Capture { .. } => unreachable!("it is answered above"),
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
            Request::Connections { core, from } => self.connections(core, from),
            Request::Drain { seconds } => self.drain(seconds.map(Duration::from_secs)),
            Request::Shutdown => {
                tracing::info!("told to stop by sidestep ctl");
                self.cores.shared.control.stop(Stopping::Graceful);
                (self.cores.wake)(Ending::Now);
                Reply::Done("the server answers what has arrived, and ends".to_owned())
            }
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

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let yes = |value: &str| match value {
            "yes" | "on" => Ok(true),
            "no" | "off" => Ok(false),
            _ => Err("it is yes or no".to_owned()),
        };
        let control = &self.cores.shared.control;
        match name {
            "maxbytes" => self.set_memory(value)?,
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

    /// Limits all shards together to so many bytes, or none of them.
    fn set_memory(&mut self, value: &str) -> Result<(), String> {
        let bytes = value.parse::<u64>().ok().filter(|bytes| *bytes >= MEMORY_MIN_BYTES);
        let bytes = bytes.ok_or_else(|| format!("it is a number of bytes, {MEMORY_MIN_BYTES} at least"))?;
        if let Err(why) = self.limit_memory(bytes) {
            // Those that could are to be as they were: what they were told before they can.
            let _ = self.tell_memory(self.cores.shared.control.limit_bytes());
            return Err(why);
        }
        self.cores.shared.control.set_limit_bytes(bytes);
        Ok(())
    }

    fn limit_memory(&mut self, bytes: u64) -> Result<(), String> {
        let answers = self.tell_memory(bytes)?;
        if self.all(&answers)?.contains(&false) {
            return Err("it is more than was reserved at the start, or too little for the longest item".to_owned());
        }
        Ok(())
    }

    /// Tells every core; each says whether it can.
    fn tell_memory(&self, bytes: u64) -> Result<Receiver<bool>, String> {
        let orders = &self.cores.orders;
        let (obeyed, answers) = mpsc::channel();
        let each = (bytes / orders.cores() as u64) as usize;
        for core in 0..orders.cores() {
            self.give(core, Order::MemoryLimit { bytes: each, obeyed: obeyed.clone() })?;
        }
        Ok(answers)
    }

    /// What every core says.
    fn all<T>(&mut self, answers: &Receiver<T>) -> Result<Vec<T>, String> {
        let next = |_| self.patience.wait(answers).ok_or_else(late);
        (0..self.cores.orders.cores()).map(next).collect()
    }

    fn set_idle_timeout(&self, seconds: u32) -> Result<(), String> {
        for core in 0..self.cores.orders.cores() {
            let idle = (seconds > 0).then(|| Box::new(Idle::among(seconds, self.cores.flows_per_core)));
            self.give(core, Order::CloseIdle(idle))?;
        }
        self.cores.shared.control.set_idle_timeout(seconds);
        Ok(())
    }

    /// Accepts no connections any more, and ends with the last.
    fn drain(&mut self, within: Option<Duration>) -> Reply {
        if !self.drains {
            if let Err(why) = self.stop_listening() {
                return Reply::Error(why);
            }
            self.drains = true;
        }
        let open = self.cores.admission.open();
        tracing::info!(connections = open, "told to drain by sidestep ctl");
        (self.cores.wake)(Ending::WithLastConnection { within });
        let limit = within.map_or(String::new(), |within| format!(", in {} s at the latest", within.as_secs()));
        Reply::Done(format!(
            "{open} connections go on and no new one is accepted; the server ends with the last{limit}"
        ))
    }

    /// Waits until every core has done so.
    fn stop_listening(&mut self) -> Result<(), String> {
        let (done, obeyed) = mpsc::channel();
        for core in 0..self.cores.orders.cores() {
            self.give(core, Order::StopListening { done: done.clone() })?;
        }
        self.all(&obeyed).map(|_| ())
    }

    fn connections(&mut self, core: usize, from: u32) -> Reply {
        let (to, found) = mpsc::channel();
        let listing = Order::Connections(Listing::new(from, CONNECTIONS_AT_ONCE, to));
        if core >= self.cores.orders.cores() {
            return Reply::Error(format!("there are {} cores, the first of them 0", self.cores.orders.cores()));
        }
        let listed = self.give(core, listing).and_then(|()| self.patience.wait(&found).ok_or_else(late));
        let listed = match listed {
            Ok(listed) => listed,
            Err(why) => return Reply::Error(why),
        };
        let following = (core + 1 < self.cores.orders.cores()).then_some((core + 1, 0));
        let next = listed.next.map(|place| (core, place)).or(following);
        let row = |ConnectionLook { look, idle_secs }: ConnectionLook| ConnectionRow {
            peer: look.peer.to_string(),
            state: look.state.to_owned(),
            core,
            idle_secs,
            unread_bytes: look.unread,
            unsent_bytes: look.unsent,
            rtt_us: look.round_trip.map(|time| time.as_micros() as u64),
        };
        Reply::Connections { connections: listed.found.into_iter().map(row).collect(), next }
    }

    /// Turns a capture on, or off.
    fn capture(&mut self, on: bool, descriptor: Option<OwnedFd>, limit: u64) -> Reply {
        let cores = self.cores.orders.cores();
        let capture = match (on, descriptor) {
            (true, None) => return Reply::Error("no file came along to record to".to_owned()),
            (false, Some(_)) => return Reply::Error("a file came along, and nothing is to be recorded".to_owned()),
            (true, Some(file)) => match self.cores.writer.begin(cores, file.into(), limit) {
                Ok(capture) => Some(capture),
                Err(why) => return Reply::Error(why.to_owned()),
            },
            (false, None) if !self.cores.writer.is_on() => return Reply::Error("no capture is on".to_owned()),
            (false, None) => None,
        };
        let obeyed = self.tell_of_capture(capture);
        if on {
            return match obeyed {
                Ok(()) => Reply::Done("every frame is recorded from now on".to_owned()),
                Err(why) => {
                    // Nothing is left to wait: a core that comes round late finds both orders, one behind the other.
                    let _ = self.tell_of_capture(None);
                    self.cores.writer.end(FILE_LIMIT);
                    Reply::Error(why)
                }
            };
        }
        let ended = self.cores.writer.end(FILE_LIMIT);
        if let Err(why) = obeyed {
            return Reply::Error(format!("the capture has ended, and is not whole: {why}"));
        }
        match ended {
            None => Reply::Error("the file is still being written".to_owned()),
            Some(CaptureEnd { recorded, unrecorded, bytes, error: None }) => Reply::Done(format!(
                "recorded {recorded} frames, {bytes} bytes; {unrecorded} frames went by unrecorded"
            )),
            Some(CaptureEnd { bytes, error: Some(error), .. }) => {
                Reply::Error(format!("the capture is not whole: its file took {bytes} bytes, then: {error}"))
            }
        }
    }

    /// Waits until every core has done so.
    fn tell_of_capture(&mut self, capture: Option<Arc<Capture>>) -> Result<(), String> {
        let (done, obeyed) = mpsc::channel();
        // Also those behind one that has no room for it: none is to record into a capture that has ended.
        let given = |core| self.give(core, Order::Capture { capture: capture.clone(), done: done.clone() });
        (0..self.cores.orders.cores()).map(given).fold(Ok(()), Result::and)?;
        self.all(&obeyed).map(|_| ())
    }

    fn give(&self, core: usize, order: Order) -> Result<(), String> {
        if self.cores.orders.give(core, order) { Ok(()) } else { Err(late()) }
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

fn late() -> String {
    format!("a core has not done what it was told for {} ms", ORDER_LIMIT.as_millis())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use cache::{CacheConfig, Core, Now};
    use nic::Doorbell;

    use super::*;

    /// A plane of one core that does nothing, and what whoever waits for its end was told.
    fn plane() -> (Governed, Arc<Shared>, Arc<Mutex<Vec<Ending>>>) {
        let caches = Core::mesh(&CacheConfig::default(), [7; 16]).expect("the defaults");
        let shared = caches[0].shared().clone();
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = told.clone();
        let doorbell = Arc::new(Doorbell::new().expect("a descriptor"));
        let cores = Cores {
            shared: shared.clone(),
            losses: Arc::new(Losses::new(1)),
            writer: CaptureWriter::start(None).expect("a thread"),
            orders: Arc::new(Orders::new(&[doorbell])),
            admission: Arc::new(Admission::new(8)),
            reserved: 8,
            flows_per_core: 16,
            clock: Clock::start(),
            wake: Box::new(move |ending| tells.lock().expect("nobody panics").push(ending)),
        };
        let governed = Governed { order_limit: Duration::from_millis(5), ..Governed::new(cores) };
        (governed, shared, told)
    }

    #[test]
    fn stats_settings_and_the_channel_agree_before_and_after_a_change() {
        let (mut plane, shared, _) = plane();
        let now = Now { secs: 2, unix_epoch: 0 };
        for (name, value) in [
            ("", ""),
            ("detail_enabled", "yes"),
            ("lru_crawler", "no"),
            ("maxconns", "5"),
            ("idle_timeout", "60"),
            ("idle_timeout", "0"),
        ] {
            if !name.is_empty() {
                let set = Request::Set { name: name.to_owned(), value: value.to_owned() };
                assert_eq!(plane.answer(set, None), Reply::Done(format!("{name} is {value}")));
            }
            let Reply::Settings(settings) = plane.answer(Request::Settings, None) else { panic!("settings") };
            let shown: Vec<_> = settings.iter().map(|one| (one.name.clone(), one.value.clone())).collect();
            let said = stats_list("settings", &shared, now).expect("there is such a list");
            assert_eq!(shown[..said.len()], said[..]);
            assert_eq!(
                shown[said.len()..].iter().map(|(name, _)| &name[..]).collect::<Vec<_>>(),
                [ADDRESSES, LOG_FILTER]
            );
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
            match plane.answer(set, None) {
                Reply::Error(why) => why,
                reply => panic!("{name}={value}: {reply:?}"),
            }
        };
        assert!(why("tcpport", "1").contains("when the server starts"));
        assert!(why("colour", "red").contains("no such setting"));
        assert!(why("verbosity", "3").contains("0, 1 or 2"));
        assert!(why("detail_enabled", "perhaps").contains("yes or no"));
        assert!(why("maxconns", "9").contains("1 to 8") && why("maxconns", "0").contains("1 to 8"));
        assert!(why("idle_timeout", "-1").contains("a number of seconds"));
        assert!(
            why("maxbytes", "64m").contains("a number of bytes") && why("maxbytes", "8388607").contains("at least")
        );
        assert!(why("maxbytes", "67108864").contains("has not done what it was told"), "the core does nothing here");
    }

    #[test]
    fn the_lists_of_stats_are_those_of_the_protocol_and_others_are_refused() {
        let (mut plane, _, _) = plane();
        for kind in ["", "settings", "slabs", "sizes", "sidestep"] {
            let reply = plane.answer(Request::Stats { kind: kind.to_owned() }, None);
            assert!(matches!(&reply, Reply::Stats(lines) if !lines.is_empty()), "{kind}: {reply:?}");
        }
        assert!(matches!(plane.answer(Request::Stats { kind: "nothing".to_owned() }, None), Reply::Error(_)));
    }

    #[test]
    fn shutdown_sets_the_reason_and_wakes_who_waits() {
        let (mut plane, shared, told) = plane();
        assert!(matches!(plane.answer(Request::Shutdown, None), Reply::Done(_)));
        assert_eq!(*told.lock().expect("nobody panics"), [Ending::Now]);
        assert_eq!(shared.control.stopping(), Some(Stopping::Graceful));
    }

    #[test]
    fn who_drains_hears_it_once_every_core_has_obeyed_and_a_second_time_changes_the_time() {
        let (mut plane, shared, told) = plane();
        let reply = plane.answer(Request::Drain { seconds: None }, None);
        assert!(matches!(&reply, Reply::Error(why) if why.contains("has not done")), "{reply:?}");
        assert!(told.lock().expect("nobody panics").is_empty(), "it goes on");
        let orders = plane.cores.orders.clone();
        plane.order_limit = Duration::MAX;
        let core = std::thread::spawn(move || {
            // The first, which nobody waits for any more, and the second.
            for _ in 0..2 {
                let done = loop {
                    match orders.take(0) {
                        Some(Order::StopListening { done }) => break done,
                        _ => std::thread::yield_now(),
                    }
                };
                let _ = done.send(());
            }
        });
        for seconds in [None, Some(7)] {
            let Reply::Done(said) = plane.answer(Request::Drain { seconds }, None) else { panic!("it drains") };
            assert_eq!(said.contains("in 7 s"), seconds.is_some(), "{said}");
        }
        core.join().expect("it obeys");
        assert_eq!(plane.cores.orders.waiting(0), 0, "it is told no third time");
        let within = Some(Duration::from_secs(7));
        let endings = [Ending::WithLastConnection { within: None }, Ending::WithLastConnection { within }];
        assert_eq!(*told.lock().expect("nobody panics"), endings);
        assert_eq!(shared.control.stopping(), None);
    }

    #[test]
    fn a_capture_needs_a_file_and_nothing_else_takes_one() {
        let (mut plane, _, _) = plane();
        let file = || Some(OwnedFd::from(std::fs::File::open("/dev/null").expect("it is there")));
        for (request, descriptor, why) in [
            (Request::Capture { on: true, limit: 1 << 20 }, None, "no file came along"),
            (Request::Capture { on: false, limit: 0 }, file(), "nothing is to be recorded"),
            (Request::Capture { on: false, limit: 0 }, None, "no capture is on"),
            (Request::Capture { on: true, limit: 1 << 20 }, file(), "has not done what it was told"),
            // What one core did not begin has ended for all.
            (Request::Capture { on: false, limit: 0 }, None, "no capture is on"),
            (Request::Settings, file(), "takes no descriptor"),
        ] {
            let Reply::Error(said) = plane.answer(request, descriptor) else { panic!("{why}") };
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn connections_of_a_core_that_is_not_there_or_does_nothing_are_an_error() {
        let (mut plane, _, _) = plane();
        for core in [0, 1] {
            let reply = plane.answer(Request::Connections { core, from: 0 }, None);
            assert!(matches!(reply, Reply::Error(_)), "{reply:?}");
        }
    }
}
