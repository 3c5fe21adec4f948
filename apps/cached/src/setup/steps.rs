//! `Steps`: how long each step of a start took, for the log.

use std::fmt;
use std::time::{Duration, Instant};

/// What was done since the start, and how long each took.
#[derive(Debug)]
pub(crate) struct Steps {
    begun: Instant,
    /// When the last step was done.
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    /// From now on.
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self { begun: now, last: now, done: Vec::new() }
    }

    /// `step` was all that was done since the one before it.
    pub(crate) fn done(&mut self, step: &'static str) {
        self.done_at(step, Instant::now());
    }

    fn done_at(&mut self, step: &'static str, now: Instant) {
        self.done.push((step, now.saturating_duration_since(self.last)));
        self.last = now;
    }
}

impl fmt::Display for Steps {
    /// The whole time, then each step's, in milliseconds.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms:", self.last.saturating_duration_since(self.begun).as_millis())?;
        for (number, (step, time)) in self.done.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, "{comma} {step} {:.1}", time.as_secs_f64() * 1e3)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_the_time_since_the_one_before_it() {
        let mut steps = Steps::begin();
        let at = |micros| steps.begun + Duration::from_micros(micros);
        for (step, now) in [("cache", at(1_500)), ("link", at(40_000)), ("rights", at(40_000))] {
            steps.done_at(step, now);
        }
        assert_eq!(steps.to_string(), "40 ms: cache 1.5, link 38.5, rights 0.0");
    }
}
