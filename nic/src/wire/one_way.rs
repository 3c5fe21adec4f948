//! `OneWay`: one direction of a wire, without ports: what is sent arrives later, or not at all.
//!
//! For a program that stands between two real links and brings the faults of the in-memory wire with it. Time is an
//! argument, counted from the program's start. What is under way is bounded, and no call allocates after the first
//! frames. Read first: `cable.rs`, `fault.rs`.

use std::time::Duration;

use crate::fault::{FaultError, Faults};
use crate::wire::WireCounts;
use crate::wire::cable::{Cable, EventLog, Spares};

/// One direction of a wire. One thread sends and takes what has arrived.
#[derive(Debug)]
pub struct OneWay {
    cable: Cable,
    spares: Spares,
    log: EventLog,
}

impl OneWay {
    /// A direction with these faults, drawn by `seed`, that holds at most `limit` frames at a time.
    ///
    /// # Errors
    /// [`FaultError`]: a fault that cannot be had.
    pub fn new(faults: Faults, limit: usize, seed: u64) -> Result<Self, FaultError> {
        faults.check()?;
        Ok(Self { cable: Cable::new(faults, limit, seed), spares: Spares::default(), log: EventLog::default() })
    }

    /// Sends a frame at `now`; its bytes are copied.
    pub fn send(&mut self, now: Duration, frame: &[u8]) {
        self.cable.send(0, now, frame, &mut self.spares, &mut self.log);
    }

    /// Gives `take` each frame that has arrived by `now`, in the order of arrival. `take` says whether it could do with
    /// it; what it could not is counted as dropped by the receiver.
    pub fn deliver(&mut self, now: Duration, mut take: impl FnMut(&[u8]) -> bool) {
        while let Some((_, frame)) = self.cable.arrived(now) {
            let taken = take(&frame);
            self.cable.count_arrival(taken);
            self.spares.keep(frame);
        }
    }

    /// When the next frame arrives, if one is under way.
    pub fn next_due(&self) -> Option<Duration> {
        self.cable.next_due()
    }

    /// What became of the frames sent so far.
    pub fn counts(&self) -> WireCounts {
        self.cable.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Flap;

    fn arrivals(way: &mut OneWay, now: Duration) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        way.deliver(now, |frame| {
            frames.push(frame.to_vec());
            true
        });
        frames
    }

    fn one_way(faults: Faults) -> OneWay {
        OneWay::new(faults, 64, 1).expect("faults that can be had")
    }

    #[test]
    fn a_frame_arrives_after_the_delay_and_not_before() {
        let delay = Duration::from_millis(5);
        let mut way = one_way(Faults { delay, ..Faults::default() });
        way.send(Duration::from_millis(1), b"frame");
        assert_eq!(way.next_due(), Some(Duration::from_millis(6)));
        assert!(arrivals(&mut way, Duration::from_micros(5_999)).is_empty());
        assert_eq!(arrivals(&mut way, Duration::from_millis(6)), [b"frame"]);
        assert_eq!(way.next_due(), None);
    }

    #[test]
    fn a_frame_that_nobody_could_take_is_counted() {
        let mut way = one_way(Faults::default());
        way.send(Duration::ZERO, b"frame");
        way.deliver(Duration::ZERO, |_| false);
        assert_eq!((way.counts().delivered, way.counts().rx_dropped), (0, 1));
    }

    #[test]
    fn a_packet_longer_than_the_hole_is_lost() {
        let mut way = one_way(Faults { mtu_hole: Some(100), ..Faults::default() });
        way.send(Duration::ZERO, &[0; 114]);
        way.send(Duration::ZERO, &[0; 115]);
        assert_eq!(arrivals(&mut way, Duration::ZERO), [vec![0; 114]]);
        assert_eq!(way.counts().too_long, 1);
    }

    #[test]
    fn a_link_that_flaps_loses_what_is_sent_at_the_end_of_each_period() {
        let flap = Flap { every: Duration::from_secs(3), down: Duration::from_secs(1) };
        let mut way = one_way(Faults { flap: Some(flap), ..Faults::default() });
        let sent: Vec<u64> = (0..60).collect();
        for tenth in &sent {
            way.send(Duration::from_millis(tenth * 100), &[*tenth as u8]);
        }
        let passed: Vec<u64> = arrivals(&mut way, Duration::from_secs(9)).iter().map(|frame| frame[0].into()).collect();
        let up: Vec<u64> = sent.into_iter().filter(|tenth| tenth % 30 < 20).collect();
        assert_eq!(passed, up);
    }

    #[test]
    fn a_cut_frame_keeps_its_ethernet_header_and_its_first_bytes() {
        let mut way = one_way(Faults { cut: 1.0, ..Faults::default() });
        let frame: Vec<u8> = (0..60).collect();
        for _ in 0..32 {
            way.send(Duration::ZERO, &frame);
        }
        let lengths: Vec<usize> = arrivals(&mut way, Duration::ZERO)
            .iter()
            .map(|cut| {
                assert_eq!(cut[..], frame[..cut.len()]);
                cut.len()
            })
            .collect();
        assert_eq!(way.counts().cut, 32);
        assert!(lengths.iter().all(|length| (14..60).contains(length)), "{lengths:?}");
        assert!(lengths.iter().any(|length| *length != lengths[0]), "all were cut alike: {lengths:?}");
    }

    #[test]
    fn a_flap_that_is_down_for_longer_than_its_period_is_refused() {
        let flap = Flap { every: Duration::from_secs(1), down: Duration::from_secs(2) };
        let refused = OneWay::new(Faults { flap: Some(flap), ..Faults::default() }, 1, 1);
        assert!(matches!(refused, Err(FaultError::Range { fault: "flap.down in nanoseconds", .. })), "{refused:?}");
    }
}
