//! What one input of the fuzz target for frames does: frames and moments to a stack that echoes segments and datagrams,
//! every promise checked.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | what the application does with flows: echo, greet and close half, take nothing, abort, talk and close |
//! | then records: kind, and what belongs to it | |
//! | kind 0, length (2 bytes, little-endian), bytes | a frame, as it is |
//! | kind 1, length, bytes | a frame put right: addressed to us, checksums, and what a segment acknowledges counted from our first sequence number to its port |
//! | kind 2, one byte | time passes: 1, 5, 50, 250 or 1000 ms, 11 or 61 s, nothing |
//!
//! A stack keeps its blocks for ever, so one is used for all inputs of a process; each ends with nothing open and begins
//! with other sequence numbers, which inputs do not name. Used by `cache/fuzz/targets/frames.rs` and by
//! `stack/tests/corpus.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nic::{PortConfig, Queue, QueueId, Wire};
use sidestep_stack::{DatagramPeer, DatagramReplies, Time};

use super::odd::{sum, sum_body, sum_ip};
use super::raw::{ACK, SYN};
use super::station::Station;
use super::udp::Call;
use super::{App, OWN, PORT, Server, THEM, US, config};

/// The longest frame: Ethernet's, with a tag.
const FRAME_MAX: usize = 1518;

/// Records of one input; the rest is passed over.
const RECORDS_MAX: usize = 200;

/// Time within which everything has ended that nobody goes on with.
const END_SECS: u64 = 400;

/// Turns at one moment that no real work takes.
const TURNS_MAX: usize = 1_000;

/// The stack and a queue to throw frames at it.
struct Stage {
    wire: Wire,
    server: Server,
    station: Station,
    /// By the peer's port: our first sequence number.
    isns: HashMap<u16, u32>,
    /// Frames that the port keeps ready to send in.
    reserve: usize,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::new(Stage::new());
}

/// Plays `input` and panics when a promise is broken: a panic contained by the stack, a frame sent that is none, work
/// without end, anything left when all have gone.
pub fn drive(input: &[u8]) {
    let Some((&first, records)) = input.split_first() else { return };
    STAGE.with_borrow_mut(|stage| stage.play(first, records));
}

/// What all inputs so far have reached: flows opened, bytes echoed on them, and datagrams sent.
pub fn reached() -> (u64, u64, u64) {
    STAGE.with_borrow(|stage| (stage.server.opened, stage.server.bytes, stage.server.stack.stats().datagrams_sent))
}

impl Stage {
    fn new() -> Self {
        let mut config = config();
        config.udp_ports = vec![PORT];
        // Small tables, so that they fill.
        (config.max_flows, config.flows_at_start, config.syn_queue) = (6, 6, 4);
        (config.time_wait_records, config.neighbors) = (4, 4);
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let server = Server::new(config, vec![ours.take_queue(QueueId(0)).expect("opened once")], App::Echo);
        let queue = theirs.take_queue(QueueId(0)).expect("opened once");
        let mut stage = Self { wire, server, station: Station::new(queue), isns: HashMap::new(), reserve: 0 };
        stage.wait(1);
        stage.reserve = stage.held();
        stage
    }

    /// Frames of ours that are neither free nor with the wire.
    fn held(&self) -> usize {
        self.server.ports.iter().map(|port| port.queue().census().held).sum()
    }

    fn play(&mut self, first: u8, mut records: &[u8]) {
        self.server.app = [App::Echo, App::HalfClose, App::Deaf, App::Abort, App::Blast(9_000)][usize::from(first) % 5];
        self.isns.clear();
        for _ in 0..RECORDS_MAX {
            match *records {
                [kind @ (0 | 1), low, high, ref rest @ ..] => {
                    let len = usize::from(u16::from_le_bytes([low, high])).min(rest.len()).min(FRAME_MAX);
                    let mut frame = rest[..len].to_vec();
                    if kind == 1 {
                        put_right(&mut frame, &self.isns);
                    }
                    records = &rest[len..];
                    self.send(&frame);
                    self.settle();
                }
                [2, span, ref rest @ ..] => {
                    records = rest;
                    self.wait([1, 5, 50, 250, 1_000, 11_000, 61_000, 0][usize::from(span) % 8]);
                }
                [_, ref rest @ ..] => records = rest,
                [] => break,
            }
        }
        self.end();
    }

    fn send(&mut self, bytes: &[u8]) {
        self.station.send(bytes);
    }

    /// Turns at the present moment until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = Time::from_duration(self.wire.clock().now());
            self.server.turn_with_datagrams(now, &mut Call(echo));
            let seen = self.look();
            if !seen && !self.server.stack.has_work() {
                return;
            }
        }
        panic!("no rest after {TURNS_MAX} turns: {:?}", self.server.stack.census());
    }

    /// Looks at what the stack has sent; whether there was anything.
    fn look(&mut self) -> bool {
        let mut seen = false;
        let isns = &mut self.isns;
        self.station.receive(|frame| {
            check(frame, isns);
            seen = true;
        });
        seen
    }

    fn wait(&mut self, millis: u64) {
        let end = self.wire.clock().now() + Duration::from_millis(millis);
        self.settle();
        while self.wire.clock().now() < end {
            let here = self.wire.clock().now();
            let now = Time::from_duration(here);
            let next = self.server.stack.next_deadline(now).unwrap_or(end).max(Duration::from_micros(100));
            self.wire.clock().set((here + next).min(end));
            self.settle();
        }
    }

    /// Everybody is silent until all has ended, then nothing may be left.
    fn end(&mut self) {
        // Who takes nothing has left the flows open; no peer answers any more.
        let open: Vec<_> = self.server.flows.keys().copied().collect();
        for id in open {
            if let Some(flow) = self.server.stack.flow(id) {
                flow.abort();
            }
            self.server.flows.remove(&id);
        }
        for _ in 0..END_SECS / 20 {
            self.wait(20_000);
            if self.server.stack.flows() == 0 && self.server.stack.census().time_wait == 0 {
                break;
            }
        }
        self.server.closed.clear();
        self.server.received.clear();
        self.server.assert_nothing_open();
        assert_eq!(self.held(), self.reserve, "frames are held");
        assert_eq!(self.server.stack.stats().contained, 0, "a flow was thrown away because of a panic");
    }
}

/// Sends back what it gets, or as much of it as one datagram holds. Where no frame is left, nothing.
fn echo(_peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
    let payload = &payload[..payload.len().min(replies.max_payload())];
    let _ = replies.send(payload.len(), |room| {
        room.copy_from_slice(payload);
        payload.len()
    });
}

/// Addresses the frame to us, counts what it acknowledges from our first number, and computes its checksums.
fn put_right(frame: &mut [u8], isns: &HashMap<u16, u32>) {
    if frame.len() < 34 {
        return;
    }
    if frame[0] & 1 == 0 {
        frame[..6].copy_from_slice(&OWN.0);
    }
    let at = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    if frame.len() < at + 20 || frame[at - 2..at] != [8, 0] {
        return;
    }
    let (ip, rest) = frame[at..].split_at_mut(20);
    ip[16..20].copy_from_slice(&US.octets());
    if ip[12..16] == US.octets() {
        ip[12..16].copy_from_slice(&THEM.octets());
    }
    sum_ip(ip);
    let len = usize::from(u16::from_be_bytes([ip[2], ip[3]])).saturating_sub(20).min(rest.len());
    let body = &mut rest[..len];
    let fragment = u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff;
    if fragment != 0 {
        // A part of a packet has no checksum to compute; a datagram may go without (RFC 768).
        if ip[9] == 17 && fragment & 0x1fff == 0 && body.len() >= 8 {
            body[6..8].fill(0);
        }
        return;
    }
    if ip[9] == 6 && body.len() >= 20 && body[13] & ACK != 0 {
        let port = u16::from_be_bytes([body[0], body[1]]);
        let relative = u32::from_be_bytes([body[8], body[9], body[10], body[11]]);
        let ack = relative.wrapping_add(isns.get(&port).copied().unwrap_or(0));
        body[8..12].copy_from_slice(&ack.to_be_bytes());
    }
    sum_body(ip, body);
}

/// Checks a frame that the stack has sent, and notes the first sequence number of a flow.
pub fn check(frame: &[u8], isns: &mut HashMap<u16, u32>) {
    assert!(frame.len() <= FRAME_MAX && frame[6..12] == OWN.0, "{frame:02x?}");
    let sliced = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let ip = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => ip,
        Some(NetSlice::Arp(_)) => return,
        other => panic!("neither IPv4 nor ARP but {other:?}: {frame:02x?}"),
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum(), "{frame:02x?}");
    assert_eq!(header.source, US.octets(), "{frame:02x?}");
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let sum = tcp.calc_checksum_ipv4(header.source, header.destination).expect("not too long");
            assert_eq!(tcp.checksum(), sum, "{frame:02x?}");
            if tcp.syn() {
                isns.insert(tcp.destination_port(), tcp.sequence_number());
            }
            assert!(!(tcp.syn() && (tcp.fin() || tcp.rst())), "flags {SYN} with others: {frame:02x?}");
        }
        Some(TransportSlice::Udp(udp)) => {
            let sum = udp.to_header().calc_checksum_ipv4(&header, udp.payload()).expect("not too long");
            assert!(udp.checksum() == sum && sum != 0, "{frame:02x?}");
            assert!(udp.destination_port() >= 1_024 && udp.destination_port() != PORT, "a port that may answer");
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            assert_eq!(sum(&[icmp.slice()]), [0, 0], "{frame:02x?}");
        }
        other => panic!("{other:?}: {frame:02x?}"),
    }
}
