//! `sidestep-cached`: a memcached-compatible cache server on AF_XDP sockets. Only wiring: read `setup.rs` for what is
//! opened and in which order, `worker.rs` for what a core does in a turn.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::env;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use sidestep_cached::{Options, Refusal, is_in_background, is_keeper, keep, run, start_in_background, start_log};

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
    start_log(options.verbose);
    run(&options).unwrap_or_else(|error| failure(error.exit_code(), &error))
}

fn failure(code: u8, error: &dyn Display) -> ExitCode {
    // Where standard error takes nothing, the exit code has to say it.
    let _ = writeln!(io::stderr(), "sidestep-cached: {error}");
    ExitCode::from(code)
}
