//! Processor time: of the whole machine by kind, and of processes that are not part of the run.
//!
//! On veth the receiver's soft interrupt runs on the sender's processor, so the time of the server's process alone says
//! nothing; the whole machine's does. Foreign time is summed process by process, so that a void run can name who
//! disturbed it; kernel threads are nobody's and count for the machine alone. Read proc(5), /proc/stat and
//! /proc/pid/stat, first.

use std::collections::HashMap;
use std::fs;

use serde::Serialize;

/// Clock ticks a second in /proc (`sysconf(_SC_CLK_TCK)`), 100 on every Linux that this project runs on.
pub const TICKS_PER_SECOND: f64 = 100.0;
/// `PF_KTHREAD` of the kernel's `include/linux/sched.h`, in the ninth field of /proc/pid/stat.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Processor time of the whole machine, in seconds summed over its processors; since boot, or a difference of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct CpuTime {
    /// Programs, niced ones included.
    pub user: f64,
    /// The kernel on behalf of programs and its own threads.
    pub system: f64,
    /// Interrupts.
    pub irq: f64,
    /// Soft interrupts: most of the network's work.
    pub softirq: f64,
    /// Nothing to do, waiting for a disk included.
    pub idle: f64,
    /// Time that the hypervisor gave to somebody else.
    pub steal: f64,
}

/// `text` is not a /proc/stat.
#[derive(Debug, thiserror::Error)]
#[error("/proc/stat starts with '{line}', not with 'cpu' and eight counts of ticks; this needs Linux 2.6.11 or later")]
pub struct CpuTimeError {
    line: String,
}

impl CpuTime {
    /// Reads the text of /proc/stat.
    ///
    /// # Errors
    /// [`CpuTimeError`] when its first line is not the machine's total.
    pub fn parse(text: &str) -> Result<CpuTime, CpuTimeError> {
        let line = text.lines().next().unwrap_or_default();
        let error = || CpuTimeError { line: line.chars().take(80).collect() };
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("cpu") {
            return Err(error());
        }
        let ticks: Vec<f64> = words.map_while(|word| word.parse::<u64>().ok()).map(|ticks| ticks as f64).collect();
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks.as_slice() else {
            return Err(error());
        };
        let seconds = |ticks: f64| ticks / TICKS_PER_SECOND;
        Ok(CpuTime {
            user: seconds(user + nice),
            system: seconds(system),
            irq: seconds(irq),
            softirq: seconds(softirq),
            idle: seconds(idle + iowait),
            steal: seconds(steal),
        })
    }

    /// The machine's time now.
    ///
    /// # Errors
    /// When /proc/stat cannot be read or understood.
    pub fn now() -> std::io::Result<CpuTime> {
        CpuTime::parse(&fs::read_to_string("/proc/stat")?).map_err(std::io::Error::other)
    }

    /// What passed since `earlier`; idle time may run backwards a little in the kernel, so no part is below zero.
    #[must_use]
    pub fn since(&self, earlier: &CpuTime) -> CpuTime {
        let part = |late: f64, early: f64| (late - early).max(0.0);
        CpuTime {
            user: part(self.user, earlier.user),
            system: part(self.system, earlier.system),
            irq: part(self.irq, earlier.irq),
            softirq: part(self.softirq, earlier.softirq),
            idle: part(self.idle, earlier.idle),
            steal: part(self.steal, earlier.steal),
        }
    }

    /// Seconds in which a processor worked for this machine: everything but idle and steal.
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.irq + self.softirq
    }

    /// Steal as a share of all time, in percent.
    pub fn steal_percent(&self) -> f64 {
        let all = self.busy() + self.idle + self.steal;
        if all > 0.0 { 100.0 * self.steal / all } else { 0.0 }
    }
}

/// The load average of the last minute; 0 when the kernel does not say.
pub fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

#[derive(Debug, Clone, PartialEq)]
struct Process {
    name: String,
    parent: u32,
    group: u32,
    kernel_thread: bool,
    /// Its own time and that of the children it has waited for, in ticks.
    ticks: u64,
}

impl Process {
    /// Reads a /proc/pid/stat. The name may hold spaces and brackets, so fields are counted from the last ')'.
    fn parse(text: &str) -> Option<Process> {
        let (front, back) = text.rsplit_once(')')?;
        let name = front.split_once('(')?.1.to_owned();
        let fields: Vec<&str> = back.split_ascii_whitespace().collect();
        // `back` starts with field 3 (state) of proc(5).
        let number = |field: usize| fields.get(field - 3)?.parse::<i64>().ok();
        let flags = u64::try_from(number(9)?).ok()?;
        let ticks: i64 = (14..=17).map(number).sum::<Option<i64>>()?;
        Some(Process {
            name,
            parent: u32::try_from(number(4)?).ok()?,
            group: u32::try_from(number(5)?).ok()?,
            kernel_thread: flags & KERNEL_THREAD != 0,
            ticks: u64::try_from(ticks).unwrap_or(0),
        })
    }
}

/// The time of every process at one moment; two of them tell who else used the machine in between.
#[derive(Debug, Clone, Default)]
pub struct ProcessTimes {
    processes: HashMap<u32, Process>,
}

/// What processes outside the run used.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Foreign {
    /// Seconds of processor time.
    pub seconds: f64,
    /// Name of the process that used most of it, empty when none used any.
    pub most: String,
}

impl ProcessTimes {
    /// Reads /proc; processes that end meanwhile are left out.
    pub fn now() -> ProcessTimes {
        let mut processes = HashMap::new();
        let Ok(folder) = fs::read_dir("/proc") else { return ProcessTimes::default() };
        for entry in folder.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let stat = fs::read_to_string(entry.path().join("stat"));
            if let Some(process) = stat.ok().as_deref().and_then(Process::parse) {
                processes.insert(pid, process);
            }
        }
        ProcessTimes { processes }
    }

    /// Time used since `earlier` by processes that are neither kernel threads nor in one of our process `groups`, nor
    /// this process, nor children of any of these.
    pub fn foreign_since(&self, earlier: &ProcessTimes, own: u32, groups: &[u32]) -> Foreign {
        let mut foreign = Foreign::default();
        let mut most = 0.0;
        for (pid, process) in &self.processes {
            if process.kernel_thread || self.is_ours(*pid, own, groups) {
                continue;
            }
            let before = earlier.processes.get(pid).filter(|before| before.name == process.name);
            let ticks = process.ticks.saturating_sub(before.map_or(0, |before| before.ticks));
            // A process that waited for a child is handed all of that child's time at once, and through it that of
            // the grandchildren: only what they used since `earlier` belongs here.
            let ended = self.ended_below(*pid, earlier);
            let seconds = ticks.saturating_sub(ended) as f64 / TICKS_PER_SECOND;
            foreign.seconds += seconds;
            if seconds > most {
                most = seconds;
                foreign.most.clone_from(&process.name);
            }
        }
        foreign
    }

    /// What had been used by `earlier` by those descendants of `pid` that have ended since.
    fn ended_below(&self, pid: u32, earlier: &ProcessTimes) -> u64 {
        let mut ticks = 0;
        let mut parents = vec![pid];
        // Each process has one parent, so each is met once, unless /proc changed while it was read: hence the bound.
        for _ in 0..earlier.processes.len() {
            let Some(parent) = parents.pop() else { break };
            for (child, known) in &earlier.processes {
                if known.parent == parent && !self.processes.contains_key(child) {
                    ticks += known.ticks;
                    parents.push(*child);
                }
            }
        }
        ticks
    }

    fn is_ours(&self, pid: u32, own: u32, groups: &[u32]) -> bool {
        let mut at = pid;
        // A bound, since parents change while /proc is read: no real chain is longer.
        for _ in 0..64 {
            let Some(process) = self.processes.get(&at) else { return false };
            if at == own || groups.contains(&process.group) {
                return true;
            }
            at = process.parent;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(name: &str, parent: u32, group: u32, ticks: u64) -> Process {
        Process { name: name.into(), parent, group, kernel_thread: false, ticks }
    }

    fn times(list: &[(u32, Process)]) -> ProcessTimes {
        ProcessTimes { processes: list.iter().cloned().collect() }
    }

    #[test]
    fn machine_time_is_read_in_seconds() {
        let time = CpuTime::parse("cpu  100 20 300 4000 60 7 80 90 0 0\ncpu0 1 1 1 1\n").unwrap();
        let want = CpuTime { user: 1.2, system: 3.0, irq: 0.07, softirq: 0.8, idle: 40.6, steal: 0.9 };
        assert_eq!(time, want);
        assert!((time.busy() - 5.07).abs() < 1e-9);
    }

    #[test]
    fn steal_is_a_share_of_all_time() {
        let earlier = CpuTime::parse("cpu 0 0 0 0 0 0 0 0 0 0").unwrap();
        let later = CpuTime::parse("cpu 50 0 25 100 0 0 0 25 0 0").unwrap();
        assert!((later.since(&earlier).steal_percent() - 12.5).abs() < 1e-9);
        assert_eq!(earlier.since(&earlier).steal_percent(), 0.0);
    }

    #[test]
    fn an_unknown_stat_is_an_error_that_shows_it() {
        let error = CpuTime::parse("intr 5").unwrap_err().to_string();
        assert!(error.contains("'intr 5'"), "{error}");
        assert!(CpuTime::parse("cpu 1 2 3").is_err());
    }

    #[test]
    fn a_process_name_may_hold_spaces_and_brackets() {
        let text = "42 (a) b (c)) S 7 9 9 0 -1 4194304 1 2 3 4 11 22 33 44 20 0 1 0 5";
        let process = Process::parse(text).unwrap();
        assert_eq!(
            process,
            super::Process { name: "a) b (c)".into(), parent: 7, group: 9, kernel_thread: false, ticks: 110 }
        );
    }

    #[test]
    fn foreign_time_leaves_out_ours_our_children_and_kernel_threads() {
        let kernel = Process { kernel_thread: true, ..process("ksoftirqd/0", 2, 0, 100) };
        let early = times(&[
            (1, process("init", 0, 1, 5)),
            (10, process("compare", 1, 10, 50)),
            (20, process("server", 10, 20, 100)),
            (30, process("cargo", 1, 30, 10)),
            (16, kernel.clone()),
        ]);
        let late = times(&[
            (1, process("init", 0, 1, 5)),
            (10, process("compare", 1, 10, 90)),
            (20, process("server", 10, 20, 900)),
            (21, process("worker", 20, 99, 400)),
            (30, process("cargo", 1, 30, 13)),
            (31, process("rustc", 30, 30, 40)),
            (16, Process { ticks: 800, ..kernel }),
        ]);
        let foreign = late.foreign_since(&early, 10, &[20]);
        assert!((foreign.seconds - 0.43).abs() < 1e-9, "{foreign:?}");
        assert_eq!(foreign.most, "rustc");
    }

    #[test]
    fn a_child_that_ended_counts_only_for_what_it_used_meanwhile() {
        let early = times(&[(30, process("make", 1, 30, 10)), (31, process("cc", 30, 30, 500))]);
        let late = times(&[(30, process("make", 1, 30, 525))]);
        assert!((late.foreign_since(&early, 10, &[]).seconds - 0.15).abs() < 1e-9);
    }

    #[test]
    fn so_do_grandchildren_that_ended() {
        let early = times(&[
            (30, process("bash", 1, 30, 10)),
            (31, process("cargo", 30, 30, 100)),
            (32, process("rustc", 31, 30, 5000)),
        ]);
        let late = times(&[(30, process("bash", 1, 30, 5120))]);
        assert!((late.foreign_since(&early, 10, &[]).seconds - 0.10).abs() < 1e-9);
    }

    #[test]
    fn this_machine_can_be_read() {
        let earlier = CpuTime::now().unwrap();
        assert!(earlier.idle + earlier.busy() > 0.0);
        assert!(ProcessTimes::now().processes.contains_key(&std::process::id()));
    }
}
