//! What the server says on standard output: a few lines at its start and its end.
//!
//! The reader of these lines may have gone (`| head -1`), and the disk behind them may be full. A server goes on
//! serving then, so a line that cannot be written is lost, and that is logged. `println!` would panic.

use std::fmt::Arguments;
use std::io::{self, Write};

/// Writes one line, whole when this returns, if it can be written.
pub(crate) fn say(line: Arguments<'_>) {
    let mut out = io::stdout().lock();
    if let Err(error) = write_line(&mut out, line) {
        tracing::warn!(%error, "standard output takes no more; what was to be said there is lost: {line}");
    }
}

fn write_line(out: &mut impl Write, line: Arguments<'_>) -> io::Result<()> {
    writeln!(out, "{line}")?;
    out.flush()
}
