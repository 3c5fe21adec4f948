//! A server, and a queue to throw frames at it: no other stack, no time but what the test lets pass.

use std::time::Duration;

use nic::{PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{DropReason, StackConfig, Time};

use super::raw::{ACK, SYN, Tcp};
use super::station::Station;
use super::v6::ICMP;
use super::{App, Server, config};

/// A server, and a queue to throw frames at it.
pub struct Bench {
    pub wire: Wire,
    pub server: Server,
    station: Station,
}

impl Bench {
    pub fn new(app: App) -> Self {
        Self::with(config(), app)
    }

    pub fn with(config: StackConfig, app: App) -> Self {
        let port = || super::family::port(PortConfig::default());
        let (wire, ours, theirs) = Wire::pair(port(), port(), 1).expect("a wire");
        let server = Server::new(config, vec![ours.take_queue(QueueId(0)).expect("opened once")], app);
        Self::on(wire, server, theirs.take_queue(QueueId(0)).expect("opened once"))
    }

    pub fn on(wire: Wire, server: Server, queue: WireQueue) -> Self {
        let (mut server, mut station) = (server, Station::new(queue));
        super::begin_to_use_addresses(&wire, &mut server, || station.receive(|_| {}));
        Self { wire, server, station }
    }

    pub fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    /// Sends a frame. Allocates nothing.
    pub fn send(&mut self, bytes: &[u8]) {
        self.station.send(bytes);
    }

    /// Runs a turn and shows `look` what the stack sends. Allocates nothing.
    pub fn turn_with(&mut self, look: impl FnMut(&[u8])) {
        let now = self.now();
        self.server.turn(now);
        self.station.receive(look);
    }

    /// Sends a frame, runs a turn, returns what the stack sends.
    pub fn frame(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.send(bytes);
        self.turn()
    }

    pub fn turn(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.turn_with(|frame| frames.push(frame.to_vec()));
        frames
    }

    /// Sends a segment, runs a turn, returns the segments that the stack sends.
    pub fn tcp(&mut self, segment: &Tcp) -> Vec<Tcp> {
        segments(&self.frame(&segment.frame()))
    }

    /// Sends a segment that is answered by exactly one.
    #[track_caller]
    pub fn one(&mut self, segment: &Tcp) -> Tcp {
        let answers = self.tcp(segment);
        assert_eq!(answers.len(), 1, "{answers:?}");
        answers.into_iter().next().expect("there is one")
    }

    /// Opens a connection from `port` whose client begins at `seq`. Returns the server's next sequence number.
    pub fn open(&mut self, port: u16, seq: u32) -> u32 {
        let answer = self.one(&Tcp::new(port, SYN, seq, 0));
        assert_eq!((answer.flags, answer.ack), (SYN | ACK, seq.wrapping_add(1)));
        let next = answer.seq.wrapping_add(1);
        assert_eq!(self.tcp(&Tcp::new(port, ACK, seq.wrapping_add(1), next)), []);
        next
    }

    /// Lets time pass, in steps, and returns the segments that the stack sends meanwhile.
    pub fn wait(&mut self, span: Duration) -> Vec<Tcp> {
        let mut sent = Vec::new();
        for _ in 0..100 {
            self.wire.clock().advance(span / 100);
            sent.extend(segments(&self.turn()));
        }
        sent
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.server.poll.stack().stats().drops.of(reason)
    }
}

/// The frames read as segments; those of ARP, NDP and the reports of groups among them are left out.
pub fn segments(frames: &[Vec<u8>]) -> Vec<Tcp> {
    frames.iter().filter(|frame| !is_arp(frame)).map(|frame| Tcp::read(frame)).collect()
}

/// Whether a frame is about ARP, or ICMPv6, of which NDP is a part: a flow in doubt asks where its peer is. A report of
/// groups stands behind a header for each hop.
pub fn is_arp(frame: &[u8]) -> bool {
    frame[12..14] == [8, 6] || frame[12..14] == [0x86, 0xdd] && [0, ICMP].contains(&frame[20])
}
