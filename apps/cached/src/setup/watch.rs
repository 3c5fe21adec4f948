//! `Watch`: what the main thread looks at, once a second, while the cores serve: the link, and everything that is lost.

use std::time::Instant;

use nic::link::{Link, LinkCounts};

use super::open::Base;
use crate::arrivals::Arrivals;
use crate::link_watch::{LinkGone, LinkWatch};
use crate::losses::{LinkLosses, LossLog};

/// Looks, and says in the log what the operator should know.
pub(super) struct Watch {
    link: LinkWatch,
    log: LossLog,
    since: Instant,
    /// What the kernel had counted of the interface at the start.
    before: LinkCounts,
    /// Whether it has been said that the program's counts cannot be read.
    blind: bool,
}

impl Watch {
    /// Over what was opened.
    pub(super) fn new(base: &Base) -> Self {
        let link = base.device.link();
        Self {
            link: LinkWatch::new(link.clone(), base.device.queue_ids().len()),
            log: LossLog::default(),
            since: Instant::now(),
            before: Link::counts(link.index).unwrap_or_default(),
            blind: false,
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// [`LinkGone`]: there is nothing to serve on any more.
    pub(super) fn look(&mut self, base: &Base) -> Result<(), LinkGone> {
        self.link.look()?;
        self.read_counts(base);
        self.log.say(self.since.elapsed(), base.losses.totals(&base.shared.counters));
        Ok(())
    }

    fn read_counts(&mut self, base: &Base) {
        // The interface is gone: the next look says so.
        let Ok(link) = Link::counts(base.device.link().index) else { return };
        let program = base.device.steer_counters().unwrap_or_else(|error| {
            if !std::mem::replace(&mut self.blind, true) {
                tracing::warn!(%error, "the counts of the XDP program are not known from here on");
            }
            Default::default()
        });
        let losses = LinkLosses::of(program, link, self.before);
        let elsewhere = |arrivals: &Arrivals| arrivals.counts().map(|count| count.elsewhere()).sum();
        base.losses.set_link(&LinkLosses {
            queues_without_socket: self.link.queues_without_socket(),
            connections_elsewhere: base.losses.arrivals().map_or(0, elsewhere),
            ..losses
        });
    }
}
