//! `Part`: what one end of the link is to do, and the engines that do it, one a queue.

use std::net::IpAddr;

use nic::{Mac, QueueId};

use crate::engine::Engine;
use crate::options::{Mode, Plan};
use crate::pace::Pace;
use crate::packet::Ports;
use crate::pong::Pong;
use crate::resolve::PeerMac;
use crate::sender::{Sender, Shot};
use crate::station::Station;

/// One end of the link.
#[derive(Debug, Clone)]
pub struct Part {
    /// What it does.
    pub mode: Mode,
    /// Who it is.
    pub station: Station,
    /// Its ports: those it serves, or those it sends from. `None`: all, or 7000.
    pub ports: Option<(u16, u16)>,
    /// The other end's address.
    pub peer: IpAddr,
    /// The other end's Ethernet address.
    pub peer_mac: PeerMac,
    /// The other end's ports; `None`: 7.
    pub peer_ports: Option<(u16, u16)>,
    plan: Plan,
}

/// No flow of those asked for would be answered on a queue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("none of the {flows} flows comes home to queue {queue}; give -s a wider range of ports")]
pub struct NoFlow {
    flows: usize,
    queue: u16,
}

impl Part {
    /// What the plan says, for a station with this Ethernet address.
    pub fn of(plan: &Plan, mac: Mac) -> Self {
        let (source, destination) = (plan.source(), plan.destination());
        Self {
            mode: plan.mode,
            station: Station { mac, address: source.address },
            ports: source.ports,
            peer: destination.address,
            peer_mac: plan.destination_mac.map_or_else(PeerMac::default, PeerMac::known),
            peer_ports: destination.ports,
            plan: plan.clone(),
        }
    }

    /// The other end: ping for pong, tx for rx, and the reverse. It runs for as long as it is let.
    pub fn opposite(&self, mac: Mac) -> Self {
        let mode = match self.mode {
            Mode::Pong => Mode::Ping,
            Mode::Ping => Mode::Pong,
            Mode::Rx => Mode::Tx,
            Mode::Tx => Mode::Rx,
        };
        let mut plan = self.plan.clone();
        plan.count = None;
        Self {
            mode,
            station: Station { mac, address: self.peer },
            ports: self.peer_ports,
            peer: self.station.address,
            peer_mac: PeerMac::default(),
            peer_ports: self.ports,
            plan,
        }
    }

    /// The engines of all queues. `home` says on which queue (0 for the first of ours) a flow's answers arrive, if that
    /// can be told.
    ///
    /// # Errors
    /// [`NoFlow`]: no flow's answers come home to a queue.
    pub fn engines(&self, home: impl Fn(Ports) -> Option<QueueId>) -> Result<Vec<Engine>, NoFlow> {
        (0..self.plan.threads).map(|queue| self.engine(queue, &home)).collect()
    }

    fn engine(&self, queue: u16, home: &impl Fn(Ports) -> Option<QueueId>) -> Result<Engine, NoFlow> {
        let (batch, threads) = (usize::from(self.plan.batch), u64::from(self.plan.threads));
        let share = |count: u64| count / threads + u64::from(u64::from(queue) < count % threads);
        let count = self.plan.count.map_or(u64::MAX, share);
        let send = || self.shot(queue, count, home);
        Ok(match self.mode {
            Mode::Pong => Engine::Pong(Box::new(Pong::new(self.station, self.ports, batch, count))),
            Mode::Rx => Engine::Pong(Box::new(Pong::rx(self.station, batch, count))),
            Mode::Ping => Engine::Sender(Box::new(Sender::ping(send()?, self.plan.window(), self.plan.timeout()))),
            Mode::Tx => Engine::Sender(Box::new(Sender::tx(send()?))),
        })
    }

    fn shot(&self, queue: u16, count: u64, home: &impl Fn(Ports) -> Option<QueueId>) -> Result<Shot, NoFlow> {
        let (first, last) = self.ports.unwrap_or((7000, 7000));
        let (peer_first, peer_last) = self.peer_ports.unwrap_or((7, 7));
        let all = (first..=last)
            .flat_map(|source| (peer_first..=peer_last).map(move |destination| Ports { source, destination }));
        let ports: Vec<Ports> =
            all.clone().filter(|ports| home(*ports).is_none_or(|home| home == QueueId(queue))).collect();
        if ports.is_empty() {
            return Err(NoFlow { flows: all.count(), queue });
        }
        Ok(Shot {
            station: self.station,
            peer: self.peer,
            peer_mac: self.peer_mac.clone(),
            ports,
            frame_bytes: self.plan.frame_bytes(),
            batch: self.plan.batch.into(),
            pace: self.plan.rate.map(|rate| Pace::new(rate, queue, self.plan.threads)),
            count,
            queue,
        })
    }
}
