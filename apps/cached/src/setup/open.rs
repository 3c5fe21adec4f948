//! What needs a right: all of it is opened here, before the first core starts.
//!
//! ```text
//!  cache and stacks (memory: may be refused)  ─►  link opened, program attached  ─►  captures  ─►  rights given up
//! ```

use std::sync::Arc;

use cache::{Core, Shared};
use nic::link::Link;
use nic::wait_mode::Waiting;
use nic::{DeviceName, Doorbell, FlowPrediction, QueueId, QueuePlan};
use stack::{NetStack, Routes, Secrets, StrayRing};

use super::config::{Ports, cache_config, flows_per_core, random, stack_config};
use super::device::{Device, frame_bytes};
use super::error::SetupError;
use super::plane::Supervised;
use super::watch::followed;
use crate::admission::Admission;
use crate::arrivals::{Arrivals, CoreArrivals};
use crate::budget::{self, Budget};
use crate::capture::CoreCapture;
use crate::confine::give_up;
use crate::connections::Connections;
use crate::cpu_time::CpuTime;
use crate::daemon::Leaving;
use crate::huge_pages;
use crate::losses::Losses;
use crate::options::{Options, Steering};
use crate::orders::Orders;
use crate::say::say;
use crate::sharing::{AnyQueue, share_queues};
use crate::supervisor::empty_folder;
use crate::surroundings::{CoreSurroundings, Surroundings};
use crate::touch::MemoryThread;
use crate::udp_service::UdpService;
use crate::user::user_named;
use crate::worker::Worker;

/// Said where frames or items lie on huge pages that the machine keeps aside.
const HUGE_PAGES: &str = "huge pages";

/// Said where items do not: the kernel is asked for huge pages all the same.
const HUGE_IF_ANY: &str =
    "what pages the kernel finds: too few huge ones are kept aside for them (sysctl vm.nr_hugepages)";

/// Said where frames do not.
const NO_HUGE_PAGES: &str = "small pages: too few huge ones are free (sysctl vm.nr_hugepages)";

/// Everything opened, nothing running yet. What is dropped closes; the kernel detaches the program with its link.
pub(super) struct Opened {
    /// The cores, each to be moved to its thread.
    pub(super) workers: Vec<Worker<AnyQueue>>,
    /// What stays with the main thread.
    pub(super) base: Base,
}

/// What stays with the main thread while the cores run.
pub(super) struct Base {
    pub(super) shared: Arc<Shared>,
    pub(super) losses: Arc<Losses>,
    pub(super) orders: Arc<Orders>,
    pub(super) admission: Arc<Admission>,
    pub(super) surroundings: Arc<Surroundings>,
    /// Holds the program's link, until the cores have ended.
    pub(super) _device: Device,
    pub(super) memory: MemoryThread,
    pub(super) time: CpuTime,
    /// Of a daemon.
    pub(super) leaving: Option<Leaving>,
}

/// Opens all that `options` ask for, each queue as `wrap` makes it, then gives up every right. Prints the mode obtained.
pub(super) fn open(
    options: &Options,
    supervised: &mut Supervised,
    wrap: &dyn Fn(AnyQueue) -> AnyQueue,
) -> Result<Opened, SetupError> {
    let ports = supervised.ports;
    let user = options.user.as_deref().map(user_named).transpose()?;
    let budget = budget(options, ports)?;
    let mut cache_config = cache_config(options, ports);
    cache_config.shard.huge_pages = huge_pages::for_items(&budget, options.cores);
    let caches = Core::mesh(&cache_config, random()?)?;
    let Some(shared) = caches.first().map(|core| core.shared().clone()) else {
        unreachable!("`Options` has checked that there is a core")
    };
    let huge_items = caches.iter().all(|core| core.shard().is_on_huge_pages());
    // First of all, so that it goes on while the link is opened.
    let touchers = caches.iter().map(|core| core.shard().toucher()).collect();
    let memory = MemoryThread::start(touchers).map_err(SetupError::system("start a thread"))?;
    let doorbells = (0..options.cores).map(|_| Doorbell::new().map(Arc::new)).collect::<Result<Vec<_>, _>>();
    let doorbells = doorbells.map_err(SetupError::system("make a doorbell"))?;
    supervised.steps.done("cache");

    let mut device = Device::open(options, ports, supervised.take_link())?;
    supervised.steps.done("link");
    let plan = QueuePlan::new(&device.queue_ids(), options.cores);
    say(format_args!("link {}: {}", options.interface, device));
    say_steering(options, ports);
    say(format_args!("plan: {plan}"));
    say(format_args!("memory: {budget}"));
    say_pages(device.on_huge_pages(), huge_items);

    let link = device.link().clone();
    say_checksums(&link);
    // It saves what the NIC's settings are before it changes any, and writes the PID file.
    supervised.opened(&device)?;
    let arrivals = predict_arrivals(options, &link, &plan);
    let stack_link = device.stack_link();
    let waiting = options.wait.on(&link.driver);
    let take = |queue| device.take_queue(queue, waiting).map(wrap);
    let (queues, captures) = open_queues(options, &plan, &doorbells, &link, take)?;
    let losses = Arc::new(Losses::new(options.cores));
    shared.counters.show_outside(losses.clone());
    let admission = Arc::new(Admission::new(options.connections));
    let surroundings = Arc::new(Surroundings::default());
    let shared_by_all = (&losses, &admission, &surroundings);
    let mut workers = make_workers(options, ports, caches, queues, &doorbells, &stack_link, shared_by_all)?;
    for (worker, capture) in workers.iter_mut().zip(captures) {
        worker.capture = capture;
        worker.polls = waiting == (Waiting::Sleeps { polls: true });
    }
    if let Some(arrivals) = arrivals {
        for (core, worker) in workers.iter_mut().enumerate() {
            worker.connections.count_arrivals(CoreArrivals::new(&arrivals, &plan, core));
        }
        losses.show_arrivals(arrivals);
    }
    supervised.steps.done("stacks");
    let time = CpuTime::open().map_err(SetupError::system("read the time of the processor"))?;
    let leaving = options.daemon.then(|| Leaving::prepare(options.verbose > 0)).transpose();
    let leaving = leaving.map_err(SetupError::system("let go of the terminal"))?;
    // `-u root` says who starts the server; there is nothing for which its data plane would have to be root.
    let user = user.filter(|user| !user.uid.is_root());
    give_up(user.as_ref(), &empty_folder()).map_err(SetupError::system("give up the rights of the data plane"))?;
    memory.give_up();
    supervised.steps.done("rights");
    let orders = Arc::new(Orders::new(&doorbells));
    let base = Base { shared, losses, orders, admission, surroundings, _device: device, memory, time, leaving };
    Ok(Opened { workers, base })
}

/// Says on which pages frames, if they lie on any of the kernel's, and items are.
fn say_pages(frames: Option<bool>, items: bool) {
    if let Some(huge) = frames {
        say(format_args!("memory: frames on {}", if huge { HUGE_PAGES } else { NO_HUGE_PAGES }));
    }
    say(format_args!("memory: items on {}", if items { HUGE_PAGES } else { HUGE_IF_ANY }));
}

/// Asks the NIC how it spreads connections, and says so. `None` where it is not counted by which queue they come.
fn predict_arrivals(options: &Options, link: &Link, plan: &QueuePlan) -> Option<Arc<Arrivals>> {
    if matches!(options.device, DeviceName::Tap(_)) {
        say(format_args!("rss: the kernel chooses the queue of a TAP for each connection, and does not tell how"));
        return None;
    }
    let prediction = FlowPrediction::of(link);
    match &prediction {
        Ok(prediction) => say(format_args!("rss: {prediction}")),
        Err(why) => say(format_args!("rss: {why}")),
    }
    Arrivals::new(plan, prediction.ok()).map(Arc::new)
}

/// Says what is taken for right on a link without a wire.
fn say_checksums(link: &Link) {
    if link.leaves_checksums() {
        say(format_args!(
            "note: {} is a {}: checksums that a sender's kernel leaves to offload are taken",
            link.name, link.driver
        ));
    }
}

/// Says which frames are the server's, where it is not simply those for an address of its own.
fn say_steering(options: &Options, ports: Ports) {
    let interface = &options.interface;
    match options.steering {
        Steering::Own => {}
        Steering::Shared => say(format_args!(
            "steering: port {ports} of {} is the server's, all else the kernel's; these clients pass by the host's firewall, --allow says who is served",
            options.shown_addresses()
        )),
        Steering::Dedicated => say(format_args!(
            "steering: every frame of these queues of {interface} is the server's; the kernel is not reached by them"
        )),
    }
    if !options.allow.is_empty() {
        let networks: Vec<_> = options.allow.iter().map(|(address, prefix)| format!("{address}/{prefix}")).collect();
        say(format_args!("steering: only {} are served", networks.join(", ")));
    }
}

/// What will be taken of the machine's memory, which must have it.
fn budget(options: &Options, ports: Ports) -> Result<Budget, SetupError> {
    let budget = Budget::of(options, flows_per_core(options), frame_bytes(options, ports)?);
    budget.check(budget::machine_bytes())?;
    Ok(budget)
}

/// The queues of each core, by core, and what they are recorded to, if that is asked for.
fn open_queues(
    options: &Options,
    plan: &QueuePlan,
    doorbells: &[Arc<Doorbell>],
    link: &Link,
    mut take: impl FnMut(QueueId) -> Option<AnyQueue>,
) -> Result<(Vec<Vec<AnyQueue>>, Vec<CoreCapture>), SetupError> {
    let mut captures: Vec<_> = (0..options.cores).map(|_| CoreCapture::default()).collect();
    let take = |core: usize, id| {
        let Some(queue) = take(id) else { return Ok(None) };
        let Some(folder) = &options.capture else { return Ok(Some(queue)) };
        captures[core].record(id, queue, folder).map(Some).map_err(SetupError::from)
    };
    let queues = share_queues(plan, doorbells, chunk_bytes(link), take)?;
    Ok((queues, captures))
}

/// Bytes of a chunk that holds the link's longest frame.
fn chunk_bytes(link: &Link) -> usize {
    (link.mtu as usize + 512).next_power_of_two().max(2048)
}

/// The kernel's routes as they are now, if they are followed: a flow that is open when they change goes over from one router to
/// another, and must have had the one.
fn routes_at_start(options: &Options, link: &Link) -> Option<Routes> {
    let routes = followed(options, link)?.look().ok()??;
    Some(Routes::new(options.addresses.iter().copied(), options.gateways.beside(routes)))
}

fn make_workers(
    options: &Options,
    ports: Ports,
    caches: Vec<Core>,
    queues: Vec<Vec<AnyQueue>>,
    doorbells: &[Arc<Doorbell>],
    link: &Link,
    (losses, admission, surroundings): (&Arc<Losses>, &Arc<Admission>, &Arc<Surroundings>),
) -> Result<Vec<Worker<AnyQueue>>, SetupError> {
    let rings = StrayRing::of(doorbells, chunk_bytes(link))?;
    let isn_secret: [u8; 32] = random()?;
    let routes = routes_at_start(options, link);
    let mut workers = Vec::new();
    for ((cache, queues), strays) in caches.into_iter().zip(queues).zip(rings) {
        let mut config = stack_config(options, ports, link, doorbells.len() - 1);
        // The first core polls a queue in every plan, and one core is enough to tell everybody.
        config.speaks = cache.id() == 0;
        let mut connections = Connections::new(flows_per_core(options), admission.clone());
        if options.extended.idle_timeout_secs > 0 {
            connections.close_idle_after(options.extended.idle_timeout_secs);
        }
        tracing::info!(core = cache.id(), queues = queues.len(), max_flows = config.max_flows, "core");
        // One secret for all cores: a frame that comes to another core than before meets the same numbers.
        let mut stack = NetStack::new(config, Secrets::from_bytes(isn_secret))?;
        if let Some(routes) = &routes {
            stack.set_routes(routes);
        }
        let udp = ports.udp.map(|_| UdpService::new(&cache, &stack, &options.udp_trust));
        let mut worker = Worker::new(queues, stack, cache, connections, strays, doorbells, losses);
        worker.udp = udp.unwrap_or_default();
        worker.surroundings = CoreSurroundings::new(surroundings);
        worker.maxconns_fast = options.extended.maxconns_fast;
        workers.push(worker);
    }
    Ok(workers)
}
