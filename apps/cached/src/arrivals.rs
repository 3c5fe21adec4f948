//! `Arrivals`: by which queue connections came, and whether that is the queue that the NIC's hash predicts.
//!
//! Counted when a connection is made, never for a segment of one. A queue is polled by one core, which alone writes its
//! counts; any thread reads them. Where frames are handed over between cores nothing is counted: what a core is given
//! says nothing of the NIC. Read first: `nic/src/prediction.rs`.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use cpu::{CachePadded, Counter};
use nic::{FlowPrediction, QueueId, QueuePlan};

/// What came by each queue.
#[derive(Debug)]
pub struct Arrivals {
    prediction: Option<FlowPrediction>,
    /// By queue number; numbers that no core polls stay 0 and are not shown.
    queues: Box<[CachePadded<QueueArrivals>]>,
    /// In the order of the queues, with the core that polls each.
    polled: Vec<(QueueId, usize)>,
}

/// What came by one queue.
#[derive(Debug, Default)]
struct QueueArrivals {
    connections: Counter,
    as_predicted: Counter,
}

/// The counts of one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueCount {
    /// The queue.
    pub queue: QueueId,
    /// The core that polls it.
    pub core: usize,
    /// Connections made over it.
    pub connections: u64,
    /// Those of them that the hash predicts there; `None` where nothing is predicted.
    pub as_predicted: Option<u64>,
}

impl QueueCount {
    /// Connections that the hash predicts on another queue; 0 where nothing is predicted.
    pub fn elsewhere(&self) -> u64 {
        // A reader may see one of the two counts before the other.
        self.as_predicted.map_or(0, |as_predicted| self.connections.saturating_sub(as_predicted))
    }
}

impl fmt::Display for QueueCount {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "queue {}: connections={}", self.queue.0, self.connections)?;
        match self.as_predicted {
            Some(as_predicted) => write!(f, " as_predicted={as_predicted} elsewhere={}", self.elsewhere()),
            None => Ok(()),
        }
    }
}

impl Arrivals {
    /// Of the queues of `plan`; `None` where frames are handed over between cores.
    pub fn new(plan: &QueuePlan, prediction: Option<FlowPrediction>) -> Option<Self> {
        if !plan.flows_follow_queues() {
            return None;
        }
        let mut polled: Vec<_> =
            (0..plan.cores()).flat_map(|core| plan.polled_by(core).iter().map(move |&queue| (queue, core))).collect();
        polled.sort_unstable_by_key(|(queue, _)| queue.0);
        let numbers = polled.last().map_or(0, |(queue, _)| usize::from(queue.0) + 1);
        Some(Self { prediction, queues: (0..numbers).map(|_| CachePadded::default()).collect(), polled })
    }

    /// What came by each queue so far, in their order.
    pub fn counts(&self) -> impl Iterator<Item = QueueCount> + '_ {
        self.polled.iter().map(|&(queue, core)| {
            let counted = &self.queues[usize::from(queue.0)].0;
            let as_predicted = self.prediction.as_ref().map(|_| counted.as_predicted.value());
            QueueCount { queue, core, connections: counted.connections.value(), as_predicted }
        })
    }

    /// What decides the queue of a connection, in words.
    pub fn rule(&self) -> String {
        let unknown = || "the NIC does not say how it spreads connections: nothing is predicted".to_owned();
        self.prediction.as_ref().map_or_else(unknown, FlowPrediction::to_string)
    }

    fn add(&self, queue: QueueId, peer: SocketAddr, own: SocketAddr) {
        let Some(CachePadded(counted)) = self.queues.get(usize::from(queue.0)) else { return };
        counted.connections.add(1);
        if self.prediction.as_ref().is_some_and(|prediction| prediction.queue_of(peer, own) == queue) {
            counted.as_predicted.add(1);
        }
    }
}

/// What one core adds for the queues that it polls.
#[derive(Debug)]
pub struct CoreArrivals {
    arrivals: Arc<Arrivals>,
    /// By number of the port that the core's stack was given.
    ports: Vec<QueueId>,
}

impl CoreArrivals {
    /// Of the core number `core` of `plan`.
    pub fn new(arrivals: &Arc<Arrivals>, plan: &QueuePlan, core: usize) -> Self {
        Self { arrivals: arrivals.clone(), ports: plan.polled_by(core).to_vec() }
    }

    /// A connection has been made, whose frames come by the core's port number `port`.
    pub fn add(&self, port: u16, peer: SocketAddr, own: SocketAddr) {
        if let Some(&queue) = self.ports.get(usize::from(port)) {
            self.arrivals.add(queue, peer, own);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nic::{HashedBy, Rss};

    fn plan(queues: u16, cores: usize) -> QueuePlan {
        QueuePlan::new(&(0..queues).map(QueueId).collect::<Vec<_>>(), cores)
    }

    #[test]
    fn a_connection_counts_for_its_queue_and_as_predicted_only_where_the_hash_says_so() {
        let plan = plan(4, 2);
        let rss = Rss::new(4);
        let prediction = FlowPrediction::new(rss.clone(), HashedBy::Ports, 128);
        let arrivals = Arc::new(Arrivals::new(&plan, Some(prediction)).expect("flows follow queues"));
        let cores = [0, 1].map(|core| CoreArrivals::new(&arrivals, &plan, core));
        let own: SocketAddr = "10.77.0.2:11211".parse().unwrap();
        for port in 40_000..40_064 {
            let peer = SocketAddr::new("10.77.0.1".parse().unwrap(), port);
            let queue = usize::from(rss.queue_for_flow(peer, own).0);
            // Core 0 polls queues 0 and 2, core 1 polls 1 and 3.
            cores[queue % 2].add((queue / 2) as u16, peer, own);
        }
        let counts: Vec<_> = arrivals.counts().collect();
        assert_eq!(counts.iter().map(|count| count.connections).sum::<u64>(), 64);
        assert!(counts.iter().all(|count| count.connections > 0 && count.elsewhere() == 0), "{counts:?}");
        let peer: SocketAddr = "10.77.0.1:40000".parse().unwrap();
        let wrong = 1 - usize::from(rss.queue_for_flow(peer, own).0) % 2;
        cores[wrong].add(0, peer, own);
        assert_eq!(arrivals.counts().map(|count| count.elsewhere()).sum::<u64>(), 1);
        let shown = counts[0].to_string();
        assert!(shown.starts_with("queue 0: connections=") && shown.ends_with(" elsewhere=0"), "{shown}");
    }

    #[test]
    fn nothing_is_compared_where_nothing_is_predicted_and_nothing_counted_where_frames_are_handed_over() {
        let arrivals = Arc::new(Arrivals::new(&plan(1, 1), None).expect("flows follow queues"));
        let core = CoreArrivals::new(&arrivals, &plan(1, 1), 0);
        core.add(0, "10.77.0.1:1".parse().unwrap(), "10.77.0.2:2".parse().unwrap());
        let count = arrivals.counts().next().expect("one queue");
        assert_eq!((count.to_string(), count.elsewhere()), ("queue 0: connections=1".to_owned(), 0));
        assert!(Arrivals::new(&plan(1, 2), None).is_none());
    }
}
