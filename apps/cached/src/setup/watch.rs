//! `Watch`: what the supervisor looks at every 0.4 s while the data plane serves: the link, and what it and the program have
//! counted.

use std::time::{Duration, Instant};

use nic::link::{Link, LinkCounts};
use nic::xdp::HeldProgram;

use crate::link_watch::{LinkGone, LinkWatch};
use crate::losses::LinkLosses;

/// Looks, and says in the log what the operator should know.
pub(crate) struct Watch {
    index: u32,
    link: LinkWatch,
    /// What the kernel had counted of the interface at the start.
    before: LinkCounts,
    /// When it has looked last.
    looked: Option<Instant>,
    /// What it has seen and nobody has asked for yet.
    fresh: Option<LinkLosses>,
    /// Whether it has been said that the program's counts cannot be read.
    blind: bool,
}

impl Watch {
    /// Over a link with sockets on its first `queues` queues.
    pub(crate) fn new(link: Link, queues: usize) -> Self {
        Self {
            index: link.index,
            before: Link::counts(link.index).unwrap_or_default(),
            link: LinkWatch::new(link, queues),
            looked: None,
            fresh: None,
            blind: false,
        }
    }

    /// How long after `now` it is to look again.
    pub(crate) fn due_in(&self, now: Instant, interval: Duration) -> Duration {
        self.looked.map_or(Duration::ZERO, |looked| interval.saturating_sub(now.saturating_duration_since(looked)))
    }

    /// Looks, also at what `program` has counted, unless it has looked less than `interval` before `now`.
    ///
    /// # Errors
    /// [`LinkGone`]: there is nothing to serve on any more.
    pub(crate) fn look_if_due(
        &mut self,
        now: Instant,
        interval: Duration,
        program: Option<&HeldProgram>,
    ) -> Result<(), LinkGone> {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < interval) {
            return Ok(());
        }
        self.looked = Some(now);
        self.link.look()?;
        self.read_counts(program);
        Ok(())
    }

    /// What was counted, if there is anything new.
    pub(crate) fn fresh(&mut self) -> Option<LinkLosses> {
        self.fresh.take()
    }

    fn read_counts(&mut self, program: Option<&HeldProgram>) {
        // The interface is gone: the next look says so.
        let Ok(link) = Link::counts(self.index) else { return };
        let read = program.map_or_else(|| Ok(Default::default()), HeldProgram::counters);
        let program = read.unwrap_or_else(|error| {
            if !std::mem::replace(&mut self.blind, true) {
                tracing::warn!(%error, "the counts of the XDP program are not known from here on");
            }
            Default::default()
        });
        let losses = LinkLosses::of(program, link, self.before);
        self.fresh = Some(LinkLosses {
            queues_without_socket: self.link.queues_without_socket(),
            link_down: self.link.is_down().into(),
            link_changes: self.link.changes_said(),
            ..losses
        });
    }
}

#[cfg(test)]
mod tests {
    use nic::Mac;

    use super::*;

    /// A link that no kernel has, so that a look finds it gone.
    fn gone() -> Link {
        Link {
            name: "gone0".to_owned(),
            index: u32::MAX >> 1,
            mac: Mac([2; 6]),
            mtu: 1500,
            up: true,
            rx_queues: 1,
            tx_queues: 1,
            tx_queues_max: 1,
            combined: 0,
            rx_ring: None,
            driver: "veth".to_owned(),
        }
    }

    #[test]
    fn it_looks_at_once_and_then_when_the_interval_is_over_and_not_before() {
        let (begin, interval) = (Instant::now(), Duration::from_millis(400));
        let at = |millis| begin + Duration::from_millis(millis);
        let mut watch = Watch::new(gone(), 1);
        assert_eq!(watch.due_in(begin, interval), Duration::ZERO);
        assert!(watch.look_if_due(begin, interval, None).is_err(), "it has looked");
        assert_eq!(watch.due_in(at(100), interval), Duration::from_millis(300));
        assert_eq!(watch.look_if_due(at(399), interval, None), Ok(()), "it has not looked");
        assert_eq!(
            (watch.due_in(at(400), interval), watch.due_in(at(5_000), interval)),
            (Duration::ZERO, Duration::ZERO)
        );
        assert!(watch.look_if_due(at(400), interval, None).is_err(), "it has looked");
    }
}
