//! `CoreCounts` and `LinkLosses`: what is read at once of a core, and of link and program, for the table of reasons.

use nic::link::LinkCounts;
use nic::xdp::SteerCounters;
use nic::{Queue, QueueDrops};
use serde::{Deserialize, Serialize};
use stack::{Poll, StackStats};

/// What one core has counted, of all but its cache.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreCounts {
    /// Its stack.
    pub stack: StackStats,
    /// Bytes of larger rings that connections have.
    pub ring_bytes: u64,
    /// Segments and datagrams whose checksum the sender's kernel had left to offload.
    pub partial_checksums: u64,
    /// Its queues, together.
    pub drops: QueueDrops,
    /// Times that no frame was free to send with.
    pub tx_exhausted: u64,
    /// Packets of several segments handed to the kernel.
    pub tx_trains: u64,
    /// Strays that the next core took none of.
    pub strays_dropped: u64,
}

impl CoreCounts {
    /// What these have counted. Costs a system call an AF_XDP queue.
    pub fn of<Q: Queue>(poll: &Poll<Q>) -> Self {
        let stack = poll.stack();
        let mut counts = Self {
            stack: *stack.stats(),
            ring_bytes: stack.ring_bytes().0 as u64,
            partial_checksums: stack.partial_checksums(),
            strays_dropped: poll.strays().counts().1,
            ..Self::default()
        };
        let sum = &mut counts.drops;
        for stats in poll.ports().iter().map(|port| port.queue().stats()) {
            let drops = stats.drops;
            sum.rx_too_long += drops.rx_too_long;
            sum.rx_uncut += drops.rx_uncut;
            sum.rx_ring_full += drops.rx_ring_full;
            sum.rx_fill_ring_empty += drops.rx_fill_ring_empty;
            sum.rx_invalid_descriptors += drops.rx_invalid_descriptors;
            sum.tx_invalid_descriptors += drops.tx_invalid_descriptors;
            sum.relay_full += drops.relay_full;
            sum.tx_refused += drops.tx_refused;
            sum.unrecorded += drops.unrecorded;
            counts.tx_exhausted += stats.tx_exhausted;
            counts.tx_trains += stats.tx_trains;
        }
        counts
    }
}

/// What the main thread has read, each since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkLosses {
    /// What the XDP program has counted.
    pub program: SteerCounters,
    /// Receive queues that have no socket just now.
    pub queues_without_socket: u64,
    /// 1 while the interface is down or has no carrier.
    pub link_down: u64,
    /// Changes of the interface that have been said in the log.
    pub link_changes: u64,
    /// Times that the kernel's routes of the interface changed.
    pub route_changes: u64,
    /// Connections that came by another queue than the NIC's hash predicts.
    pub connections_elsewhere: u64,
    /// Cores that take no turns just now.
    pub cores_stalled: u64,
    /// Data planes that have ended and were started again.
    pub plane_restarts: u64,
    /// The kernel's counts of the interface.
    pub rx_errors: u64,
    /// Likewise.
    pub rx_dropped: u64,
    /// Likewise.
    pub rx_missed: u64,
    /// Likewise.
    pub tx_errors: u64,
    /// Likewise.
    pub tx_dropped: u64,
}

impl LinkLosses {
    /// What program and interface have counted, the interface since it counted `before`; of queues, state and connections
    /// nothing.
    pub fn of(program: SteerCounters, link: LinkCounts, before: LinkCounts) -> Self {
        Self {
            program,
            queues_without_socket: 0,
            link_down: 0,
            link_changes: 0,
            route_changes: 0,
            connections_elsewhere: 0,
            cores_stalled: 0,
            plane_restarts: 0,
            rx_errors: link.rx_errors.saturating_sub(before.rx_errors),
            rx_dropped: link.rx_dropped.saturating_sub(before.rx_dropped),
            rx_missed: link.rx_missed.saturating_sub(before.rx_missed),
            tx_errors: link.tx_errors.saturating_sub(before.tx_errors),
            tx_dropped: link.tx_dropped.saturating_sub(before.tx_dropped),
        }
    }
}
