//! The cores running: started, watched, stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use signal_hook::consts::SIGHUP;
use signal_hook::iterator::{Handle, Signals};

use super::error::SetupError;
use super::open::{Base, Opened};
use super::watch::Watch;
use crate::announce::{PidFile, write_ports};
use crate::arrivals::Arrivals;
use crate::clock::Clock;
use crate::cpu_time;
use crate::daemon;
use crate::options::Options;
use crate::report::{CoreReport, total};
use crate::say::say;
use crate::sharing::AnyQueue;
use crate::worker::{Worker, WorkerError};

/// How often the main thread looks what has become of the link and what is lost, and brings `rusage_user` and
/// `rusage_system` of
/// `stats` up to date.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// What the main thread waits for.
enum Event {
    Signal,
    Reload,
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
    stop: Arc<AtomicBool>,
    inbox: Receiver<Event>,
    /// Keeps the channel open after all other senders are dropped.
    _events: Sender<Event>,
    signals: Handle,
    listener: JoinHandle<()>,
}

impl Running {
    /// Starts one thread a core, and says that requests are answered.
    pub(super) fn start(opened: Opened, options: &Options) -> Result<Running, SetupError> {
        let Opened { workers, signals, base } = opened;
        base.memory.wait_for_first();
        let clock = Clock::start();
        let stop = Arc::new(AtomicBool::new(false));
        let (events, inbox) = mpsc::channel();
        let mut cores = Vec::new();
        let cpus = cpus(options);
        for worker in workers {
            cores.push(start(worker, options, &cpus, clock, &stop, &events)?);
        }
        let handle = signals.handle();
        let on_signal = events.clone();
        let pid_file = base.files.pid_file();
        let listener = std::thread::spawn(move || listen(signals, &on_signal, pid_file.as_deref()));
        let ports = base.ports;
        write_ports(ports.tcp, ports.udp).map_err(SetupError::system("write the file of ports"))?;
        say(format_args!("{}{}:{ports} with {} cores", daemon::READY, options.address, options.cores));
        if options.daemon {
            daemon::let_go(options.verbose > 0).map_err(SetupError::system("let go of the terminal"))?;
        }
        Ok(Running { base, cores, stop, inbox, _events: events, signals: handle, listener })
    }

    /// Waits for a reason to stop: a signal, the command shutdown, a core that ended, or a link that is gone, which is
    /// an error once all have stopped.
    pub(super) fn wait(&mut self) -> Option<SetupError> {
        let shared = self.base.shared.clone();
        let mut watch = Watch::new(&self.base);
        let mut gone = None;
        while gone.is_none() && shared.control.stopping().is_none() {
            match self.inbox.recv_timeout(WATCH_INTERVAL) {
                Ok(Event::Reload) => {
                    reload_users(&mut self.base);
                    reload_cluster(&self.base);
                }
                Ok(Event::Signal | Event::CoreEnded) => break,
                Err(_) => {}
            }
            cpu_time::publish(shared.counters.core(0));
            gone = watch.look(&self.base).err().map(SetupError::LinkGone);
        }
        gone
    }

    /// Stops every core and says what they did. All that was opened closes.
    pub(super) fn stop(mut self) -> Result<(), SetupError> {
        self.stop.store(true, Ordering::Relaxed);
        for doorbell in &self.base.doorbells {
            doorbell.ring();
        }
        let ended: Vec<_> = self.cores.into_iter().map(JoinHandle::join).collect();
        self.signals.close();
        let _ = self.listener.join();
        for outcome in self.base.guard.restore() {
            say(format_args!("nic: {outcome}"));
        }
        report(ended, self.base.losses.arrivals())
    }
}

/// Passes signals on until the handle is closed.
fn listen(mut signals: Signals, events: &Sender<Event>, pid_file: Option<&PidFile>) {
    let mut asked = false;
    for signal in signals.forever() {
        // Sending fails when the server is ending and has dropped the receiver.
        if signal == SIGHUP {
            let _ = events.send(Event::Reload);
            continue;
        }
        if std::mem::replace(&mut asked, true) {
            // The second signal ends the process at once. The kernel detaches the program with its link.
            if let Some(pid_file) = pid_file {
                pid_file.remove();
            }
            std::process::exit(1);
        }
        let _ = events.send(Event::Signal);
    }
}

/// Reads the file of `-Y` again. A file that cannot be used leaves the users as they are.
fn reload_users(base: &mut Base) {
    match base.files.users() {
        None => {}
        Some(Ok(users)) => {
            tracing::info!(users = users.len(), "read again who may speak");
            base.shared.control.set_users(users);
        }
        Some(Err(error)) => {
            tracing::error!(%error, "the users stay as they were: their old passwords go on being good")
        }
    }
}

/// Reads the file of `--cluster` again. A file that cannot be used leaves the nodes as they are.
fn reload_cluster(base: &Base) {
    let control = &base.shared.control;
    let before = control.cluster();
    match base.files.cluster(before.as_deref()) {
        None => {}
        Some(Ok(cluster)) => {
            tracing::info!(nodes = cluster.nodes.len(), version = cluster.version, "read again which nodes there are");
            control.set_cluster(cluster);
        }
        Some(Err(error)) => tracing::error!(%error, "clients are told of the same nodes as before"),
    }
}

fn report(ended: Vec<std::thread::Result<CoreEnd>>, arrivals: Option<&Arrivals>) -> Result<(), SetupError> {
    let mut reports = Vec::new();
    let mut first_error = None;
    for (core, end) in ended.into_iter().enumerate() {
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
    stop: &Arc<AtomicBool>,
    events: &Sender<Event>,
) -> Result<JoinHandle<CoreEnd>, SetupError> {
    let core = worker.cache.id();
    let cpu = cpus.get(core).copied();
    let (stop, spin) = (stop.clone(), options.spin);
    let farewell = Farewell(events.clone());
    let body = move || {
        let _farewell = farewell;
        if let Some(cpu) = cpu
            && !core_affinity::set_for_current(cpu)
        {
            tracing::warn!(core, cpu = cpu.id, "cannot be pinned to this CPU; goes on unpinned");
        }
        worker.run(&clock, &stop, spin)
    };
    let builder = std::thread::Builder::new().name(format!("core-{core}"));
    builder.spawn(body).map_err(SetupError::system("start a thread"))
}
