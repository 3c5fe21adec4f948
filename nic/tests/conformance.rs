//! The conformance suite over the back-ends that need no NIC and no privilege.

#[path = "conformance/suite.rs"]
mod suite;

use std::time::Duration;

use sidestep_nic::{
    Burst, Faults, PcapRecorder, PcapTap, PoolConfig, PortConfig, Queue, QueueId, RelayConfig, RelayPort,
    SharedRecorder, Wire, WireError, WirePort, WireQueue, relay_pair,
};
use suite::{Backend, Ends};

/// Both ends of a cable.
fn cable(config: &PortConfig) -> Result<(Wire, WireQueue, WireQueue), WireError> {
    let (wire, a, b) = Wire::pair(config.clone(), config.clone(), 1)?;
    Ok((wire, a.take_queue(QueueId(0))?, b.take_queue(QueueId(0))?))
}

/// The in-memory wire, tapped or not; the same one every time, so that opening again is opening the same queue.
struct OverWire {
    config: PortConfig,
    tapped: bool,
    wire: Wire,
    ports: [WirePort; 2],
}

impl OverWire {
    fn new(config: PortConfig) -> Self {
        let (wire, a, b) = Wire::pair(config.clone(), config.clone(), 1).expect("a good configuration");
        Self { config, tapped: false, wire, ports: [a, b] }
    }
}

fn tap(queue: WireQueue) -> Box<dyn Queue> {
    let recorder = PcapRecorder::new(std::io::sink()).expect("a sink takes everything");
    Box::new(PcapTap::new(queue, SharedRecorder::new(recorder)))
}

impl Backend for OverWire {
    fn open(&mut self) -> Ends {
        let [a, b] = self.ports.each_ref().map(|port| port.take_queue(QueueId(0)).expect("the queue is closed"));
        match self.tapped {
            true => Ends { a: tap(a), b: tap(b) },
            false => Ends { a: Box::new(a), b: Box::new(b) },
        }
    }

    fn settle(&mut self, _ends: &mut Ends) {
        self.wire.clock().advance(Duration::from_micros(100));
    }

    fn safe_in_transit(&self) -> usize {
        self.config.rx_ring.min(self.config.tx_ring)
    }

    fn tx_ring_frames(&self) -> Option<usize> {
        Some(self.config.tx_ring)
    }

    fn overflow_frames(&self) -> Option<usize> {
        Some(self.config.rx_ring + 50)
    }
}

#[test]
fn the_wire_conforms() {
    suite::run_all(&mut OverWire::new(PortConfig {
        rx_ring: 128,
        tx_ring: 64,
        frames: 512,
        inbound: Faults { delay: Duration::from_micros(70), ..Faults::default() },
        ..PortConfig::default()
    }));
}

#[test]
fn the_wire_conforms_with_jumbo_frames_and_scarce_rings() {
    suite::run_all(&mut OverWire::new(PortConfig {
        rx_ring: 8,
        tx_ring: 8,
        frames: 64,
        chunk_bytes: 16_384,
        max_frame_bytes: 9018,
        ..PortConfig::default()
    }));
}

#[test]
fn a_tapped_wire_conforms() {
    let config = PortConfig { rx_ring: 64, tx_ring: 64, frames: 256, ..PortConfig::default() };
    suite::run_all(&mut OverWire { tapped: true, ..OverWire::new(config) });
}

const RELAY: RelayConfig = RelayConfig {
    pool: PoolConfig { frames: 256, chunk_bytes: 2048, headroom_bytes: 256 },
    rx_ring: 96,
    max_frame_bytes: 1514,
};

/// Two workers whose polling core carries frames from one to the other.
struct BetweenWorkers {
    ports: Option<(RelayPort, RelayPort)>,
}

impl Backend for BetweenWorkers {
    fn open(&mut self) -> Ends {
        let (a, a_port) = relay_pair(RELAY).expect("a good configuration");
        let (b, b_port) = relay_pair(RELAY).expect("a good configuration");
        self.ports = Some((a_port, b_port));
        Ends { a: Box::new(a), b: Box::new(b) }
    }

    fn settle(&mut self, _ends: &mut Ends) {
        let (a, b) = self.ports.as_mut().expect("opened");
        let carry = |from: &mut RelayPort, to: &mut RelayPort| {
            from.collect(64, |bytes| {
                to.forward(bytes);
                true
            });
        };
        carry(a, b);
        carry(b, a);
    }

    fn tx_ring_frames(&self) -> Option<usize> {
        None
    }

    fn overflow_frames(&self) -> Option<usize> {
        Some(RELAY.rx_ring + 50)
    }
}

#[test]
fn a_relay_between_workers_conforms() {
    suite::run_all(&mut BetweenWorkers { ports: None });
}

/// A worker whose polling core has a NIC on the wire, and a plain queue at the other end.
struct BehindANic {
    wire: PortConfig,
    polling: Option<(Wire, WireQueue, RelayPort, Burst)>,
}

impl Backend for BehindANic {
    fn open(&mut self) -> Ends {
        let (wire, near, far) = cable(&self.wire).expect("a good configuration");
        let (worker, port) = relay_pair(RELAY).expect("a good configuration");
        self.polling = Some((wire, near, port, Burst::default()));
        Ends { a: Box::new(worker), b: Box::new(far) }
    }

    fn settle(&mut self, _ends: &mut Ends) {
        let (wire, nic, port, unsent) = self.polling.as_mut().expect("opened");
        wire.clock().advance(Duration::from_micros(100));
        let mut received = Burst::default();
        nic.rx_burst(&mut received);
        while let Some(frame) = received.pop() {
            port.forward(frame.bytes());
            nic.free(frame);
        }
        nic.tx_burst(unsent);
        if unsent.is_empty() {
            port.transmit(nic, unsent);
        }
        nic.flush().expect("a wire is always there");
    }

    fn tx_ring_frames(&self) -> Option<usize> {
        None
    }

    fn overflow_frames(&self) -> Option<usize> {
        Some(self.wire.rx_ring + 50)
    }
}

#[test]
fn a_worker_behind_a_nic_conforms() {
    let wire = PortConfig { rx_ring: 80, tx_ring: 64, frames: 256, ..PortConfig::default() };
    suite::run_all(&mut BehindANic { wire, polling: None });
}
