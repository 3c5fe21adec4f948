//! `LossLog`: a line in the log when a count begins to grow, and few while it goes on.
//!
//! A count is spoken of at most once a minute. One that goes on growing is spoken of again when it has doubled since,
//! so that an hour of steady losses is half a dozen lines; one that has been quiet for a minute begins anew.

use std::time::Duration;

use super::advice::Severity;
use super::reasons::Reason;

/// The least time between two lines about one count.
const PAUSE: Duration = Duration::from_secs(60);

/// What is known of one count.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    value: u64,
    grew_at: Option<Duration>,
    said: u64,
    said_at: Option<Duration>,
}

/// Looks at counts that only ever grow. The main thread's.
#[derive(Debug, Default)]
pub struct LossLog(Vec<Seen>);

impl LossLog {
    /// What to say of `counts`, always the same in the same order, at `now` since some start.
    pub fn look<'a>(
        &mut self,
        now: Duration,
        counts: impl Iterator<Item = (&'a Reason, u64)>,
    ) -> Vec<(Severity, String)> {
        let mut lines = Vec::new();
        for (index, (reason, value)) in counts.enumerate() {
            if index == self.0.len() {
                self.0.push(Seen::default());
            }
            if let Some(new) = self.0[index].note(now, value) {
                lines.push((reason.severity, line(reason, value, new)));
            }
        }
        lines
    }

    /// Says it in the log.
    pub fn say<'a>(&mut self, now: Duration, counts: impl Iterator<Item = (&'a Reason, u64)>) {
        for (severity, line) in self.look(now, counts) {
            match severity {
                Severity::Harmless => tracing::info!("{line}"),
                Severity::Loss(_) => tracing::warn!("{line}"),
                Severity::Fault => tracing::error!("{line}"),
            }
        }
    }
}

impl Seen {
    /// Notes what the count is now. Returns by how much it has grown since it was spoken of, if it is to be again.
    fn note(&mut self, now: Duration, value: u64) -> Option<u64> {
        if value <= self.value {
            // One that was taken back, such as a link's counts that its driver has reset, begins anew.
            self.value = value;
            self.said = self.said.min(value);
            return None;
        }
        let since = |at: Option<Duration>| at.map(|at| now.saturating_sub(at));
        let begins = since(self.grew_at).is_none_or(|quiet| quiet >= PAUSE);
        let doubled = value >= self.said.saturating_mul(2);
        self.value = value;
        self.grew_at = Some(now);
        if since(self.said_at).is_some_and(|pause| pause < PAUSE) || !(begins || doubled) {
            return None;
        }
        let new = value - self.said;
        self.said = value;
        self.said_at = Some(now);
        Some(new)
    }
}

fn line(reason: &Reason, value: u64, new: u64) -> String {
    let Reason { name, moves, .. } = reason;
    let advice = match reason.severity {
        Severity::Harmless => String::new(),
        Severity::Loss(advice) => format!(" What to do: {advice}."),
        Severity::Fault => " This is a fault of sidestep: report it with this line.".to_owned(),
    };
    format!("{name} grows: {value} since the start, {new} of them new. {moves}{advice}")
}

#[cfg(test)]
mod tests {
    use super::super::{Losses, Source};
    use super::*;

    /// The seconds at which a count is spoken of that is so much in each second.
    fn spoken_of(values: impl IntoIterator<Item = u64>) -> Vec<usize> {
        let mut seen = Seen::default();
        let spoken = |(second, value)| seen.note(Duration::from_secs(second as u64), value).map(|_| second);
        values.into_iter().enumerate().filter_map(spoken).collect()
    }

    #[test]
    fn the_first_loss_is_spoken_of_at_once_and_a_quiet_count_never() {
        assert_eq!(spoken_of([0, 0, 1, 1, 1]), [2]);
        assert_eq!(spoken_of([0; 100]), [0_usize; 0]);
    }

    #[test]
    fn a_count_that_grows_steadily_is_spoken_of_when_it_has_doubled_and_at_most_once_a_minute() {
        assert_eq!(spoken_of(1..4_000), [0, 60, 121, 243, 487, 975, 1951, 3903]);
        assert_eq!(spoken_of((0..200).map(|second| 1 << second.min(62))), [0, 60]);
    }

    #[test]
    fn one_that_was_quiet_for_a_minute_begins_anew() {
        let values = (0..200).map(|second| 1_000 + second / 70);
        assert_eq!(spoken_of(values), [0, 70, 140]);
    }

    #[test]
    fn one_that_was_taken_back_begins_anew() {
        let values = [5, 5, 0].into_iter().chain([0; 70]).chain([3]);
        assert_eq!(spoken_of(values), [0, 73]);
    }

    #[test]
    fn a_line_says_name_counts_meaning_and_what_to_do() {
        let losses = Losses::new(1);
        let named = |wanted: &str| losses.reasons().iter().find(|reason| reason.name == wanted).expect("it is counted");
        let mut log = LossLog::default();
        let counts =
            [(named("xdp_no_socket"), 3), (named("xsk_tx_invalid_descriptors"), 1), (named("dropped_ipv6"), 0)];
        let lines = log.look(Duration::ZERO, counts.into_iter());
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].1.starts_with("xdp_no_socket grows: 3 since the start, 3 of them new. A frame for the stack"));
        assert!(lines[0].1.contains("What to do: ") & lines[0].1.contains("ethtool -L"), "{lines:?}");
        assert_eq!(lines[1].0, Severity::Fault);
        assert!(losses.reasons().iter().any(|reason| matches!(reason.source, Source::Cache(_))));
    }
}
