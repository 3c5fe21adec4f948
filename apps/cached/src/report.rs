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
    /// What else was lost, by reason, under the names of `stats sidestep`.
    pub losses: Vec<(String, u64)>,
    /// Connections opened, and refused.
    pub connections: (u64, u64),
    /// Connections that were open at the end, and whose clients were not told that it came.
    pub untold: u64,
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
        let queues = worker.poll.ports().iter().map(|port| port.queue().stats());
        let sum = |of: fn(&QueueStats) -> u64| queues.clone().map(|stats| of(&stats)).sum();
        let counters = worker.cache.counters();
        worker.losses.copy(&worker.poll);
        let losses = worker.losses.counted(&worker.cache.shared().counters);
        Self {
            core: worker.cache.id(),
            frames: (sum(|stats| stats.rx_frames), sum(|stats| stats.tx_frames)),
            link_dropped: sum(|stats| stats.rx_dropped),
            losses: losses.map(|(reason, count)| (reason.to_owned(), count)).collect(),
            connections: (counters.total_connections.value(), counters.rejected_connections.value()),
            untold: counters.curr_connections.value(),
            requests: counters.requests.value(),
            crossed: counters.cross_core_requests.value(),
            strays: worker.poll.strays().counts().0,
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
        if self.untold > 0 {
            write!(f, " untold={}", self.untold)?;
        }
        if self.link_dropped > 0 {
            write!(f, " link_dropped={}", self.link_dropped)?;
        }
        for (reason, count) in &self.losses {
            write!(f, " {reason}={count}")?;
        }
        Ok(())
    }
}

/// What all cores did together, in one line.
pub fn total(cores: &[CoreReport]) -> String {
    let sum = |of: fn(&CoreReport) -> u64| cores.iter().map(of).sum::<u64>();
    let (requests, crossed) = (sum(|core| core.requests), sum(|core| core.crossed));
    let share = if requests == 0 { 0.0 } else { 100.0 * crossed as f64 / requests as f64 };
    let untold = sum(|core| core.untold);
    let untold = if untold == 0 { String::new() } else { format!(" untold={untold}") };
    format!(
        "served: connections={} requests={requests} crossed_share={share:.1}% packets in={} out={}{untold}",
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
        let report = CoreReport { losses: vec![("dropped_tcp_checksum".to_owned(), 3)], ..CoreReport::default() };
        let text = report.to_string();
        assert!(text.starts_with("core 0: packets in=0 out=0 ") && text.ends_with("dropped_tcp_checksum=3"), "{text}");
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn who_was_told_nothing_is_counted_and_said_if_there_was_anybody() {
        let core = |untold| CoreReport { untold, ..CoreReport::default() };
        assert!(core(3).to_string().contains(" untold=3") && !core(0).to_string().contains("untold"));
        assert!(total(&[core(3), core(4)]).ends_with(" untold=7") && !total(&[core(0)]).contains("untold"));
    }
}
