//! From options to running cores, and down again, in four steps that belong to the main thread.
//!
//! ```text
//!  open    cache, stacks, link, program, files; then rights are given up     setup/open.rs
//!  start   one pinned thread a core; says `ready`                            setup/running.rs
//!  wait    for a signal, `shutdown`, a core that ends, a link that is gone
//!  stop    every core drains and says what it did; all that was opened closes
//! ```

/// What each part is given, of what the options say.
mod config;
/// What was opened: an interface or a TAP.
mod device;
/// Why the server does not start, or ends.
mod error;
/// The files of `-P` and `-Y`.
mod files;
/// What needs a right.
mod open;
/// The cores running.
mod running;
/// What the main thread looks at meanwhile.
mod watch;

use crate::daemon;
use crate::options::Options;
use crate::say::say;
pub use error::SetupError;
use running::Running;

/// Serves until SIGINT or SIGTERM. Prints the mode obtained and a line with `ready` once requests are answered, and
/// what was served at the end.
///
/// # Errors
/// [`SetupError`]: one line for the operator; nothing stays open or attached.
pub fn run(options: &Options) -> Result<(), SetupError> {
    if options.daemon {
        daemon::leave_terminal().map_err(SetupError::system("leave the terminal"))?;
    }
    for note in &options.notes {
        say(format_args!("note: {note}"));
    }
    let mut running = Running::start(open::open(options)?, options)?;
    let gone = running.wait();
    running.stop()?;
    gone.map_or(Ok(()), Err)
}
