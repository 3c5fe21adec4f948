//! `sidestep nic`: a NIC made ready for the server, and given back as it was.
//!
//! ```text
//!  prepare   whose NIC is it? ──► what is, what should be ──► changed, each saved first     scripts/run-on-nic calls it
//!  restore   what was saved ──► set back, the last first
//! ```
//!
//! One line a finding: what is, what it should be, the command that mends it. With `--dry-run` nothing is changed.

/// Which CPUs the server's threads and the NIC's interrupts get.
mod cpus;
/// `Finding`: one line.
mod finding;
/// What is, and what it should be.
mod findings;
/// What the kernel says in /proc and /sys.
mod machine;
/// Whether a NIC is needed by somebody else.
mod protect;

use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use nic::guard::{Guard, GuardError, Outcome, folder, left_behind};
use nic::link::{Link, LinkError};
use nic::settings::{NicKnobs, Setting};

use crate::device;
use finding::Finding;
use machine::Machine;

/// How often it is looked whether there is a carrier.
const CARRIER_INTERVAL: Duration = Duration::from_millis(100);

/// What was typed.
#[derive(Debug, Clone, Args)]
pub struct NicFlags {
    /// Where what settings were is saved [default: what SIDESTEP_STATE says, or /run/sidestep]
    #[arg(long, global = true, value_name = "FOLDER")]
    pub state: Option<PathBuf>,
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, Clone, Subcommand)]
enum Act {
    /// Check a NIC and set it for the server; what is changed is saved first
    Prepare(PrepareFlags),
    /// Give a NIC back as it was before `prepare`, or before a server that was killed
    Restore {
        /// The interface: NAME or xdp:NAME
        #[arg(value_parser = device::nic)]
        interface: String,
        /// Also what a process holds that still runs: this one
        #[arg(long, value_name = "PID")]
        owner: Option<u32>,
    },
}

#[derive(Debug, Clone, Args)]
struct PrepareFlags {
    /// The interface: NAME or xdp:NAME
    #[arg(value_parser = device::nic)]
    interface: String,
    /// Threads of the server, and so queues that the NIC should have
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=64))]
    threads: u16,
    /// The server's CPUs, one a thread, separated by commas [default: the first ones of the NIC's own NUMA node]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cpus: Vec<usize>,
    /// Only say what would be changed
    #[arg(long)]
    dry_run: bool,
    /// The kernel goes on using the NIC, which may carry the default route or this session: its channels, MTU and
    /// interrupts are left alone
    #[arg(long)]
    shared: bool,
    /// Take the NIC, whoever uses it
    #[arg(long)]
    force: bool,
    /// Seconds to wait for a carrier
    #[arg(long, value_name = "S", default_value = "60")]
    carrier: u64,
    /// The process for which it is done: once it has ended, others may give the NIC back [default: the one that asks]
    #[arg(long, value_name = "PID")]
    owner: Option<u32>,
}

/// Why a NIC could not be made ready or given back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NicError {
    /// There is no such interface, or the kernel does not tell of it.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// Something could not be read, written or said.
    #[error("{what}: {source}")]
    System {
        /// What was to be done.
        what: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Somebody else needs the interface.
    #[error(
        "{link} {why}; --shared leaves its settings alone but for how it spreads frames, --force takes it all the same"
    )]
    Needed {
        /// The interface.
        link: String,
        /// Who needs it.
        why: String,
    },
    /// Another process has set it.
    #[error("{link} is set for process {holder}, which still runs; stop that first")]
    Held {
        /// The interface.
        link: String,
        /// The process.
        holder: u32,
    },
    /// There is no carrier.
    #[error("{link} has no carrier after {seconds} s: look at the cable and at the other end (ethtool {link})")]
    NoCarrier {
        /// The interface.
        link: String,
        /// How long was waited.
        seconds: u64,
    },
    /// It is down.
    #[error("{link} is down; bring it up: ip link set {link} up")]
    Down {
        /// The interface.
        link: String,
    },
    /// A setting could not be changed; those that were are back.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// Something is not as it was.
    #[error("{count} settings of {link} could not be given back; they stay saved in {}", .folder.display())]
    NotBack {
        /// The interface.
        link: String,
        /// How many.
        count: usize,
        /// Where.
        folder: PathBuf,
    },
}

impl NicError {
    fn system(what: impl Display) -> impl FnOnce(io::Error) -> NicError {
        let what = what.to_string();
        move |source| NicError::System { what, source }
    }
}

/// Does what `flags` say, and says it.
///
/// # Errors
/// [`NicError`]: one line for the operator; nothing stays changed, but what could not be given back.
pub fn run(flags: &NicFlags, out: &mut impl Write) -> Result<(), NicError> {
    let state = &flags.state.clone().unwrap_or_else(folder);
    match &flags.act {
        Act::Prepare(prepare) => {
            let machine = Machine::here();
            Preparation { flags: prepare, state, machine: &machine }.run(out)
        }
        Act::Restore { interface, owner } => restore(interface, *owner, state, out),
    }
}

fn say(out: &mut impl Write, line: impl Display) -> Result<(), NicError> {
    writeln!(out, "{line}").map_err(NicError::system("cannot say what is done"))
}

/// Gives back what was left behind of `interface`, and what `owner` holds.
fn restore(interface: &str, owner: Option<u32>, state: &std::path::Path, out: &mut impl Write) -> Result<(), NicError> {
    let unread = NicError::system(format!("cannot read what is saved in {}", state.display()));
    let found = left_behind(interface, state).map_err(unread)?;
    if found.is_empty() {
        return say(out, format_args!("{interface}: nothing was changed, or all of it is as it was"));
    }
    let mut failed = 0;
    let mut first_error = None;
    // All of it is given back, whatever becomes of one part, and whether or not anybody reads what is said.
    for left in found {
        if let Some(holder) = left.holder().filter(|holder| owner != Some(*holder)) {
            first_error.get_or_insert(NicError::Held { link: interface.to_owned(), holder });
            continue;
        }
        let outcomes = match left.take() {
            Ok(mut guard) => guard.restore(),
            Err(error) => {
                first_error.get_or_insert(error.into());
                continue;
            }
        };
        for outcome in outcomes {
            failed += usize::from(matches!(outcome, Outcome::Failed { .. }));
            if let Err(error) = say(out, format_args!("{interface}: {outcome}")) {
                first_error.get_or_insert(error);
            }
        }
    }
    if failed > 0 {
        return Err(NicError::NotBack { link: interface.to_owned(), count: failed, folder: state.to_owned() });
    }
    first_error.map_or(Ok(()), Err)
}

/// One run of `prepare`.
struct Preparation<'a> {
    flags: &'a PrepareFlags,
    state: &'a std::path::Path,
    machine: &'a Machine,
}

impl Preparation<'_> {
    fn run(&self, out: &mut impl Write) -> Result<(), NicError> {
        let flags = self.flags;
        let link = Link::by_name(&flags.interface)?;
        if let Some(why) = protect::needed(self.machine, &link) {
            if !flags.shared && !flags.force {
                return Err(NicError::Needed { link: link.name, why });
            }
            say(out, Finding::note(format_args!("{} {why}", link.name)))?;
        }
        self.take_back(&link, out)?;
        if !link.up {
            return Err(NicError::Down { link: link.name });
        }
        self.wait_for_carrier(&link, out)?;
        let knobs = NicKnobs::of(&link).map_err(NicError::system("cannot ask about the interface"))?;
        let wishes = findings::Wishes { threads: flags.threads, cpus: flags.cpus.clone(), shared: flags.shared };
        let mut guard = self.guard(&link)?;
        for finding in findings::all(self.machine, &link, &knobs, &wishes) {
            self.apply(&finding, &mut guard, out)?;
        }
        // The driver may have made a new table for the new channels, so that it is looked at last.
        if let Some(finding) = findings::table(&Link::by_name(&flags.interface)?, &knobs, &wishes) {
            self.apply(&finding, &mut guard, out)?;
        }
        guard.keep();
        let server = cpus::of_server(self.machine, &link, flags.threads, &flags.cpus);
        let list: Vec<String> = server.iter().map(usize::to_string).collect();
        let pinned = if list.is_empty() { String::new() } else { format!(" --cpus {}", list.join(",")) };
        // scripts/run-on-nic gives these to the server.
        say(out, format_args!("server --interface {} -t {}{pinned}", link.name, flags.threads))
    }

    /// What an earlier run has left behind, which ended without giving it back.
    fn take_back(&self, link: &Link, out: &mut impl Write) -> Result<(), NicError> {
        let unread = NicError::system(format!("cannot read what is saved in {}", self.state.display()));
        for left in left_behind(&link.name, self.state).map_err(unread)? {
            if let Some(holder) = left.holder() {
                return Err(NicError::Held { link: link.name.clone(), holder });
            }
            if self.flags.dry_run {
                let command = format!("sidestep nic restore {}", link.name);
                say(out, Finding::change("settings of an earlier run are left", "as they were", command))?;
                continue;
            }
            for outcome in left.take()?.restore() {
                say(out, Finding::note(format_args!("an earlier run: {outcome}")))?;
            }
        }
        Ok(())
    }

    fn wait_for_carrier(&self, link: &Link, out: &mut impl Write) -> Result<(), NicError> {
        let begin = Instant::now();
        let mut said = false;
        while !self.machine.has_carrier(link) {
            if !std::mem::replace(&mut said, true) {
                say(out, Finding::note(format_args!("{} has no carrier yet", link.name)))?;
            }
            if self.flags.dry_run {
                return Ok(());
            }
            if begin.elapsed() >= Duration::from_secs(self.flags.carrier) {
                return Err(NicError::NoCarrier { link: link.name.clone(), seconds: self.flags.carrier });
            }
            std::thread::sleep(CARRIER_INTERVAL);
        }
        Ok(())
    }

    fn guard(&self, link: &Link) -> Result<Guard, NicError> {
        let owner = self.flags.owner.unwrap_or_else(std::os::unix::process::parent_id);
        Guard::of_launcher(owner, link, self.state).map_err(NicError::system("cannot keep what settings are"))
    }

    /// Says a finding, and makes its change. One that cannot be made ends it all, and the guard gives back what was
    /// changed.
    fn apply(&self, finding: &Finding, guard: &mut Guard, out: &mut impl Write) -> Result<(), NicError> {
        say(out, finding)?;
        let Some((setting, value)) = finding.wanted() else { return Ok(()) };
        if self.flags.dry_run {
            return Ok(());
        }
        match guard.change(setting, value) {
            Ok(_) => Ok(()),
            // Nothing depends on these but speed, and some drivers cannot do it.
            Err(error) if matches!(setting, Setting::File(_) | Setting::UdpHash(_) | Setting::RssTable) => {
                say(out, Finding::note(format_args!("{error}; it goes on without")))
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
