//! Processor time: of the whole machine by kind, and of processes that are not part of the run.
//!
//! On veth the receiver's soft interrupt runs on the sender's processor, so the time of the server's process alone says
//! nothing; the whole machine's does. Foreign time is summed process by process, so that a void run can name
//! the process that disturbed it most; kernel threads belong to no program and count for the machine alone. Read
//! proc(5), /proc/stat and /proc/pid/stat, first.

use std::collections::HashMap;
use std::io;

use procfs::process::{Stat, StatFlags, all_processes};
use procfs::{Current, CurrentSI, KernelStats, LoadAverage, ticks_per_second};
use serde::Serialize;

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

impl CpuTime {
    /// The machine's time now.
    ///
    /// # Errors
    /// When /proc/stat cannot be read or understood.
    pub fn now() -> io::Result<CpuTime> {
        let total = KernelStats::current().map_err(io::Error::other)?.total;
        let seconds = |ticks: u64| ticks as f64 / ticks_per_second() as f64;
        let since_linux_2_6 = |ticks: Option<u64>| seconds(ticks.unwrap_or(0));
        Ok(CpuTime {
            user: seconds(total.user + total.nice),
            system: seconds(total.system),
            irq: since_linux_2_6(total.irq),
            softirq: since_linux_2_6(total.softirq),
            idle: seconds(total.idle) + since_linux_2_6(total.iowait),
            steal: since_linux_2_6(total.steal),
        })
    }

    /// Joins each part of both by `join`.
    #[must_use]
    pub fn with(&self, other: &CpuTime, join: impl Fn(f64, f64) -> f64) -> CpuTime {
        CpuTime {
            user: join(self.user, other.user),
            system: join(self.system, other.system),
            irq: join(self.irq, other.irq),
            softirq: join(self.softirq, other.softirq),
            idle: join(self.idle, other.idle),
            steal: join(self.steal, other.steal),
        }
    }

    /// What passed since `earlier`; idle time may run backwards a little in the kernel, so no part is below zero.
    #[must_use]
    pub fn since(&self, earlier: &CpuTime) -> CpuTime {
        self.with(earlier, |late, early| (late - early).max(0.0))
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
    LoadAverage::current().map_or(0.0, |load| load.one.into())
}

/// What is known of a process.
#[derive(Debug, Clone, PartialEq)]
struct Process {
    name: String,
    parent: u32,
    group: u32,
    kernel_thread: bool,
    /// Its own time and that of the children it has waited for, in ticks.
    ticks: u64,
}

impl From<Stat> for Process {
    fn from(stat: Stat) -> Self {
        let kernel_thread = stat.flags().is_ok_and(|flags| flags.contains(StatFlags::PF_KTHREAD));
        let of_children = (stat.cutime + stat.cstime).max(0) as u64;
        Process {
            parent: stat.ppid as u32,
            group: stat.pgrp as u32,
            kernel_thread,
            ticks: stat.utime + stat.stime + of_children,
            name: stat.comm,
        }
    }
}

/// The time of every process at one moment; two of them tell what other programs used in between.
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
        let processes = all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok());
        ProcessTimes { processes: processes.map(|stat| (stat.pid as u32, Process::from(stat))).collect() }
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
            let seconds = ticks.saturating_sub(ended) as f64 / ticks_per_second() as f64;
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
    fn steal_is_a_share_of_all_time() {
        let earlier = CpuTime::default();
        let later = CpuTime { user: 0.5, system: 0.25, idle: 1.0, steal: 0.25, ..earlier };
        assert!((later.since(&earlier).steal_percent() - 12.5).abs() < 1e-9);
        assert_eq!(earlier.since(&earlier).steal_percent(), 0.0);
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
