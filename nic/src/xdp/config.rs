//! `XdpConfig`: what to open and how large, with defaults that fit a server.

use std::net::IpAddr;

use super::mode::{AttachMode, CopyMode};
use super::program::{AddressMode, Transport};
use crate::burst::BURST;
use crate::link::Link;
use crate::pool::HEADROOM_BYTES;
use crate::queue::QueueId;
use crate::sys::rings::SocketShape;
use crate::sys::umem::UmemShape;

/// Bytes of an Ethernet header.
pub(crate) const ETHERNET_BYTES: u32 = 14;

/// Bytes of an Ethernet header with one 802.1Q tag.
const TAGGED_BYTES: u32 = 18;

/// Largest MTU for which chunks of 2048 bytes are used.
const SMALL_MTU: u32 = 1700;

/// Largest umem chunk: the kernel's page size, since a frame must lie in one page.
const LARGEST_CHUNK_BYTES: u32 = 4096;

/// Longest packet that is sent, or fits one chunk when it comes: 4096 bytes without the kernel's 256 bytes of headroom and a tagged Ethernet header.
pub const MTU_MAX: u32 = LARGEST_CHUNK_BYTES - HEADROOM_BYTES as u32 - TAGGED_BYTES;

/// Drivers whose NICs are told the size of a receive buffer in whole KiB (`SRRCTL.BSIZEPKT`): in zero copy they round a
/// chunk down to that, and lose every frame that is longer. Seen of igb; the others are of its kind and believed to do the same.
const WHOLE_KIB_DRIVERS: [&str; 3] = ["igb", "igc", "ixgbe"];

/// Fewest and most descriptors of a ring.
pub(crate) const RING_MIN: u32 = 64;
pub(crate) const RING_MAX: u32 = 32_768;

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct XdpConfig {
    /// The interface's name.
    pub link: String,
    /// The queues to bind; `None` for all of the link's. Frames that arrive on another queue go to the kernel.
    pub queues: Option<Vec<QueueId>>,
    /// The stack's addresses, of either family, at most 64.
    pub addresses: Vec<(IpAddr, AddressMode)>,
    /// Ports that the stack serves at its shared addresses, at most 256. Own addresses have them all.
    pub ports: Vec<(Transport, u16)>,
    /// Whether every frame of the bound queues goes to the stack, whoever it is for: the kernel gets none of them.
    pub dedicated: bool,
    /// The VLAN whose frames may be for the stack, 1 to 4094; `None`: those without a tag. Others are the kernel's.
    pub vlan: Option<u16>,
    /// Networks (address and prefix length) from which packets for the stack are taken, at most 256; others are dropped
    /// and counted, of a family that none is named of too. Empty: all are taken.
    pub allow: Vec<(IpAddr, u8)>,
    /// Where the program may be attached.
    pub attach: AttachMode,
    /// Whether zero copy is tried.
    pub copy: CopyMode,
    /// Descriptors of a queue's receive ring: a power of two, 64 to 32,768.
    pub rx_ring: u32,
    /// Descriptors of a queue's transmit ring; likewise. So many frames and two bursts more are reserved for sending, so
    /// that a burst of answers can be written while the ring is full.
    pub tx_ring: u32,
}

/// Bytes of a chunk that holds the longest frame of a link, as its driver uses it.
fn chunk_bytes(link: &Link) -> u32 {
    let small = LARGEST_CHUNK_BYTES / 2;
    let rounded = rounds_down(link) && link.mtu > rounded_mtu(small);
    if link.mtu > SMALL_MTU || rounded { LARGEST_CHUNK_BYTES } else { small }
}

fn rounds_down(link: &Link) -> bool {
    WHOLE_KIB_DRIVERS.contains(&link.driver.as_str())
}

/// Largest MTU that fits what is left of a chunk after rounding down to whole KiB.
fn rounded_mtu(chunk_bytes: u32) -> u32 {
    (chunk_bytes - HEADROOM_BYTES as u32) / 1024 * 1024 - TAGGED_BYTES
}

/// Largest MTU with which zero copy loses nothing on `link`: 3054 where the driver rounds buffers down to whole KiB, else
/// [`MTU_MAX`]. In copy mode the kernel copies out of the driver's own buffers, and the limit is [`MTU_MAX`] everywhere.
pub(crate) fn zero_copy_mtu_max(link: &Link) -> u32 {
    if rounds_down(link) { rounded_mtu(LARGEST_CHUNK_BYTES) } else { MTU_MAX }
}

impl XdpConfig {
    /// All queues of `link` for an address of the stack's own, in the best mode there is, rings of 2048.
    pub fn new(link: impl Into<String>, address: impl Into<IpAddr>) -> Self {
        Self {
            link: link.into(),
            queues: None,
            addresses: vec![(address.into(), AddressMode::Own)],
            ports: Vec::new(),
            dedicated: false,
            vlan: None,
            allow: Vec::new(),
            attach: AttachMode::Auto,
            copy: CopyMode::Auto,
            rx_ring: 2048,
            tx_ring: 2048,
        }
    }

    /// Bytes of memory that the frames of one queue take on `link`.
    pub fn umem_bytes(&self, link: &Link) -> u64 {
        let shape = self.shape(link, QueueId(0), false).umem;
        u64::from(shape.chunk_bytes) * u64::from(shape.chunks)
    }

    /// The queues to bind on `link`.
    pub(super) fn queues(&self, link: &Link) -> Vec<QueueId> {
        match &self.queues {
            Some(queues) => queues.clone(),
            None => (0..link.rx_queues.min(link.tx_queues)).map(QueueId).collect(),
        }
    }

    /// Sizes for one queue. The fill ring, and the number of frames for receiving, is at least that of the hardware's
    /// ring and the receive ring together, so that both can be full and the NIC still has where to write to; a link
    /// that does not tell its hardware ring is taken to have one as large as the receive ring.
    pub(super) fn shape(&self, link: &Link, queue: QueueId, zero_copy: bool) -> SocketShape {
        let hardware = link.rx_ring.unwrap_or(self.rx_ring).min(RING_MAX);
        let fill_ring = self.rx_ring.saturating_add(hardware).next_power_of_two();
        let umem = UmemShape {
            chunk_bytes: chunk_bytes(link),
            chunks: fill_ring.saturating_add(self.tx_ring).saturating_add(2 * BURST as u32),
            fill_ring,
            completion_ring: self.tx_ring,
        };
        SocketShape {
            link: link.name.clone(),
            queue: queue.0,
            zero_copy,
            merged: false,
            rx_ring: self.rx_ring,
            tx_ring: self.tx_ring,
            umem,
            rx_chunks: fill_ring,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    fn link(driver: &str, mtu: u32) -> Link {
        Link {
            name: "eth7".to_owned(),
            index: 7,
            mac: Mac([2; 6]),
            mtu,
            up: true,
            rx_queues: 2,
            tx_queues: 2,
            tx_queues_max: 2,
            combined: 2,
            rx_ring: None,
            driver: driver.to_owned(),
        }
    }

    #[test]
    fn zero_copy_has_a_smaller_largest_mtu_where_buffers_are_rounded_down_to_whole_kib() {
        let limit = |driver| zero_copy_mtu_max(&link(driver, 1500));
        assert_eq!(["igb", "igc", "ixgbe"].map(limit), [3054; 3]);
        assert_eq!(["i40e", "virtio_net"].map(limit), [MTU_MAX; 2]);
    }

    #[test]
    fn a_nic_that_rounds_its_buffers_down_to_whole_kib_gets_chunks_that_hold_a_frame() {
        let chunk = |driver: &str, mtu| chunk_bytes(&link(driver, mtu));
        assert_eq!(["veth", "i40e", "virtio_net"].map(|driver| chunk(driver, 1500)), [2048; 3]);
        assert_eq!(["igb", "igc", "ixgbe"].map(|driver| chunk(driver, 1500)), [4096; 3]);
        assert_eq!((chunk("igb", 1006), chunk("veth", 3000)), (2048, 4096));
    }
}
