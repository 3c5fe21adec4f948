//! A TAP interface of a namespace's kernel, on which a script is the peer over IPv6.
//!
//! Each script that shows neighbour discovery has an interface of its own, so that none finds what another has taught the
//! kernel. The interface has an IPv4 address too, of which the end marker is asked: no script has anything to do with it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use nic::tap::{TapConfig, TapDevice, TapQueue};
use nic::{Doorbell, Mac, Queue, RxBurst, Sleeper, TxBurst};

use crate::veth::{Lab, Side};

/// How a kernel's end of a TAP is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// It has its address, and so many peers whose station it has been told of.
    Known(u16),
    /// It has its address, and knows nobody.
    Unknown,
    /// It has no address of IPv6 before [`Tap::begin`].
    Down,
}

/// A TAP; the kernel's end belongs to a lab's server namespace.
pub struct Tap {
    queue: TapQueue,
    sleeper: Sleeper,
    rx: RxBurst,
    tx: TxBurst,
    name: String,
    number: u16,
    setup: Setup,
    /// The kernel's station.
    pub mac: Mac,
}

impl Tap {
    /// Makes the interface of this number, and has the kernel know what it is to know.
    pub fn new(lab: &Lab, number: u16, setup: Setup, peer_mac: &str) -> Self {
        let name = format!("t{number}");
        let config = TapConfig { frames: 256, tx_ring: 64, ..TapConfig::new(&name, 1) };
        let mut device = lab.inside(Side::Server, || TapDevice::open(&config).expect("root may make a TAP"));
        let id = device.queue_ids()[0];
        let queue = device.take_queue(id).expect("a TAP has a queue");
        let doorbell = Arc::new(Doorbell::new().expect("a descriptor"));
        let sleeper = Sleeper::new(doorbell, queue.raw_fd());
        let mac = device.link().mac;
        let tap = Self { queue, sleeper, rx: RxBurst::default(), tx: TxBurst::default(), name, number, setup, mac };
        tap.set_up(lab, peer_mac);
        tap
    }

    fn set_up(&self, lab: &Lab, peer_mac: &str) {
        let ip = |arguments: &str| {
            lab.ip(Side::Server, &arguments.split_whitespace().chain(["dev", &self.name]).collect::<Vec<_>>());
        };
        let (host, marker) = (self.ipv4(3), self.ipv4(77));
        ip(&format!("address add {host}/24"));
        ip(&format!("neigh replace {marker} lladdr {peer_mac}"));
        // Nothing is said that no script asks for, and what is said comes at once.
        let tests_addresses = u8::from(self.setup == Setup::Down);
        for setting in [("router_solicitations", 0), ("router_solicitation_delay", 0), ("accept_dad", tests_addresses)]
        {
            self.set(lab, setting.0, setting.1);
        }
        if self.setup == Setup::Down {
            return;
        }
        self.set(lab, "disable_ipv6", 0);
        ip(&format!("address add {}/64 nodad", self.host()));
        if let Setup::Known(peers) = self.setup {
            (0..peers).for_each(|nth| ip(&format!("neigh replace {} lladdr {peer_mac}", self.peer(nth))));
        }
    }

    fn set(&self, lab: &Lab, setting: &str, value: u8) {
        let path = format!("/proc/sys/net/ipv6/conf/{}/{setting}", self.name);
        lab.inside(Side::Server, || {
            std::fs::write(&path, value.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"))
        });
    }

    /// How it was set up.
    pub fn setup(&self) -> Setup {
        self.setup
    }

    /// The kernel begins to use an address: that which it makes of its station's.
    pub fn begin(&self, lab: &Lab) {
        self.set(lab, "disable_ipv6", 0);
    }

    /// The kernel's end speaks no IPv6 any more, and has forgotten what it learned.
    pub fn end(&self, lab: &Lab) {
        self.set(lab, "disable_ipv6", 1);
    }

    /// The kernel's address on this link; where it has none at the beginning, the link-local one (RFC 4291 §2.5.6, App. A).
    pub fn host(&self) -> Ipv6Addr {
        if self.setup != Setup::Down {
            return self.address(3);
        }
        let [a, b, c, d, e, f] = self.mac.0.map(u16::from);
        Ipv6Addr::new(0xfe80, 0, 0, 0, (a ^ 2) << 8 | b, c << 8 | 0xff, 0xfe00 | d, e << 8 | f)
    }

    /// A peer's address on this link.
    pub fn peer(&self, nth: u16) -> Ipv6Addr {
        if self.setup == Setup::Down {
            Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x50 + nth)
        } else {
            self.address(0x50 + nth)
        }
    }

    fn address(&self, host: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, self.number, 0, 0, 0, host)
    }

    /// An address of IPv4 on this link.
    pub fn ipv4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, self.number as u8, host)
    }

    pub fn send(&mut self, frame: &[u8]) {
        let mut own = self.queue.tx_alloc().expect("a frame is free");
        own.resize(frame.len()).expect("it fits");
        own.bytes_mut().copy_from_slice(frame);
        self.tx.push(own).expect("room for one");
        self.queue.tx_burst(&mut self.tx);
        self.queue.flush().expect("the link is up");
    }

    /// The next frame of the kernel's, if there is one by then.
    pub fn receive(&mut self, patience: Duration) -> Option<Vec<u8>> {
        if let Some(frame) = self.next() {
            return Some(frame);
        }
        self.sleeper.sleep(Some(patience), || false).expect("a descriptor");
        self.next()
    }

    fn next(&mut self) -> Option<Vec<u8>> {
        if self.rx.is_empty() {
            self.queue.rx_burst(&mut self.rx);
        }
        let frame = self.rx.pop()?;
        let bytes = frame.bytes().to_vec();
        self.queue.free(frame);
        // What this frame took is given back.
        self.queue.flush().expect("the link is up");
        Some(bytes)
    }
}
