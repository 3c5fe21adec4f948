//! What was served, in words: printed when the server ends.

use std::fmt;

use nic::{Queue, QueueStats};

use crate::worker::Worker;

/// What one core did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreReport {
    /// Number of the core.
    pub core: usize,
    /// Frames received and sent.
    pub frames: (u64, u64),
    /// Frames that the link dropped because no frame was free.
    pub link_dropped: u64,
    /// Segments and datagrams taken whose checksum the sender's kernel had left to offload.
    pub partial_checksums: u64,
    /// Frames dropped, by reason.
    pub drops: Vec<(String, u64)>,
    /// Connections opened, and refused.
    pub connections: (u64, u64),
    /// Commands executed or sent on, each key of a fetch once.
    pub requests: u64,
    /// Of those, keys of other cores' shards.
    pub crossed: u64,
    /// Strays passed on to the next core.
    pub strays: u64,
    /// Times that the core slept.
    pub sleeps: u64,
}

impl CoreReport {
    /// What `worker` did, which slept so many times.
    pub fn of<Q: Queue>(worker: &Worker<Q>, sleeps: u64) -> Self {
        let queues = worker.ports.iter().map(|port| port.queue().stats());
        let sum = |of: fn(&QueueStats) -> u64| queues.clone().map(|stats| of(&stats)).sum();
        let counters = worker.cache.counters();
        let datagrams = [
            ("UdpBadFrame", &counters.udp_bad_frames),
            ("UdpIncomplete", &counters.udp_incomplete),
            ("UdpBudget", &counters.udp_budget_drops),
            ("UdpTableFull", &counters.udp_table_full),
            ("UdpOverdue", &counters.udp_overdue),
            ("UdpTooLong", &counters.udp_too_long),
        ];
        let datagrams = datagrams.into_iter().map(|(reason, count)| (reason.to_owned(), count.value()));
        let drops = worker.stack.stats().drops.iter().map(|(reason, count)| (format!("{reason:?}"), count));
        Self {
            core: worker.cache.id(),
            frames: (sum(|stats| stats.rx_frames), sum(|stats| stats.tx_frames)),
            link_dropped: sum(|stats| stats.rx_dropped),
            partial_checksums: worker.stack.partial_checksums(),
            drops: drops.chain(datagrams.filter(|&(_, count)| count > 0)).collect(),
            connections: (counters.total_connections.value(), counters.rejected_connections.value()),
            requests: counters.requests.value(),
            crossed: counters.cross_core_requests.value(),
            strays: worker.strays.counts().0,
            sleeps,
        }
    }
}

impl fmt::Display for CoreReport {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { core, frames: (rx, tx), connections: (opened, refused), requests, crossed, .. } = self;
        write!(f, "core {core}: packets in={rx} out={tx} connections={opened} refused={refused} ")?;
        write!(f, "requests={requests} crossed={crossed} strays={} sleeps={}", self.strays, self.sleeps)?;
        if self.link_dropped > 0 {
            write!(f, " link_dropped={}", self.link_dropped)?;
        }
        if self.partial_checksums > 0 {
            write!(f, " partial_checksums={}", self.partial_checksums)?;
        }
        for (reason, count) in &self.drops {
            write!(f, " dropped_{reason}={count}")?;
        }
        Ok(())
    }
}

/// What all cores did together, in one line.
pub fn total(cores: &[CoreReport]) -> String {
    let sum = |of: fn(&CoreReport) -> u64| cores.iter().map(of).sum::<u64>();
    let (requests, crossed) = (sum(|core| core.requests), sum(|core| core.crossed));
    let share = if requests == 0 { 0.0 } else { 100.0 * crossed as f64 / requests as f64 };
    format!(
        "served: connections={} requests={requests} crossed_share={share:.1}% packets in={} out={}",
        sum(|core| core.connections.0),
        sum(|core| core.frames.0),
        sum(|core| core.frames.1),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_requests_that_crossed_is_of_all_cores() {
        let core = |requests, crossed| CoreReport { requests, crossed, ..CoreReport::default() };
        assert!(total(&[core(30, 10), core(10, 10)]).contains("requests=40 crossed_share=50.0%"));
        assert!(total(&[core(0, 0)]).contains("crossed_share=0.0%"));
    }

    #[test]
    fn a_core_reports_in_one_line() {
        let report = CoreReport { drops: vec![("BadChecksum".to_owned(), 3)], ..CoreReport::default() };
        let text = report.to_string();
        assert!(text.starts_with("core 0: packets in=0 out=0 ") && text.ends_with("dropped_BadChecksum=3"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }
}
