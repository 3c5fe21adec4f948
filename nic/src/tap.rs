//! `TapDevice`: the queues of a TAP interface, for a machine or a container without AF_XDP.
//!
//! A TAP is an Ethernet link whose other end is this program: what the kernel (or the bridge the TAP is in) sends over
//! the interface is received here, and the other way round. It is not fast: each frame costs a system call.
//!
//! * An interface that is there (`ip tuntap add dev NAME mode tap multi_queue`) is joined, brought up, and stays up, with the
//!   MTU of [`TapConfig::mtu`](crate::tap::TapConfig::mtu); else it is made, and goes when the last of its queues is dropped.
//! * The kernel chooses the queue of a flow: that on which the flow's last frame was written, else by a hash of its own
//!   (`tun_automq_select_queue` in kernel `drivers/net/tun.c`). It cannot be predicted; arrivals tell.
//! * The interface's address is the kernel's; this end's is [`TapDevice::station`](crate::tap::TapDevice::station).
//! * What finds the kernel's queue of a TAP full is dropped there, and counted as `tx_dropped` of the interface
//!   ([`LinkCounts`](crate::link::LinkCounts)), of all its queues together.
//!
//! Read first: `queue.rs`, `sys/tun.rs`.

/// `TapQueue`: one queue behind the trait `Queue`.
mod queue;

use std::io;
use std::os::fd::OwnedFd;

use queue::TAGGED_BYTES;
pub use queue::TapQueue;

use crate::link::{Link, LinkError};
use crate::mac::Mac;
use crate::pool::{FramePool, HEADROOM_BYTES, PoolConfig, PoolError};
use crate::queue::QueueId;
use crate::sys::netdev::NetDevice;
use crate::sys::tun;

/// Most queues that a TAP has (`MAX_TAP_QUEUES` in kernel `include/linux/if_tap.h`).
pub const TAP_QUEUES_MAX: u16 = 256;

/// Bytes of the largest chunk.
const CHUNK_BYTES_MAX: usize = 32_768;

/// Longest MTU whose frames fit a chunk, with one byte more by which a longer frame is seen.
pub const TAP_MTU_MAX: u32 = (CHUNK_BYTES_MAX - HEADROOM_BYTES - TAGGED_BYTES - 1) as u32;

/// Bytes of a chunk that holds the longest frame, and one byte more.
fn chunk_bytes(mtu: u32) -> usize {
    (HEADROOM_BYTES + mtu as usize + TAGGED_BYTES + 1).next_power_of_two().max(2048)
}

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TapConfig {
    /// The interface's name, at most 15 bytes.
    pub name: String,
    /// Queues, 1 to [`TAP_QUEUES_MAX`].
    pub queues: u16,
    /// MTU to set; `None` leaves it as it is (1500 for one that is made).
    pub mtu: Option<u32>,
    /// Frames of each queue.
    pub frames: usize,
    /// Frames that each queue takes for one `flush`; as many are kept for sending.
    pub tx_ring: usize,
}

impl TapConfig {
    /// So many queues of the interface `name`, with 2048 frames and a transmit ring of 512 each.
    pub fn new(name: impl Into<String>, queues: u16) -> Self {
        Self { name: name.into(), queues, mtu: None, frames: 2048, tx_ring: 512 }
    }

    /// The pool that each queue has at this MTU.
    pub fn pool(&self, mtu: u32) -> PoolConfig {
        PoolConfig { frames: self.frames, chunk_bytes: chunk_bytes(mtu), headroom_bytes: HEADROOM_BYTES }
    }

    /// Bytes of memory that the frames of one queue take at this MTU.
    pub fn queue_bytes(&self, mtu: u32) -> u64 {
        (self.frames * chunk_bytes(mtu)) as u64
    }
}

/// Why a TAP could not be opened: one line for the operator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TapError {
    /// So many queues no TAP has.
    #[error("a TAP with {queues} queues: it has from 1 to {TAP_QUEUES_MAX}")]
    Queues {
        /// Queues asked for.
        queues: u16,
    },
    /// The device is not there.
    #[error(
        "{device} is not there: {source}; load the module (modprobe tun), or give the container the device",
        device = tun::TUN_DEVICE
    )]
    NoDevice {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The process may not.
    #[error(
        "no right to {name}: {source}; start with CAP_NET_ADMIN, or have root make it for you: ip tuntap add dev {name} mode tap multi_queue user USER"
    )]
    Permission {
        /// The interface.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Somebody else has its queues.
    #[error("{name} has no queue left: another process has it open; stop that, or pick another name")]
    Busy {
        /// The interface.
        name: String,
    },
    /// It is another kind of interface.
    #[error(
        "{name} is no TAP that takes {queues} queues; pick another name, or make it so: ip tuntap add dev {name} mode tap multi_queue"
    )]
    Kind {
        /// The interface.
        name: String,
        /// Queues asked for.
        queues: u16,
    },
    /// The MTU is too large, that of the interface or the one asked for.
    #[error("an MTU of {mtu} for {name}, and {TAP_MTU_MAX} is the most; give it another: ip link set {name} mtu 1500")]
    Mtu {
        /// The interface.
        name: String,
        /// Its MTU.
        mtu: u32,
    },
    /// The kernel did not do what was asked.
    #[error("cannot {what} {name}: {source}")]
    Kernel {
        /// What was to be done.
        what: &'static str,
        /// The interface.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// Nothing could be learnt of it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// No memory for its frames, or a shape out of range.
    #[error(transparent)]
    Pool(#[from] PoolError),
}

/// An open TAP. Its queues may outlive it; an interface that was made here goes with the last of them.
#[derive(Debug)]
pub struct TapDevice {
    queues: Vec<(QueueId, Option<TapQueue>)>,
    link: Link,
    made: bool,
}

impl TapDevice {
    /// Opens the queues of the interface that `config` names, in the network namespace of the calling thread; makes the
    /// interface where there is none, sets its MTU if that is asked for, and brings it up.
    ///
    /// # Errors
    /// [`TapError`], each of which is one line for the operator. An interface that was made here is gone again.
    pub fn open(config: &TapConfig) -> Result<Self, TapError> {
        let queues = config.queues;
        if !(1..=TAP_QUEUES_MAX).contains(&queues) {
            return Err(TapError::Queues { queues });
        }
        // Before anything of the interface is changed.
        if let Some(mtu) = config.mtu.filter(|mtu| *mtu > TAP_MTU_MAX) {
            return Err(TapError::Mtu { name: config.name.clone(), mtu });
        }
        let made = matches!(Link::by_name(&config.name), Err(LinkError::NotFound { .. }));
        let (files, name) = open_queues(config)?;
        let failed = |what| {
            let name = name.clone();
            move |source| TapError::Kernel { what, name, source }
        };
        let device = NetDevice::new(&name).map_err(failed("ask about"))?;
        if let Some(mtu) = config.mtu {
            device.set_mtu(mtu).map_err(failed("set the MTU of"))?;
        }
        if !device.is_up().map_err(failed("ask about"))? {
            device.set_up().map_err(failed("bring up"))?;
        }
        let link = Link::by_name(&name)?;
        if link.mtu > TAP_MTU_MAX {
            return Err(TapError::Mtu { name, mtu: link.mtu });
        }
        let pool = config.pool(link.mtu);
        let queues = files.into_iter().zip(0..).map(|(file, number)| {
            let id = QueueId(number);
            Ok((id, Some(TapQueue::new(id, file, pool, config.tx_ring, link.mtu as usize)?)))
        });
        Ok(Self { queues: queues.collect::<Result<_, PoolError>>()?, link, made })
    }

    /// The link as it was when opened, as the kernel tells of it: with one queue, however many a TAP has
    /// ([`queue_ids`](Self::queue_ids)), and with the address that is the kernel's.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// An Ethernet address for this end of the TAP: the interface's, with the last bit turned and marked as a local one;
    /// the same for as long as the interface has the same.
    pub fn station(&self) -> Mac {
        let mut mac = self.link.mac.0;
        mac[0] = (mac[0] | 2) & !1;
        mac[5] ^= 1;
        Mac(mac)
    }

    /// Whether the interface was made here, and goes with the last queue.
    pub fn was_made(&self) -> bool {
        self.made
    }

    /// The queues that were opened, taken or not.
    pub fn queue_ids(&self) -> Vec<QueueId> {
        self.queues.iter().map(|(id, _)| *id).collect()
    }

    /// Hands out a queue, to be moved to its core; `None` when it was handed out already or is not open.
    pub fn take_queue(&mut self, queue: QueueId) -> Option<TapQueue> {
        self.queues.iter_mut().find(|(id, _)| *id == queue)?.1.take()
    }

    /// As [`take_queue`](Self::take_queue), with frames of `pool` in place of the queue's own: one of several over one memory
    /// ([`FramePool::over_one_memory`], of [`TapConfig::pool`]).
    ///
    /// # Errors
    /// [`PoolError::TooShort`]: the link's longest frame does not fit, by which the queue stays to be taken.
    pub fn take_queue_with(&mut self, queue: QueueId, pool: FramePool) -> Result<Option<TapQueue>, PoolError> {
        let (room, needed) = (pool.max_frame_bytes(), self.link.mtu as usize + TAGGED_BYTES + 1);
        if room < needed {
            return Err(PoolError::TooShort { room, needed });
        }
        Ok(self.take_queue(queue).map(|queue| queue.with_pool(pool)))
    }
}

/// The descriptors of the queues, and the interface's name as the kernel has it.
fn open_queues(config: &TapConfig) -> Result<(Vec<OwnedFd>, String), TapError> {
    let explain = |source: io::Error| {
        let name = config.name.clone();
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => TapError::NoDevice { source },
            Some(libc::EPERM | libc::EACCES) => TapError::Permission { name, source },
            Some(libc::EBUSY | libc::E2BIG) => TapError::Busy { name },
            Some(libc::EINVAL) => TapError::Kind { name, queues: config.queues },
            _ => TapError::Kernel { what: "open", name, source },
        }
    };
    let (first, name) = match tun::open(&config.name, true) {
        // One that was made for a single queue takes no other.
        Err(error) if config.queues == 1 && error.raw_os_error() == Some(libc::EINVAL) => {
            tun::open(&config.name, false)
        }
        opened => opened,
    }
    .map_err(explain)?;
    let mut files = vec![first];
    while files.len() < usize::from(config.queues) {
        files.push(tun::open(&name, true).map_err(explain)?.0);
    }
    Ok((files, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_queues_that_no_tap_has_is_refused() {
        for queues in [0, TAP_QUEUES_MAX + 1] {
            assert!(matches!(TapDevice::open(&TapConfig::new("ssnone", queues)), Err(TapError::Queues { .. })));
        }
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_refused() {
        for name in ["", "a-name-longer-than-fifteen", "nul\0"] {
            assert!(matches!(TapDevice::open(&TapConfig::new(name, 1)), Err(TapError::Kind { .. })), "{name:?}");
        }
    }
}
