//! A host that is flooded, with honest clients beside: 100,000 frames in a second of virtual time.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::bench::{Bench, segments};
use super::raw::{ACK, FIN, PSH, SYN, Tcp};
use super::v6::{self, THEM6, US6};
use super::{App, THEM, US, config};

/// Frames of the flood between two looks at the honest clients, and how often that is in the second.
pub const AT_ONCE: usize = 50;
pub const LOOKS: usize = 2_000;
const STEP: Duration = Duration::from_micros(500);
/// Turns in which so many frames, and those of the honest clients, are taken in.
const TURNS: usize = 2;
/// Turns that all of it may take until the server has nothing to do: SYNs are answered eight a turn.
const MOST_TURNS: usize = 100;
/// Looks between two new connections of an honest client.
const OPENS_EVERY: usize = 10;

pub const OLD_PORT: u16 = 4_000;

/// A frame of a flood, of a family.
pub type Flood = fn(Family, &mut Xoshiro256PlusPlus) -> Vec<u8>;

/// What a stack takes to test its address of IPv6 (RFC 4862 §5.4) and to say that it has it.
const ADDRESS_TAKES: Duration = Duration::from_secs(5);

/// A router that is heard last.
const ROUTER: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What a router may say of its lifetime (RFC 4861 §4.2), and a little more.
const LONGEST_LIFETIME: Duration = Duration::from_secs(66_000);

/// Over what the honest clients speak, and strangers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Our address.
    pub fn us(self) -> IpAddr {
        if self == Self::V4 { US.into() } else { US6.into() }
    }

    /// The honest clients' address.
    pub fn them(self) -> IpAddr {
        if self == Self::V4 { THEM.into() } else { THEM6.into() }
    }

    fn frame(self, segment: &Tcp) -> Vec<u8> {
        segment.frame_from(self.them())
    }

    /// Whether a frame is a segment for the honest clients' host.
    fn is_for_the_client(self, frame: &[u8]) -> bool {
        match self {
            Self::V4 => frame[12..14] == [8, 0] && frame[23] == v6::TCP && frame[30..34] == THEM.octets(),
            Self::V6 => frame[12..14] == [0x86, 0xdd] && frame[20] == v6::TCP && frame[38..54] == THEM6.octets(),
        }
    }

    fn mss(self) -> u16 {
        if self == Self::V4 { 1_460 } else { 1_440 }
    }
}

/// A host that is flooded, and an honest client beside.
pub struct Flooded {
    pub bench: Bench,
    pub family: Family,
    pub rng: Xoshiro256PlusPlus,
    /// Of the old connection: the client's next sequence number, and the server's.
    pub old: (u32, u32),
    next_port: u16,
}

impl Flooded {
    /// A host that speaks one family.
    pub fn new(family: Family, seed: u64) -> Self {
        println!("seed {seed}");
        let mut config = if family == Family::V4 { config() } else { v6::config_alone() };
        // So that no block need be made meanwhile.
        config.flows_at_start = 1_024;
        let mut bench = Bench::with(config, App::Echo);
        if family == Family::V6 {
            bench.wait(ADDRESS_TAKES);
        }
        let answers = segments(&bench.frame(&family.frame(&Tcp::new(OLD_PORT, SYN, 1, 0))));
        assert_eq!(answers.len(), 1, "{answers:?}");
        let next = answers[0].seq.wrapping_add(1);
        assert_eq!(segments(&bench.frame(&family.frame(&Tcp::new(OLD_PORT, ACK, 2, next)))), []);
        Self { bench, family, rng: Xoshiro256PlusPlus::seed_from_u64(seed), old: (2, next), next_port: 20_000 }
    }

    /// Some frames of the flood, then `segment` of the honest client; what the client is sent.
    pub fn ask(&mut self, flood: Option<Flood>, segment: &Tcp) -> Vec<Tcp> {
        if let Some(flood) = flood {
            for _ in 0..AT_ONCE {
                let frame = flood(self.family, &mut self.rng);
                self.bench.send(&frame);
            }
        }
        let frame = self.family.frame(segment);
        self.bench.send(&frame);
        let family = self.family;
        let mut answers = Vec::new();
        for _ in 0..TURNS {
            self.bench.turn_with(|frame| {
                if family.is_for_the_client(frame) {
                    let answer = Tcp::read(frame);
                    if answer.peer_port == segment.peer_port {
                        answers.push(answer);
                    }
                }
            });
        }
        answers
    }

    /// A request on the old connection is answered at once.
    pub fn old_is_served(&mut self, flood: Option<Flood>) {
        let (seq, ack) = self.old;
        let answers = self.ask(flood, &Tcp::new(OLD_PORT, ACK | PSH, seq, ack).with(b"get key\r\n"));
        let echo = answers.iter().find(|answer| !answer.data.is_empty());
        assert_eq!(echo.map(|echo| (echo.seq, &echo.data[..])), Some((ack, &b"get key\r\n"[..])), "{answers:?}");
        self.old = (seq.wrapping_add(9), ack.wrapping_add(9));
    }

    /// A new connection opens, asks and ends. Returns the answer to its SYN.
    pub fn new_is_served(&mut self, flood: Option<Flood>) -> Tcp {
        let port = self.next_port;
        self.next_port += 1;
        let mut syn = Tcp::new(port, SYN, 100, 0);
        syn.mss = Some(self.family.mss());
        let answers = self.ask(flood, &syn);
        assert_eq!(answers.len(), 1, "{answers:?}");
        let syn_ack = answers[0].clone();
        assert_eq!((syn_ack.flags, syn_ack.ack, syn_ack.mss), (SYN | ACK, 101, Some(self.family.mss())));
        let next = syn_ack.seq.wrapping_add(1);
        assert_eq!(self.ask(flood, &Tcp::new(port, ACK, 101, next)), []);
        let echo = self.ask(flood, &Tcp::new(port, ACK | PSH, 101, next).with(b"get key\r\n"));
        assert_eq!(echo.iter().map(|answer| &answer.data[..]).collect::<Vec<_>>(), [b"get key\r\n"]);
        let next = next.wrapping_add(9);
        let fin = self.ask(flood, &Tcp::new(port, ACK | FIN, 110, next));
        assert!(fin.iter().any(|answer| answer.flags & FIN != 0), "{fin:?}");
        assert_eq!(self.ask(flood, &Tcp::new(port, ACK, 111, next.wrapping_add(1))), []);
        syn_ack
    }

    /// Time passes, nothing being unacknowledged.
    pub fn pass(&mut self, span: Duration) {
        let (seq, ack) = self.old;
        assert_eq!(self.ask(None, &Tcp::new(OLD_PORT, ACK, seq, ack)), []);
        self.bench.wait(span);
    }

    /// The rest of the turns of a look: the server turns on while it has work, which takes it a small part of the time
    /// between two looks.
    pub fn go_on(&mut self) {
        for _ in 0..MOST_TURNS {
            if !self.bench.server.poll.stack().has_work() {
                return;
            }
            self.bench.turn_with(|_| {});
        }
        panic!("the server has work for more than {MOST_TURNS} turns");
    }

    /// A second of the flood.
    pub fn run(&mut self, flood: Flood) {
        for look in 0..LOOKS {
            self.bench.wire.clock().advance(STEP);
            self.old_is_served(Some(flood));
            self.go_on();
            if look % OPENS_EVERY == 0 {
                self.new_is_served(None);
            }
        }
    }

    /// All is as before the flood: at once, and, when the last handshake has timed out, without a trace.
    pub fn end(mut self) {
        self.old_is_served(None);
        self.new_is_served(None);
        self.pass(Duration::from_secs(31));
        let (seq, ack) = self.old;
        let fin = segments(&self.bench.frame(&self.family.frame(&Tcp::new(OLD_PORT, ACK | FIN, seq, ack))));
        assert_eq!(fin.iter().map(|fin| fin.flags & FIN).collect::<Vec<_>>(), [FIN]);
        self.bench.frame(&self.family.frame(&Tcp::new(OLD_PORT, ACK, seq.wrapping_add(1), ack.wrapping_add(1))));
        if self.family == Family::V6 {
            // Routers that were believed are known for as long as they have said, and those whose time is over until the
            // next is heard: one that comes, and goes.
            self.bench.wait(LONGEST_LIFETIME);
            for lifetime in [1_800_u16, 0] {
                self.bench.frame(&v6::router_advertisement(ROUTER, lifetime, &[]));
            }
        }
        self.bench.server.assert_nothing_left();
    }
}

/// A second of `flood`, beside honest clients; returns the host then.
pub fn endure_over(family: Family, flood: Flood, seed: u64) -> Flooded {
    let mut flooded = Flooded::new(family, seed);
    let before = flooded.bench.server.poll.stack().census();
    flooded.run(flood);
    let after = flooded.bench.server.poll.stack().census();
    assert_eq!((after.blocks, after.open), (before.blocks, 1), "memory grew, or a connection of nobody is there");
    flooded
}
