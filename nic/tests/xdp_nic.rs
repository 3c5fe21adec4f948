//! The conformance suite over two NICs that are joined by a cable, in whatever mode their drivers give. Needs root and the
//! two names in SIDESTEP_NIC_TEST_LINKS, such as `eth1,eth2`, each with one queue; without them the test says so and
//! passes. scripts/test-nic-vm runs it over emulated NICs.

#[path = "xdp_veth/packet.rs"]
#[allow(dead_code, reason = "shared with the tests over veth")]
mod packet;
#[path = "conformance/suite.rs"]
#[allow(dead_code, reason = "its checks are run by `run_all`, besides")]
mod suite;

use std::net::Ipv4Addr;
use std::time::Duration;

use packet::{Place, UDP_BYTES, read_udp, write_udp};
use sidestep_nic::QueueId;
use sidestep_nic::link::Link;
use sidestep_nic::xdp::{XdpConfig, XdpDevice};

const RING: u32 = 64;
const LINKS: &str = "SIDESTEP_NIC_TEST_LINKS";

/// Two AF_XDP devices, one on each NIC.
struct OverNics {
    /// Whether the drivers are polled, and their interrupts not waited for.
    polled: bool,
    names: [String; 2],
    places: [Place; 2],
    devices: Option<[XdpDevice; 2]>,
}

impl OverNics {
    fn new(names: [String; 2], polled: bool) -> Self {
        let mut number = 0;
        let places = names.each_ref().map(|name| {
            number += 1;
            let mac = Link::by_name(name).expect("the NIC is there").mac.0;
            Place { mac, address: Ipv4Addr::new(10, 78, 1, number), port: u16::from(number) }
        });
        Self { polled, names, places, devices: None }
    }
}

/// A driver may stop and start its link to take a program in, some time after it has said yes: waits until the link has
/// carried for a second on end.
fn wait_for_carrier(name: &str) {
    let mut steady = 0;
    for _ in 0..3_000 {
        let carrier = std::fs::read_to_string(format!("/sys/class/net/{name}/carrier")).unwrap_or_default();
        steady = if carrier.trim() == "1" { steady + 1 } else { 0 };
        if steady == 100 {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("{name} has no carrier");
}

impl suite::Backend for OverNics {
    fn open(&mut self) -> suite::Ends {
        self.devices = None;
        let mut at = 0;
        let mut devices = self.names.each_ref().map(|name| {
            let place = &self.places[at];
            at += 1;
            let new = XdpConfig::new(name.clone(), place.address);
            let config = XdpConfig { queues: Some(vec![QueueId(0)]), rx_ring: RING, tx_ring: RING, ..new };
            XdpDevice::open(&config).expect("the device opens")
        });
        println!("{}: {}", self.names[0], devices[0].obtained());
        self.names.iter().for_each(|name| wait_for_carrier(name));
        let [a, b] = devices.each_mut().map(|device| {
            let mut queue = device.take_queue(QueueId(0)).expect("not taken yet");
            if self.polled {
                queue.poll_driver(device.link()).expect("root may, since Linux 5.11");
            }
            queue
        });
        self.devices = Some(devices);
        suite::Ends { a: Box::new(a), b: Box::new(b) }
    }

    fn settle(&mut self, ends: &mut suite::Ends) {
        if self.polled {
            // A core that polls its driver never sleeps, and ends a turn all the time (`XdpQueue::poll_driver`).
            for queue in [&mut ends.a, &mut ends.b] {
                queue.flush().expect("the link is there");
            }
        }
        // An emulated NIC takes its time, and to sleep on both queues ends at once while one of them is not read.
        std::thread::park_timeout(Duration::from_millis(5));
    }

    fn dress(&self, from: suite::End, bytes: &mut [u8]) {
        let [a, b] = self.places;
        match from {
            suite::End::A => write_udp(bytes, a, b),
            suite::End::B => write_udp(bytes, b, a),
        }
    }

    fn is_ours(&self, bytes: &[u8]) -> bool {
        read_udp(bytes).is_some_and(|(from, _, _)| self.places.contains(&from))
    }

    fn min_frame_bytes(&self) -> usize {
        // A NIC fills a shorter frame up to this (IEEE 802.3: 64 bytes with the checksum).
        (UDP_BYTES + 8).max(60)
    }

    fn safe_in_transit(&self) -> usize {
        RING as usize
    }

    fn tx_ring_frames(&self) -> Option<usize> {
        Some(RING as usize)
    }

    // What a driver does with a frame that finds the receive ring full is its own: some keep it, some drop it uncounted.
    fn overflow_frames(&self) -> Option<usize> {
        None
    }
}

#[test]
fn two_nics_on_a_cable_conform() {
    conform(false);
}

/// Where a driver sends by another NAPI instance than it receives by, nothing is sent by polling it (`XdpQueue::poll_driver`).
#[test]
fn two_nics_on_a_cable_conform_whose_drivers_are_polled() {
    conform(true);
}

fn conform(polled: bool) {
    let Ok(names) = std::env::var(LINKS) else {
        eprintln!("skipped: needs root and two NICs, named by {LINKS}");
        return;
    };
    let names: Vec<String> = names.split(',').map(str::to_owned).collect();
    suite::run_all(&mut OverNics::new(names.try_into().expect("two names"), polled));
}
