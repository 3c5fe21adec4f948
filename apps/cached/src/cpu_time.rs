//! The processor time of this process, for `stats`. The main thread's, off every path.

use cache::CoreCounters;

/// Reads what the kernel says (`proc_pid_stat(5)`, fields 14 and 15) and sets the gauges; leaves them where the kernel
/// does not say.
pub fn publish(counters: &CoreCounters) {
    let Ok(stat) = std::fs::read_to_string("/proc/self/stat") else { return };
    let Some((user, system)) = ticks(&stat) else { return };
    let micros_per_tick = 1_000_000 / rustix::param::clock_ticks_per_second().max(1);
    counters.rusage_user_us.set(user * micros_per_tick);
    counters.rusage_system_us.set(system * micros_per_tick);
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
        let stat = std::fs::read_to_string("/proc/self/stat").expect("proc is mounted");
        assert!(ticks(&stat).is_some());
    }
}
