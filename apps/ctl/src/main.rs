//! `sidestep`: tools around Sidestep's servers. Only wiring.

#![deny(clippy::print_stdout, clippy::print_stderr)] // They panic where a pipe has no reader, or a disk is full.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use sidestep_ctl::ctl::{self, CtlFlags};
use sidestep_ctl::nic::{self, NicFlags};
use sidestep_ctl::replay::{self, ReplayFlags};

#[derive(Debug, Parser)]
#[command(name = "sidestep", version, about = "Tools around Sidestep's servers")]
struct Arguments {
    #[command(subcommand)]
    tool: Tool,
}

#[derive(Debug, Subcommand)]
enum Tool {
    /// Play a recorded session to stack and cache, without a NIC, and compare what they send with what was recorded
    Replay(ReplayFlags),
    /// Make a NIC ready for the server, and give it back as it was
    Nic(NicFlags),
    /// Ask and govern a running server. Exits with 1 if the server does not do it, with 2 if no server answers
    Ctl(CtlFlags),
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        // Help and version go to standard output, every other message whole to standard error.
        Err(message) => {
            let code = if message.print().is_ok() { message.exit_code() } else { 1 };
            return ExitCode::from(code as u8);
        }
    };
    match arguments.tool {
        Tool::Replay(flags) => replay_with(&flags),
        Tool::Nic(flags) => match nic::run(&flags, &mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failure(&error),
        },
        Tool::Ctl(flags) => match ctl::run(&flags, &mut std::io::stdout().lock(), &mut std::io::stderr().lock()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => failure(&error),
        },
    }
}

fn replay_with(flags: &ReplayFlags) -> ExitCode {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let end = replay::run(flags, &mut out);
    let flushed = match out.flush() {
        // A reader that has gone away wants no more.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    };
    if let (Ok(_), Err(error)) = (&end, flushed) {
        let _ = writeln!(std::io::stderr(), "sidestep: cannot print the table: {error}");
        return ExitCode::from(2);
    }
    match end {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failure(&error),
    }
}

fn failure(error: &dyn std::fmt::Display) -> ExitCode {
    // Where standard error takes nothing, the exit code has to say it.
    let _ = writeln!(std::io::stderr(), "sidestep: {error}");
    ExitCode::from(2)
}
