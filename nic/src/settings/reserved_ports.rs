//! Ports that the kernel gives to no connection of its own: the list of `net.ipv4.ip_local_reserved_ports`.
//!
//! Each port is put on the list and taken off it for itself, whatever else is changed there meanwhile. Read first: kernel
//! `ip-sysctl.rst`, "ip_local_reserved_ports".

use std::fs;
use std::io;

/// The list as a file, of the network namespace of who opens it.
const FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// Whether a port is on the list.
///
/// # Errors
/// There is no such file.
pub(super) fn is_listed(port: u16) -> io::Result<bool> {
    fs::read_to_string(FILE).map(|list| lists(&list, port))
}

/// Puts a port on the list, or takes it off.
///
/// # Errors
/// No rights, or a container that shows the file read-only.
pub(super) fn list(port: u16, on: bool) -> io::Result<()> {
    let now = fs::read_to_string(FILE)?;
    match lists(&now, port) == on {
        true => Ok(()),
        false => fs::write(FILE, if on { with(&now, port) } else { without(&now, port) }),
    }
}

/// The first and last port of each range of the list, `1024,2000-2010`.
fn ranges(list: &str) -> impl Iterator<Item = (u16, u16)> {
    list.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some((first.parse().ok()?, last.parse().ok()?))
    })
}

fn lists(list: &str, port: u16) -> bool {
    ranges(list).any(|(first, last)| (first..=last).contains(&port))
}

fn with(list: &str, port: u16) -> String {
    written(ranges(list).chain([(port, port)]))
}

fn without(list: &str, port: u16) -> String {
    // The kernel writes neighbours as one range.
    let cut = |(first, last): (u16, u16)| {
        if !(first..=last).contains(&port) {
            return [Some((first, last)), None];
        }
        [(first < port).then(|| (first, port - 1)), (port < last).then(|| (port + 1, last))]
    };
    written(ranges(list).flat_map(cut).flatten())
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
    fn a_port_is_on_the_list_alone_or_in_a_range() {
        assert!(lists("8080,9000-9010\n", 9005) && lists("8080,9000-9010\n", 8080));
        assert!(!lists("8080,9000-9010\n", 9011) && !lists("\n", 1));
    }

    #[test]
    fn a_port_is_put_on_the_list_and_taken_off_whatever_else_is_there() {
        assert_eq!(with("\n", 11211), "11211-11211\n");
        assert_eq!(with("8080\n", 11211), "8080-8080,11211-11211\n");
        assert_eq!(without("11211\n", 11211), "\n");
        assert_eq!(without("8080,11210-11214\n", 11211), "8080-8080,11210-11210,11212-11214\n");
        assert_eq!(without("65535\n", 65535), "\n");
        assert_eq!(without("8080\n", 11211), "8080-8080\n");
    }
}
