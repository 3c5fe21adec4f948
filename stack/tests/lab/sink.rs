//! `Sink`: a client that asks for values, one after the other, and acknowledges them as Linux does.
//!
//! It keeps whatever comes, in whatever order, tells of four islands by SACK, the newest first, and of what came twice
//! (RFC 2883), acknowledges every second segment at once, the last after 40 ms, and what is out of order at once.

use std::time::Duration;

use etherparse::{PacketBuilder, TcpOptionElement};
use nic::{Faults, PortConfig, QueueId, Wire};
use sidestep_stack::{StackConfig, StackStats, Time};

use super::raw::{ACK, FIN, RST, SYN, Tcp};
use super::station::Station;
use super::{App, OWN, PEER, PORT, Server, THEM, US, pattern};

/// The window that it tells, in units of 128 bytes.
const WINDOW: u16 = 50_000;
const SCALE: u8 = 7;
const MSS: u16 = 1_460;
const DELAYED: Duration = Duration::from_millis(40);
const CLIENT_PORT: u16 = 40_000;
/// Where its sequence numbers begin.
const ISS: u32 = 0xffff_ff00;

/// A server that answers each byte with a value, a path, and a client behind it.
pub struct Sink {
    pub wire: Wire,
    pub server: Server,
    station: Station,
    /// The largest segment that its SYN offers.
    mss: u16,
    seq: u32,
    /// The server's first sequence number behind its SYN, once it was heard.
    first: Option<u32>,
    /// Bytes that have come in order.
    got: u64,
    /// What has come behind them, in stream positions; the newest last.
    islands: Vec<(u64, u64)>,
    /// Segments that were not acknowledged.
    unacknowledged: u32,
    ack_at: Option<Time>,
    /// Segments with data that came, and those of them with nothing new.
    pub segments: u64,
    pub needless: u64,
    /// The server's turns, and most calls of smoltcp in one of them.
    pub turns: u64,
    pub most_sets: u64,
}

impl Sink {
    /// `out`: what meets the server's frames; `back`: the client's.
    pub fn new(config: StackConfig, value: usize, faults: (Faults, Faults), seed: u64) -> Self {
        Self::with_mss(MSS, config, value, faults, seed)
    }

    /// As [`new`](Self::new), with a client that takes segments of `mss` bytes.
    pub fn with_mss(mss: u16, config: StackConfig, value: usize, (out, back): (Faults, Faults), seed: u64) -> Self {
        println!("seed {seed}");
        let port = |inbound| PortConfig { inbound, rx_ring: 4_096, frames: 8_192, ..PortConfig::with_queues(1) };
        let (wire, ours, theirs) = Wire::pair(port(back), port(out), seed).expect("a good configuration");
        let server = Server::new(config, vec![ours.take_queue(QueueId(0)).expect("opened once")], App::Value(value));
        let station = Station::new(theirs.take_queue(QueueId(0)).expect("opened once"));
        let mut sink = Self {
            wire,
            server,
            station,
            mss,
            seq: ISS,
            first: None,
            got: 0,
            islands: Vec::new(),
            unacknowledged: 0,
            ack_at: None,
            segments: 0,
            needless: 0,
            turns: 0,
            most_sets: 0,
        };
        sink.open();
        sink
    }

    pub fn stats(&self) -> &StackStats {
        self.server.poll.stack().stats()
    }

    pub fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    fn open(&mut self) {
        for _ in 0..20 {
            self.send(SYN, &[], &[]);
            self.run(Duration::from_secs(1), |sink| sink.first.is_some());
            if self.first.is_some() {
                return;
            }
        }
        panic!("no connection");
    }

    /// Bytes that have come in order.
    pub fn got(&self) -> u64 {
        self.got
    }

    /// From now on what the client sends meets these faults.
    pub fn set_faults_of_acknowledgments(&mut self, faults: Faults) {
        self.wire.set_inbound_faults(0, faults).expect("good faults");
    }

    /// Frames of the client that were lost.
    pub fn lost_acknowledgments(&self) -> u64 {
        self.wire.counts(0).all_lost()
    }

    /// Asks for a value. Returns the sequence number of that.
    pub fn ask(&mut self) -> u32 {
        self.send(ACK, b"?", &[]);
        let asked = self.seq;
        self.seq = self.seq.wrapping_add(1);
        asked
    }

    /// Says that a block has come, by its place in the stream, whether it has or not.
    pub fn pretend(&mut self, block: (u64, u64)) {
        self.send(ACK, &[], &[block]);
    }

    /// Throws away what has come out of order, of which it has told: a kernel does so when it is short of memory (RFC 2018 §8).
    /// Returns how many bytes that was.
    pub fn renege(&mut self) -> u64 {
        self.islands.drain(..).map(|(from, to)| to - from).sum()
    }

    /// Asks for a value of `bytes` and waits until it is there; how long that took.
    pub fn get(&mut self, bytes: usize) -> Duration {
        let (began, until) = (self.now(), self.got + bytes as u64);
        let asked = self.ask();
        // What is asked is asked again every 200 ms, as by a kernel.
        for _ in 0..600 {
            self.run(Duration::from_millis(200), |sink| sink.got >= until);
            if self.got >= until {
                return self.now().since(began);
            }
            if self.server.bytes < u64::from(asked.wrapping_sub(ISS)) {
                let seq = std::mem::replace(&mut self.seq, asked);
                self.send(ACK, b"?", &[]);
                self.seq = seq;
            }
        }
        panic!("{} of {until} bytes: {:?}", self.got, self.server.poll.stack());
    }

    /// Lets time pass, until `done` or for `span`.
    pub fn run(&mut self, span: Duration, mut done: impl FnMut(&Self) -> bool) {
        let end = self.now().after(span);
        loop {
            self.settle();
            let now = self.now();
            if done(self) || now >= end {
                return;
            }
            let wire = self.wire.next_due().map(Time::from_duration);
            let server = self.server.poll.stack().next_deadline(now).map(|wait| now.after(wait));
            let next = [wire, server, self.ack_at].into_iter().flatten().min().unwrap_or(end).min(end);
            self.wire.clock().advance(next.since(now).max(Duration::from_micros(1)));
        }
    }

    /// Both ends' turns at the present moment, until neither has anything to do.
    fn settle(&mut self) {
        for _ in 0..100_000 {
            let (now, before) = (self.now(), self.server.poll.stack().work().sets);
            self.server.turn(now);
            self.turns += 1;
            self.most_sets = self.most_sets.max(self.server.poll.stack().work().sets - before);
            let mut frames = Vec::new();
            self.station.receive(|frame| frames.push(frame.to_vec()));
            for frame in &frames {
                if frame[12..14] == [8, 0] {
                    self.receive(now, &Tcp::read(frame));
                }
            }
            if self.ack_at.is_some_and(|at| at <= now) {
                self.acknowledge(None);
            }
            let due = self.wire.next_due().is_some_and(|due| due <= self.wire.clock().now());
            if frames.is_empty() && !due && !self.server.poll.stack().has_work() {
                return;
            }
        }
        panic!("no rest at {:?}: {:?}", self.now(), self.server.poll.stack());
    }

    fn receive(&mut self, now: Time, segment: &Tcp) {
        assert_eq!(segment.flags & (RST | FIN), 0, "{segment:?}");
        if segment.flags & SYN != 0 {
            self.first = Some(segment.seq.wrapping_add(1));
            self.seq = ISS.wrapping_add(1);
            return self.acknowledge(None);
        }
        if segment.data.is_empty() {
            return;
        }
        self.segments += 1;
        let first = self.first.expect("the SYN came");
        let offset = segment.seq.wrapping_sub(first.wrapping_add(self.got as u32)) as i32;
        let from = self.got.wrapping_add_signed(i64::from(offset));
        let to = from + segment.data.len() as u64;
        for (i, byte) in segment.data.iter().enumerate() {
            assert_eq!(*byte, pattern((from + i as u64) as usize), "byte {}", from + i as u64);
        }
        let known = to <= self.got || self.islands.iter().any(|&(left, right)| left <= from && to <= right);
        if known {
            self.needless += 1;
            return self.acknowledge(Some((from, to)));
        }
        let (mut left, mut right) = (from, to);
        self.islands.retain(|&(a, b)| {
            let apart = b < left || right < a;
            if !apart {
                (left, right) = (left.min(a), right.max(b));
            }
            apart
        });
        if left > self.got {
            self.islands.push((left, right));
            return self.acknowledge(None);
        }
        self.got = right;
        self.unacknowledged += 1;
        if self.unacknowledged >= 2 || !self.islands.is_empty() || left < from {
            return self.acknowledge(None);
        }
        self.ack_at = Some(now.after(DELAYED));
    }

    fn acknowledge(&mut self, twice: Option<(u64, u64)>) {
        (self.unacknowledged, self.ack_at) = (0, None);
        let newest = self.islands.iter().rev().copied();
        let told: Vec<_> = twice.into_iter().chain(newest).take(4).collect();
        self.send(ACK, &[], &told);
    }

    fn send(&mut self, flags: u8, data: &[u8], told: &[(u64, u64)]) {
        let window = if flags & SYN != 0 { 65_535 } else { WINDOW };
        let mut tcp = PacketBuilder::ethernet2(PEER.0, OWN.0).ipv4(THEM.octets(), US.octets(), 64).tcp(
            CLIENT_PORT,
            PORT,
            self.seq,
            window,
        );
        let first = self.first.unwrap_or_default();
        if flags & SYN != 0 {
            let options = [
                TcpOptionElement::MaximumSegmentSize(self.mss),
                TcpOptionElement::SelectiveAcknowledgementPermitted,
                TcpOptionElement::WindowScale(SCALE),
            ];
            tcp = tcp.syn().options(&options).expect("they fit");
        } else {
            tcp = tcp.ack(first.wrapping_add(self.got as u32));
        }
        if let [newest, rest @ ..] = told {
            let number = |at: &(u64, u64)| (first.wrapping_add(at.0 as u32), first.wrapping_add(at.1 as u32));
            let more = std::array::from_fn(|i| rest.get(i).map(number));
            let option = TcpOptionElement::SelectiveAcknowledgement(number(newest), more);
            tcp = tcp.options(&[option]).expect("they fit");
        }
        let mut frame = Vec::new();
        tcp.write(&mut frame, data).expect("written to memory");
        self.station.send(&frame);
    }
}
