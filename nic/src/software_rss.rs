//! `SoftwareRss`: a NIC queue whose frames are shared out among cores by flow, where there are fewer queues than cores.
//!
//! ```text
//!             ┌── own flows ──────────────► this core's stack
//! NIC queue ──┤
//!             └── RelayPort ─► RelayQueue ► another core's stack      and answers back the same way
//! ```
//!
//! The owner of a frame is what [`Rss`] says of its addresses and ports, with cores in the place of queues, so that all
//! frames of a flow reach one core whichever queue they come over. Invariant: a frame pool is touched by its own core
//! alone; what goes to another core is a copy. Belongs to the core that polls the queue. Read first: `relay.rs`.

use std::sync::Arc;

use crate::burst::{BURST, RxBurst, TxBurst};
use crate::queue::{Queue, QueueError, QueueId};
use crate::relay::RelayPort;
use crate::rss::Rss;
use crate::wait::Doorbell;
use crate::wrapper::QueueWrapper;

/// Another core that owns some of the flows, and gets their frames from this queue.
#[derive(Debug)]
pub struct FlowOwner {
    /// Its number, which is what the table of [`Rss`] holds.
    pub core: QueueId,
    /// The way to it and back.
    pub port: RelayPort,
    /// Rung once for each burst in which it got frames.
    pub doorbell: Arc<Doorbell>,
}

/// A queue whose frames are shared out among cores. To its own core it is a queue like any other, which shows only
/// that core's frames.
#[derive(Debug)]
pub struct SoftwareRss<Q: Queue> {
    queue: Q,
    rss: Rss,
    others: Vec<FlowOwner>,
    arrived: RxBurst,
    returning: TxBurst,
    /// By position in `others`: whether it got a frame of this burst.
    rung: Vec<bool>,
}

impl<Q: Queue> SoftwareRss<Q> {
    /// Shares `queue` out: frames whose owner, by `rss`, is one of `others` go there, all others are this core's.
    pub fn new(queue: Q, rss: Rss, others: Vec<FlowOwner>) -> Self {
        let rung = vec![false; others.len()];
        Self {
            queue,
            rss,
            others,
            arrived: RxBurst::with_capacity(BURST),
            returning: TxBurst::with_capacity(BURST),
            rung,
        }
    }

    /// The ways to other cores, for their counts.
    pub fn others(&self) -> &[FlowOwner] {
        &self.others
    }

    fn share_out(&mut self, out: &mut RxBurst) -> usize {
        let mut own = 0;
        while out.room() > 0 {
            let Some(frame) = self.arrived.pop() else { break };
            let owner = self.rss.queue_for(frame.bytes());
            match self.others.iter().position(|other| other.core == owner) {
                None => match out.push(frame) {
                    Ok(()) => own += 1,
                    // Cannot be: there was room.
                    Err(frame) => self.queue.free(frame),
                },
                Some(other) => {
                    // A full relay drops the frame and counts it, as a full ring of a NIC does.
                    self.rung[other] |= self.others[other].port.forward(frame.bytes());
                    self.queue.free(frame);
                }
            }
        }
        for (rung, other) in self.rung.iter_mut().zip(&self.others) {
            if std::mem::take(rung) {
                other.doorbell.ring();
            }
        }
        own
    }

    fn send_answers(&mut self) {
        // Frames that the queue did not take before go first, so that no flow's frames overtake each other.
        self.queue.tx_burst(&mut self.returning);
        for other in &mut self.others {
            if !self.returning.is_empty() {
                break;
            }
            other.port.transmit(&mut self.queue, &mut self.returning);
        }
    }
}

/// Frames that wait here are held by this queue's caller, as far as its pool is concerned.
impl<Q: Queue> QueueWrapper for SoftwareRss<Q> {
    type Wrapped = Q;

    fn wrapped(&self) -> &Q {
        &self.queue
    }

    fn wrapped_mut(&mut self) -> &mut Q {
        &mut self.queue
    }

    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        if self.arrived.is_empty() {
            self.queue.rx_burst(&mut self.arrived);
        }
        self.share_out(out)
    }

    fn flush(&mut self) -> Result<(), QueueError> {
        self.send_answers();
        self.queue.flush()
    }

    /// The relays of other cores complete none, and one answer is as another here.
    fn completes_checksums(&self) -> bool {
        false
    }

    fn has_pending(&self) -> bool {
        let answers = self.others.iter().any(|other| other.port.has_frames());
        answers || !self.arrived.is_empty() || !self.returning.is_empty() || self.queue.has_pending()
    }
}

impl<Q: Queue> Drop for SoftwareRss<Q> {
    fn drop(&mut self) {
        while let Some(frame) = self.arrived.pop().or_else(|| self.returning.pop()) {
            self.queue.free(frame);
        }
    }
}

#[cfg(test)]
mod tests {
    // Not the trait by which it is a queue: its calls have the names of `Queue`'s.
    use super::{Arc, Doorbell, FlowOwner, Queue, QueueId, Rss, RxBurst, SoftwareRss, TxBurst};
    use crate::relay::{RelayConfig, relay_pair};
    use crate::wire::{PortConfig, Wire};

    /// An Ethernet frame with an IPv4 packet of a TCP flow from `port`; checksums do not matter here.
    fn frame(port: u16) -> Vec<u8> {
        let mut bytes = vec![0; 60];
        bytes[12..14].copy_from_slice(&[0x08, 0x00]);
        bytes[14] = 0x45;
        bytes[17] = 46;
        bytes[23] = 6;
        bytes[26..30].copy_from_slice(&[10, 77, 0, 1]);
        bytes[30..34].copy_from_slice(&[10, 77, 0, 2]);
        bytes[34..36].copy_from_slice(&port.to_be_bytes());
        bytes
    }

    fn drain(queue: &mut dyn Queue) -> Vec<Vec<u8>> {
        let mut burst = RxBurst::default();
        let mut all = Vec::new();
        while queue.rx_burst(&mut burst) > 0 {
            while let Some(frame) = burst.pop() {
                all.push(frame.bytes().to_vec());
                queue.free(frame);
            }
        }
        all
    }

    fn send(queue: &mut dyn Queue, bytes: &[u8]) {
        let mut frame = queue.tx_alloc().expect("the pool has a free frame");
        frame.resize(bytes.len()).expect("it fits");
        frame.bytes_mut().copy_from_slice(bytes);
        let mut burst = TxBurst::default();
        burst.push(frame).expect("the burst is empty");
        assert_eq!(queue.tx_burst(&mut burst), 1);
        queue.flush().expect("the link is there");
    }

    #[test]
    fn every_flow_has_one_core_and_its_answers_leave_by_the_queue() {
        let (_wire, left, right) =
            Wire::pair(PortConfig::with_queues(1), PortConfig::with_queues(1), 1).expect("a wire");
        let mut peer = left.take_queue(QueueId(0)).expect("first time");
        let nic = right.take_queue(QueueId(0)).expect("first time");
        let (mut other, port) = relay_pair(RelayConfig::default()).expect("a relay");
        let doorbell = Arc::new(Doorbell::new().expect("a descriptor"));
        let owner = FlowOwner { core: QueueId(1), port, doorbell };
        let mut own = SoftwareRss::new(nic, Rss::new(2), vec![owner]);

        for port in 1000..1032 {
            send(&mut peer, &frame(port));
        }
        let here = drain(&mut own);
        assert!(other.has_pending());
        let there = drain(&mut other);
        assert_eq!(here.len() + there.len(), 32);
        assert!(here.len() > 4 && there.len() > 4, "{} and {}", here.len(), there.len());
        for bytes in &here {
            assert_eq!(Rss::new(2).queue_for(bytes), QueueId(0));
        }

        send(&mut other, &there[0]);
        assert!(own.has_pending());
        own.flush().expect("the link is there");
        assert_eq!(drain(&mut peer), [there[0].clone()]);
        assert!(!own.has_pending());
    }

    #[test]
    fn a_core_that_does_not_take_its_frames_costs_only_its_own() {
        let (_wire, left, right) =
            Wire::pair(PortConfig::with_queues(1), PortConfig::with_queues(1), 2).expect("a wire");
        let mut peer = left.take_queue(QueueId(0)).expect("first time");
        let nic = right.take_queue(QueueId(0)).expect("first time");
        let config = RelayConfig { rx_ring: 4, ..RelayConfig::default() };
        let (other, port) = relay_pair(config).expect("a relay");
        let owner = FlowOwner { core: QueueId(1), port, doorbell: Arc::new(Doorbell::new().expect("a descriptor")) };
        let mut own = SoftwareRss::new(nic, Rss::new(2), vec![owner]);
        for port in 1000..1064 {
            send(&mut peer, &frame(port));
        }
        let here = drain(&mut own).len();
        let stats = own.others()[0].port.stats();
        assert_eq!((stats.forwarded, here as u64 + stats.forwarded + stats.dropped), (4, 64));
        assert_eq!(other.stats().rx_dropped, stats.dropped);
        let census = own.census();
        assert_eq!((census.held, census.total), (0, census.free + census.fill + census.tx));
    }
}
