//! Turns runs of two servers into a ratio that stands up when somebody else repeats it.
//!
//! A *round* starts ours, the peer and (when the plan names one) the null responder in turn, in a seeded random order,
//! and runs the same generator against each. Rounds are repeated until the plan's number of *pairs* is valid; the
//! result is the median of the paired ratios with a bootstrap interval. Nothing that was measured is thrown away: a
//! void pair is printed and stored with its reason.
//!
//! Read [`plan`] first, then [`rounds`], then [`summary`].

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

/// The command line, as typed.
pub mod args;
/// One process group that never outlives its owner.
pub mod child;
/// Processor time of the whole machine, and of processes that are not part of the run.
pub mod cpu;
/// One run: server up, warm-up, generator, server down.
pub mod measure;
/// The run folder: raw results, summary, README and plots.
pub mod output;
/// What is compared, as written in TOML.
pub mod plan;
/// SVG plots.
pub mod plot;
/// The README of a run folder.
pub mod readme;
/// What the generator printed.
pub mod report;
/// The schedule: rounds in random order until enough pairs are valid.
pub mod rounds;
/// What is known of one run.
pub mod run;
/// Ratios of the valid pairs, a point at a time.
pub mod summary;
/// The results of run folders as one Markdown table.
pub mod table;
/// The rules that make a run void.
pub mod void;
