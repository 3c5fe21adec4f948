//! The processor time of this process, for `stats`. The main thread's, off every path.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use cache::CoreCounters;

/// Far more than the line has.
const LINE_MAX_BYTES: usize = 1024;

/// Where the kernel says it. Opened at the start: the data plane opens no file later.
#[derive(Debug)]
pub struct CpuTime {
    line: File,
    micros_per_tick: u64,
}

impl CpuTime {
    /// Of this process.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn open() -> io::Result<Self> {
        let micros_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Ok(Self { line: File::open("/proc/self/stat")?, micros_per_tick })
    }

    /// Reads what the kernel says (`proc_pid_stat(5)`, fields 14 and 15) and sets the gauges; leaves them where the
    /// kernel does not say.
    pub fn publish(&self, counters: &CoreCounters) {
        let Some((user, system)) = self.read().as_deref().and_then(ticks) else { return };
        counters.rusage_user_us.set(user * self.micros_per_tick);
        counters.rusage_system_us.set(system * self.micros_per_tick);
    }

    fn read(&self) -> Option<String> {
        let mut line = [0; LINE_MAX_BYTES];
        let length = self.line.read_at(&mut line, 0).ok()?;
        Some(String::from_utf8_lossy(&line[..length]).into_owned())
    }
}

/// User and system time in clock ticks. The second field, the name, may hold blanks and brackets, so fields are counted
/// from its last bracket on.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_are_found_whatever_the_name() {
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 77 88 9 9 20 0 1 0 5 0 0\n";
        assert_eq!(ticks(stat), Some((77, 88)));
        assert_eq!(ticks("nonsense"), None);
    }

    #[test]
    fn this_process_has_times() {
        let stat = CpuTime::open().expect("proc is mounted").read().expect("it can be read");
        assert!(ticks(&stat).is_some());
    }
}
