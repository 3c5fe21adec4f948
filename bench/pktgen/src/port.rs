//! What `-i` names, opened: the queues of an interface over AF_XDP or of a TAP, or both ends of a wire in memory.

use std::net::SocketAddr;

use nic::preflight::OpenError;
use nic::tap::{TapConfig, TapDevice, TapError, TapQueue};
use nic::xdp::{XdpConfig, XdpDevice, XdpQueue, XskName};
use nic::{Mac, PortConfig, Queue, QueueId, Wire, WireError, WireQueue};

use crate::engine::Engine;
use crate::options::Plan;
use crate::packet::Ports;
use crate::part::{NoFlow, Part};

/// A queue and the engine that works on it.
#[derive(Debug)]
pub struct Seat<Q> {
    /// The engine.
    pub engine: Engine,
    /// Its queue.
    pub queue: Q,
    /// Whether it is the mode that was asked for, rather than the other end of a wire.
    pub asked: bool,
}

/// Why a port could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// AF_XDP could not be had.
    #[error(transparent)]
    Xsk(#[from] OpenError),
    /// The TAP could not be had.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The wire could not be made.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// A queue would have nothing to send.
    #[error(transparent)]
    Flow(#[from] NoFlow),
    /// The link cannot send frames as long as asked.
    #[error("-l is {asked}; the longest frame of {port} is {most} bytes")]
    FrameTooLong {
        /// As asked.
        asked: usize,
        /// The port.
        port: String,
        /// What there is room for.
        most: usize,
    },
    /// More queues than can be counted.
    #[error("{0} queues from the one given with -i: there are at most 65,535 queues")]
    Queues(u16),
}

/// An interface's queues and what must outlive them.
#[derive(Debug)]
pub struct OpenXsk {
    /// Keeps the XDP program attached.
    pub device: XdpDevice,
    /// One a thread.
    pub seats: Vec<Seat<XdpQueue>>,
}

/// Opens as many queues of an interface as there are threads, from the first that is named on.
///
/// # Errors
/// [`PortError`], one line for the operator.
pub fn open_xsk(plan: &Plan, name: &XskName) -> Result<OpenXsk, PortError> {
    let XskName { link, first_queue } = name;
    let last = first_queue.checked_add(plan.threads - 1).ok_or(PortError::Queues(plan.threads))?;
    let config = XdpConfig {
        queues: Some((*first_queue..=last).map(QueueId).collect()),
        attach: plan.attach,
        ..XdpConfig::new(link.as_str(), plan.source().address)
    };
    let mut device = XdpDevice::open(&config)?;
    let mac = plan.source_mac.unwrap_or(device.link().mac);
    // How a NIC spreads flows is not known here; a veth keeps a flow on the queue of the same number.
    let engines = Part::of(plan, mac).engines(|_| None)?;
    let queues = (*first_queue..=last).map_while(|queue| device.take_queue(QueueId(queue)));
    let seats: Vec<_> =
        engines.into_iter().zip(queues).map(|(engine, queue)| Seat { engine, queue, asked: true }).collect();
    check_length(plan, &seats)?;
    Ok(OpenXsk { device, seats })
}

/// Opens a TAP with a queue for each thread. The kernel chooses the queue of a flow.
///
/// # Errors
/// [`PortError`], one line for the operator.
pub fn open_tap(plan: &Plan, name: &str) -> Result<(TapDevice, Vec<Seat<TapQueue>>), PortError> {
    let mut device = TapDevice::open(&TapConfig::new(name, plan.threads))?;
    let engines = Part::of(plan, plan.source_mac.unwrap_or_else(|| device.station())).engines(|_| None)?;
    let queues: Vec<_> = device.queue_ids().into_iter().filter_map(|id| device.take_queue(id)).collect();
    let seats: Vec<_> =
        engines.into_iter().zip(queues).map(|(engine, queue)| Seat { engine, queue, asked: true }).collect();
    check_length(plan, &seats)?;
    Ok((device, seats))
}

/// Makes a wire, with the asked mode at one end and its opposite at the other.
///
/// # Errors
/// [`PortError`], one line for the operator.
pub fn open_wire(plan: &Plan, seed: u64) -> Result<(Wire, Vec<Seat<WireQueue>>), PortError> {
    // Locally administered (IEEE 802-2014 §8.4).
    let macs = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
    let config = PortConfig::with_queues(plan.threads);
    let (wire, first, second) = Wire::pair(config.clone(), config, seed)?;
    let part = Part::of(plan, plan.source_mac.unwrap_or(macs[0]));
    let opposite = part.opposite(plan.destination_mac.unwrap_or(macs[1]));
    let mut seats = Vec::new();
    for (part, port, asked) in [(part, first, true), (opposite, second, false)] {
        let home = |ports: Ports| {
            let ours = SocketAddr::from((part.station.address, ports.source));
            Some(port.rss().queue_for_flow(SocketAddr::from((part.peer, ports.destination)), ours))
        };
        for (number, engine) in part.engines(home)?.into_iter().enumerate() {
            seats.push(Seat { engine, queue: port.take_queue(QueueId(number as u16))?, asked });
        }
    }
    check_length(plan, &seats)?;
    Ok((wire, seats))
}

fn check_length<Q: Queue>(plan: &Plan, seats: &[Seat<Q>]) -> Result<(), PortError> {
    match seats.iter().map(|seat| seat.queue.max_frame_bytes()).min() {
        Some(most) if plan.mode.sends() && plan.frame_bytes() > most => {
            Err(PortError::FrameTooLong { asked: plan.frame_bytes(), port: plan.port.to_string(), most })
        }
        _ => Ok(()),
    }
}
