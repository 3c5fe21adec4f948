//! The rules that make a run void: the machine was not ours, or the generator did not do what it was asked.
//!
//! A void run is stored and shown with all its figures; only its pair is left out of the ratios and run again.

use serde::{Deserialize, Serialize};

use crate::cpu::{CpuTime, Foreign};
use crate::report::Report;

/// How much disturbance a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most time given by the hypervisor to others, in percent of all processors' time.
    pub steal_percent: f64,
    /// Most time used by programs outside the run, in percent of one processor.
    pub foreign_percent: f64,
    /// Most wrong, lost or refused replies.
    pub errors: u64,
    /// Most lateness of the generator (its p99), in percent of the latency's p99.
    pub lateness_percent: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { steal_percent: 2.0, foreign_percent: 5.0, errors: 0, lateness_percent: 10.0 }
    }
}

impl Limits {
    /// Checks that every limit is a number that can be reached.
    ///
    /// # Errors
    /// Names the limit.
    pub fn check(&self) -> Result<(), String> {
        let percents = [
            ("steal_percent", self.steal_percent, 100.0),
            ("foreign_percent", self.foreign_percent, 100_000.0),
            ("lateness_percent", self.lateness_percent, 100.0),
        ];
        for (name, value, most) in percents {
            if !(0.0..=most).contains(&value) {
                return Err(format!("void.{name} is {value}; it must be from 0 to {most} percent"));
            }
        }
        Ok(())
    }

    /// Why a finished run is void; empty when it is valid.
    ///
    /// `cpu` and `foreign` cover `wall_seconds` of measurement.
    pub fn reasons(&self, report: &Report, cpu: &CpuTime, foreign: &Foreign, wall_seconds: f64) -> Vec<String> {
        let mut reasons = Vec::new();
        let steal = cpu.steal_percent();
        if steal > self.steal_percent {
            reasons.push(format!("steal {steal:.1} %, limit {} %", self.steal_percent));
        }
        let share = if wall_seconds > 0.0 { 100.0 * foreign.seconds / wall_seconds } else { 0.0 };
        if share > self.foreign_percent {
            reasons.push(format!(
                "other programs used {share:.1} % of a processor (most: {}), limit {} %",
                foreign.most, self.foreign_percent
            ));
        }
        if report.errors > self.errors {
            reasons.push(format!("{} wrong or lost replies, limit {}", report.errors, self.errors));
        }
        reasons.extend(report.void_reason.iter().map(|reason| format!("the generator says: {reason}")));
        if report.requests_per_second <= 0.0 {
            reasons.push("no request was answered".into());
        }
        if let (Some(late), Some(p99)) = (report.lateness_p99_us, report.p99_us()) {
            let limit = p99 * self.lateness_percent / 100.0;
            if late > limit {
                reasons.push(format!(
                    "generator late by {late:.1} us at p99, limit {limit:.1} us ({} % of the latency's p99)",
                    self.lateness_percent
                ));
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            requests_per_second: 1000.0,
            requests: None,
            seconds: None,
            errors: 0,
            latency_us: [None, None, Some(200.0), None, None],
            lateness_p99_us: Some(20.0),
            void_reason: None,
        }
    }

    fn quiet() -> CpuTime {
        CpuTime { user: 1.0, idle: 0.98, steal: 0.02, ..CpuTime::default() }
    }

    fn reasons(report: &Report, cpu: &CpuTime, foreign: f64) -> Vec<String> {
        let foreign = Foreign { seconds: foreign, most: "cargo".into() };
        Limits::default().reasons(report, cpu, &foreign, 2.0)
    }

    #[test]
    fn a_quiet_run_is_valid() {
        assert_eq!(reasons(&report(), &quiet(), 0.09), Vec::<String>::new());
    }

    #[test]
    fn each_rule_voids_alone_and_gives_value_and_limit() {
        let stolen = CpuTime { steal: 0.2, ..quiet() };
        assert!(reasons(&report(), &stolen, 0.0)[0].starts_with("steal 9.2 %, limit 2 %"));
        let foreign = reasons(&report(), &quiet(), 0.2);
        assert_eq!(foreign, ["other programs used 10.0 % of a processor (most: cargo), limit 5 %"]);
        let wrong = Report { errors: 1, ..report() };
        assert_eq!(reasons(&wrong, &quiet(), 0.0), ["1 wrong or lost replies, limit 0"]);
        let silent = Report { requests_per_second: 0.0, ..report() };
        assert_eq!(reasons(&silent, &quiet(), 0.0), ["no request was answered"]);
        let own = Report { void_reason: Some("late".into()), ..report() };
        assert_eq!(reasons(&own, &quiet(), 0.0), ["the generator says: late"]);
        let late = Report { lateness_p99_us: Some(20.1), ..report() };
        assert!(reasons(&late, &quiet(), 0.0)[0].contains("limit 20.0 us"));
    }

    #[test]
    fn lateness_at_the_limit_and_lateness_that_is_not_reported_are_valid() {
        assert!(reasons(&report(), &quiet(), 0.0).is_empty());
        let closed = Report { lateness_p99_us: None, ..report() };
        assert!(reasons(&closed, &quiet(), 0.0).is_empty());
    }

    #[test]
    fn several_reasons_are_all_given() {
        let bad = Report { errors: 3, lateness_p99_us: Some(100.0), ..report() };
        assert_eq!(reasons(&bad, &CpuTime { steal: 1.0, ..quiet() }, 1.0).len(), 4);
    }
}
