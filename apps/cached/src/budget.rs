//! What the server will take of the machine's memory: said at the start, and refused when it cannot be had.
//!
//! Everything is sized at the start. Only the blocks of connections, and slots for what they do not read, are made as
//! connections come, up to `-c` or `-o awake_flows` on each core, and then recycled.

use std::fmt;

use stack::Rings;

use crate::options::{ListenPort, Options};

/// Bytes of one connection that a core reserves at the start: places in the tables, lists and the wheel, what is left of it
/// while it rests, and of its session while it does not. Some 130 of them are used; address space alone is taken by the
/// rest until it is.
const RECORD_BYTES: u64 = 256;

/// Bytes that a connection takes while it does not read what came from another core, rounded up from 4,096 of its landing
/// slot and some 500 of what it is owed.
const UNREAD_BYTES: u64 = 5 << 10;

/// Bytes that a core takes whatever it serves, rounded up from 850 KB: 8 buffers of 64 KiB for fragments, of TCP too, 512
/// scoreboards of some 530 bytes, and 1,024 SYNs that wait for a cookie.
const CORE_BYTES: u64 = 1 << 20;

/// Bytes that UDP takes on one core, rounded up from 2.2 MB: 512 requests of 3 KB and records of theirs, 8 buffers of
/// 64 KiB for long ones, and 4,096 budgets.
const DATAGRAMS_BYTES: u64 = 5 << 19;

/// Fewer connections than these of a core are not kept from having rings, however small the machine.
const LEAST_AWAKE: usize = 1_024;

/// Bytes of memory, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// `-m`: items, index, values on their way in.
    pub items: u64,
    /// Frames of all queues.
    pub frames: u64,
    /// Records of connections, and what a core has for fragments, lost segments and floods: reserved at the start.
    pub records: u64,
    /// Places for requests over UDP, and budgets, if that is served.
    pub datagrams: u64,
    /// Blocks of connections and what these do not read, if every core has as many as it may have awake.
    pub connections_most: u64,
    /// `-o conn_memory`: larger rings of connections that move much, on all cores.
    pub larger_rings: u64,
}

/// The machine has less memory than is reserved at the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{budget} make {} MiB at the start, the machine has {} MiB; lower -c, -m or -t",
    mib(.budget.at_start()),
    mib(*.machine_bytes)
)]
pub struct BudgetError {
    /// What would be reserved.
    pub budget: Budget,
    /// What there is.
    pub machine_bytes: u64,
}

impl Budget {
    /// What `options` ask for, on cores of at most `flows` flows each and with `frames` bytes for the frames of all queues.
    pub fn of(options: &Options, flows: usize, frames: u64) -> Self {
        let (cores, flows) = (options.cores as u64, flows as u64);
        let unread = if cores > 1 { UNREAD_BYTES } else { 0 };
        let awake = flows.min(awake_flows(options, machine_bytes()) as u64);
        Self {
            items: options.memory_bytes as u64,
            frames,
            records: cores * (flows * RECORD_BYTES + CORE_BYTES),
            datagrams: if options.udp_port == ListenPort::Off { 0 } else { cores * DATAGRAMS_BYTES },
            connections_most: cores * awake * (Rings::DEFAULT.flow_bytes() as u64 + unread),
            larger_rings: cores * options.extended.conn_memory(options.cores) as u64,
        }
    }

    /// Bytes reserved at the start.
    pub fn at_start(&self) -> u64 {
        self.items + self.frames + self.records + self.datagrams
    }

    /// Checks that the machine has what is reserved at the start.
    ///
    /// # Errors
    /// It has less.
    pub fn check(self, machine_bytes: u64) -> Result<(), BudgetError> {
        if self.at_start() > machine_bytes { Err(BudgetError { budget: self, machine_bytes }) } else { Ok(()) }
    }
}

impl fmt::Display for Budget {
    /// In one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "items {} MiB, frames {} MiB, records of connections {} MiB, their rings and slots up to {} MiB as they come, \
             and up to {} MiB of those that move much",
            mib(self.items),
            mib(self.frames),
            mib(self.records),
            mib(self.connections_most),
            mib(self.larger_rings),
        )?;
        if self.datagrams > 0 { write!(f, ", requests over UDP {} MiB", mib(self.datagrams)) } else { Ok(()) }
    }
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

/// Connections of a core that may be awake: as many as `-o awake_flows` says, or as have rings in half of a machine of
/// `machine_bytes`.
pub fn awake_flows(options: &Options, machine_bytes: u64) -> usize {
    let rings = options.cores as u64 * Rings::DEFAULT.flow_bytes() as u64;
    let fit = usize::try_from(machine_bytes / 2 / rings.max(1)).unwrap_or(usize::MAX);
    options.extended.awake_flows.unwrap_or(fit.max(LEAST_AWAKE))
}

/// Memory of the machine (`proc_meminfo(5)`, MemTotal); without a limit where the kernel does not say.
pub fn machine_bytes() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total_kib(&meminfo).map_or(u64::MAX, |kib| kib.saturating_mul(1024))
}

fn total_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget {
        items: 64 << 20,
        frames: 24 << 20,
        records: 1,
        datagrams: 0,
        connections_most: 3 << 20,
        larger_rings: 1 << 20,
    };

    #[test]
    fn what_the_machine_does_not_have_is_refused_with_the_figures() {
        assert_eq!(BUDGET.check(90 << 20), Ok(()));
        let error = BUDGET.check(88 << 20).expect_err("one byte too many").to_string();
        assert!(error.contains("make 89 MiB at the start, the machine has 88 MiB; lower -c"), "{error}");
    }

    #[test]
    fn connections_sleep_where_their_rings_would_take_more_than_half_of_the_machine() {
        let options = |words: &str| Options::read(format!("x --interface v --address 10.0.0.2/24 {words}").split(' '));
        let rings = Rings::DEFAULT.flow_bytes() as u64;
        let awake = |words, bytes| options(words).map(|options| awake_flows(&options, bytes)).ok();
        assert_eq!(awake("-t 2 -c 10000000", 400_000 * rings), Some(100_000));
        assert_eq!(awake("-t 2 -c 1024", 8 * rings), Some(LEAST_AWAKE));
        assert_eq!(awake("-t 2 -o awake_flows=5000", 400_000 * rings), Some(5_000));
    }

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(total_kib("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24_576));
        assert_eq!(total_kib("nonsense"), None);
        assert!(machine_bytes() > 1 << 20);
    }
}
