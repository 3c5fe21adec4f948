//! `Resolve`: finds the Ethernet address that frames go to, by ARP or neighbour discovery, before the first is sent.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nic::{Mac, Queue};

use crate::bursts::Bursts;
use crate::neighbor;
use crate::station::Station;

/// Time between two requests.
const RETRY: Duration = Duration::from_millis(200);
/// Time after which there is no answer to be had.
const GIVE_UP: Duration = Duration::from_secs(5);

/// The peer's Ethernet address, once known; shared by all queues, since the answer arrives on any one of them.
#[derive(Debug, Clone, Default)]
pub struct PeerMac(Arc<OnceLock<Mac>>);

impl PeerMac {
    /// One that is known.
    pub fn known(mac: Mac) -> Self {
        Self(Arc::new(OnceLock::from(mac)))
    }
}

/// The search for the peer's Ethernet address.
#[derive(Debug)]
pub struct Resolve {
    station: Station,
    peer: IpAddr,
    mac: PeerMac,
    started: Option<Duration>,
    next_request: Duration,
}

/// How the search stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Not yet known.
    Asking,
    /// Known.
    Known(Mac),
    /// Nobody answered.
    NoAnswer,
}

impl Resolve {
    /// A search for the peer's, which may be known already.
    pub fn new(station: Station, peer: IpAddr, mac: PeerMac) -> Self {
        Self { station, peer, mac, started: None, next_request: Duration::ZERO }
    }

    /// Takes what an answer says.
    pub fn learn(&mut self, address: IpAddr, mac: Mac) {
        if address == self.peer {
            // A second answer changes nothing.
            let _ = self.mac.0.set(mac);
        }
    }

    /// Asks if it is time to, and says how the search stands. The caller flushes.
    pub fn turn<Q: Queue>(&mut self, bursts: &mut Bursts, queue: &mut Q, now: Duration) -> Resolution {
        if let Some(mac) = self.mac.0.get() {
            return Resolution::Known(*mac);
        }
        let started = *self.started.get_or_insert(now);
        if now >= started + GIVE_UP {
            return Resolution::NoAnswer;
        }
        if now >= self.next_request
            && let Some(mut frame) = queue.tx_alloc()
        {
            self.next_request = now + RETRY;
            if neighbor::ask(&mut frame, self.station, self.peer) {
                bursts.send(queue, frame);
            } else {
                queue.free(frame);
            }
        }
        Resolution::Asking
    }
}
