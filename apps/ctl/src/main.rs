//! `sidestep`: tools around Sidestep's servers. Only wiring.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
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
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) if !error.use_stderr() => {
            // --help and --version: clap's own text, to standard output.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            let text = error.to_string();
            let line = text.lines().next().unwrap_or_default();
            eprintln!("sidestep: {}; --help lists the options", line.trim_start_matches("error: "));
            return ExitCode::from(2);
        }
    };
    let Tool::Replay(flags) = arguments.tool;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let end = replay::run(&flags, &mut out);
    // A reader that has gone away wants no more.
    let _ = out.flush();
    match end {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("sidestep: {error}");
            ExitCode::from(2)
        }
    }
}
