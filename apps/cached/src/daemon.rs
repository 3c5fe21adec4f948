//! `-d`: the server in the background.
//!
//! The command starts itself again as a child without a terminal, passes on what the child says until it is ready or
//! gives up, and ends with the exit code that tells which. So whoever starts a daemon learns at once whether it serves.
//! Read first:
//! `daemon(7)`; memcached's `daemon.c` forks once everything is read and cannot tell.

use std::env;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::process::{Command, ExitCode, Stdio};

use crate::say::say;

/// Set in the child's environment.
const MARK: &str = "SIDESTEP_CACHED_IN_BACKGROUND";

/// The beginning of the line by which the server says that it answers.
pub const READY: &str = "ready: ";

/// Whether this process is the child.
pub fn is_child() -> bool {
    env::var_os(MARK).is_some()
}

/// Starts the child with this process's arguments and waits until it is ready, or has ended.
///
/// # Errors
/// The child cannot be started, or its words not be read.
pub fn start() -> io::Result<ExitCode> {
    let mut command = Command::new(env::current_exe()?);
    command.args(env::args_os().skip(1)).env(MARK, "1").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            say(format_args!("{line}"));
            if line.starts_with(READY) {
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
    // It has said why on standard error, which is this process's own.
    let code = child.wait()?.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code.max(1)))
}

/// The child leaves the session of its parent, before anything is opened.
///
/// # Errors
/// The kernel refused.
pub fn leave_terminal() -> io::Result<()> {
    rustix::process::setsid()?;
    Ok(())
}

/// What a child needs to let go of what it shares with its parent, once nothing is left that it might have to say there.
#[derive(Debug)]
pub struct Leaving {
    null: File,
    verbose: bool,
}

impl Leaving {
    /// Does what can fail: finds where to speak to from then on, and leaves the working directory.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn prepare(verbose: bool) -> io::Result<Leaving> {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        env::set_current_dir("/")?;
        Ok(Leaving { null, verbose })
    }

    /// Lets go of standard output, and of standard error, which stays with `-v`.
    pub fn let_go(self) {
        // Refused for no descriptor that is open.
        let _ = rustix::stdio::dup2_stdout(&self.null);
        if !self.verbose {
            let _ = rustix::stdio::dup2_stderr(&self.null);
        }
    }
}
