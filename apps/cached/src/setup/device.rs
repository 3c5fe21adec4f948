//! `Device`: what the server has opened, an interface over AF_XDP or a TAP, for all that is the same of both.

use std::fmt;
use std::io;

use nic::link::{Link, kernel_addresses};
use nic::preflight::OpenError;
use nic::tap::{TapConfig, TapDevice};
use nic::wait_mode::Waiting;
use nic::xdp::{AttachedLink, SharedProgram, XdpDevice};
use nic::{DeviceName, QueueId};

use super::config::{Ports, xdp_config};
use super::error::SetupError;
use crate::options::Options;
use crate::say::say;
use crate::sharing::AnyQueue;

/// MTU of a TAP that is made.
const TAP_MTU: u32 = 1500;

/// An open device. Dropping it gives an interface its frames back; a TAP that was made goes with its queues.
pub(super) enum Device {
    Xdp(Box<XdpDevice>),
    Tap(TapDevice),
}

impl Device {
    /// Opens what `options` name. The program of an interface takes the place of the one that is attached `over` it.
    ///
    /// # Errors
    /// It cannot be had, or an address of the options is the kernel's.
    pub(super) fn open(options: &Options, ports: Ports, over: Option<AttachedLink>) -> Result<Device, SetupError> {
        let DeviceName::Tap(name) = &options.device else {
            let device = XdpDevice::open_over(&xdp_config(options, ports), over).map_err(Box::new)?;
            return Ok(Self::Xdp(Box::new(device)));
        };
        // A kernel that has the address answers for it: a connection would have two ends here.
        let is_own = |address| options.addresses.iter().any(|own| own.address == address);
        let carrier = kernel_addresses().unwrap_or_default().into_iter().find(|known| is_own(known.address));
        if let Some(carrier) = carrier {
            return Err(Box::new(OpenError::AddressInUse { address: carrier.address, on: carrier.link }).into());
        }
        Ok(Self::Tap(TapDevice::open(&tap_config(name, options))?))
    }

    /// The link, as the kernel tells of it.
    pub(super) fn link(&self) -> &Link {
        match self {
            Self::Xdp(device) => device.link(),
            Self::Tap(device) => device.link(),
        }
    }

    /// The link with the address that the stack answers to.
    pub(super) fn stack_link(&self) -> Link {
        match self {
            Self::Xdp(device) => device.link().clone(),
            Self::Tap(device) => Link { mac: device.station(), ..device.link().clone() },
        }
    }

    /// The queues that are open.
    pub(super) fn queue_ids(&self) -> Vec<QueueId> {
        match self {
            Self::Xdp(device) => device.queue_ids(),
            Self::Tap(device) => device.queue_ids(),
        }
    }

    /// Hands out a queue, which asks its driver for frames if `waiting` wants that; `None` the second time.
    pub(super) fn take_queue(&mut self, queue: QueueId, waiting: Waiting) -> Option<AnyQueue> {
        match self {
            Self::Xdp(device) => {
                let mut queue = device.take_queue(queue)?;
                if waiting == (Waiting::Looks { polls: true })
                    && let Err(error) = queue.poll_driver(device.link())
                {
                    let id = queue.id().0;
                    say(format_args!(
                        "wait: queue {id} cannot ask its driver for frames, and waits for interrupts: {error}"
                    ));
                }
                Some(Box::new(queue))
            }
            Self::Tap(device) => device.take_queue(queue).map(|queue| Box::new(queue) as AnyQueue),
        }
    }

    /// What the supervisor needs to hold the XDP program; a TAP has none.
    ///
    /// # Errors
    /// The process has no descriptor left.
    pub(super) fn share(&self) -> Option<io::Result<SharedProgram>> {
        match self {
            Self::Xdp(device) => Some(device.share()),
            Self::Tap(_) => None,
        }
    }

    /// Whether the frames lie on huge pages; `None` where they are not the kernel's to write to.
    pub(super) fn on_huge_pages(&self) -> Option<bool> {
        match self {
            Self::Xdp(device) => Some(device.on_huge_pages()),
            Self::Tap(_) => None,
        }
    }
}

impl fmt::Display for Device {
    /// What was obtained, and why.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xdp(device) => device.obtained().fmt(f),
            Self::Tap(device) => {
                let (queues, made) = (device.queue_ids().len(), device.was_made());
                let whence = if made { "made for this run" } else { "joined, and stays" };
                write!(
                    f,
                    "a TAP, {whence}; queues: {queues}; this end is {}; each frame is copied and costs a system call",
                    device.station()
                )
            }
        }
    }
}

/// Bytes that the frames of all queues will take.
///
/// # Errors
/// There is no such interface, and none will be made.
pub(super) fn frame_bytes(options: &Options, ports: Ports) -> Result<u64, SetupError> {
    if let DeviceName::Tap(name) = &options.device {
        let config = tap_config(name, options);
        let mtu = Link::by_name(name).map_or(TAP_MTU, |link| link.mtu);
        return Ok(config.queue_bytes(mtu) * u64::from(config.queues));
    }
    let link = Link::by_name(&options.interface).map_err(|error| Box::new(OpenError::from(error)))?;
    let queues = options.queues.unwrap_or(usize::from(link.rx_queues.min(link.tx_queues)));
    Ok(xdp_config(options, ports).umem_bytes(&link) * queues as u64)
}

/// A queue for each core, unless the options say otherwise.
fn tap_config(name: &str, options: &Options) -> TapConfig {
    // At most 256, which fits: `Options` has checked it.
    TapConfig::new(name, options.queues.unwrap_or(options.cores) as u16)
}
