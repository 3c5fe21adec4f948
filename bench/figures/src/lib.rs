//! What every bench does with what it has measured: medians and intervals, quantiles of a histogram, charts, a run
//! folder with the machine it was measured on.
//!
//! Invariant: nothing here measures. A function takes figures and returns text, a chart or a file.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

/// One chart: title, legend, two axes and marks.
pub mod chart;
/// `RunFolder`: where the results of a run are kept.
pub mod folder;
/// What the machine and the source tree were.
pub mod machine;
/// Quantiles of a histogram of nanoseconds, as text and as JSON.
pub mod quantiles;
/// Medians, spreads and bootstrap intervals.
pub mod stats;
/// Tables in Markdown.
pub mod table;
