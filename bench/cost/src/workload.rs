//! `Workload`: what is asked, by how many connections, how deep.

use stack::Rings;

use crate::items::Ask;

/// Connections of every workload but [`Workload::GetRandom`].
const CONNECTIONS: usize = 32;

/// One of the things whose cost is known. 30 bytes of key and 100 of value in all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, clap::ValueEnum)]
pub enum Workload {
    /// GET over 32 connections, each waiting for its answer.
    TcpGet,
    /// The same over IPv6.
    Tcp6Get,
    /// SET over 32 connections, each waiting for its answer; the store is full, so that reclaiming is part of it.
    TcpSet,
    /// A connection, one GET, and its end, 32 at a time: the cost is that of the whole connection.
    Connect,
    /// GET over 32 connections, sixteen requests in one segment.
    Get16,
    /// GET over UDP from 32 peers, each waiting for its answer.
    UdpGet,
    /// GET over 32 connections of one core, each waiting for its answer, of keys that another core owns: the turns of
    /// both are counted.
    OtherGet,
    /// SYNs of strangers who never answer, each answered with a cookie: the cost of one.
    SynFlood,
    /// GET over as many connections as `--flows` says, 32 drawn at random each turn.
    GetRandom,
}

/// What a workload is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Connections held open; over UDP, peers.
    pub connections: usize,
    /// Connections that ask something in one turn.
    pub per_turn: usize,
    /// Requests in one segment.
    pub depth: u32,
    /// What is asked.
    pub ask: Ask,
    /// Whether frames are of IPv6.
    pub ipv6: bool,
    /// Whether requests are datagrams; the store is filled over TCP all the same.
    pub udp: bool,
    /// Whether all that is sent are SYNs, each of another client.
    pub flood: bool,
    /// Whether each connection serves one request.
    pub reconnects: bool,
    /// Cores. The connections are all of the first one; with two, what they ask for is the second one's.
    pub cores: usize,
    /// Sizes of a flow's rings.
    pub rings: Rings,
    /// Connections that are awake at most.
    pub awake_flows: usize,
    /// Connections beyond those held open that there may be.
    pub more: usize,
    /// Virtual microseconds that pass with each turn.
    pub turn_micros: u64,
}

impl Shape {
    /// GETs over `active` connections, 32 drawn at random each turn, beside which `more` may be opened; of all of them
    /// `awake_flows` are awake at most.
    pub fn beside_idle(active: usize, more: usize, awake_flows: usize) -> Self {
        // As with random flows, time goes slowly.
        Self { connections: active, more, awake_flows, turn_micros: 1, ..Workload::TcpGet.shape(0) }
    }
}

impl Workload {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 9] = [
        Self::TcpGet,
        Self::Tcp6Get,
        Self::TcpSet,
        Self::Connect,
        Self::Get16,
        Self::UdpGet,
        Self::OtherGet,
        Self::SynFlood,
        Self::GetRandom,
    ];

    /// The name in tables, in JSON, and in the line of a commit message that owns up to a cost.
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpGet => "TCP GET",
            Self::Tcp6Get => "TCP GET over IPv6",
            Self::TcpSet => "TCP SET",
            Self::Connect => "connect-GET-close",
            Self::Get16 => "GET 16 deep",
            Self::UdpGet => "UDP GET",
            Self::OtherGet => "GET of another core",
            Self::SynFlood => "SYN flood",
            Self::GetRandom => "GET random flows",
        }
    }

    /// The name on the command line.
    pub const fn argument(self) -> &'static str {
        match self {
            Self::TcpGet => "tcp-get",
            Self::Tcp6Get => "tcp6-get",
            Self::TcpSet => "tcp-set",
            Self::Connect => "connect",
            Self::Get16 => "get16",
            Self::UdpGet => "udp-get",
            Self::OtherGet => "other-get",
            Self::SynFlood => "syn-flood",
            Self::GetRandom => "get-random",
        }
    }

    /// The workload of that [`name`](Self::name).
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|workload| workload.name() == name)
    }

    /// What it is made of; `flows` are those of [`Workload::GetRandom`].
    pub fn shape(self, flows: usize) -> Shape {
        let shape = Shape {
            connections: CONNECTIONS,
            per_turn: CONNECTIONS,
            depth: 1,
            ask: Ask::Get,
            ipv6: false,
            udp: false,
            flood: false,
            reconnects: false,
            cores: 1,
            rings: Rings::DEFAULT,
            awake_flows: usize::MAX,
            more: 0,
            // As if a core did a million requests a second.
            turn_micros: 32,
        };
        match self {
            Self::TcpGet => shape,
            Self::Tcp6Get => Shape { ipv6: true, ..shape },
            Self::TcpSet => Shape { ask: Ask::Set, ..shape },
            Self::Connect => Shape { reconnects: true, ..shape },
            Self::Get16 => Shape { depth: 16, ..shape },
            Self::UdpGet => Shape { udp: true, ..shape },
            Self::OtherGet => Shape { cores: 2, ..shape },
            Self::SynFlood => Shape { flood: true, ..shape },
            // The smallest rings, so that a million flows fit 2 GB. A client acknowledges an answer with its next
            // request, so that time has to go slowly for no retransmission to fall due meanwhile.
            Self::GetRandom => Shape { connections: flows, rings: Rings { rx: 512, tx: 512 }, turn_micros: 1, ..shape },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_workload_is_found_by_its_names() {
        for workload in Workload::ALL {
            assert_eq!(Workload::named(workload.name()), Some(workload));
            assert_eq!(Workload::from_str(workload.argument(), false), Ok(workload));
        }
    }
}
