//! Forwards whatever comes by one port to the other, both ways, without copying a byte: received buffers and free ones
//! change places between the rings of two ports with one memory (`ring.rs`).
//!
//! ```text
//! ring_forward LINK LINK       over AF_XDP, on one core, all frames of both links' first queues; ends with its input
//! ring_forward wire: FRAMES    over two wires in memory, without root: sends so many frames each way, and checks them
//! ```
//!
//! With the links in one network namespace and the hosts behind them in others this is a cable between two hosts, as
//! netmap's `bridge` makes one. Links with more than one queue want one such thread a queue, each with a pair of its own.

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use sidestep_nic::ring::{OtherMemory, RingPort, forward};
use sidestep_nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use sidestep_nic::{Doorbell, FramePool, PoolConfig, PortConfig, Queue, QueueError, QueueId, Sleeper, Wire, WireQueue};

/// Slots of each ring.
const SLOTS: usize = 1024;

/// Why a forwarder cannot go on.
#[derive(Debug)]
pub enum Failed {
    /// A link is gone.
    Queue(QueueError),
    /// The two ports have no memory in common.
    Memory(OtherMemory),
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Queue(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
        }
    }
}

impl Error for Failed {}

/// One turn: takes what has come by both ports, passes it on, sends it. Returns how many frames went from the first to the
/// second, and from the second to the first. What finds no room at the other port waits where it is, for a later turn.
pub fn turn<A: Queue, B: Queue>(one: &mut RingPort<A>, other: &mut RingPort<B>) -> Result<(usize, usize), Failed> {
    one.rxsync().map_err(Failed::Queue)?;
    other.rxsync().map_err(Failed::Queue)?;
    let there = forward(one.rings().0, other.rings().1, SLOTS).map_err(Failed::Memory)?;
    let back = forward(other.rings().0, one.rings().1, SLOTS).map_err(Failed::Memory)?;
    one.txsync().map_err(Failed::Queue)?;
    other.txsync().map_err(Failed::Queue)?;
    Ok((there, back))
}

/// What keeps the programs of two links attached, and a port on each link.
pub type Opened = (Vec<XdpDevice>, [RingPort<XdpQueue>; 2]);

/// Two ports over the first queues of two links, for every frame that comes there: the kernel gets none of them.
pub fn open(links: [&str; 2]) -> Result<Opened, Box<dyn Error>> {
    let config = |link: &str| {
        let any = std::net::Ipv4Addr::UNSPECIFIED;
        let queues = Some(vec![QueueId(0)]);
        XdpConfig { addresses: Vec::new(), dedicated: true, queues, ..XdpConfig::new(link, any) }
    };
    let mut devices = XdpDevice::open_together(&links.map(config))?;
    let ports: Vec<_> = devices.iter_mut().filter_map(|device| device.take_queue(QueueId(0))).collect();
    let ports: [XdpQueue; 2] = ports.try_into().map_err(|_| "a link without a queue")?;
    Ok((devices, ports.map(|queue| RingPort::new(queue, SLOTS))))
}

/// Two queues with one memory, each on a wire of its own, and the queues at the other ends of these wires.
pub fn wires(config: &PortConfig) -> Result<([WireQueue; 2], [WireQueue; 2]), Box<dyn Error>> {
    let shape = PoolConfig { frames: config.frames, chunk_bytes: config.chunk_bytes, ..PoolConfig::default() };
    let mut middle = Vec::new();
    let mut ends = Vec::new();
    for (number, pool) in FramePool::over_one_memory(shape, 2)?.into_iter().enumerate() {
        let (_wire, near, far) = Wire::pair(config.clone(), config.clone(), number as u64)?;
        middle.push(near.take_queue_with(QueueId(0), pool)?);
        ends.push(far.take_queue(QueueId(0))?);
    }
    let both = |queues: Vec<WireQueue>| <[WireQueue; 2]>::try_from(queues).map_err(|_| "two queues");
    Ok((both(middle)?, both(ends)?))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["wire:", frames] => frames.parse().map_err(Into::into).and_then(over_wires),
        [one, other] => over_links([one, other]),
        _ => Err("usage: ring_forward LINK LINK | ring_forward wire: FRAMES".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ring_forward: {error}");
            ExitCode::FAILURE
        }
    }
}

fn over_links(links: [&str; 2]) -> Result<(), Box<dyn Error>> {
    let (devices, [mut one, mut other]) = open(links)?;
    for device in &devices {
        println!("{}: {}", device.link().name, device.obtained());
    }
    let ended = Arc::new(Doorbell::new()?);
    let mut sleeper = Sleeper::new(Arc::clone(&ended), one.queue().raw_fd().into_iter().chain(other.queue().raw_fd()));
    let input = std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        ended.ring()
    });
    let (mut there, mut back) = (0, 0);
    while !input.is_finished() {
        let moved = turn(&mut one, &mut other)?;
        there += moved.0;
        back += moved.1;
        if moved == (0, 0) {
            // A bound, for the moment between the look at the thread and the sleep, and for frames that wait for room.
            sleeper.sleep(Some(Duration::from_millis(50)), || input.is_finished())?;
        }
    }
    for port in [&one, &other] {
        println!("{:?} {:?}", port.queue().census(), port.queue().xdp_stats());
    }
    println!("{there} frames one way, {back} the other");
    Ok(())
}

fn over_wires(frames: u64) -> Result<(), Box<dyn Error>> {
    let (middle, ends) = wires(&PortConfig::default())?;
    let [mut one, mut other] = middle.map(|queue| RingPort::new(queue, SLOTS));
    let mut hosts = ends.map(|queue| RingPort::new(queue, SLOTS));
    let (mut sent, mut received) = ([0_u64; 2], [0_u64; 2]);
    // Each turn takes all of a burst through, as long as nothing is lost.
    for _ in 0..=frames {
        if received == [frames; 2] {
            break;
        }
        for (host, sent) in hosts.iter_mut().zip(&mut sent) {
            let (_, ring) = host.rings();
            for _ in 0..ring.space().min(64).min((frames - *sent) as usize) {
                let head = ring.head();
                let Some(slot) = ring.slot_mut(head) else { break };
                slot.set_len(60)?;
                slot.bytes_mut()[52..].copy_from_slice(&sent.to_be_bytes());
                ring.set_head(ring.next(head))?;
                *sent += 1;
            }
            host.txsync()?;
        }
        turn(&mut one, &mut other)?;
        for (host, received) in hosts.iter_mut().zip(&mut received) {
            host.rxsync()?;
            let (ring, _) = host.rings();
            while let Some(slot) = ring.slot(ring.head()) {
                if slot.bytes()[52..] != received.to_be_bytes() {
                    return Err(format!("frame {received} did not come in its turn").into());
                }
                *received += 1;
                ring.set_head(ring.next(ring.head()))?;
            }
        }
    }
    if received != [frames; 2] {
        return Err(format!("of {frames} frames each way {received:?} came").into());
    }
    println!("{frames} frames each way, in order, none lost and none twice");
    Ok(())
}
