//! What the machine and the source tree were: a figure without them is not a figure.

use std::fs;
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::plan::{Plan, Role};

/// Facts recorded beside every comparison.
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
    /// Version of each side's server, where the plan tells how to ask for it.
    pub versions: Vec<(Role, String)>,
}

impl Machine {
    /// Looks around; what cannot be found out is said to be unknown.
    pub fn look(plan: &Plan) -> Machine {
        let versions = plan.roles().filter_map(|role| {
            let side = plan.side(role)?;
            let argv = plan.fill(&side.version, Some(side), None).ok()?;
            let (program, rest) = argv.split_first()?;
            let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
            let version = first_lines(program, &rest).and_then(|text| text.lines().next().map(str::to_owned));
            Some((role, version.unwrap_or_else(|| "unknown".into())))
        });
        Machine { versions: versions.collect(), ..Machine::bare() }
    }

    /// Looks around as [`Machine::look`] does, for a comparison that has no plan.
    pub fn bare() -> Machine {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.split(':').next().is_some_and(|front| front.trim() == name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemTotal");
        let kib = memory.and_then(|text| text.split(' ').next().and_then(|number| number.parse::<u64>().ok()));
        let changes = first_lines("git", &["status", "--porcelain", "--", ".", ":!bench/runs"]);
        Machine {
            date: first_lines("date", &["-u", "+%F"]).unwrap_or_else(|| "unknown-date".into()),
            command_line: command_line(),
            commit: first_lines("git", &["rev-parse", "HEAD"])
                .unwrap_or_else(|| "unknown (not a git work tree)".into()),
            dirty: changes.map(|text| !text.is_empty()),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            cpu_model: field(&cpuinfo, "model name").unwrap_or_else(|| "unknown".into()),
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: field(&cpuinfo, "flags").is_some_and(|flags| flags.split(' ').any(|f| f == "hypervisor")),
            memory_mib: kib.unwrap_or(0) / 1024,
            versions: Vec::new(),
        }
    }
}

/// The arguments as typed, without the source tree's own path, which differs from machine to machine.
fn command_line() -> String {
    let words: Vec<String> = std::env::args_os().map(|word| quoted(&word.to_string_lossy())).collect();
    let line = words.join(" ");
    match first_lines("git", &["rev-parse", "--show-toplevel"]) {
        Some(top) => line.replace(&format!("{top}/"), ""),
        None => line,
    }
}

/// A word as a shell would read it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// Standard output of a short command without its last line break; `None` when it fails.
fn first_lines(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::tests::plan;

    #[test]
    fn words_are_quoted_only_where_a_shell_needs_it() {
        assert_eq!(quoted("--set=a/b:1"), "--set=a/b:1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn versions_come_from_the_plans_commands() {
        let mut plan = plan("pairs = 1", "");
        plan.peer.version = vec!["echo".into(), "peer 1.2".into()];
        plan.ours.version = vec!["false".into()];
        let machine = Machine::look(&plan);
        assert_eq!(machine.versions, [(Role::Ours, "unknown".to_owned()), (Role::Peer, "peer 1.2".to_owned())]);
        assert_eq!(machine.date.len(), 10, "{}", machine.date);
        assert!(machine.cpus > 0 && !machine.kernel.is_empty());
    }
}
