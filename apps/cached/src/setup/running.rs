//! The cores running: started, watched, stopped.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::config::{CORES_STOP_LIMIT, flows_per_core};
use super::error::SetupError;
use super::open::{Base, Opened};
use super::plane::Supervised;
use crate::arrivals::Arrivals;
use crate::clock::Clock;
use crate::confine::{Role, restrict};
use crate::governed::{Cores, Ending, Governed};
use crate::live_capture::CaptureWriter;
use crate::losses::{LinkLosses, LossLog, Stalls};
use crate::options::{Gateways, Options, cluster_in, users_in};
use crate::orders::Orders;
use crate::report::{CoreReport, total};
use crate::say::say;
use crate::sharing::AnyQueue;
use crate::supervisor::channel::{FileText, ToPlane, hear};
use crate::surroundings::Conflicts;
use crate::worker::{Worker, WorkerError};
use stack::{OwnAddress, Routes};

/// How often the main thread brings `rusage_user` and `rusage_system` of `stats` up to date.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// How often it looks whether the last connection has ended, where that is waited for.
const DRAIN_INTERVAL: Duration = Duration::from_millis(50);

/// How often the main thread looks whether the cores have ended, whatever it is told.
const STOP_INTERVAL: Duration = Duration::from_millis(5);

/// What the main thread waits for.
enum Event {
    Said(ToPlane),
    /// `sidestep ctl` has asked for the end.
    Asked(Ending),
    CoreEnded,
}

/// Sends an event when its thread ends, however it does.
struct Farewell(Sender<Event>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // Fails when the server is ending and has dropped the receiver.
        let _ = self.0.send(Event::CoreEnded);
    }
}

/// How the thread of a core ends.
type CoreEnd = Result<CoreReport, WorkerError>;

/// The server while it serves.
pub(super) struct Running {
    base: Base,
    cores: Vec<JoinHandle<CoreEnd>>,
    /// When it ends although connections are left; `None` unless it ends with the last of them.
    drains_until: Option<Option<Instant>>,
    inbox: Receiver<Event>,
    /// Keeps the channel open after all other senders are dropped.
    _events: Sender<Event>,
    /// The control channel: its socket, and the thread that answers.
    control: Option<(UnixStream, JoinHandle<()>)>,
    log: LossLog,
    stalls: Stalls,
    since: Instant,
    /// The server's addresses, and the routers that the options name.
    own: Vec<OwnAddress>,
    gateways: Gateways,
    conflicts: Conflicts,
    /// Whether the link was down when last told of.
    link_was_down: bool,
    /// The names of the files of `-Y` and `--cluster`, for what is said of them.
    users_file: String,
    cluster_file: String,
}

impl Running {
    /// Starts one thread a core, and says that requests are answered.
    pub(super) fn start(opened: Opened, options: &Options, mut supervised: Supervised) -> Result<Running, SetupError> {
        let Opened { workers, mut base } = opened;
        base.memory.wait_for_first();
        supervised.steps.done("first memory");
        let clock = Clock::start();
        let (events, inbox) = mpsc::channel();
        let (confined, all_confined) = mpsc::channel::<()>();
        let mut cores = Vec::new();
        let cpus = cpus(options);
        for worker in workers {
            cores.push(start(worker, options, &cpus, clock, &base.orders, (&events, &confined))?);
        }
        let (ear, heard, listening) = (supervised.ear()?, events.clone(), confined.clone());
        let ear = std::thread::Builder::new().name("ear".to_owned()).spawn(move || listen(ear, &heard, listening));
        ear.map_err(SetupError::system("start a thread"))?;
        let control = supervised.take_control();
        let writer = CaptureWriter::start(Some(confined.clone())).map_err(SetupError::system("start a thread"))?;
        let channels = (&events, &confined);
        let control = control.map(|socket| govern(socket, &base, clock, writer, options, channels)).transpose();
        let control = control.map_err(SetupError::system("start the control channel"))?;
        restrict(Role::Main).map_err(SetupError::system("confine the main thread"))?;
        // Every thread drops its sender once it is confined, or has ended because it cannot be.
        drop(confined);
        let _ = all_confined.recv();
        // Every thread and what it needs is mapped.
        base.memory.go_on();
        // What could fail has not: what is said from here on is for the log.
        if let Some(leaving) = base.leaving.take() {
            leaving.let_go();
        }
        let named = |path: Option<&Path>| path.map_or(String::new(), |path| path.display().to_string());
        let mut running = Running {
            base,
            cores,
            drains_until: None,
            inbox,
            _events: events,
            control,
            log: LossLog::default(),
            stalls: Stalls::default(),
            since: Instant::now(),
            own: options.addresses.clone(),
            gateways: options.gateways,
            conflicts: Conflicts::default(),
            link_was_down: false,
            users_file: options.auth.as_ref().map_or(String::new(), |(path, _)| path.clone()),
            cluster_file: named(options.cluster.as_ref().map(|(path, _)| path.as_path())),
        };
        supervised.take_told().into_iter().for_each(|told| running.take(told));
        supervised.ready()?;
        Ok(running)
    }

    /// Waits for a reason to stop: the supervisor's word, the command shutdown, or a core that ended.
    pub(super) fn wait(&mut self) {
        let shared = self.base.shared.clone();
        while shared.control.stopping().is_none() {
            let interval = if self.drains_until.is_some() { DRAIN_INTERVAL } else { WATCH_INTERVAL };
            match self.inbox.recv_timeout(interval) {
                Ok(Event::Said(ToPlane::Stop) | Event::Asked(Ending::Now) | Event::CoreEnded) => break,
                Ok(Event::Asked(Ending::WithLastConnection { within })) => {
                    // What is too long for the clock is for ever.
                    self.drains_until = Some(within.and_then(|within| Instant::now().checked_add(within)));
                }
                Ok(Event::Said(told)) => self.take(told),
                Err(_) => {}
            }
            if self.has_drained() {
                tracing::info!(connections = self.base.admission.open(), "drained");
                break;
            }
            self.stalls.say(self.since.elapsed(), &self.base.losses);
            self.base.time.publish(shared.counters.core(0));
        }
    }

    /// Takes what the supervisor tells.
    fn take(&mut self, told: ToPlane) {
        match told {
            ToPlane::Counts(counts) => self.count(*counts),
            ToPlane::Routes(routes) => {
                let routes = self.gateways.beside(routes);
                self.base.surroundings.set_routes(Routes::new(self.own.iter().copied(), routes));
            }
            ToPlane::Users(text) => self.set_users(text),
            ToPlane::Cluster(written, text) => self.set_cluster(written, text),
            // The first two come before, the last ends the wait.
            ToPlane::Begin(_) | ToPlane::Go | ToPlane::Stop => {}
        }
    }

    /// Whether the end has come that [`Ending::WithLastConnection`] asked for.
    fn has_drained(&self) -> bool {
        let Some(until) = self.drains_until else { return false };
        self.base.admission.open() == 0 || until.is_some_and(|until| Instant::now() >= until)
    }

    /// Shows what the supervisor has read of link and program, and says in the log what grows.
    fn count(&mut self, counts: LinkLosses) {
        let down = counts.link_down > 0;
        if std::mem::replace(&mut self.link_was_down, down) && !down {
            self.base.surroundings.link_returns();
        }
        if let Some((address, mac)) = self.base.surroundings.take_conflict() {
            self.conflicts.say(address, mac);
        }
        let losses = &self.base.losses;
        let elsewhere = |arrivals: &Arrivals| arrivals.counts().map(|count| count.elsewhere()).sum();
        let connections_elsewhere = losses.arrivals().map_or(0, elsewhere);
        losses.set_link(&LinkLosses { connections_elsewhere, cores_stalled: self.stalls.stalled(), ..counts });
        self.log.say(self.since.elapsed(), losses.totals(&self.base.shared.counters));
    }

    /// Takes what the file of `-Y` says now. One that cannot be used leaves the users as they are.
    fn set_users(&self, text: FileText<Vec<u8>>) {
        match users_in(Path::new(&self.users_file), text.map_err(std::io::Error::other)) {
            Ok(users) => {
                tracing::info!(users = users.len(), "read again who may speak");
                self.base.shared.control.set_users(users);
            }
            Err(error) => {
                tracing::error!(%error, "the users stay as they were: their old passwords go on being good")
            }
        }
    }

    /// Takes what the file of `--cluster` says now. One that cannot be used leaves the nodes as they are.
    fn set_cluster(&self, written: u64, text: FileText<String>) {
        let control = &self.base.shared.control;
        let before = control.cluster();
        let text = text.map(|text| (text, written));
        match cluster_in(Path::new(&self.cluster_file), text.map_err(std::io::Error::other), before.as_deref()) {
            Ok(cluster) => {
                tracing::info!(
                    nodes = cluster.nodes.len(),
                    version = cluster.version,
                    "read again which nodes there are"
                );
                control.set_cluster(cluster);
            }
            Err(error) => tracing::error!(%error, "clients are told of the same nodes as before"),
        }
    }

    /// Stops every core and says what they did. All that was opened closes, unless a core hangs: then it closes with the process,
    /// which is to end.
    pub(super) fn stop(self) -> Result<(), SetupError> {
        let Running { base, cores, inbox, control, .. } = self;
        base.orders.stop();
        let hangs = first_that_hangs(&cores, &inbox, CORES_STOP_LIMIT);
        let (ended, hanging): (Vec<_>, Vec<_>) =
            cores.into_iter().enumerate().partition(|(_, core)| hangs.is_none() || core.is_finished());
        let ended = ended.into_iter().map(|(core, end)| (core, end.join())).collect();
        if let Some((socket, thread)) = control {
            // Whoever has asked for the end is told first that it comes.
            let _ = socket.shutdown(Shutdown::Read);
            let _ = thread.join();
        }
        let reported = report(ended, base.losses.arrivals());
        let Some((core, _)) = hanging.first() else { return reported };
        // One that goes on finds all that it uses where it was.
        std::mem::forget(base);
        reported.and(Err(SetupError::Hangs { core: *core, limit: CORES_STOP_LIMIT }))
    }
}

/// Waits until all `cores` have ended, whose ends are events, or for `limit`. Returns the first that has not.
fn first_that_hangs<T>(cores: &[JoinHandle<T>], inbox: &Receiver<Event>, limit: Duration) -> Option<usize> {
    let begun = Instant::now();
    loop {
        let hangs = cores.iter().position(|core| !core.is_finished())?;
        if begun.elapsed() >= limit {
            return Some(hangs);
        }
        // A thread that says farewell has a few steps to its end.
        let _ = inbox.recv_timeout(STOP_INTERVAL);
    }
}

/// Starts the thread that answers what is asked over `socket`.
fn govern(
    socket: UnixStream,
    base: &Base,
    clock: Clock,
    writer: CaptureWriter,
    options: &Options,
    (events, confined): (&Sender<Event>, &Sender<()>),
) -> io::Result<(UnixStream, JoinHandle<()>)> {
    let (events, kept) = (events.clone(), socket.try_clone()?);
    let wake = Box::new(move |ending| {
        // Fails when the server is ending and has dropped the receiver.
        let _ = events.send(Event::Asked(ending));
    });
    let governed = Governed::new(Cores {
        shared: base.shared.clone(),
        losses: base.losses.clone(),
        writer,
        orders: base.orders.clone(),
        admission: base.admission.clone(),
        reserved: options.connections,
        flows_per_core: flows_per_core(options),
        clock,
        wake,
    });
    Ok((kept, governed.start(socket, confined.clone())?))
}

/// Passes on what the supervisor says. When it has ended, so does this process, at once: its sockets and the program's
/// link close, and the NIC is the kernel's.
fn listen(from: UnixStream, events: &Sender<Event>, confined: Sender<()>) {
    if restrict(Role::Ear).is_err() {
        std::process::exit(1);
    }
    drop(confined);
    // Sending fails when the server is ending and has dropped the receiver.
    while let Ok((message, _)) = hear(&from) {
        let _ = events.send(Event::Said(message));
    }
    std::process::exit(1);
}

fn report(ended: Vec<(usize, std::thread::Result<CoreEnd>)>, arrivals: Option<&Arrivals>) -> Result<(), SetupError> {
    let mut reports = Vec::new();
    let mut first_error = None;
    for (core, end) in ended {
        match end {
            Ok(Ok(report)) => reports.push(report),
            Ok(Err(source)) => first_error = first_error.or(Some(SetupError::Core { core, source })),
            Err(_panic) => first_error = Some(SetupError::Panicked { core }),
        }
    }
    for report in &reports {
        say(format_args!("{report}"));
    }
    for count in arrivals.into_iter().flat_map(Arrivals::counts) {
        say(format_args!("{count}"));
    }
    say(format_args!("{}", total(&reports)));
    first_error.map_or(Ok(()), Err)
}

/// The CPU of each core, as far as there are enough; a core beyond them is not pinned.
fn cpus(options: &Options) -> Vec<core_affinity::CoreId> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if !options.cpus.is_empty() {
        return options.cpus.iter().map(|&id| core_affinity::CoreId { id }).collect();
    }
    if allowed.len() < options.cores {
        say(format_args!("note: {} threads for {} CPUs; the rest are not pinned", options.cores, allowed.len()));
    }
    allowed
}

fn start(
    worker: Worker<AnyQueue>,
    options: &Options,
    cpus: &[core_affinity::CoreId],
    clock: Clock,
    orders: &Arc<Orders>,
    (events, confined): (&Sender<Event>, &Sender<()>),
) -> Result<JoinHandle<CoreEnd>, SetupError> {
    let core = worker.cache.id();
    let cpu = cpus.get(core).copied();
    let (orders, spin) = (orders.clone(), options.spin);
    // Here, since the core's thread may not make what it sleeps on.
    let sleeper = worker.sleeper();
    let role = if sleeper.is_polling() { Role::PollingCore } else { Role::Core };
    let (farewell, confined) = (Farewell(events.clone()), confined.clone());
    let body = move || {
        let _farewell = farewell;
        if let Some(cpu) = cpu
            && !core_affinity::set_for_current(cpu)
        {
            tracing::warn!(core, cpu = cpu.id, "cannot be pinned to this CPU; goes on unpinned");
        }
        restrict(role).map_err(WorkerError::Confine)?;
        drop(confined);
        worker.run(sleeper, &clock, &orders, spin)
    };
    let builder = std::thread::Builder::new().name(format!("core-{core}"));
    builder.spawn(body).map_err(SetupError::system("start a thread"))
}
