//! What the machine and the source tree were: a figure without them is not a figure.

use std::fmt;
use std::process::{Command, Stdio};

use procfs::{CpuInfo, Current, Meminfo};
use serde::Serialize;

/// Facts recorded beside every run. As text they are the end of a run folder's README.
#[derive(Debug, Clone, Serialize)]
pub struct Machine {
    /// UTC day, `yyyy-mm-dd`.
    pub date: String,
    /// This program's own command line, relative to the source tree.
    pub command_line: String,
    /// The commit, or why it is not known.
    pub commit: String,
    /// True when files differ from the commit (results under bench/runs aside); `None` when not known.
    pub dirty: Option<bool>,
    /// Release of the kernel.
    pub kernel: String,
    /// Name of the processor.
    pub cpu_model: String,
    /// Processors that programs may use.
    pub cpus: usize,
    /// True when the processor says that a hypervisor runs beneath.
    pub virtual_machine: bool,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// Version of each server, under the name that the run gives it.
    pub versions: Vec<(String, String)>,
}

impl Machine {
    /// Looks around; what cannot be found out is said to be unknown. `versions` are commands that print a server's
    /// version, by the name of the server.
    pub fn look(versions: impl IntoIterator<Item = (String, Vec<String>)>) -> Machine {
        let cpu = CpuInfo::current().ok();
        let cpu = cpu.as_ref();
        let changes = output(&["git", "status", "--porcelain", "--", ".", ":!bench/runs"]);
        let version = |argv: &[String]| Some(output(argv)?.lines().next().unwrap_or_default().to_owned());
        let unknown = || "unknown".to_owned();
        Machine {
            date: output(&["date", "-u", "+%F"]).unwrap_or_else(|| "unknown-date".into()),
            command_line: command_line(),
            commit: output(&["git", "rev-parse", "HEAD"]).unwrap_or_else(|| "unknown (not a git work tree)".into()),
            dirty: changes.map(|text| !text.is_empty()),
            kernel: output(&["uname", "-r"]).unwrap_or_else(unknown),
            cpu_model: cpu.and_then(|cpu| cpu.model_name(0)).map_or_else(unknown, str::to_owned),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: cpu.and_then(|cpu| cpu.flags(0)).is_some_and(|flags| flags.contains(&"hypervisor")),
            memory_mib: Meminfo::current().map_or(0, |memory| memory.mem_total >> 20),
            versions: versions.into_iter().map(|(name, argv)| (name, version(&argv).unwrap_or_else(unknown))).collect(),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { date, commit, cpus, cpu_model, memory_mib, kernel, .. } = self;
        let dirty = match self.dirty {
            Some(true) => " with uncommitted changes",
            Some(false) => ", clean",
            None => "",
        };
        let bed = if self.virtual_machine { "a virtual machine" } else { "a physical machine" };
        writeln!(f, "## How it was run\n\n```\n{}\n```\n\n* {date}, commit {commit}{dirty}", self.command_line)?;
        writeln!(f, "* {bed}: {cpus} x {cpu_model}, {memory_mib} MiB, Linux {kernel}")?;
        self.versions.iter().try_for_each(|(name, version)| writeln!(f, "* {name}: {version}"))
    }
}

/// The arguments as typed, without the source tree's own path, which differs from machine to machine.
fn command_line() -> String {
    let words: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match output(&["git", "rev-parse", "--show-toplevel"]) {
        Some(top) => shell_line(&words).replace(&format!("{top}/"), ""),
        None => shell_line(&words),
    }
}

/// A command as a shell would read it back.
pub fn shell_line(words: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let quoted = |word: &String| match !word.is_empty() && word.chars().all(plain) {
        true => word.clone(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    };
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// Standard output of a short command without its last line break; `None` when it fails.
fn output<S: AsRef<std::ffi::OsStr>>(argv: &[S]) -> Option<String> {
    let (program, rest) = argv.split_first()?;
    let output = Command::new(program).args(rest).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        let words = ["--set=a/b:1", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(shell_line(&words), r"--set=a/b:1 'a b' 'it'\''s' ''");
    }

    #[test]
    fn versions_come_from_the_commands_given() {
        let commands = [("ours", vec!["false"]), ("peer", vec!["echo", "peer 1.2"]), ("null", vec![])];
        let words = |argv: Vec<&str>| argv.into_iter().map(str::to_owned).collect();
        let machine = Machine::look(commands.map(|(name, argv)| (name.to_owned(), words(argv))));
        let versions: Vec<_> = machine.versions.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(versions, [("ours", "unknown"), ("peer", "peer 1.2"), ("null", "unknown")]);
        assert_eq!(machine.date.len(), 10, "{}", machine.date);
        assert!(machine.cpus > 0 && machine.memory_mib > 0 && !machine.kernel.is_empty());
        assert!(machine.to_string().contains("peer 1.2"));
    }
}
