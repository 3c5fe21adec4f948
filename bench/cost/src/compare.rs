//! `compare`: the gate on instruction counts, between the lines that two builds of this program printed.
//!
//! A rise above [`LIMIT_PERCENT`] fails, unless the commit message owns up to it with a line such as
//! `Costs: +2.3 % TCP GET for replies that name their shard`: what rises, by how much at most, and for which feature.

use std::fmt::Write;

use crate::workload::Workload;

/// The rise that needs no words.
pub const LIMIT_PERCENT: f64 = 1.0;

/// Half of the last digit that a message states.
const ROUNDING_PERCENT: f64 = 0.05;

/// Why two counts cannot be compared.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// A line is not a workload's name, a tab and a number.
    #[error("{side}, line {line}: {text:?} is not a workload, a tab and its instructions per request")]
    Line {
        /// `base` or `head`.
        side: &'static str,
        /// Which.
        line: usize,
        /// What it says.
        text: String,
    },
    /// Nothing is in both.
    #[error("base and head have no workload in common; the gate compared nothing")]
    Nothing,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateResult {
    /// A line for each workload, and what to do about it.
    pub text: String,
    /// Whether every rise is within the limit, or owned up to.
    pub passed: bool,
}

/// Compares instructions per request, given as lines of name, tab, number. `message` is that of the commits between.
///
/// # Errors
/// [`CompareError`]: nothing can be said about them.
pub fn compare(base: &str, head: &str, message: &str) -> Result<GateResult, CompareError> {
    let (base, head) = (counts("base", base)?, counts("head", head)?);
    let mut result = GateResult { text: String::new(), passed: true };
    let mut compared = 0;
    for (workload, now) in head {
        let Some((_, before)) = base.iter().find(|(other, _)| *other == workload) else {
            let _ = writeln!(result.text, "{:<18} {now:>9.1}, new", workload.name());
            continue;
        };
        compared += 1;
        let percent = (now / before - 1.0) * 100.0;
        let _ = write!(result.text, "{:<18} {before:>9.1} -> {now:>9.1} {percent:>+7.2} %", workload.name());
        let owned = owned_percent(message, workload.name());
        if percent <= LIMIT_PERCENT {
            result.text.push('\n');
        } else if percent <= owned + ROUNDING_PERCENT {
            let _ = writeln!(result.text, "  as the commit message says");
        } else {
            result.passed = false;
            let _ = writeln!(
                result.text,
                "  above +{LIMIT_PERCENT} %: find the cause, or add to the commit message the line\n\
                 {:>20}Costs: +{percent:.1} % {} for <the feature that costs it>",
                "",
                workload.name()
            );
        }
    }
    if compared == 0 { Err(CompareError::Nothing) } else { Ok(result) }
}

fn counts(side: &'static str, text: &str) -> Result<Vec<(Workload, f64)>, CompareError> {
    let mut counts = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let bad = || CompareError::Line { side, line: at + 1, text: line.to_owned() };
        let (name, count) = line.split_once('\t').ok_or_else(bad)?;
        let count: f64 = count.parse().map_err(|_| bad())?;
        if !(count.is_finite() && count > 0.0) {
            return Err(bad());
        }
        // A workload that this build does not know is one that only the base had.
        counts.extend(Workload::named(name).map(|workload| (workload, count)));
    }
    Ok(counts)
}

/// What the message owns up to for `workload`: the sum of its `Costs:` lines, each of which must name a feature.
fn owned_percent(message: &str, workload: &str) -> f64 {
    let stated = |line: &str| -> Option<f64> {
        let (percent, rest) = line.trim().strip_prefix("Costs:")?.trim_start().split_once('%')?;
        let feature = rest.trim_start().strip_prefix(workload)?.trim_start().strip_prefix("for ")?;
        let named = feature.contains(char::is_alphanumeric) && !feature.contains("<the feature");
        let percent: f64 = percent.trim().parse().ok()?;
        (named && percent.is_finite()).then_some(percent)
    };
    message.lines().filter_map(stated).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "TCP GET\t2000.0\nTCP SET\t2500.0\n";

    #[test]
    fn one_percent_passes_and_more_does_not() {
        assert!(compare(BASE, "TCP GET\t2019.9\nTCP SET\t2000.0\n", "").unwrap().passed);
        let result = compare(BASE, "TCP GET\t2022.0\nTCP SET\t2500.0\n", "stack: a thing").unwrap();
        assert!(!result.passed);
        assert!(result.text.contains("Costs: +1.1 % TCP GET for"), "{}", result.text);
    }

    #[test]
    fn a_message_owns_up_to_what_it_states_and_no_more() {
        let head = "TCP GET\t2046.0\nTCP SET\t2500.0\n";
        let passes = |message: &str| compare(BASE, head, message).unwrap().passed;
        assert!(passes("stack: SACK\n\nCosts: +2.3 % TCP GET for SACK blocks\n"));
        assert!(passes("Costs: +1.3 % TCP GET for this\nCosts: +1.0 % TCP GET for that\n"), "two commits");
        assert!(!passes("Costs: +2.2 % TCP GET for SACK blocks"));
        assert!(!passes("Costs: +2.3 % TCP SET for SACK blocks"));
        assert!(!passes("Costs: +2.3 % TCP GET"));
        assert!(!passes("Costs: +2.3 % TCP GET for <the feature that costs it>"));
        assert!(!passes("Costs: inf % TCP GET for everything"));
    }

    #[test]
    fn what_cannot_be_compared_is_an_error_and_not_a_pass() {
        assert_eq!(compare("", BASE, ""), Err(CompareError::Nothing));
        let error = compare(BASE, "TCP GET\tNaN\n", "").unwrap_err();
        assert!(matches!(error, CompareError::Line { side: "head", line: 1, .. }));
        assert!(compare("TCP GET 5\n", BASE, "").is_err());
    }

    #[test]
    fn a_new_workload_is_said_to_be_new() {
        let result = compare("TCP GET\t2000.0\n", BASE, "").unwrap();
        assert!(result.passed && result.text.contains("TCP SET") && result.text.contains("new"));
    }
}
