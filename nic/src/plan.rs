//! `QueuePlan`: which core polls which queues; a pure function of the two numbers.
//!
//! With at least as many queues as cores, a flow belongs to the core that polls its queue. With fewer, or none, a core
//! without a queue gets its frames handed over by one that has, and a flow belongs to the core that its addresses and
//! ports hash to.

use std::fmt;

use crate::queue::QueueId;

/// How the queues of a link and the cores of a program go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlanKind {
    /// One queue a core.
    Equal,
    /// Some cores, or all, poll several queues.
    MoreQueues,
    /// Some cores poll none and get their frames handed over.
    FewerQueues,
    /// There is no queue at all; frames come from elsewhere, such as a capture.
    NoQueue,
}

/// Which core polls which queues. Made once at the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuePlan {
    /// By core.
    polled: Vec<Vec<QueueId>>,
    queues: usize,
}

impl QueuePlan {
    /// Deals `queues` out to `cores` cores (at least one is assumed), round and round, in order.
    pub fn new(queues: &[QueueId], cores: usize) -> Self {
        let mut polled = vec![Vec::new(); cores.max(1)];
        let cores = polled.len();
        for (position, queue) in queues.iter().enumerate() {
            // The remainder is below the number of cores.
            polled[position % cores].push(*queue);
        }
        Self { polled, queues: queues.len() }
    }

    /// How they go together.
    pub fn kind(&self) -> PlanKind {
        match (self.queues, self.polled.len()) {
            (0, _) => PlanKind::NoQueue,
            (queues, cores) if queues == cores => PlanKind::Equal,
            (queues, cores) if queues > cores => PlanKind::MoreQueues,
            _ => PlanKind::FewerQueues,
        }
    }

    /// Cores there are.
    pub fn cores(&self) -> usize {
        self.polled.len()
    }

    /// The queues that `core` polls; none for a core that has its frames handed over, or that does not exist.
    pub fn polled_by(&self, core: usize) -> &[QueueId] {
        self.polled.get(core).map_or(&[], Vec::as_slice)
    }

    /// The core that polls `queue`.
    pub fn poller_of(&self, queue: QueueId) -> Option<usize> {
        self.polled.iter().position(|queues| queues.contains(&queue))
    }

    /// Whether a flow belongs to the core that polls its queue; else it belongs to the core that its 4-tuple hashes to.
    pub fn flows_follow_queues(&self) -> bool {
        matches!(self.kind(), PlanKind::Equal | PlanKind::MoreQueues)
    }
}

impl fmt::Display for QueuePlan {
    /// One line for the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (queues, cores) = (self.queues, self.cores());
        match self.kind() {
            PlanKind::NoQueue => write!(f, "no queue for {cores} cores: frames are handed over by flow"),
            PlanKind::Equal => write!(f, "{queues} queues, {cores} cores: one queue a core"),
            PlanKind::MoreQueues => {
                let most = queues.div_ceil(cores);
                write!(f, "{queues} queues, {cores} cores: up to {most} queues a core")
            }
            PlanKind::FewerQueues => {
                let without = cores - queues;
                write!(
                    f,
                    "{queues} queues, {cores} cores: {without} cores have no queue and get their flows handed over"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(queues: u16, cores: usize) -> QueuePlan {
        let queues: Vec<QueueId> = (0..queues).map(QueueId).collect();
        QueuePlan::new(&queues, cores)
    }

    #[test]
    fn as_many_queues_as_cores_are_polled_one_each() {
        let plan = plan(3, 3);
        assert_eq!(plan.kind(), PlanKind::Equal);
        assert_eq!((plan.polled_by(1), plan.poller_of(QueueId(1))), (&[QueueId(1)][..], Some(1)));
        assert!(plan.flows_follow_queues());
    }

    #[test]
    fn more_queues_than_cores_are_dealt_out() {
        let plan = plan(5, 2);
        assert_eq!(plan.kind(), PlanKind::MoreQueues);
        assert_eq!(plan.polled_by(0), [QueueId(0), QueueId(2), QueueId(4)]);
        assert_eq!(plan.polled_by(1), [QueueId(1), QueueId(3)]);
        assert!(plan.flows_follow_queues());
        assert_eq!(plan.to_string(), "5 queues, 2 cores: up to 3 queues a core");
    }

    #[test]
    fn fewer_queues_than_cores_leave_cores_that_get_flows_handed_over() {
        let plan = plan(1, 4);
        assert_eq!(plan.kind(), PlanKind::FewerQueues);
        assert_eq!((plan.polled_by(0), plan.polled_by(3)), (&[QueueId(0)][..], &[][..]));
        assert!(!plan.flows_follow_queues());
        assert!(plan.to_string().contains("3 cores have no queue"));
    }

    #[test]
    fn without_a_queue_every_core_gets_flows_handed_over() {
        let plan = plan(0, 2);
        assert_eq!((plan.kind(), plan.flows_follow_queues()), (PlanKind::NoQueue, false));
        assert_eq!(plan.poller_of(QueueId(0)), None);
    }

    #[test]
    fn every_queue_has_one_poller_whatever_the_numbers() {
        for queues in 0..20 {
            for cores in 0..9 {
                let plan = plan(queues, cores);
                let polled: usize = (0..plan.cores()).map(|core| plan.polled_by(core).len()).sum();
                assert_eq!(polled, usize::from(queues));
                for queue in (0..queues).map(QueueId) {
                    let core = plan.poller_of(queue).unwrap();
                    assert!(plan.polled_by(core).contains(&queue));
                }
            }
        }
    }
}
