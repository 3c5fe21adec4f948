//! The log, on standard error, and its level, which can be changed while the server runs.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

/// Sets another filter.
type SetFilter = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// There is one log in a process, as `tracing` has it.
static SET_FILTER: OnceLock<SetFilter> = OnceLock::new();

/// The levels of verbosity 0, 1 and 2.
const LEVELS: [&str; 3] = ["warn", "info", "debug"];

/// Starts the log at the level of so many `-v`; RUST_LOG overrides. Once.
pub fn start_log(verbose: u8) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level(u32::from(verbose))));
    // A line that cannot be written is lost. To complain of it on the same standard error would end in a panic.
    let log = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    let log = log.with_writer(io::stderr).with_ansi(takes_colours()).with_filter_reloading();
    let handle = log.reload_handle();
    let set = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    // Fails where it was started before.
    let _ = SET_FILTER.set(Box::new(set));
    log.init();
}

/// The level of a verbosity; larger ones than 2 mean 2.
pub fn level(verbosity: u32) -> &'static str {
    LEVELS[verbosity.min(2) as usize]
}

/// From now on the log has what `filter` lets through: a level such as `debug`, or what RUST_LOG takes.
///
/// # Errors
/// It is no filter, or there is no log; in words.
pub fn set_log_filter(filter: &str) -> Result<(), String> {
    let filter = EnvFilter::try_new(filter).map_err(|error| error.to_string())?;
    SET_FILTER.get().ok_or("this process has no log")?(filter)
}

/// Whether standard error shows colours: a file, a pipe or a journal would keep their escape sequences. NO_COLOR says
/// that even a terminal is to show none (<https://no-color.org>).
fn takes_colours() -> bool {
    io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}
