//! From options to running cores, and down again: what is opened, and in which order.
//!
//! ```text
//!  cache and stacks (memory: may be refused)  ─►  link opened, program attached  ─►  one pinned thread a core
//!  signal ─► every core drains and says what it did ─► program detached, sockets closed
//! ```
//!
//! All that needs a privilege happens here, before the first thread starts. Belongs to the main thread.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use cache::{CacheConfig, Commands, Core, MeshError, ServerFacts, ShardConfig};
use nic::link::{Link, LinkError};
use nic::preflight::OpenError;
use nic::udp_spread::spread_udp;
use nic::xdp::{AttachMode, XdpConfig, XdpDevice};
use nic::{Doorbell, PcapError, PcapRecorder, PcapTap, PoolError, QueueId, QueuePlan, RelayError};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;
use stack::{Mac, NetStack, Port, Secrets, StackConfig, StrayRing};

use crate::admission::Admission;
use crate::announce::{PidFile, write_ports};
use crate::budget::{self, Budget, BudgetError};
use crate::clock::Clock;
use crate::connections::Connections;
use crate::cpu_time;
use crate::daemon;
use crate::options::{ListenPort, Mode, OptionError, Options, read_users};
use crate::report::{CoreReport, total};
use crate::sharing::{AnyQueue, share_queues};
use crate::udp_service::UdpService;
use crate::user::become_user;
use crate::worker::{Worker, WorkerError};

/// Why the server did not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The link could not be opened.
    #[error(transparent)]
    Open(#[from] Box<OpenError>),
    /// The cache cannot be built as asked.
    #[error(transparent)]
    Cache(#[from] MeshError),
    /// A stack cannot be built as asked.
    #[error(transparent)]
    Stack(#[from] stack::ConfigError),
    /// No memory for frames between cores.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// No memory for frames handed to cores without a queue.
    #[error(transparent)]
    Relay(#[from] RelayError),
    /// A capture cannot be written.
    #[error("cannot record to {path}: {source}; give --capture a folder that exists and can be written")]
    Capture {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A capture's header cannot be written.
    #[error(transparent)]
    CaptureHeader(#[from] PcapError),
    /// An option that only now shows that it cannot be kept.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// More memory is asked for than there is.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// The interface was removed.
    #[error("interface {link} was removed; start again once it is back")]
    LinkGone {
        /// Its name.
        link: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes: {0}")]
    Random(getrandom::Error),
    /// A thread, a descriptor or a signal handler could not be had.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A core could not go on; all have stopped.
    #[error("core {core} could not go on: {source}")]
    Core {
        /// Its number.
        core: usize,
        /// Why.
        #[source]
        source: WorkerError,
    },
    /// A core panicked; all have stopped. The panic itself was printed by its thread.
    #[error("core {core} panicked; this is a fault of sidestep: report it with the lines above")]
    Panicked {
        /// Its number.
        core: usize,
    },
}

/// Where `cache_memlimit` may go at least, in bytes, however small `-m` is.
const CEILING_LEAST_BYTES: usize = 256 << 20;

/// How often the main thread looks whether the link is still there, and brings `rusage_user` and `rusage_system` of
/// `stats` up to date.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// After so long a silence a connection is probed, and given up after the third probe: a client that vanished without a
/// FIN must not hold its place of `-c` for ever.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Requests over UDP that a core may have begun and not answered, of about 3 KB each: several bursts that all wait for
/// another core.
const DATAGRAM_PLACES: usize = 512;

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
        // Nobody listens any more when the server is ending.
        let _ = self.0.send(Event::CoreEnded);
    }
}

/// Serves until SIGINT or SIGTERM. Prints the mode obtained and a line with `ready` once requests are answered, and
/// what was served at the end.
///
/// # Errors
/// [`SetupError`]: one line for the operator; nothing stays open or attached.
pub fn run(options: &Options) -> Result<(), SetupError> {
    if options.daemon {
        daemon::leave_terminal().map_err(|source| SetupError::System { what: "leave the terminal", source })?;
    }
    for note in &options.notes {
        println!("note: {note}");
    }
    let budget = budget(options)?;
    let ports = Ports { tcp: port(options.port)?, udp: port(options.udp_port)? };
    let caches = Core::mesh(&cache_config(options, ports), random()?)?;
    let Some(ledger) = caches.first().map(|core| core.ledger().clone()) else { return Ok(()) };
    let doorbells = (0..options.cores).map(|_| Doorbell::new().map(Arc::new)).collect::<Result<Vec<_>, _>>();
    let doorbells = doorbells.map_err(|source| SetupError::System { what: "make a doorbell", source })?;
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGHUP])
        .map_err(|source| SetupError::System { what: "wait for signals", source })?;

    let mut device = XdpDevice::open(&xdp_config(options)).map_err(Box::new)?;
    let plan = QueuePlan::new(&device.queue_ids(), options.cores);
    println!("link {}: {}", options.interface, device.obtained());
    println!("plan: {plan}");
    println!("memory: {budget}");

    let link = device.link().clone();
    if ports.udp.is_some() {
        println!("udp: {}", spread_udp(&link));
    }
    let take = |queue| device.take_queue(queue).map(|queue| Box::new(queue) as AnyQueue);
    let queues = open_queues(options, &plan, &doorbells, &link, take)?;
    let workers = make_workers(options, ports, caches, queues, &doorbells, &link)?;
    let pid_file = options.pid_file.as_deref().map(PidFile::write).transpose();
    let _pid_file = pid_file.map_err(|source| SetupError::System { what: "write the file of -P", source })?;
    if let Some(user) = &options.user {
        become_user(user)?;
    }

    let clock = Clock::start();
    let stop = Arc::new(AtomicBool::new(false));
    let (events, inbox) = mpsc::channel();
    let mut threads = Vec::new();
    let cpus = cpus(options);
    for worker in workers {
        threads.push(start(worker, options, &cpus, clock, &stop, &events)?);
    }
    let on_signal = events.clone();
    let handle = signals.handle();
    let listener = std::thread::spawn(move || {
        let mut asked = false;
        for signal in signals.forever() {
            if signal == SIGHUP {
                let _ = on_signal.send(Event::Reload);
                continue;
            }
            if std::mem::replace(&mut asked, true) {
                // Asked twice: at once. The kernel detaches the program with its link.
                std::process::exit(1);
            }
            let _ = on_signal.send(Event::Signal);
        }
    });
    write_ports(ports.tcp, ports.udp)
        .map_err(|source| SetupError::System { what: "write the file of ports", source })?;
    println!("{}{}:{ports} with {} cores", daemon::READY, options.address, options.cores);
    if options.daemon {
        daemon::let_go(options.verbose > 0)
            .map_err(|source| SetupError::System { what: "let go of the terminal", source })?;
    }

    // Either event is a reason to stop. The channel cannot be closed: `events` is still here.
    let mut gone = None;
    while gone.is_none() && ledger.stopping().is_none() {
        match inbox.recv_timeout(WATCH_INTERVAL) {
            Ok(Event::Reload) => reload_users(options, &ledger),
            Ok(Event::Signal | Event::CoreEnded) => break,
            Err(_) => {}
        }
        cpu_time::publish(ledger.core(0));
        gone = link_gone(&link);
    }
    stop.store(true, Ordering::Relaxed);
    for doorbell in &doorbells {
        doorbell.ring();
    }
    let ended: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
    handle.close();
    let _ = listener.join();
    report(ended)?;
    gone.map_or(Ok(()), Err)
}

/// The ports that are listened on.
#[derive(Debug, Clone, Copy)]
struct Ports {
    tcp: Option<u16>,
    udp: Option<u16>,
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.tcp {
            Some(port) => write!(f, "{port}")?,
            None => write!(f, "no port")?,
        }
        self.udp.map_or(Ok(()), |port| write!(f, " and UDP port {port}"))
    }
}

/// The port to listen on; one that is drawn lies where systems draw theirs.
fn port(port: ListenPort) -> Result<Option<u16>, SetupError> {
    Ok(match port {
        ListenPort::Off => None,
        ListenPort::Number(port) => Some(port),
        ListenPort::Any => Some(32_768 + u16::from_le_bytes(random()?) % 28_232),
    })
}

/// Reads the file of `-Y` again; what is wrong with it leaves those who may speak as they are.
fn reload_users(options: &Options, ledger: &cache::Ledger) {
    let Some((path, _)) = &options.auth else { return };
    match read_users(path.as_ref()) {
        Ok(users) => ledger.set_users(users),
        Err(error) => tracing::error!(%error, "the users stay as they were"),
    }
}

/// What is asked of the machine's memory, unless the interface is not there, which opening it will say better.
fn budget(options: &Options) -> Result<Budget, SetupError> {
    let config = xdp_config(options);
    let link = Link::by_name(&options.interface).map_err(|error| Box::new(OpenError::from(error)))?;
    let queues = options.queues.unwrap_or(usize::from(link.rx_queues.min(link.tx_queues)));
    let budget = Budget::of(options, flows_per_core(options), &config, &link, queues);
    budget.check(budget::machine_bytes())?;
    Ok(budget)
}

/// An AF_XDP socket says nothing when its interface is removed, so the main thread looks.
fn link_gone(link: &Link) -> Option<SetupError> {
    match Link::by_name(&link.name) {
        Ok(now) if now.index == link.index => None,
        Ok(_) | Err(LinkError::NotFound { .. }) => Some(SetupError::LinkGone { link: link.name.clone() }),
        // The kernel did not say; it may the next time.
        Err(_) => None,
    }
}

fn report(ended: Vec<std::thread::Result<Result<CoreReport, WorkerError>>>) -> Result<(), SetupError> {
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
        println!("{report}");
    }
    println!("{}", total(&reports));
    first_error.map_or(Ok(()), Err)
}

fn cache_config(options: &Options, ports: Ports) -> CacheConfig {
    let shard = ShardConfig {
        memory_bytes: options.memory_bytes,
        // As far as `cache_memlimit` may go; address space only, until it does.
        memory_ceiling_bytes: options.memory_bytes.saturating_mul(4).max(CEILING_LEAST_BYTES),
        // At most 1 GiB, which fits: `Options` has checked it.
        item_size_max: options.item_size_bytes as u32,
        evict: options.evict,
        use_cas: options.use_cas,
        slab_factor: options.slab_factor,
        slab_chunk_min: options.slab_min,
        slab_chunk_max: options.extended.slab_chunk_max,
        ..ShardConfig::default()
    };
    let server = ServerFacts {
        tcp_port: ports.tcp.unwrap_or(0),
        udp_port: ports.udp.unwrap_or(0),
        max_connections: options.connections,
        interface: Some(options.listen.clone().unwrap_or_else(|| options.interface.clone())),
        backlog: options.backlog,
        listeners: ports.tcp.map(|port| format!("tcp:{}:{port}", shown_address(options))).into_iter().collect(),
        udp_listeners: ports.udp.map(|port| format!("udp:{}:{port}", shown_address(options))).into_iter().collect(),
        local: format!("tcp:{}:{}", options.address, ports.tcp.unwrap_or(0)),
        auth_file: options.auth.as_ref().map(|(path, _)| path.clone()),
        maxconns_fast: options.extended.maxconns_fast,
        idle_timeout_secs: options.extended.idle_timeout_secs,
        lru_maintainer: options.extended.lru_maintainer,
        hashpower: options.extended.hashpower,
        worker_logbuf_bytes: options.extended.worker_logbuf_bytes,
        read_buf_mem_limit_bytes: options.extended.read_buf_mem_limit_bytes,
        verbosity: options.verbose.into(),
        ..ServerFacts::default()
    };
    CacheConfig {
        shard,
        cores: options.cores,
        connections_per_core: flows_per_core(options),
        datagram_places: if ports.udp.is_some() { DATAGRAM_PLACES } else { 0 },
        protocol: options.protocol,
        server,
        requests_per_take: options.requests_per_take,
        reply_limit: options.extended.reply_limit(options.cores),
        commands: Commands {
            flush: options.flush,
            dump: options.dump,
            watch: options.watch,
            shutdown: options.shutdown,
            debug: options.debug_commands,
            lru_crawler: options.extended.lru_crawler,
        },
        prefix_delimiter: options.prefix_delimiter.unwrap_or(b':'),
        detail: options.prefix_delimiter.is_some(),
        users: options.auth.as_ref().map(|(_, users)| users.clone()).unwrap_or_default(),
        watch_lines: (options.extended.worker_logbuf_bytes / cache::WATCH_LINE_BYTES).max(1),
        ..CacheConfig::default()
    }
}

/// The address as listeners show it: that of `-l`, or the stack's own.
fn shown_address(options: &Options) -> String {
    let host = options.listen.as_deref().map(|listen| listen.strip_prefix("tcp:").unwrap_or(listen));
    let host = host.map(|host| host.split_once(':').map_or(host, |(host, _)| host));
    host.map_or(options.address.to_string(), str::to_owned)
}

/// Flows a core may have: all connections may come to one core, and those above the limit are told so.
fn flows_per_core(options: &Options) -> usize {
    options.connections + options.backlog.min(options.connections.max(64))
}

fn xdp_config(options: &Options) -> XdpConfig {
    let mut config = XdpConfig::new(options.interface.clone(), options.address);
    config.attach = match options.mode {
        Mode::Auto => AttachMode::Auto,
        Mode::Native => AttachMode::Native,
        Mode::Generic => AttachMode::Generic,
    };
    if let Some(queues) = options.queues {
        // At most 1024, which fits: `Options` has checked it.
        config.queues = Some((0..queues as u16).map(QueueId).collect());
    }
    config
}

/// The queues of each core, by core, recorded if that is asked for.
fn open_queues(
    options: &Options,
    plan: &QueuePlan,
    doorbells: &[Arc<Doorbell>],
    link: &Link,
    mut take: impl FnMut(QueueId) -> Option<AnyQueue>,
) -> Result<Vec<Vec<AnyQueue>>, SetupError> {
    let take = |id| take(id).map(|queue| recorded(options, id, queue)).transpose();
    share_queues(plan, doorbells, chunk_bytes(link), take)
}

/// Bytes of a chunk that holds the link's longest frame.
fn chunk_bytes(link: &Link) -> usize {
    (link.mtu as usize + 512).next_power_of_two().max(2048)
}

fn recorded(options: &Options, id: QueueId, queue: AnyQueue) -> Result<AnyQueue, SetupError> {
    let Some(folder) = &options.capture else { return Ok(queue) };
    let path = folder.join(format!("queue-{}.pcap", id.0));
    let file = File::create(&path).map_err(|source| SetupError::Capture { path, source })?;
    Ok(Box::new(PcapTap::new(queue, PcapRecorder::new(BufWriter::new(file))?)))
}

fn make_workers(
    options: &Options,
    ports: Ports,
    caches: Vec<Core>,
    queues: Vec<Vec<AnyQueue>>,
    doorbells: &[Arc<Doorbell>],
    link: &Link,
) -> Result<Vec<Worker<AnyQueue>>, SetupError> {
    let admission = Arc::new(Admission::new(options.connections));
    let rings = StrayRing::of(doorbells, chunk_bytes(link))?;
    let isn_secret: [u8; 32] = random()?;
    let mut workers = Vec::new();
    for (((core, cache), queues), strays) in caches.into_iter().enumerate().zip(queues).zip(rings) {
        let mut config = StackConfig::new(options.address, options.prefix, Mac(link.mac.0));
        config.ip_mtu = link.mtu as usize;
        config.ports = ports.tcp.into_iter().collect();
        config.udp_ports = ports.udp.into_iter().collect();
        config.max_flows = flows_per_core(options);
        config.syn_queue = options.backlog;
        config.keep_alive = Some(KEEP_ALIVE);
        // At most 63: `Options` has checked it.
        config.peers = (doorbells.len() - 1) as u8;
        let mut connections = Connections::new(flows_per_core(options), admission.clone());
        if options.extended.idle_timeout_secs > 0 {
            connections.close_idle_after(options.extended.idle_timeout_secs);
        }
        tracing::info!(core, queues = queues.len(), max_flows = config.max_flows, "core");
        // One secret for all cores: a frame that comes to another core than before meets the same numbers.
        let stack = NetStack::new(config, Secrets::from_bytes(isn_secret))?;
        workers.push(Worker {
            ports: queues.into_iter().map(Port::new).collect(),
            udp: ports.udp.map(|_| UdpService::new(&cache, &stack, &options.udp_trust)),
            stack,
            cache,
            connections,
            strays,
            doorbells: doorbells.to_vec(),
            admission: admission.clone(),
            maxconns_fast: options.extended.maxconns_fast,
            paused_at: None,
        });
    }
    Ok(workers)
}

/// The CPU of each core, as far as there are enough; a core beyond them is not pinned.
fn cpus(options: &Options) -> Vec<core_affinity::CoreId> {
    let allowed = core_affinity::get_core_ids().unwrap_or_default();
    if !options.cpus.is_empty() {
        return options.cpus.iter().map(|&id| core_affinity::CoreId { id }).collect();
    }
    if allowed.len() < options.cores {
        println!("note: {} threads for {} CPUs; the rest are not pinned", options.cores, allowed.len());
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
) -> Result<JoinHandle<Result<CoreReport, WorkerError>>, SetupError> {
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
    builder.spawn(body).map_err(|source| SetupError::System { what: "start a thread", source })
}

fn random<const N: usize>() -> Result<[u8; N], SetupError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(SetupError::Random)?;
    Ok(bytes)
}
