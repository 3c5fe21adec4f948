//! What the generator printed: one JSON object on the last line of its standard output.
//!
//! Which members hold the figures is said by JSON pointers (RFC 6901) in the plan's `[generator.report]`, so that a
//! generator not written here can be used as it is. The object itself is stored with the run, whole.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where the figures are in the generator's object.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pointers {
    /// Requests answered a second, over the measured part of the run.
    pub requests_per_second: String,
    /// Requests answered in the measured part; without it, rate times time.
    pub requests: String,
    /// Length of the measured part, which is taken to end with the generator; without it, its whole run.
    pub seconds: String,
    /// Wrong, lost or refused replies.
    pub errors: String,
    /// Further counts that are added to them where they are reported.
    pub more_errors: Vec<String>,
    /// Why the generator itself holds its figures void: a text, or null.
    pub void_reason: String,
    /// Median latency.
    pub p50: String,
    /// 90th percentile of the latency.
    pub p90: String,
    /// 99th percentile.
    pub p99: String,
    /// 99.9th percentile.
    pub p999: String,
    /// Largest latency.
    pub max: String,
    /// 99th percentile of how late the generator sent, against its own plan.
    pub lateness_p99: String,
    /// The unit of all latencies and of the lateness.
    pub latency_unit: LatencyUnit,
    /// How many requests one of the generator's own stands for: a frame that goes there and back in the place of
    /// sixteen requests and their replies counts as 16.
    pub requests_each: f64,
}

impl Default for Pointers {
    fn default() -> Self {
        Pointers {
            requests_per_second: "/requests_per_second".into(),
            requests: "/requests".into(),
            seconds: "/seconds".into(),
            errors: "/errors".into(),
            more_errors: Vec::new(),
            void_reason: "/void_reason".into(),
            p50: "/p50_us".into(),
            p90: "/p90_us".into(),
            p99: "/p99_us".into(),
            p999: "/p999_us".into(),
            max: "/max_us".into(),
            lateness_p99: "/lateness_p99_us".into(),
            latency_unit: LatencyUnit::Us,
            requests_each: 1.0,
        }
    }
}

/// The unit in which a generator reports latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LatencyUnit {
    /// Nanoseconds.
    Ns,
    /// Microseconds.
    Us,
    /// Milliseconds.
    Ms,
}

impl LatencyUnit {
    fn in_us(self) -> f64 {
        match self {
            LatencyUnit::Ns => 1e-3,
            LatencyUnit::Us => 1.0,
            LatencyUnit::Ms => 1e3,
        }
    }
}

/// The percentiles that a report may hold, by name.
pub const PERCENTILES: [&str; 5] = ["p50", "p90", "p99", "p99.9", "max"];

/// One run's figures, latencies in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Requests answered a second.
    pub requests_per_second: f64,
    /// Requests answered, when reported.
    pub requests: Option<f64>,
    /// Length of the measured part, when reported.
    pub seconds: Option<f64>,
    /// Wrong, lost or refused replies.
    pub errors: u64,
    /// Latencies in the order of [`PERCENTILES`], those that were reported.
    pub latency_us: [Option<f64>; 5],
    /// The generator's own lateness, when it plans its sends.
    pub lateness_p99_us: Option<f64>,
    /// Why the generator itself holds its figures void.
    pub void_reason: Option<String>,
}

/// What is wrong with a generator's output.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// There is no JSON object.
    #[error("the generator's last line is '{line}', not one JSON object: {source}")]
    NotJson {
        /// The line, cut.
        line: String,
        /// Where it breaks off.
        #[source]
        source: serde_json::Error,
    },
    /// A figure that every run needs is not there.
    #[error("the generator's object has no number at '{pointer}'; set [generator.report] {name} to where it is")]
    Missing {
        /// The figure.
        name: &'static str,
        /// Where it was looked for.
        pointer: String,
    },
    /// A figure cannot be.
    #[error("the generator reports {name} = {value} at '{pointer}'; it must be a finite number, 0 or more")]
    Impossible {
        /// The figure.
        name: &'static str,
        /// Where it is.
        pointer: String,
        /// What stands there.
        value: String,
    },
}

/// The JSON on the last line of `output`.
///
/// # Errors
/// [`ReportError::NotJson`].
pub fn last_object(output: &str) -> Result<Value, ReportError> {
    let line = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let object: Result<serde_json::Map<String, Value>, _> = serde_json::from_str(line);
    object.map(Value::Object).map_err(|source| ReportError::NotJson { line: line.chars().take(120).collect(), source })
}

impl Report {
    /// Reads the figures out of the generator's object.
    ///
    /// # Errors
    /// When rate or errors are missing, or a figure is negative or not a number.
    pub fn read(object: &Value, at: &Pointers) -> Result<Report, ReportError> {
        let optional = |name: &'static str, pointer: &str| match object.pointer(pointer) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(number)),
                _ => Err(ReportError::Impossible { name, pointer: pointer.into(), value: value.to_string() }),
            },
        };
        let required = |name: &'static str, pointer: &str| {
            optional(name, pointer)?.ok_or_else(|| ReportError::Missing { name, pointer: pointer.into() })
        };
        let mut errors = required("errors", &at.errors)?;
        for pointer in &at.more_errors {
            errors += optional("more_errors", pointer)?.unwrap_or(0.0);
        }
        let unit = at.latency_unit.in_us();
        let latency = |name, pointer: &str| Ok(optional(name, pointer)?.map(|value| value * unit));
        Ok(Report {
            requests_per_second: at.requests_each * required("requests_per_second", &at.requests_per_second)?,
            requests: optional("requests", &at.requests)?.map(|requests| at.requests_each * requests),
            seconds: optional("seconds", &at.seconds)?,
            errors: errors.ceil() as u64,
            latency_us: [
                latency("p50", &at.p50)?,
                latency("p90", &at.p90)?,
                latency("p99", &at.p99)?,
                latency("p999", &at.p999)?,
                latency("max", &at.max)?,
            ],
            lateness_p99_us: latency("lateness_p99", &at.lateness_p99)?,
            void_reason: object.pointer(&at.void_reason).and_then(Value::as_str).map(str::to_owned),
        })
    }

    /// The 99th percentile of the latency, in microseconds.
    pub fn p99_us(&self) -> Option<f64> {
        self.latency_us[2]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Report, ReportError> {
        Report::read(&last_object(text)?, &Pointers::default())
    }

    #[test]
    fn figures_are_read_from_the_last_line() {
        let report = read("progress 1\n{\"requests_per_second\": 5e3, \"errors\": 0, \"p99_us\": 120.5}\n\n").unwrap();
        assert_eq!(report.requests_per_second, 5000.0);
        assert_eq!(report.p99_us(), Some(120.5));
        assert_eq!(report.lateness_p99_us, None);
    }

    #[test]
    fn pointers_and_units_are_the_plans() {
        let pointers: Pointers = toml::from_str(
            "requests_per_second = '/measured/per_second'\nerrors = '/wrong'\np50 = '/measured/latency_ns/p50'\n\
             latency_unit = 'ns'",
        )
        .unwrap();
        let object =
            last_object("{\"measured\":{\"per_second\":10,\"latency_ns\":{\"p50\":2500}},\"wrong\":2}").unwrap();
        let report = Report::read(&object, &pointers).unwrap();
        assert_eq!((report.requests_per_second, report.errors), (10.0, 2));
        assert_eq!(report.latency_us[0], Some(2.5));
    }

    #[test]
    fn all_kinds_of_errors_add_up_and_the_generators_own_verdict_is_taken() {
        let pointers = Pointers { more_errors: vec!["/refused".into(), "/not_there".into()], ..Pointers::default() };
        let text = "{\"requests_per_second\": 1, \"errors\": 1, \"refused\": 2, \"void_reason\": \"late\"}";
        let report = Report::read(&last_object(text).unwrap(), &pointers).unwrap();
        assert_eq!((report.errors, report.void_reason.as_deref()), (3, Some("late")));
        assert_eq!(
            read("{\"requests_per_second\": 1, \"errors\": 0, \"void_reason\": null}").unwrap().void_reason,
            None
        );
    }

    #[test]
    fn one_of_the_generators_may_stand_for_several_requests() {
        let pointers = Pointers { requests_each: 16.0, ..Pointers::default() };
        let object = last_object("{\"requests_per_second\": 10, \"requests\": 30, \"errors\": 1}").unwrap();
        let report = Report::read(&object, &pointers).unwrap();
        assert_eq!((report.requests_per_second, report.requests, report.errors), (160.0, Some(480.0), 1));
    }

    #[test]
    fn what_is_not_an_object_is_shown() {
        for text in ["", "done", "[1]", "{\"requests_per_second\": 1"] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("JSON"), "{error}");
        }
    }

    #[test]
    fn a_missing_or_impossible_figure_is_named() {
        let error = read("{\"errors\": 0}").unwrap_err().to_string();
        assert!(error.contains("/requests_per_second"), "{error}");
        let error = read("{\"requests_per_second\": 5}").unwrap_err().to_string();
        assert!(error.contains("/errors"), "{error}");
        let error = read("{\"requests_per_second\": -5, \"errors\": 0}").unwrap_err().to_string();
        assert!(error.contains("-5"), "{error}");
        let error = read("{\"requests_per_second\": \"5\", \"errors\": 0}").unwrap_err().to_string();
        assert!(error.contains("finite number"), "{error}");
    }
}
