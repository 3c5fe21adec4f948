//! Two network namespaces and a veth pair between them, of names that no other process uses, removed when dropped.
//!
//! ```text
//!   client namespace                       server namespace
//!   c0, 10.77.0.1 (kernel) ──── veth ──── s0, 10.77.0.3 (kernel), 10.77.0.2 (the stack's own)
//! ```

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// The client kernel's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The stack's own address, which no kernel has.
pub const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The server kernel's address.
pub const KERNEL: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

/// Which namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    /// The veth's end on this side.
    pub fn link(self) -> &'static str {
        match self {
            Self::Client => "c0",
            Self::Server => "s0",
        }
    }
}

/// The namespaces; dropping it removes them, and with them the veth pair.
pub struct Lab {
    name: String,
    owned: bool,
}

impl Lab {
    /// A lab whose veth ends have so many queues; `None`, said on stderr, without root.
    pub fn up(queues: u32) -> Option<Self> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let name = format!("ssnic-{}-{}", std::process::id(), LABS.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, owned: true };
        let (client, server) = (lab.namespace(Side::Client), lab.namespace(Side::Server));
        for namespace in [&client, &server] {
            run("ip", &["netns", "add", namespace]);
        }
        // Otherwise the kernels would talk of their own accord.
        for side in [Side::Client, Side::Server] {
            lab.inside(side, || {
                for scope in ["all", "default"] {
                    // A kernel without IPv6 has no such file, and nothing to turn off.
                    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{scope}/disable_ipv6"), "1");
                }
            });
        }
        let queues = queues.to_string();
        let shape = ["numrxqueues", &queues, "numtxqueues", &queues];
        let mut add = vec!["-n", &client, "link", "add", "c0"];
        add.extend(shape);
        add.extend(["type", "veth", "peer", "name", "s0"]);
        add.extend(shape);
        add.extend(["netns", &server]);
        run("ip", &add);
        for (side, address) in [(Side::Client, CLIENT), (Side::Server, KERNEL)] {
            let (namespace, link) = (lab.namespace(side), side.link());
            run("ip", &["-n", &namespace, "address", "add", &format!("{address}/24"), "dev", link]);
            run("ip", &["-n", &namespace, "link", "set", link, "up"]);
            // The kernel would leave checksums to be filled in by a NIC that is not there.
            run("ip", &["netns", "exec", &namespace, "ethtool", "-K", link, "tx", "off"]);
        }
        Some(lab)
    }

    /// A lab that another process made and removes.
    pub fn of_name(name: &str) -> Self {
        Self { name: name.to_owned(), owned: false }
    }

    /// The name by which another process finds the lab.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of a namespace.
    pub fn namespace(&self, side: Side) -> String {
        match side {
            Side::Client => format!("{}-client", self.name),
            Side::Server => format!("{}-server", self.name),
        }
    }

    /// Runs `act` on a thread inside a namespace. Descriptors opened there stay usable outside.
    pub fn inside<T: Send>(&self, side: Side, act: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(side));
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                let namespace = File::open(path).expect("the namespace exists");
                move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` inside a namespace and returns what it said.
    pub fn ip(&self, side: Side, arguments: &[&str]) -> String {
        let namespace = self.namespace(side);
        run("ip", &[&["-n", &namespace], arguments].concat())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned {
            for side in [Side::Client, Side::Server] {
                // One that was not made yet when setting up failed is no matter.
                let _ = Command::new("ip").args(["netns", "delete", &self.namespace(side)]).output();
            }
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Waits for what the kernel does in its own time: asks again and again, some seconds at most.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    for _ in 0..1000 {
        if let Some(answer) = ask() {
            return answer;
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    panic!("waited in vain: {what}");
}
