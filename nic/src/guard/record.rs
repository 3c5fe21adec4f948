//! `Record`: what a process has changed of an interface, as TOML in a file.
//!
//! The file is `INTERFACE.NAMESPACE.PROCESS.toml`, of root's alone, and whole when it is there: it is written under another
//! name and moved. NAMESPACE is the inode of the network namespace.
//!
//! ```text
//! interface = "eth1"
//! index = 3
//! since = 1764460800000000000
//! [owner]
//! program = "server"
//! pid = 4711
//! started = 123456
//! [[settings]]
//! setting = "channels"
//! before = "rx 0 tx 0 combined 8"
//! set = "rx 0 tx 0 combined 2"
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::OFlags;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::settings::Setting;

/// The file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    /// Name of the interface when it was opened.
    pub(super) interface: String,
    /// Its index, which stays the same under another name.
    pub(super) index: u32,
    /// When it was begun, in nanoseconds of Unix time.
    pub(super) since: u64,
    /// The process.
    pub(super) owner: Owner,
    /// In the order in which they were changed.
    pub(super) settings: Vec<Entry>,
}

/// For what settings are changed: a successor gives back what its like has left, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// A server, for as long as it runs; the next one at the interface takes its place.
    Server,
    /// A launcher, which makes an interface ready before a server starts and gives it back after that has ended.
    Launcher,
}

/// A process: what it is, its number, and when it was started, since numbers are used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Owner {
    /// `None` in a file of a version that did not say.
    #[serde(default)]
    pub(super) program: Option<Program>,
    pub(super) pid: u32,
    /// Clock ticks since boot (`proc(5)`, starttime).
    started: u64,
}

/// A setting that was changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub(super) setting: Setting,
    /// What it was.
    pub(super) before: String,
    /// What it was set to, or has become by a change of another.
    pub(super) set: String,
}

fn as_text<S: Serializer>(setting: &Setting, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(setting)
}

fn from_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Setting, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

impl Owner {
    fn of(program: Program, pid: u32) -> io::Result<Self> {
        let unknown = || io::Error::other(format!("/proc does not say when process {pid} began"));
        let started = started(pid).ok_or_else(unknown)?;
        Ok(Self { program: Some(program), pid, started })
    }

    /// Whether it is still there.
    pub(super) fn runs(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// When a process was started; `None` when there is none of that number, or it has ended and waits to be collected.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may have spaces and brackets itself. Field 3 follows it, and starttime is field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

impl Record {
    /// Of the process `pid`, which is a `program`, with nothing changed yet.
    pub(super) fn new(interface: String, index: u32, program: Program, pid: u32) -> io::Result<Self> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // 2554 is far away.
        let since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self { interface, index, since, owner: Owner::of(program, pid)?, settings: Vec::new() })
    }

    /// Where it is saved.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        folder.join(format!("{}.{}.{}.toml", self.interface, namespace(), self.owner.pid))
    }

    /// Notes that `setting`, now `before`, is to be `set`. What was noted first stays what it was before.
    pub(super) fn note(&mut self, setting: &Setting, before: &str, set: &str) {
        match self.settings.iter_mut().find(|entry| entry.setting == *setting) {
            Some(entry) => entry.set = set.to_owned(),
            None => {
                let (before, set) = (before.to_owned(), set.to_owned());
                self.settings.push(Entry { setting: setting.clone(), before, set });
            }
        }
    }

    /// Writes it, whole or not at all.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let unfinished = path.with_extension("new");
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let text = toml::to_string(self).map_err(io::Error::other)?;
        let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
        file.write_all(text.as_bytes())?;
        fs::rename(unfinished, path)
    }

    /// Removes the file.
    pub(super) fn remove(&self, path: &Path) {
        // Where it stays, all that it says has been given back, and giving it back again changes nothing.
        let _ = fs::remove_file(path);
    }

    /// All files of an interface in this network namespace.
    pub(super) fn all(interface: &str, folder: &Path) -> io::Result<Vec<(PathBuf, Self)>> {
        let begin = format!("{interface}.{}.", namespace());
        let mut found = Vec::new();
        let entries = match fs::read_dir(folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            entries => entries?,
        };
        only_ours(&fs::symlink_metadata(folder)?, folder)?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(&begin) && name.ends_with(".toml") {
                let text = read_own(&path)?;
                let say = |error| io::Error::other(format!("{} is not understood: {error}", path.display()));
                let record = toml::from_str(&text).map_err(say)?;
                found.push((path, record));
            }
        }
        Ok(found)
    }
}

/// Reads a file that nobody else can have written: what it says is done with root's rights.
fn read_own(path: &Path) -> io::Result<String> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    only_ours(&file.metadata()?, path)?;
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// Refuses what belongs to another user, or others may write to.
fn only_ours(of: &fs::Metadata, path: &Path) -> io::Result<()> {
    if of.uid() == rustix::process::geteuid().as_raw() && of.mode() & 0o022 == 0 {
        return Ok(());
    }
    Err(io::Error::other(format!("{} is another user's, or others may write to it: not used", path.display())))
}

/// Which network namespace this thread is in; 0 where the kernel does not say.
fn namespace() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").map_or(0, |namespace| namespace.ino())
}
