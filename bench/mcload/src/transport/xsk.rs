//! What a run over our own stack opens: queues of a link over AF_XDP, or of a TAP, one a worker, each with a stack.
//!
//! All stacks have all addresses; worker w of n has the source ports that leave w when divided by n, so that no two
//! ever have the same connection. A frame that comes by another worker's queue is a stray and goes round
//! ([`StrayRing`]): right, but slower; a peer that answers by the queue it was asked on sends none. Answers to ARP and
//! neighbour solicitations may come by any queue too, so the server's Ethernet address is asked for here, before the workers
//! start. The XDP program passes the kernel all that is not for our addresses.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use nic::link::Link;
use nic::preflight::OpenError;
use nic::tap::{TapConfig, TapDevice, TapError, TapQueue};
use nic::xdp::{AddressMode, AttachMode, XdpConfig, XdpDevice, XdpQueue, XskName};
use nic::{Doorbell, PoolError, Queue, QueueError, QueueId};
use stack::{ConfigError, Mac, NetStack, OwnAddress, Port, Rings, Secrets, StackConfig, StrayRing, Time};

use super::TransportError;
use super::own_stack::{OwnStack, Route};
use crate::engine::EngineError;
use crate::plan::{Plan, Reuse};
use crate::progress::Progress;
use crate::run::{Outcome, Share, run};
use crate::xsk_args::{Port as PortName, XskArgs};

/// Source ports of an address: all but those below 1,024, which some servers treat as privileged.
const SOURCE_PORTS: (u16, u16) = (1_024, u16::MAX);

/// Source ports of one address, by number.
const PORTS_EACH: u64 = (SOURCE_PORTS.1 - SOURCE_PORTS.0) as u64 + 1;

/// How long the server's Ethernet address is waited for.
const RESOLVE_LIMIT: Duration = Duration::from_secs(4);

/// Flows beyond the connections: those that have been closed and whose peer has yet to answer.
const CLOSING_FLOWS: usize = 4_096;

/// Longest frame behind an MTU's packet.
const LINK_BYTES: usize = 512;

/// Why a run over AF_XDP cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XskError {
    /// AF_XDP could not be had.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The TAP could not be had.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// An option of another kind of port.
    #[error("--mode says where an XDP program runs, and a TAP has none; leave it out")]
    Mode,
    /// The stack cannot be made as asked.
    #[error(transparent)]
    Stack(#[from] ConfigError),
    /// No memory for strays.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Two families.
    #[error("the server is {server}, --address and --gateway are of the other family; give {wanted}")]
    Families {
        /// As given.
        server: SocketAddr,
        /// What would go with it.
        wanted: &'static str,
    },
    /// More workers than queue numbers.
    #[error("{workers} workers from queue {first} on are more than there can be queues; use fewer")]
    Queues {
        /// Workers.
        workers: u32,
        /// The first queue.
        first: u16,
    },
    /// More connections than source ports.
    #[error("{connections} connections need {needed} source addresses of {PORTS_EACH} ports; --address gives {given}")]
    Addresses {
        /// Connections of the run.
        connections: u64,
        /// Addresses that they need.
        needed: u64,
        /// Addresses given.
        given: u32,
    },
    /// There is no way to the server.
    #[error("{server} is not in {address}/{prefix}; give --gateway, or another prefix with --address")]
    NoRoute {
        /// The server.
        server: IpAddr,
        /// Our first address.
        address: IpAddr,
        /// The subnet's prefix length.
        prefix: u8,
    },
    /// Nobody answered ARP or a neighbour solicitation.
    #[error(
        "nobody answers {} for {hop} on {link}; is the address right, and the server's link up?",
        if hop.is_ipv4() { "ARP" } else { "neighbour solicitations" }
    )]
    NoAnswer {
        /// Who was asked for.
        hop: IpAddr,
        /// The link.
        link: String,
    },
    /// A doorbell or random bytes could not be had.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A worker could not be pinned.
    #[error("cannot pin worker {worker} to CPU {cpu}; give --cpu a CPU that this process may use")]
    Pin {
        /// Its number.
        worker: u32,
        /// The CPU.
        cpu: usize,
    },
    /// A worker's queue was asked for twice; a fault of this program.
    #[error("worker {worker} has no queue; this is a fault of sidestep-mcload")]
    NoSeat {
        /// Its number.
        worker: u32,
    },
}

impl From<XskError> for TransportError {
    fn from(error: XskError) -> Self {
        Self::Other(Box::new(error))
    }
}

/// What one worker takes with it.
#[derive(Debug)]
struct Seat<Q> {
    queue: Q,
    stack: NetStack,
    strays: StrayRing,
    bell: Arc<Doorbell>,
}

/// A seat for each worker, on a link that is open.
#[derive(Debug)]
pub struct Seats<Q> {
    seats: Mutex<Vec<Option<Seat<Q>>>>,
    server: SocketAddr,
    mac: Mac,
    cpus: Vec<usize>,
    spin: Option<Duration>,
    rest: Option<Duration>,
    origin: Instant,
}

/// Runs `plan` over our own stack.
///
/// # Errors
/// As [`run`], and what [`XskError`] says.
pub fn run_over_xsk(plan: &Plan, xsk: &XskArgs, progress: &Progress) -> Result<Outcome, EngineError> {
    let name = match &xsk.interface {
        PortName::Xdp(name) => name,
        PortName::Tap(name) => {
            let (_device, seats) = open_tap(plan, xsk, name).map_err(TransportError::from)?;
            return run(plan, progress, |share| Ok(seats.take(share)?));
        }
    };
    let (device, seats) = open(plan, xsk, name).map_err(TransportError::from)?;
    let outcome = run(plan, progress, |share| Ok(seats.take(share)?));
    if let Some(note) = device.unserved() {
        // Where standard error takes nothing, the outcome has the connections that failed.
        let _ = writeln!(io::stderr(), "sidestep-mcload: {note}");
    }
    drop(device);
    outcome
}

/// Opens a queue for each worker of `plan` and finds out where the server is. The device keeps the XDP program
/// attached: it must live until the workers are done.
///
/// # Errors
/// [`XskError`], one line for the operator; nothing stays open or attached.
fn open(plan: &Plan, xsk: &XskArgs, name: &XskName) -> Result<(XdpDevice, Seats<XdpQueue>), XskError> {
    let server = server_of(plan, xsk)?;
    let (first, workers) = (name.first_queue, plan.workers);
    let queues: Vec<QueueId> =
        (u32::from(first)..).take(workers as usize).map_while(|id| u16::try_from(id).ok().map(QueueId)).collect();
    if queues.len() < workers as usize {
        return Err(XskError::Queues { workers, first });
    }
    let mut config = XdpConfig::new(name.link.clone(), xsk.address.first);
    config.addresses = xsk.address.all().map(|address| (address, AddressMode::Own)).collect();
    config.queues = Some(queues.clone());
    config.attach = xsk.mode;
    let mut device = XdpDevice::open(&config)?;
    let ports = queues.iter().filter_map(|queue| device.take_queue(*queue)).map(Port::new).collect();
    let seats = seats(plan, xsk, server, device.link(), ports)?;
    Ok((device, seats))
}

/// The same with a TAP, of which the kernel chooses the queue.
fn open_tap(plan: &Plan, xsk: &XskArgs, name: &str) -> Result<(TapDevice, Seats<TapQueue>), XskError> {
    let server = server_of(plan, xsk)?;
    if xsk.mode != AttachMode::Auto {
        return Err(XskError::Mode);
    }
    let queues = u16::try_from(plan.workers).map_err(|_| XskError::Queues { workers: plan.workers, first: 0 })?;
    let mut device = TapDevice::open(&TapConfig::new(name, queues))?;
    let ids = device.queue_ids();
    let ports = ids.into_iter().filter_map(|queue| device.take_queue(queue)).map(Port::new).collect();
    let link = Link { mac: device.station(), ..device.link().clone() };
    let seats = seats(plan, xsk, server, &link, ports)?;
    Ok((device, seats))
}

/// The server, if our own stack can have so many connections with it.
fn server_of(plan: &Plan, xsk: &XskArgs) -> Result<SocketAddr, XskError> {
    let server = plan.server;
    let is_other = |address: IpAddr| address.is_ipv4() != server.is_ipv4();
    if is_other(xsk.address.first) || xsk.gateway.is_some_and(is_other) {
        let wanted = if server.is_ipv4() { "addresses of IPv4" } else { "addresses of IPv6" };
        return Err(XskError::Families { server, wanted });
    }
    let connections = u64::from(plan.connections) + u64::from(plan.dead);
    let needed = connections.div_ceil(PORTS_EACH);
    if needed > u64::from(xsk.address.count) {
        return Err(XskError::Addresses { connections, needed, given: xsk.address.count });
    }
    Ok(server)
}

/// A seat for each of `ports`, once it is known where the server is.
fn seats<Q: Queue>(
    plan: &Plan,
    xsk: &XskArgs,
    server: SocketAddr,
    link: &Link,
    ports: Vec<Port<Q>>,
) -> Result<Seats<Q>, XskError> {
    let base = stack_config(xsk, link);
    let (mac, queues) = resolve(&base, xsk, server.ip(), &link.name, ports)?;
    let bell = || Doorbell::new().map(Arc::new).map_err(|source| XskError::System { what: "make a doorbell", source });
    let bells = queues.iter().map(|_| bell()).collect::<Result<Vec<_>, _>>()?;
    let chunk = (link.mtu as usize + LINK_BYTES).next_power_of_two().max(2_048);
    let rings = StrayRing::of(&bells, chunk)?;
    let mut seats = Vec::new();
    for (worker, ((queue, strays), bell)) in queues.into_iter().zip(rings).zip(bells).enumerate() {
        let share = Share::of(plan, worker as u32);
        let stack = NetStack::new(worker_config(&base, plan, share), random()?)?;
        seats.push(Some(Seat { queue, stack, strays, bell }));
    }
    let [spin, rest] = [xsk.spin, xsk.rest].map(|micros| micros.map(Duration::from_micros));
    Ok(Seats { seats: Mutex::new(seats), server, mac, cpus: xsk.cpu.clone(), spin, rest, origin: Instant::now() })
}

impl<Q: Queue> Seats<Q> {
    /// Hands a worker its transport and pins its thread, which is the one that calls.
    ///
    /// # Errors
    /// The CPU is not to be had.
    pub fn take(&self, share: Share) -> Result<OwnStack<Q>, XskError> {
        let worker = share.worker;
        if let Some(&cpu) = self.cpus.get(worker as usize)
            && !core_affinity::set_for_current(CoreId { id: cpu })
        {
            return Err(XskError::Pin { worker, cpu });
        }
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let workers = seats.len() as u16;
        let seat = seats.get_mut(worker as usize).and_then(Option::take).ok_or(XskError::NoSeat { worker })?;
        let route = Route { server: self.server, mac: Some(self.mac), worker: (worker as u16, workers) };
        let strays = (workers > 1).then_some(seat.strays);
        let origin = self.origin;
        let clock = Box::new(move || origin.elapsed());
        let transport = OwnStack::new(route, share.slots(), seat.stack, seat.queue, strays, clock);
        Ok(match (self.spin, self.rest) {
            (Some(spin), _) => transport.sleeping(seat.bell, spin),
            (None, Some(rest)) => transport.resting(rest),
            (None, None) => transport,
        })
    }
}

/// What all stacks of the run have in common.
fn stack_config(xsk: &XskArgs, link: &Link) -> StackConfig {
    let mut config = StackConfig::new(xsk.address.first, xsk.address.prefix, Mac(link.mac.0));
    match xsk.address.first {
        IpAddr::V4(_) => config.addresses = xsk.address.count,
        IpAddr::V6(_) => {
            let prefix = xsk.address.prefix;
            config.others = xsk.address.all().map(|address| OwnAddress::new(address, prefix)).collect();
        }
    }
    match xsk.gateway {
        Some(IpAddr::V4(gateway)) => config.gateway = Some(gateway),
        Some(IpAddr::V6(gateway)) => config.gateway6 = Some(gateway),
        None => {}
    }
    config.ip_mtu = link.mtu as usize;
    config.partial_checksums = link.leaves_checksums();
    config.ephemeral_ports = SOURCE_PORTS;
    config
}

/// A worker's own stack: blocks for all its connections are made at start.
fn worker_config(base: &StackConfig, plan: &Plan, share: Share) -> StackConfig {
    let mut config = base.clone();
    let slots = share.slots();
    // Where connections are kept, few close while others open.
    let closing = if plan.reuse == Reuse::PerRequest { share.active as usize } else { 0 };
    config.max_flows = slots + CLOSING_FLOWS.max(closing);
    config.flows_at_start = config.max_flows;
    config.rings = rings_for(slots);
    // As its route has it, and for attempts that are answered at another worker's queue too.
    if let (Ok(worker), Ok(workers)) = (u8::try_from(share.worker), u8::try_from(plan.workers)) {
        config.source_port_share = (worker, workers);
    }
    config.peers = (plan.workers - 1).min(u32::from(u8::MAX)) as u8;
    // One for each address and port, so that none is forgotten before it may be used again.
    let addresses = u64::from(config.addresses) + config.others.len() as u64;
    config.time_wait_records = (PORTS_EACH * addresses).div_ceil(u64::from(plan.workers)) as usize;
    config
}

/// The largest rings that so many connections can have within about 4 GiB.
fn rings_for(slots: usize) -> Rings {
    match slots {
        ..=1_024 => Rings { rx: 65_535, tx: 65_535 },
        1_025..=16_384 => Rings { rx: 16_384, tx: 32_768 },
        16_385..=262_144 => Rings::DEFAULT,
        _ => Rings { rx: 512, tx: 512 },
    }
}

/// Asks by ARP or neighbour solicitations, over all queues at once, where frames for the server go. Gives the queues back.
fn resolve<Q: Queue>(
    base: &StackConfig,
    xsk: &XskArgs,
    server: IpAddr,
    link: &str,
    mut ports: Vec<Port<Q>>,
) -> Result<(Mac, Vec<Q>), XskError> {
    let mut config = base.clone();
    (config.max_flows, config.flows_at_start) = (1, 1);
    let mut stack = NetStack::new(config, random()?)?;
    let no_route = XskError::NoRoute { server, address: xsk.address.first, prefix: xsk.address.prefix };
    let hop = stack.next_hop(server).ok_or(no_route)?;
    let start = Instant::now();
    let mac = loop {
        let elapsed = start.elapsed();
        if elapsed > RESOLVE_LIMIT {
            return Err(XskError::NoAnswer { hop, link: link.to_owned() });
        }
        let now = Time::from_duration(elapsed);
        for (index, port) in ports.iter_mut().enumerate() {
            port.receive();
            stack.ingest(now, port, index);
        }
        stack.ask_neighbor(now, hop, 0);
        stack.expire(now);
        stack.flush(now, &mut ports);
        for port in &mut ports {
            port.transmit()?;
        }
        if let Some(mac) = stack.neighbor(hop) {
            break mac;
        }
    };
    let mut queues: Vec<Q> = ports.into_iter().map(Port::into_queue).collect();
    for queue in &mut queues {
        queue.flush()?;
    }
    Ok((mac, queues))
}

fn random() -> Result<Secrets, XskError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| XskError::System {
        what: "draw random bytes",
        source: std::io::Error::other(error.to_string()),
    })?;
    Ok(Secrets::from_bytes(bytes))
}
