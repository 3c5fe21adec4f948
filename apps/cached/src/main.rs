//! `sidestep-cached`: a memcached-compatible cache server on AF_XDP sockets. Only wiring: read `setup.rs` for what is
//! opened and in which order, `worker.rs` for what a core does in a turn.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::env;
use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use sidestep_cached::{Options, Refusal, is_in_background, is_keeper, keep, run, start_in_background};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    if is_keeper() {
        return keep();
    }
    let options = match Options::read(env::args_os()) {
        Ok(options) => options,
        Err(Refusal::Option(error)) => return failure(2, &error),
        // Help and version go to standard output, every other message whole to standard error.
        Err(Refusal::Message(message)) => {
            let code = if message.print().is_ok() { message.exit_code() } else { 1 };
            return ExitCode::from(code as u8);
        }
    };
    if options.daemon && !is_in_background() {
        let started = start_in_background();
        return started.unwrap_or_else(|error| failure(1, &format!("-d: cannot start in the background: {error}")));
    }
    let level = ["warn", "info", "debug"][usize::from(options.verbose.min(2))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // A line that cannot be written is lost. To complain of it on the same standard error would end in a panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    log.with_writer(io::stderr).with_ansi(takes_colours()).init();
    run(&options).unwrap_or_else(|error| failure(error.exit_code(), &error))
}

/// Whether standard error shows colours: a file, a pipe or a journal would keep their escape sequences. NO_COLOR says
/// that even a terminal is to show none (<https://no-color.org>).
fn takes_colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}

fn failure(code: u8, error: &dyn Display) -> ExitCode {
    // Where standard error takes nothing, the exit code has to say it.
    let _ = writeln!(io::stderr(), "sidestep-cached: {error}");
    ExitCode::from(code)
}
