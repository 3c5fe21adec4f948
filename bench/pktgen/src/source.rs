//! `Source`: sends UDP frames as fast as the queue takes them, or at a rate.

use std::net::Ipv4Addr;
use std::time::Duration;

use nic::{Queue, QueueError};

use crate::bursts::Bursts;
use crate::engine::Progress;
use crate::pace::Pace;
use crate::packet::{Class, Ports, Stamp, UdpTemplate, classify};
use crate::resolve::{PeerMac, Resolution, Resolve};
use crate::station::Station;
use crate::tally::DropReason;

/// What tx and ping send, and where to.
#[derive(Debug, Clone)]
pub struct Shot {
    /// Who sends.
    pub station: Station,
    /// To whom.
    pub peer: Ipv4Addr,
    /// Whose Ethernet address that is.
    pub peer_mac: PeerMac,
    /// Ports, taken in turn; at least one pair.
    pub ports: Vec<Ports>,
    /// Bytes of a frame.
    pub frame_bytes: usize,
    /// Most frames a turn.
    pub batch: usize,
    /// When to send; `None`: as soon as possible.
    pub pace: Option<Pace>,
    /// How many frames to send.
    pub count: u64,
    /// Which queue sends, for its frames to be told from those of the others.
    pub queue: u16,
}

/// Bits of a frame's number on its queue; the queue's number is above them.
const NUMBER_BITS: u32 = 48;

impl Shot {
    /// The sequence number of the queue's frame of this number: unique among all queues.
    pub fn sequence(&self, number: u64) -> u64 {
        u64::from(self.queue) << NUMBER_BITS | number
    }

    /// The ports of the frame with this sequence number.
    pub fn ports_of(&self, sequence: u64) -> Ports {
        let number = sequence & ((1 << NUMBER_BITS) - 1);
        let at = number % self.ports.len().max(1) as u64;
        self.ports.get(at as usize).copied().unwrap_or(Ports { source: 7, destination: 7 })
    }
}

/// The sender of one queue.
#[derive(Debug)]
pub struct Source {
    shot: Shot,
    resolve: Resolve,
    template: Option<UdpTemplate>,
    bursts: Bursts,
    started: Duration,
    sequence: u64,
}

impl Source {
    /// A sender of what `shot` says.
    pub fn new(shot: Shot) -> Self {
        let resolve = Resolve::new(shot.station, shot.peer, shot.peer_mac.clone());
        let bursts = Bursts::new(shot.batch);
        Self { shot, resolve, template: None, bursts, started: Duration::ZERO, sequence: 0 }
    }

    /// One turn.
    ///
    /// # Errors
    /// [`QueueError`]: the link is gone.
    pub fn turn<Q: Queue>(&mut self, queue: &mut Q, now: Duration) -> Result<Progress, QueueError> {
        let Some(template) = &self.template else {
            match self.resolve.turn(&mut self.bursts, queue, now) {
                Resolution::Known(mac) => {
                    let Shot { station, peer, frame_bytes, .. } = self.shot;
                    self.template = Some(UdpTemplate::new(station, mac, peer, frame_bytes));
                    self.started = now;
                }
                Resolution::Asking => {}
                Resolution::NoAnswer => return Ok(Progress { moved: 0, done: true }),
            }
            let moved = self.bursts.flush(queue)?;
            return Ok(Progress { moved, done: false });
        };
        self.bursts.receive(queue);
        while let Some(frame) = self.bursts.next() {
            match classify(frame.bytes(), self.shot.station.address) {
                Class::Arp => {
                    self.bursts.arp(queue, frame, self.shot.station);
                }
                Class::Ours { .. } => self.bursts.drop(queue, frame, DropReason::Unexpected),
                Class::Drop(reason) => self.bursts.drop(queue, frame, reason),
            }
        }
        for _ in 0..self.bursts.room() {
            if self.sequence == self.shot.count {
                break;
            }
            let due = self.shot.pace.map_or(now, |pace| self.started + pace.due(self.sequence));
            if due > now {
                break;
            }
            let Some(mut frame) = queue.tx_alloc() else { break };
            if frame.resize(template.frame_bytes()).is_err() {
                queue.free(frame);
                break;
            }
            let sequence = self.shot.sequence(self.sequence);
            let stamp = Stamp { slot: 0, sequence, sent_nanos: due.as_nanos() as u64 };
            template.write(frame.bytes_mut(), self.shot.ports_of(sequence), stamp);
            self.bursts.send(queue, frame);
            self.sequence += 1;
        }
        let moved = self.bursts.flush(queue)?;
        if moved > 0 {
            self.bursts.tally.note_activity(now);
        }
        Ok(Progress { moved, done: self.sequence == self.shot.count && !self.bursts.has_unsent() })
    }

    /// Whether the search for the peer's Ethernet address failed.
    pub fn found_nobody(&self) -> bool {
        self.template.is_none()
    }

    /// The frames it holds, and what it counted.
    pub fn bursts(&mut self) -> &mut Bursts {
        &mut self.bursts
    }
}
