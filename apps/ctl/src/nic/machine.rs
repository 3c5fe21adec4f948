//! `Machine`: what the kernel says in /proc and /sys, below a root that tests put elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use nic::link::Link;

/// Where /proc and /sys are.
#[derive(Debug, Clone)]
pub(super) struct Machine {
    root: PathBuf,
    /// SSH_CONNECTION: client address and port, server address and port.
    pub(super) ssh_connection: Option<String>,
}

/// A CPU, by number.
pub(super) type Cpu = usize;

impl Machine {
    /// This one, in the network namespace of the calling process.
    pub(super) fn here() -> Self {
        Self { root: PathBuf::from("/"), ssh_connection: std::env::var("SSH_CONNECTION").ok() }
    }

    #[cfg(test)]
    pub(super) fn at(root: &Path) -> Self {
        Self { root: root.to_owned(), ssh_connection: None }
    }

    fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root.join(path)
    }

    /// What a file says, without the line's end; `None` when there is none, or it says nothing.
    pub(super) fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        let text = fs::read_to_string(self.path(path)).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Names in a folder, in order; none where there is no such folder.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.path(path)).into_iter().flatten().flatten();
        let names: BTreeSet<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.into_iter().collect()
    }

    /// A file of the interface's in /sys.
    pub(super) fn of_link(&self, link: &Link, file: &str) -> Option<String> {
        self.read(format!("sys/class/net/{}/{file}", link.name))
    }

    /// Whether the cable carries. One of which the kernel does not say is believed to.
    pub(super) fn has_carrier(&self, link: &Link) -> bool {
        self.of_link(link, "carrier").is_none_or(|carrier| carrier != "0")
    }

    /// Interfaces that stand on this one: bonds, bridges, VLANs, and what stands on them.
    pub(super) fn uppers(&self, link: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        let mut below = vec![link.to_owned()];
        while let Some(name) = below.pop() {
            for entry in self.names(format!("sys/class/net/{name}")) {
                if let Some(upper) = entry.strip_prefix("upper_")
                    && !found.iter().any(|known| known == upper)
                {
                    found.push(upper.to_owned());
                    below.push(upper.to_owned());
                }
            }
        }
        found
    }

    /// Interfaces with a default route, IPv4's or IPv6's.
    pub(super) fn default_routes(&self) -> Vec<String> {
        let v4 = self.read("proc/self/net/route").unwrap_or_default();
        let v6 = self.read("proc/self/net/ipv6_route").unwrap_or_default();
        let mut found: Vec<String> = Vec::new();
        // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
        for line in v4.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            if let [name, "00000000", _, _, _, _, _, "00000000", ..] = fields[..] {
                found.push(name.to_owned());
            }
        }
        // destination, its prefix, source, its prefix, next hop, metric, references, use, flags, device
        for line in v6.lines() {
            let fields: Vec<_> = line.split_whitespace().collect();
            if let [destination, "00", .., name] = fields[..]
                && destination.bytes().all(|digit| digit == b'0')
                && name != "lo"
            {
                found.push(name.to_owned());
            }
        }
        found
    }

    /// Our own addresses of the established connections of the processes called sshd.
    pub(super) fn ssh_addresses(&self) -> Vec<IpAddr> {
        let mut inodes = BTreeSet::new();
        for pid in self.names("proc").iter().filter(|name| name.bytes().all(|digit| digit.is_ascii_digit())) {
            // Newer ones have sessions in processes of other names: sshd-session.
            if self.read(format!("proc/{pid}/comm")).is_some_and(|name| name.starts_with("sshd")) {
                for descriptor in self.names(format!("proc/{pid}/fd")) {
                    let target = fs::read_link(self.path(format!("proc/{pid}/fd/{descriptor}"))).unwrap_or_default();
                    let target = target.to_string_lossy();
                    let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
                    inodes.extend(inode.map(str::to_owned));
                }
            }
        }
        let tables = ["proc/self/net/tcp", "proc/self/net/tcp6"].map(|table| self.read(table).unwrap_or_default());
        let lines = tables.iter().flat_map(|table| table.lines().skip(1));
        lines.filter_map(|line| established(line, &inodes)).collect()
    }

    /// The CPUs of a list such as `0-3,8`.
    pub(super) fn cpu_list(&self, path: impl AsRef<Path>) -> Vec<Cpu> {
        list(&self.read(path).unwrap_or_default())
    }
}

/// Our address of a line of /proc/net/tcp, if it is established (state 01) and one of these sockets.
fn established(line: &str, inodes: &BTreeSet<String>) -> Option<IpAddr> {
    let fields: Vec<_> = line.split_whitespace().collect();
    let ours = fields.get(3) == Some(&"01") && inodes.contains(*fields.get(9)?);
    let hex = fields.get(1)?.split_once(':')?.0;
    ours.then(|| hex_address(hex)).flatten()
}

/// Words of eight digits, each in this machine's byte order.
fn hex_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let mut bytes = [0; 16];
            for at in 0..4 {
                bytes[at * 4..at * 4 + 4].copy_from_slice(&word(at)?);
            }
            Some(IpAddr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

fn list(text: &str) -> Vec<Cpu> {
    let range = |part: &str| {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        Some(from.trim().parse::<Cpu>().ok()?..=to.trim().parse().ok()?)
    };
    text.split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A root with these files; removed when dropped.
    pub(crate) struct Root(pub(crate) PathBuf);

    impl Root {
        pub(crate) fn of(name: &str, files: &[(&str, &str)]) -> Self {
            let root = Self(std::env::temp_dir().join(format!("sidestep-nic-{name}-{}", std::process::id())));
            for (path, text) in files {
                root.write(path, text);
            }
            root
        }

        pub(crate) fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().expect("below the root")).expect("it can be made");
            fs::write(path, text).expect("it can be written");
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn default_routes_of_both_families_are_found() {
        let root = Root::of(
            "routes",
            &[
                (
                    "proc/self/net/route",
                    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
                     eth0\t00000000\t0101000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
                     eth1\t00004D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n\
                     eth2\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n",
                ),
                (
                    "proc/self/net/ipv6_route",
                    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 eth5\n\
                     00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200 lo\n\
                     fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001 eth6\n",
                ),
            ],
        );
        assert_eq!(Machine::at(&root.0).default_routes(), ["eth0", "eth5"]);
    }

    #[test]
    fn addresses_of_established_sessions_of_sshd_are_found() {
        let root = Root::of(
            "sshd",
            &[
                ("proc/17/comm", "sshd-session\n"),
                ("proc/18/comm", "cat\n"),
                (
                    "proc/self/net/tcp",
                    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
                        0: 0300040A:0016 0100040A:D431 01 00000000:00000000 02:000A 00000000 0 0 501 1 0 20 4 30 10 -1\n\
                        1: 0400040A:0016 0100040A:D432 01 00000000:00000000 02:000A 00000000 0 0 502 1 0 20 4 30 10 -1\n\
                        2: 00000000:0016 00000000:0000 0A 00000000:00000000 00:0000 00000000 0 0 503 1 0 100 0 0 10 0\n",
                ),
                (
                    "proc/self/net/tcp6",
                    "  sl  local_address remote_address st\n\
                        0: 0000000000000000FFFF00000500040A:0016 0000000000000000FFFF00000100040A:D433 01 0:0 0:0 0 0 0 504 1 0\n",
                ),
            ],
        );
        for (pid, inode) in [("17", 501), ("18", 502), ("17", 503), ("17", 504)] {
            let folder = root.0.join(format!("proc/{pid}/fd"));
            fs::create_dir_all(&folder).expect("it can be made");
            std::os::unix::fs::symlink(format!("socket:[{inode}]"), folder.join(inode.to_string())).expect("it can be");
        }
        let wanted: [IpAddr; 2] = ["10.4.0.3".parse().unwrap(), "10.4.0.5".parse().unwrap()];
        assert_eq!(Machine::at(&root.0).ssh_addresses(), wanted);
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(list("0-2,8"), [0, 1, 2, 8]);
        assert_eq!((list(""), list("3")), (vec![], vec![3]));
    }
}
