//! From options to running cores, and down again, in the data plane: four steps that belong to its main thread.
//!
//! ```text
//!  open    cache, stacks, link, program, captures; then rights and files are given up     setup/open.rs
//!  start   one pinned thread a core, each with its list of system calls                   setup/running.rs
//!  wait    for the supervisor, `shutdown`, a core that ends
//!  stop    every core drains and says what it did; all that was opened closes
//! ```
//! What the supervisor has of it, `../supervisor.rs`, is in `files.rs` and `watch.rs`.

/// What each part is given, of what the options say.
pub(crate) mod config;
/// What was opened: an interface or a TAP.
mod device;
/// Why the server does not start, or ends.
mod error;
/// The files of `-P`, `-Y` and `--cluster`.
pub(crate) mod files;
/// What needs a right.
mod open;
/// The way to the supervisor.
mod plane;
/// The cores running.
mod running;
/// How long a start takes.
pub(crate) mod steps;
/// An interface of a VLAN is its parent, and the tag.
pub(crate) mod vlan;
/// What the supervisor looks at meanwhile.
pub(crate) mod watch;

use std::process::ExitCode;

use crate::options::Options;
use crate::sharing::AnyQueue;
use crate::supervisor;
pub use error::SetupError;
pub(crate) use error::{HANGS, PANICKED};
use plane::Supervised;
use running::Running;

/// Serves until SIGINT or SIGTERM: starts a data plane and watches over it, or is that. Prints the mode obtained and a
/// line with `ready` once requests are answered, and what was served at the end. Returns the exit code.
///
/// # Errors
/// [`SetupError`]: one line for the operator; nothing stays open or attached.
pub fn run(options: &Options) -> Result<ExitCode, SetupError> {
    run_with(options, &|queue| queue)
}

/// The same, with each queue as `wrap` makes it: for tests in which a queue does what no NIC can be brought to do.
///
/// # Errors
/// As for [`run`].
pub fn run_with(options: &Options, wrap: &dyn Fn(AnyQueue) -> AnyQueue) -> Result<ExitCode, SetupError> {
    let options = &vlan::on_parent(options)?;
    match Supervised::of_environment() {
        None => supervisor::run(options),
        Some(supervised) => serve(options, supervised?, wrap).map(|()| ExitCode::SUCCESS),
    }
}

fn serve(options: &Options, mut supervised: Supervised, wrap: &dyn Fn(AnyQueue) -> AnyQueue) -> Result<(), SetupError> {
    let opened = open::open(options, &mut supervised, wrap)?;
    let mut running = Running::start(opened, options, supervised)?;
    running.wait();
    running.stop()
}
