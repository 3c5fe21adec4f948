//! `ReservedPorts`: ports of a shared address that the kernel must not give to connections of its own.
//!
//! A connection that the host opens gets a port from the ephemeral range, and answers to it come to that port; where the
//! port is the server's, they would go to the server. The kernel leaves out what its setting lists. Only what this adds
//! to the list is taken off it again, whatever else has been changed meanwhile. Read first: kernel `ip-sysctl.rst`,
//! "ip_local_reserved_ports".

use std::fmt;
use std::fs;
use std::io;

/// The setting as a file, of the network namespace of who opens it.
const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Ports that were added to the setting. Dropping it takes them off again.
#[derive(Debug, Default)]
pub(crate) struct ReservedPorts(Vec<u16>);

impl ReservedPorts {
    /// The setting's name, for `sysctl`.
    pub(crate) const SETTING: &str = "net.ipv4.ip_local_reserved_ports";

    /// Adds `ports`, as far as they are not listed already.
    ///
    /// # Errors
    /// The setting cannot be read or changed: no rights, or a container that shows it read-only.
    pub(crate) fn take(ports: &[u16]) -> io::Result<Self> {
        let before = fs::read_to_string(FILE)?;
        let added = Self(ports.iter().copied().filter(|port| !lists(&before, *port)).collect());
        if !added.is_empty() {
            fs::write(FILE, with(&before, &added.0))?;
        }
        Ok(added)
    }

    /// Those that another process has added, as [`fmt::Display`] writes them.
    pub(crate) fn taken(text: &str) -> Self {
        Self(text.split(',').filter_map(|port| port.parse().ok()).collect())
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves it to another process to take them off.
    pub(crate) fn leave(mut self) {
        self.0.clear();
    }
}

impl fmt::Display for ReservedPorts {
    /// Separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<String> = self.0.iter().map(u16::to_string).collect();
        f.write_str(&words.join(","))
    }
}

impl Drop for ReservedPorts {
    fn drop(&mut self) {
        // Who cannot write the setting any more has been told that it is changed while the server runs.
        if !self.is_empty()
            && let Ok(now) = fs::read_to_string(FILE)
        {
            let _ = fs::write(FILE, without(&now, &self.0));
        }
    }
}

/// The first and last port of each range of the setting, `1024,2000-2010`.
fn ranges(setting: &str) -> impl Iterator<Item = (u16, u16)> {
    setting.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

fn lists(setting: &str, port: u16) -> bool {
    ranges(setting).any(|(first, last)| (first..=last).contains(&port))
}

fn with(setting: &str, ports: &[u16]) -> String {
    let ranges = ranges(setting).chain(ports.iter().map(|&port| (port, port)));
    written(ranges)
}

fn without(setting: &str, ports: &[u16]) -> String {
    let mut left: Vec<(u16, u16)> = ranges(setting).collect();
    for &port in ports {
        // The kernel writes neighbours as one range.
        let cut = |(first, last): (u16, u16)| {
            if !(first..=last).contains(&port) {
                return [Some((first, last)), None];
            }
            let below = (first < port).then(|| (first, port - 1));
            let above = (port < last).then(|| (port + 1, last));
            [below, above]
        };
        left = left.into_iter().flat_map(cut).flatten().collect();
    }
    written(left.into_iter())
}

/// An empty list is a line of its own: the kernel takes no empty text.
fn written(ranges: impl Iterator<Item = (u16, u16)>) -> String {
    let words: Vec<String> = ranges.map(|(first, last)| format!("{first}-{last}")).collect();
    words.join(",") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_listed_already_is_neither_added_nor_taken_off() {
        assert!(lists("8080,9000-9010\n", 9005) && lists("8080,9000-9010\n", 8080));
        assert!(!lists("8080,9000-9010\n", 9011) && !lists("\n", 1));
    }

    #[test]
    fn what_was_added_is_taken_off_whatever_else_was_changed_meanwhile() {
        assert_eq!(with("\n", &[11211]), "11211-11211\n");
        assert_eq!(with("8080\n", &[11211, 11212]), "8080-8080,11211-11211,11212-11212\n");
        assert_eq!(without("11211\n", &[11211]), "\n");
        assert_eq!(without("8080,11210-11214\n", &[11211, 11214]), "8080-8080,11210-11210,11212-11213\n");
        assert_eq!(without("65535\n", &[65535]), "\n");
        assert_eq!(without("8080\n", &[11211]), "8080-8080\n");
    }

    #[test]
    fn they_are_handed_over_as_text() {
        let text = ReservedPorts(vec![11211, 53]);
        let read = ReservedPorts::taken(&text.to_string());
        assert_eq!(read.0, [11211, 53]);
        assert!(ReservedPorts::taken("").is_empty());
        text.leave();
        read.leave();
    }
}
