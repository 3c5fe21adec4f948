//! The conformance suite over the back-ends that need no NIC and no privilege.

#[path = "conformance/suite.rs"]
mod suite;

use std::time::Duration;

use sidestep_nic::{Faults, PortConfig, QueueId, Wire, WireError};
use suite::{Backend, Ends};

/// The in-memory wire, with a delay so that time matters.
struct OverWire {
    config: PortConfig,
    wire: Option<Wire>,
}

impl OverWire {
    fn new(config: PortConfig) -> Self {
        Self { config, wire: None }
    }
}

impl Backend for OverWire {
    fn open(&mut self) -> Ends {
        let open = || -> Result<(Wire, Ends), WireError> {
            let (wire, a, b) = Wire::pair(self.config.clone(), self.config.clone(), 1)?;
            let ends = Ends { a: Box::new(a.take_queue(QueueId(0))?), b: Box::new(b.take_queue(QueueId(0))?) };
            Ok((wire, ends))
        };
        let (wire, ends) = open().expect("a good configuration");
        self.wire = Some(wire);
        ends
    }

    fn settle(&mut self, _ends: &mut Ends) {
        let wire = self.wire.as_ref().expect("opened");
        wire.clock().advance(Duration::from_micros(100));
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
