//! `Run`: what is known of one run, and why measuring can end before all are done.

use std::io;

use serde::Serialize;
use serde_json::Value;

use crate::child::StartError;
use crate::cpu::{CpuTime, Foreign};
use crate::plan::{PlanError, Role};
use crate::report::Report;

/// Which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RunId {
    /// Round, from 1.
    pub round: u32,
    /// Place among all runs of the round, from 1.
    pub order: u32,
    /// The side.
    pub role: Role,
    /// The sweep's value; `None` when nothing is varied.
    pub value: Option<u64>,
    /// Requests a second to be offered; `None` when the plan leaves that to the generator.
    pub rate: Option<u64>,
    /// True for the run that measures what the peer can do, which is of no pair.
    pub capacity: bool,
}

impl RunId {
    /// The run that measures the peer's capacity in `round`.
    pub fn of_capacity(round: u32) -> RunId {
        RunId { round, order: 0, role: Role::Peer, value: None, rate: None, capacity: true }
    }
}

/// Everything that is known of one run; stored as it is.
#[derive(Debug, Clone, Serialize)]
pub struct Run {
    /// Round, place in it, side and value of the sweep.
    #[serde(flatten)]
    pub id: RunId,
    /// Why the run is void; empty when it is valid.
    pub void: Vec<String>,
    /// True when it is void since a program failed, not since something disturbed it.
    pub failed: bool,
    /// The figures.
    pub report: Option<Report>,
    /// Length of the measured part, in seconds: the time that `cpu` covers.
    pub window_seconds: f64,
    /// The whole machine's processor time in the measured part, in seconds.
    pub cpu: CpuTime,
    /// The whole machine's busy time per request, in microseconds.
    pub cpu_us_per_request: Option<f64>,
    /// Time given to others by the hypervisor, in percent of all processors' time.
    pub steal_percent: f64,
    /// What programs outside the run used while the generator ran.
    pub foreign: Foreign,
    /// Load average of the last minute before the server was started.
    pub load_before: f64,
    /// The server's command.
    pub server_command: Vec<String>,
    /// The warm-up's command; empty for none.
    pub warm_up_command: Vec<String>,
    /// The generator's command.
    pub generator_command: Vec<String>,
    /// The object that the generator printed, untouched.
    pub generator_output: Option<Value>,
}

/// Why measuring cannot go on, or why one run is void.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A program could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A command of the plan cannot be formed.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// One run came to nothing; it is stored as void, and measuring goes on.
    #[error("{0}")]
    Void(String),
    /// A command before the first run failed.
    #[error("'{command}' {ended}: {errors}; the comparison cannot begin without it")]
    Before {
        /// The command.
        command: String,
        /// How it ended.
        ended: String,
        /// What it printed on standard error.
        errors: String,
    },
    /// /proc could not be read.
    #[error("cannot read the machine's processor time: {0}; mount /proc")]
    Proc(#[source] io::Error),
    /// A result could not be stored.
    #[error("cannot store a result: {0}")]
    Store(String),
    /// A side cannot be measured.
    #[error("{side} failed twice in a row, the last time so: {reason}")]
    KeepsFailing {
        /// The side's name.
        side: String,
        /// Why the last run is void.
        reason: String,
    },
    /// Asked to stop.
    #[error("interrupted; every process was ended, and the runs measured so far are in the output folder")]
    Interrupted,
}
