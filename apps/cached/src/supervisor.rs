//! The supervisor: the process that is started, which keeps root's rights, starts the data plane and outlives it.
//!
//! ```text
//!  supervisor (root)                                   data plane (nobody, no rights, no files, few calls)
//!  signals, files of -P -Y --cluster                    sockets, UMEM, program and its link, stacks, shards
//!  the NIC's settings, a look at the link when the
//!  kernel tells of it, and each 0.4 s                   threads: one a core, memory, ear, control, main
//!           └──────────── one socket pair, the data plane's standard input ────────────┘
//! ```
//!
//! Invariant: whichever of the two ends, the NIC is the kernel's at once. The data plane's sockets close with it, and each
//! frame falls through to the kernel; the program stays, since the supervisor has its link too, only to tell clients of an
//! address that the kernel does not have that nobody serves, until the next plane's takes its place. The plane is killed by
//! the kernel with its supervisor, and ends when the socket pair does. It is
//! this program, started again, so that no thread and no memory is shared. Read first: `channel.rs`; the data plane's
//! side is `setup/`.

/// What the two say to each other.
pub(crate) mod channel;
/// One life of the data plane.
pub(crate) mod life;
/// What the kernel tells of the interface.
mod link_ear;

use std::ffi::OsString;
use std::fmt::Display;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use control::{Front, FrontHandle, Limits};
use nic::guard::{Guard, LeftBehind, Program, folder, give_back};
use nic::link::Link;
use nic::settings::Setting;
use nic::udp_spread::spread_udp;
use nic::vlan_tags::VlanTags;
use nic::wait_mode::tell_nic;
use nic::xdp::{Attach, HeldProgram, SharedProgram};
use nic::{DeviceName, IpFamily, QueueId, SolicitedGroups};
use nix::unistd::Uid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use stack::OwnAddress;

use crate::announce::{PidFile, write_ports};
use crate::daemon::{self, Leaving};
use crate::link_watch::LOOKS_MOST;
use crate::options::{Options, Steering};
use crate::say::say;
use crate::setup::config::{CORES_STOP_LIMIT, Ports};
use crate::setup::files::Files;
use crate::setup::steps::Steps;
use crate::setup::vlan::routes_of;
use crate::setup::watch::{Watch, followed, lacks_router};
use crate::setup::{HANGS, PANICKED, SetupError};
use crate::user::other;
use channel::{FromPlane, ToPlane};
use life::{Event, Lives, Plane, SAY_LIMIT, how};
use link_ear::LinkEar;

/// How often the supervisor looks what has become of the link, whatever it is told.
const WATCH_INTERVAL: Duration = Duration::from_millis(400);

// Whatever becomes of the link is told of within a second, also while a plane does not listen.
const _: () = assert!(WATCH_INTERVAL.as_millis() * LOOKS_MOST as u128 + SAY_LIMIT.as_millis() <= 1000);

/// How long a plane may take to answer what has come and to end: far longer than a core takes (`worker/run.rs`).
const STOP_LIMIT: Duration = Duration::from_secs(10);

// A plane of which a core hangs ends by itself, and so do its other cores' clients learn of the end.
const _: () = assert!(2 * CORES_STOP_LIMIT.as_millis() <= STOP_LIMIT.as_millis());

/// The supervisor while it runs.
struct Supervisor<'a> {
    options: &'a Options,
    ports: Ports,
    mark: OsString,
    events: Sender<Event>,
    inbox: Receiver<Event>,
    plane: Plane,
    lives: Lives,
    watch: Option<Watch>,
    /// `None` where the kernel tells nothing: then each look waits for its time.
    link_ear: Option<LinkEar>,
    /// The program, which outlives a plane.
    program: Option<HeldProgram>,
    /// Once the first plane has opened the link.
    outside: Option<Outside>,
    /// What is changed before the first plane opens the link.
    guard: Option<Guard>,
    /// Where `sidestep ctl` is listened to, if that could be had.
    front: Option<FrontHandle>,
    /// Whether the present plane has opened the link.
    opened: bool,
    /// Whether a plane has been ready.
    served: bool,
    /// Whether a signal has asked for the end.
    asked: bool,
    /// Whether the plane is to end, and why if it is an error.
    stopping: Option<Option<SetupError>>,
    /// When a plane that is to end is killed.
    kill_at: Option<Instant>,
    /// Whether a plane that opens is to be told of the files again.
    reloads: bool,
    /// How long the present start takes.
    steps: Steps,
}

/// What there is outside of the server while it runs.
struct Outside {
    files: Files,
    guard: Guard,
    /// By which neighbours ask for the server's IPv6 addresses, whichever data plane serves.
    _groups: Option<SolicitedGroups>,
}

/// Serves, by a data plane, until SIGINT or SIGTERM. Returns the exit code.
///
/// # Errors
/// [`SetupError`]: one line for the operator; nothing stays open or attached.
pub(crate) fn run(options: &Options) -> Result<ExitCode, SetupError> {
    if options.daemon {
        daemon::leave_terminal().map_err(SetupError::system("leave the terminal"))?;
    }
    for note in &options.notes {
        say(format_args!("note: {note}"));
    }
    let mut steps = Steps::begin();
    let (events, inbox) = mpsc::channel();
    let pid_file = Arc::new(OnceLock::new());
    let signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP]).map_err(SetupError::system("wait for signals"))?;
    let (to, written) = (events.clone(), pid_file.clone());
    let listener = std::thread::Builder::new().name("signals".to_owned()).spawn(move || listen(signals, &to, &written));
    listener.map_err(SetupError::system("start a thread"))?;
    let ports = Ports::of(options)?;
    take_back(&options.interface);
    let guard = if options.steering == Steering::Shared { reserve(options, ports) } else { None };
    let unheard = |error: &std::io::Error| tracing::warn!(%error, "the kernel does not tell of the interface");
    let link_ear = LinkEar::start(&events).inspect_err(unheard).ok();
    let mark = ports.mark(&std::env::current_dir().unwrap_or_default());
    let plane = Plane::start(&mark, &events, None).map_err(SetupError::system("start the data plane"))?;
    steps.done("before the data plane");
    let mut supervisor = Supervisor {
        options,
        ports,
        mark,
        events,
        inbox,
        plane,
        lives: Lives::default(),
        watch: None,
        link_ear,
        program: None,
        outside: None,
        guard,
        front: None,
        opened: false,
        served: false,
        asked: false,
        stopping: None,
        kill_at: None,
        reloads: false,
        steps,
    };
    let ended = supervisor.serve(&pid_file);
    // Detached before settings are as they were.
    supervisor.program = None;
    if let Some(outside) = &mut supervisor.outside {
        for outcome in outside.guard.restore() {
            say(format_args!("nic: {outcome}"));
        }
    }
    ended
}

impl Supervisor<'_> {
    fn serve(&mut self, pid_file: &OnceLock<Weak<PidFile>>) -> Result<ExitCode, SetupError> {
        loop {
            match self.inbox.recv_timeout(self.until_due()) {
                Ok(Event::Signal) => self.asked_to_stop(),
                Ok(Event::Reload) => self.reload(),
                Ok(Event::Said(FromPlane::Opened { index, queues, program }, handed)) => {
                    self.opened(index, queues, program, handed)?;
                    if let Some(written) = self.outside.as_ref().and_then(|outside| outside.files.pid_file()) {
                        let _ = pid_file.set(Arc::downgrade(&written));
                    }
                }
                Ok(Event::Said(FromPlane::Ready, _)) => self.ready()?,
                Ok(Event::Nonsense(error)) => self.end_plane(&error),
                Ok(Event::PlaneEnded) => {
                    if let Some(code) = self.plane_ended()? {
                        return Ok(code);
                    }
                }
                Ok(Event::LinkTold) => self.watch.iter_mut().for_each(Watch::hear),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => unreachable!("the supervisor has a sender itself"),
            }
            if self.kill_at.take_if(|at| Instant::now() >= *at).is_some() {
                let after = STOP_LIMIT.as_secs();
                tracing::error!(
                    "the data plane has not ended {after} s after it was asked to: it is killed, and its clients are not told"
                );
                self.plane.kill();
            }
            self.look();
        }
    }

    /// Stops, at the second signal without waiting for the plane: what is outside is given back all the same.
    fn asked_to_stop(&mut self) {
        if std::mem::replace(&mut self.asked, true) {
            tracing::warn!("asked a second time to end: the data plane is killed, and its clients are not told");
            self.plane.kill();
        }
        self.stop(None);
    }

    /// Asks the plane to end. The first reason is the one that is told.
    fn stop(&mut self, why: Option<SetupError>) {
        self.stopping.get_or_insert(why);
        self.kill_at.get_or_insert_with(|| Instant::now() + STOP_LIMIT);
        self.plane.say(&ToPlane::Stop);
    }

    /// The plane has opened the link, and waits for what is outside.
    fn opened(
        &mut self,
        index: u32,
        queues: u32,
        attach: Option<Attach>,
        handed: Vec<OwnedFd>,
    ) -> Result<(), SetupError> {
        // The socket of the control channel, and what a program is held by.
        let due = 1 + attach.map_or(0, |_| 3);
        if std::mem::replace(&mut self.opened, true) || handed.len() != due {
            self.end_plane(&"it opens twice, or hands over what it should not");
            return Ok(());
        }
        self.steps.done("the data plane opens");
        let mut handed = handed.into_iter();
        if let Some(socket) = handed.next() {
            self.govern(socket.into())?;
        }
        if let (Some(attach), Ok(descriptors)) = (attach, handed.collect::<Vec<_>>().try_into()) {
            self.hold(SharedProgram { descriptors, attach });
        }
        let link = Link::by_index(index).map_err(|error| SetupError::Open(Box::new(error.into())))?;
        if self.outside.is_none() {
            let new = || Guard::of_server(&link, &folder()).map_err(SetupError::system("ask about the interface"));
            let mut guard = self.guard.take().map_or_else(new, Ok)?;
            if self.ports.udp.is_some() {
                for (family, name) in [(IpFamily::V4, "udp"), (IpFamily::V6, "udp over IPv6")] {
                    if self.options.has(family) {
                        say(format_args!("{name}: {}", spread_udp(&link, family, &mut guard)));
                    }
                }
            }
            if let (Some(number), DeviceName::Xdp(_)) = (self.options.vlan, &self.options.device) {
                let known = self.options.vlan_link.is_some();
                let tags = VlanTags::see_to(&link, number, known, &mut guard);
                say(format_args!(
                    "vlan: frames with the tag {number} are the server's, those with others or none the kernel's; {tags}"
                ));
            }
            // At most 1024, which fits: `Options` has checked it.
            let bound: Vec<_> = (0..queues as u16).map(QueueId).collect();
            if let Some(line) = tell_nic(self.options.wait, &link, &bound, &mut guard) {
                say(format_args!("wait: {line}"));
            }
            let guarded = guard.changed().next().is_some().then_some(link.name.as_str());
            let files = Files::open(self.options, guarded)?;
            let groups = join_groups(self.options, &link);
            if let Some(note) = lacks_router(self.options, &link) {
                say(format_args!("note: {note}"));
            }
            self.outside = Some(Outside { files, guard, _groups: groups });
        }
        let routes = followed(self.options, &link);
        self.link_ear.iter().for_each(|ear| ear.listen_for(index));
        self.watch = Some(Watch::new(link, queues as usize, routes));
        // What was counted before and the routes hold once it says that it is ready.
        self.look();
        self.plane.say(&ToPlane::Go);
        self.steps.done("what is outside");
        Ok(())
    }

    /// Ends a plane that does what none does: as when it dies, it is said, counted, and another is started.
    fn end_plane(&mut self, why: &dyn Display) {
        tracing::error!(%why, "the data plane speaks nonsense, and is killed");
        self.plane.kill();
    }

    /// Holds the program of the plane that has opened, which has taken the place of the one before.
    fn hold(&mut self, shared: SharedProgram) {
        let before = self.program.take().and_then(|program| program.counters().ok()).unwrap_or_default();
        let held = HeldProgram::of(shared).and_then(|mut program| program.set_served(true).map(|()| program));
        match held {
            Ok(program) => self.program = Some(program.after(before)),
            Err(error) => tracing::warn!(%error, "what the XDP program counts is not known"),
        }
    }

    /// Has the program tell clients that nobody serves.
    fn tell_that_nobody_serves(&mut self) {
        let Some(program) = &mut self.program else { return };
        if let Err(error) = program.set_served(false) {
            tracing::warn!(%error, "clients are not told that nobody serves");
        }
    }

    /// The data plane answers what `sidestep ctl` asks over `socket`. The first opens the channel: a server that cannot open
    /// its link has none, and takes no path from one that runs.
    fn govern(&mut self, socket: UnixStream) -> Result<(), SetupError> {
        let started = || SetupError::system("start the control channel");
        if !self.served && self.front.is_none() {
            let front = open_front(self.options)?;
            self.front = front.map(|front| front.start(Limits::default())).transpose().map_err(started())?;
        }
        self.front.as_ref().map_or(Ok(()), |front| front.set_plane(socket)).map_err(started())
    }

    fn ready(&mut self) -> Result<(), SetupError> {
        let (ports, options) = (self.ports, self.options);
        let again = self.served;
        self.steps.done("the data plane starts");
        tracing::debug!("started in {}", self.steps);
        if !std::mem::replace(&mut self.served, true) {
            write_ports(ports.tcp, ports.udp).map_err(SetupError::system("write the file of ports"))?;
        }
        let leaving = (options.daemon && !again).then(|| Leaving::prepare(options.verbose > 0)).transpose();
        let leaving = leaving.map_err(SetupError::system("let go of the terminal"))?;
        let (tcp, udp) = ports.in_words();
        say(format_args!("{}{}{udp} with {} cores", daemon::READY, options.at(tcp), options.cores));
        if again {
            tracing::warn!(restarts = self.lives.restarts, "the data plane serves again, with an empty cache");
        } else if let Some(leaving) = leaving {
            leaving.let_go();
        }
        self.tell_counts();
        if self.reloads {
            self.reload();
        }
        Ok(())
    }

    /// How long to wait for an event before the next look, or, once the plane was asked to end, before it is killed.
    fn until_due(&self) -> Duration {
        let now = Instant::now();
        if self.stopping.is_some() {
            // Nothing is looked at any more, so that a look would be due for ever.
            return self.kill_at.map_or(WATCH_INTERVAL, |at| at.saturating_duration_since(now));
        }
        self.watch.as_ref().map_or(WATCH_INTERVAL, |watch| watch.due_in(now, WATCH_INTERVAL))
    }

    /// Looks what has become of link and program, and tells the plane.
    fn look(&mut self) {
        // With its queues closed, as a plane that ends leaves it, a TAP has no carrier.
        let Some(watch) = self.watch.as_mut().filter(|_| self.stopping.is_none()) else { return };
        if let Err(gone) = watch.look_if_due(Instant::now(), WATCH_INTERVAL, self.program.as_ref()) {
            if self.plane.has_ended() {
                // A TAP that it had made goes with it; its event comes.
                return;
            }
            self.watch = None;
            return self.stop(Some(SetupError::LinkGone(gone)));
        }
        self.tell_counts();
    }

    fn tell_counts(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        if let Some(mut losses) = watch.fresh() {
            losses.plane_restarts = self.lives.restarts;
            self.plane.say(&ToPlane::Counts(Box::new(losses)));
        }
        if let Some(routes) = watch.fresh_routes() {
            self.plane.say(&ToPlane::Routes(routes));
        }
    }

    /// Hands over what the files of `-Y` and `--cluster` say now.
    fn reload(&mut self) {
        // One that opens waits for nothing but Go.
        self.reloads = self.watch.is_none();
        let Some(outside) = self.outside.as_mut().filter(|_| !self.reloads) else { return };
        if let Some(text) = outside.files.users() {
            self.plane.say(&ToPlane::Users(text));
        }
        if let Some((written, text)) = outside.files.cluster() {
            self.plane.say(&ToPlane::Cluster(written, text));
        }
    }

    /// Waits, without a plane, and returns whether the end is asked for meanwhile. A reload in between is not missed: the next
    /// plane reads the files anyway.
    fn is_asked_within(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            match self.inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Event::Signal) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    /// The plane has ended. Returns the exit code, or `None` once another has been started.
    fn plane_ended(&mut self) -> Result<Option<ExitCode>, SetupError> {
        self.watch = None;
        self.tell_that_nobody_serves();
        let status = self.plane.wait().map_err(SetupError::system("wait for the data plane"))?;
        if let Some(why) = self.stopping.take() {
            // One that ends with an error has said it: an interface that is gone is told of once, by whoever met it first.
            let told = status.code().is_some_and(|code| code != 0);
            return why.filter(|_| !told).map_or(Ok(Some(exit_code(status.code()))), Err);
        }
        let fell = status.code().is_none_or(|code| code == i32::from(PANICKED));
        // It has said why on standard error, which is this process's own.
        let ends = status.success() || status.code() == Some(i32::from(HANGS));
        if !fell && (!self.served || self.lives.restarts == 0 || ends) {
            return Ok(Some(exit_code(status.code())));
        }
        let how = how(status);
        let Some(wait) = self.lives.another(Instant::now()) else {
            return Err(SetupError::PlaneEnds { how, restarts: self.lives.restarts });
        };
        tracing::error!(
            restarts = self.lives.restarts,
            "the data plane {how}: all connections and items are lost; it is started again"
        );
        if self.is_asked_within(wait) {
            return Ok(Some(ExitCode::SUCCESS));
        }
        self.opened = false;
        self.steps = Steps::begin();
        let over = self.program.as_ref().and_then(|program| program.attached().ok());
        self.plane =
            Plane::start(&self.mark, &self.events, over).map_err(SetupError::system("start the data plane"))?;
        Ok(None)
    }
}

fn exit_code(code: Option<i32>) -> ExitCode {
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).filter(|code| *code != HANGS).unwrap_or(1))
}

/// Passes signals on. The third that asks for the end ends the process at once, and the data plane with it: this process
/// must hang itself.
fn listen(mut signals: Signals, events: &Sender<Event>, pid_file: &OnceLock<Weak<PidFile>>) {
    let mut asked = 0;
    for signal in signals.forever() {
        // Sending fails when the supervisor is ending and has dropped the receiver.
        if signal == SIGHUP {
            let _ = events.send(Event::Reload);
            continue;
        }
        asked += 1;
        if asked > 2 {
            if let Some(pid_file) = pid_file.get().and_then(Weak::upgrade) {
                pid_file.remove();
            }
            std::process::exit(1);
        }
        let _ = events.send(Event::Signal);
    }
}

/// Listens for `sidestep ctl`. Where no path was named, a server without a channel is better than none.
fn open_front(options: &Options) -> Result<Option<Front>, SetupError> {
    let path = options.control.clone().unwrap_or_else(|| control::default_path(&folder(), &options.interface));
    let user = options.user.as_deref().and_then(other).map_or(Uid::effective(), |user| user.uid);
    match Front::open(&path, user.as_raw()) {
        Ok(front) => Ok(Some(front)),
        Err(error) if options.control.is_some() => Err(error.into()),
        Err(error) => {
            say(format_args!("note: `sidestep ctl` cannot govern this server: {error}"));
            Ok(None)
        }
    }
}

/// Gives back what a server of before has left changed that was killed, so that this one finds what was there before both. What
/// `sidestep nic prepare` has changed is the launcher's, which does the same.
fn take_back(interface: &str) {
    let Ok(link) = Link::by_name(interface) else { return };
    let servers = |left: &LeftBehind| left.program() == Some(Program::Server);
    match give_back(&link.name, &folder(), servers) {
        Ok(outcomes) => outcomes.iter().for_each(|outcome| say(format_args!("nic: an earlier run: {outcome}"))),
        Err(error) => say(format_args!("note: what an earlier run has saved of {} is not known: {error}", link.name)),
    }
}

/// Keeps the kernel from giving the server's ports to connections of its own, whose answers would come to the server; what was
/// changed for it. `None` where there is no such interface, of which the data plane tells.
fn reserve(options: &Options, ports: Ports) -> Option<Guard> {
    let link = Link::by_name(&options.interface).ok()?;
    let not_reserved = |error: &dyn std::fmt::Display| {
        say(format_args!(
            "note: the kernel may give port {ports} of {} to a connection of its own, which would then get no answer: {error}",
            options.shown_addresses(),
        ));
    };
    let mut guard = Guard::of_server(&link, &folder()).inspect_err(|error| not_reserved(error)).ok()?;
    for (_, port) in ports.listed() {
        if let Err(error) = guard.change(&Setting::ReservedPort(port), "on") {
            not_reserved(&error);
        }
    }
    Some(guard)
}

/// Has the interface take in the frames by which neighbours ask for IPv6 addresses that only the server has. A TAP takes in all;
/// of a shared address the kernel sees to that.
fn join_groups(options: &Options, link: &Link) -> Option<SolicitedGroups> {
    if options.steering == Steering::Shared || !matches!(options.device, DeviceName::Xdp(_)) {
        return None;
    }
    let ipv6 = |own: &OwnAddress| match own.address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address),
    };
    let addresses: Vec<_> = options.addresses.iter().filter_map(ipv6).collect();
    match SolicitedGroups::join(link, routes_of(options, link), &addresses) {
        Ok(groups) => groups.inspect(|groups| say(format_args!("ipv6: {groups}"))),
        Err(error) => {
            say(format_args!(
                "note: {} may not take in what neighbours ask for the server's IPv6 addresses by: {error}",
                link.name
            ));
            None
        }
    }
}

/// The folder that becomes the root of this process, the data plane: below where settings are saved.
pub(crate) fn empty_folder() -> std::path::PathBuf {
    Path::new(&folder()).join(format!("empty-{}", std::process::id()))
}
