//! `Guard`: settings of a NIC, saved in a file before they are changed, and given back in reverse order.
//!
//! ```text
//!   change ── save what it was ──► file ── set ── read again ──► file      restore ── read ── ours still? ── set back
//! ```
//!
//! Invariant: before a setting is changed, the file says what it was; so whoever comes after a crash can give it back,
//! by [`left_behind`](crate::guard::left_behind). What somebody else has changed since is left as it is, and said. A file belongs to one process
//! and one network namespace. Control side only. Read first: `guard/record.rs` for the file.

/// `Record`: the file.
mod record;

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use crate::link::{Link, LinkError};
use crate::settings::{Knobs, NicKnobs, Setting};
pub use record::Program;
use record::{Entry, Record};

/// Where the files are, unless SIDESTEP_STATE names another folder.
pub const FOLDER: &str = "/run/sidestep";

/// How long a setting that cannot be given back is tried again. A server that was killed has ended before its data plane has: until
/// then its XDP program is attached, with which a driver may refuse an offload that merges frames (virtio_net's `rx-gro-hw`).
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it is let be before it is tried again, at first and at most: each time twice as long, since some settings stop and start
/// the link whenever they are written.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MOST: Duration = Duration::from_secs(1);

/// The variable of the environment that names another folder.
const FOLDER_VARIABLE: &str = "SIDESTEP_STATE";

/// Where the files are.
pub fn folder() -> PathBuf {
    std::env::var_os(FOLDER_VARIABLE).map_or_else(|| PathBuf::from(FOLDER), PathBuf::from)
}

/// Why a setting was not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GuardError {
    /// There is no such setting, or the kernel does not say what it is.
    #[error("{setting} cannot be read: {source}")]
    Read {
        /// The setting.
        setting: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// What it was could not be saved; so it was left as it is.
    #[error("cannot save what {setting} is in {}, so it stays as it is: {source}", .file.display())]
    Save {
        /// The setting.
        setting: String,
        /// The file.
        file: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The kernel refused.
    #[error("{setting} cannot be set to {value}: {source}")]
    Write {
        /// The setting.
        setting: String,
        /// The value.
        value: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel said yes, and it is something else.
    #[error("{setting} was set to {value}, and is {now}")]
    NotDone {
        /// The setting.
        setting: String,
        /// The value it was to have.
        value: String,
        /// What it is.
        now: String,
    },
}

/// What came of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changed {
    /// It had that value already; nothing was touched.
    Already,
    /// It has it now.
    From(String),
}

/// What came of giving one setting back.
#[derive(Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// It is as it was before.
    Restored {
        /// The setting.
        setting: Setting,
        /// What it is again.
        value: String,
    },
    /// It was as before already.
    AsBefore {
        /// The setting.
        setting: Setting,
    },
    /// Somebody else has changed it since: it was left alone.
    Foreign {
        /// The setting.
        setting: Setting,
        /// What it was before.
        before: String,
        /// What it was set to.
        set: String,
        /// What it is.
        now: String,
        /// The command that would give it back all the same, if there is one.
        command: Option<String>,
    },
    /// It could not be given back.
    Failed {
        /// The setting.
        setting: Setting,
        /// What it was before.
        before: String,
        /// Why not.
        source: io::Error,
    },
    /// The interface is not there any more, and its settings with it.
    Gone {
        /// The interface.
        link: String,
    },
}

impl fmt::Display for Outcome {
    /// One line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored { setting, value } => write!(f, "{setting} is {value} again"),
            Self::AsBefore { setting } => write!(f, "{setting} is as it was"),
            Self::Foreign { setting, before, set, now, command } => {
                write!(f, "{setting} was {before}, was set to {set}, and somebody has made it {now} since: left so")?;
                command.as_ref().map_or(Ok(()), |command| write!(f, "; as before: {command}"))
            }
            Self::Failed { setting, before, source } => write!(f, "{setting} cannot be set back to {before}: {source}"),
            Self::Gone { link } => write!(f, "interface {link} is gone, and its settings with it"),
        }
    }
}

/// Changes settings of one interface, and gives them back when asked or dropped.
#[derive(Debug)]
pub struct Guard<K: Knobs = NicKnobs> {
    knobs: K,
    /// Whether the interface is gone, and its settings with it, but for those that are the machine's.
    gone: bool,
    /// How long what cannot be given back is tried again.
    patience: Duration,
    path: PathBuf,
    record: Record,
}

impl Guard {
    /// Of a server, which this process is, for `link`, with a file in `folder` from the first change on.
    ///
    /// # Errors
    /// The kernel refused to be asked.
    pub fn of_server(link: &Link, folder: &Path) -> io::Result<Self> {
        Self::of(Program::Server, std::process::id(), link, folder)
    }

    /// Of a launcher, with a file that says that the process `pid` holds the settings; see [`keep`](Self::keep).
    ///
    /// # Errors
    /// There is no such process, or the kernel refused to be asked.
    pub fn of_launcher(pid: u32, link: &Link, folder: &Path) -> io::Result<Self> {
        Self::of(Program::Launcher, pid, link, folder)
    }

    fn of(program: Program, pid: u32, link: &Link, folder: &Path) -> io::Result<Self> {
        let record = Record::new(link.name.clone(), link.index, program, pid)?;
        Ok(Self { knobs: NicKnobs::of(link)?, gone: false, patience: PATIENCE, path: record.path(folder), record })
    }
}

impl<K: Knobs> Guard<K> {
    /// Gives a setting a value, and looks whether it has it then.
    ///
    /// # Errors
    /// [`GuardError`]: it is as it was, or as the error says.
    pub fn change(&mut self, setting: &Setting, value: &str) -> Result<Changed, GuardError> {
        let unread = |source| GuardError::Read { setting: setting.to_string(), source };
        let knobs = &mut self.knobs;
        let before = knobs.read(setting).map_err(unread)?;
        if before == value {
            return Ok(Changed::Already);
        }
        for disturbed in setting.disturbs() {
            // A driver without it has nothing to be disturbed.
            if let Ok(now) = knobs.read(disturbed) {
                self.record.note(disturbed, &now, &now);
            }
        }
        self.record.note(setting, &before, value);
        if let Err(source) = self.record.save(&self.path) {
            return Err(GuardError::Save { setting: setting.to_string(), file: self.path.clone(), source });
        }
        let written = knobs.write(setting, value);
        let now = knobs.read(setting);
        // Whatever came of it is ours; so is what it has done to others.
        for entry in &mut self.record.settings {
            if (entry.setting == *setting || setting.disturbs().contains(&entry.setting))
                && let Ok(now) = knobs.read(&entry.setting)
            {
                entry.set = now;
            }
        }
        let saved = self.record.save(&self.path);
        saved.map_err(|source| GuardError::Save { setting: setting.to_string(), file: self.path.clone(), source })?;
        let (setting, value) = (setting.to_string(), value.to_owned());
        match (written, now) {
            (Err(source), _) => Err(GuardError::Write { setting, value, source }),
            (Ok(()), Ok(now)) if now != value => Err(GuardError::NotDone { setting, value, now }),
            _ => Ok(Changed::From(before)),
        }
    }

    /// Leaves everything as it is now, the file too; whoever comes later gives it back by [`left_behind`].
    pub fn keep(mut self) {
        self.record.settings.clear();
    }

    /// The settings that were changed, and what they were, in order.
    pub fn changed(&self) -> impl Iterator<Item = (&Setting, &str)> {
        self.record.settings.iter().map(|entry| (&entry.setting, entry.before.as_str()))
    }

    /// Gives back what was changed, the last first, and forgets it; the file goes, unless something could not be given
    /// back, though it was tried for seconds, which is then still in it.
    pub fn restore(&mut self) -> Vec<Outcome> {
        let mut entries = std::mem::take(&mut self.record.settings);
        if entries.is_empty() {
            return Vec::new();
        }
        let knobs = &mut self.knobs;
        let mut outcomes = Vec::new();
        if self.gone {
            outcomes.push(Outcome::Gone { link: self.record.interface.clone() });
            entries.retain(|entry| entry.setting.outlives_the_link());
        }
        // What is somebody else's is seen before anything is set back, since that may disturb others.
        let ours: Vec<_> = entries.into_iter().map(|entry| (knobs.read(&entry.setting), entry)).collect();
        let (mut kept, until) = (Vec::new(), Instant::now() + self.patience);
        for (now, entry) in ours.into_iter().rev() {
            let (mut outcome, mut pause) = (set_back(knobs, now, &entry, &self.record.interface), PAUSE);
            while matches!(outcome, Outcome::Failed { .. }) && Instant::now() < until {
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MOST);
                // What cannot even be read is not busy: its interface is going, or gone.
                let Ok(now) = knobs.read(&entry.setting) else { break };
                outcome = set_back(knobs, Ok(now), &entry, &self.record.interface);
            }
            if matches!(outcome, Outcome::Failed { .. }) {
                kept.push(entry);
            }
            outcomes.push(outcome);
        }
        kept.reverse();
        self.record.settings = kept;
        if self.record.settings.is_empty() {
            self.record.remove(&self.path);
        } else {
            // The file of before says more than is true now, which does no harm.
            let _ = self.record.save(&self.path);
        }
        outcomes
    }
}

fn set_back(knobs: &mut impl Knobs, seen: io::Result<String>, entry: &Entry, link: &str) -> Outcome {
    let Entry { setting, before, set } = entry;
    let (setting, before, set) = (setting.clone(), before.clone(), set.clone());
    match seen {
        Err(source) => return Outcome::Failed { setting, before, source },
        Ok(now) if now != set && now != before => {
            let command = setting.command(link, &before);
            return Outcome::Foreign { setting, before, set, now, command };
        }
        Ok(_) => {}
    }
    if knobs.read(&setting).is_ok_and(|now| now == before) {
        return Outcome::AsBefore { setting };
    }
    match knobs.write(&setting, &before).and_then(|()| knobs.read(&setting)) {
        Ok(now) if now == before => Outcome::Restored { setting, value: before },
        Ok(now) => Outcome::Failed { setting, before, source: io::Error::other(format!("it is {now} all the same")) },
        Err(source) => Outcome::Failed { setting, before, source },
    }
}

impl<K: Knobs> Drop for Guard<K> {
    fn drop(&mut self) {
        for outcome in self.restore() {
            tracing::info!(interface = self.record.interface, "{outcome}");
        }
    }
}

/// A file of settings that a process has left behind, or holds.
#[derive(Debug)]
pub struct LeftBehind {
    record: Record,
    path: PathBuf,
}

impl LeftBehind {
    /// The process that changed them, if it still runs.
    pub fn holder(&self) -> Option<u32> {
        self.record.owner.runs().then_some(self.record.owner.pid)
    }

    /// The process that changed them, whether it still runs or not.
    pub fn process(&self) -> u32 {
        self.record.owner.pid
    }

    /// What that process was; `None` where the file does not say, as those of before did not.
    pub fn program(&self) -> Option<Program> {
        self.record.owner.program
    }

    /// What was changed.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.record.settings.iter().map(|entry| &entry.setting)
    }

    /// Where they are saved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes them over, to give them back.
    ///
    /// # Errors
    /// The kernel does not say whether the interface is there.
    pub fn take(self) -> Result<Guard, LinkError> {
        let (knobs, gone) = match Link::by_index(self.record.index) {
            Ok(link) => {
                let refused = |source| LinkError::Kernel { name: link.name.clone(), source };
                (NicKnobs::of(&link).map_err(refused)?, false)
            }
            Err(LinkError::Gone { .. }) => (NicKnobs::of_the_machine(), true),
            Err(error) => return Err(error),
        };
        Ok(Guard { knobs, gone, patience: PATIENCE, path: self.path, record: self.record })
    }
}

/// Gives back what processes that have ended have left of `interface`, as far as `which` says. Two that do it at once, or one that
/// does it and one that then changes settings, do not come between each other: the folder is locked meanwhile.
///
/// # Errors
/// The folder, or a file that is there, cannot be read; or the kernel does not say whether the interface is there.
pub fn give_back(interface: &str, folder: &Path, which: impl Fn(&LeftBehind) -> bool) -> io::Result<Vec<Outcome>> {
    let locked = match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    rustix::fs::flock(&locked, FlockOperation::LockExclusive)?;
    let mut outcomes = Vec::new();
    for left in left_behind(interface, folder)? {
        if left.holder().is_none() && which(&left) {
            outcomes.extend(left.take().map_err(io::Error::other)?.restore());
        }
    }
    Ok(outcomes)
}

/// What processes have saved of `interface`, in the network namespace of the calling thread: the youngest first, the order
/// in which to give it back.
///
/// # Errors
/// The folder, or a file that is there, cannot be read.
pub fn left_behind(interface: &str, folder: &Path) -> io::Result<Vec<LeftBehind>> {
    let mut found: Vec<_> =
        Record::all(interface, folder)?.into_iter().map(|(path, record)| LeftBehind { record, path }).collect();
    found.sort_by_key(|left| std::cmp::Reverse(left.record.since));
    Ok(found)
}

#[cfg(test)]
mod tests;
