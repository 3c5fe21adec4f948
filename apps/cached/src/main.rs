//! `sidestep-cached`: a memcached-compatible cache server on AF_XDP sockets. Only wiring: read `setup.rs` for what is
//! opened and in which order, `worker.rs` for what a core does in a turn.

use std::process::ExitCode;

use clap::Parser;
use sidestep_cached::{Flags, is_in_background, run, start_in_background};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let flags = match Flags::try_parse() {
        Ok(flags) => flags,
        Err(error) if !error.use_stderr() => {
            // --help and --version: clap's own text, to standard output.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            eprintln!("sidestep-cached: {}; --help lists the options", line.trim_start_matches("error: "));
            return ExitCode::from(2);
        }
    };
    let options = match flags.check() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("sidestep-cached: {error}");
            return ExitCode::from(2);
        }
    };
    if options.daemon && !is_in_background() {
        return start_in_background().unwrap_or_else(|error| {
            eprintln!("sidestep-cached: -d: cannot start in the background: {error}");
            ExitCode::FAILURE
        });
    }
    let level = ["warn", "info", "debug"][usize::from(options.verbose.min(2))];
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sidestep-cached: {error}");
            ExitCode::FAILURE
        }
    }
}
