//! What one input of the fuzz target for frames does: frames and moments to a stack that echoes segments and datagrams,
//! every promise checked.
//!
//! | bytes | meaning |
//! |---|---|
//! | 0 | what the application does with flows: echo, greet and close half, take nothing, abort, talk and close |
//! | then records: kind, and what belongs to it | |
//! | kind 0, length (2 bytes, little-endian), bytes | a frame, as it is |
//! | kind 1, length, bytes | a frame put right: addressed to us by IPv4 or IPv6, checksums, and what a segment acknowledges counted from our first sequence number to its port |
//! | kind 2, one byte | time passes: 1, 5, 50, 250 or 1000 ms, 11 or 61 s, nothing |
//!
//! A stack keeps its blocks for ever, so one is used for all inputs of a process; each ends with nothing open and begins
//! with other sequence numbers, which inputs do not name. Used by `cache/fuzz/targets/frames.rs` and by
//! `stack/tests/link/corpus.rs`.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use nic::{PortConfig, Queue, QueueId, Wire, checksum};
use sidestep_stack::{DatagramPeer, DatagramReplies, OwnAddress, Time};

use super::odd::{sum, sum_body, sum_ip};
use super::raw::{ACK, SYN};
use super::station::Station;
use super::udp::Call;
use super::{App, OWN, PORT, Server, THEM, US, config, v6};

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
    isns: Isns,
    /// Frames that the port keeps ready to send in.
    reserve: usize,
}

/// Our first sequence number, by whether it is over IPv6 and by the peer's port.
pub type Isns = HashMap<(bool, u16), u32>;

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
    STAGE.with_borrow(|stage| {
        (stage.server.opened, stage.server.bytes, stage.server.poll.stack().stats().datagrams_sent)
    })
}

impl Stage {
    fn new() -> Self {
        let mut config = config();
        config.udp_ports = vec![PORT];
        config.others = vec![OwnAddress::new(v6::US6, 64)];
        // Small tables, so that they fill.
        (config.max_flows, config.flows_at_start, config.syn_queue) = (6, 6, 4);
        (config.time_wait_records, config.neighbors) = (4, 4);
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let server = Server::new(config, vec![ours.take_queue(QueueId(0)).expect("opened once")], App::Echo);
        let queue = theirs.take_queue(QueueId(0)).expect("opened once");
        let mut stage = Self { wire, server, station: Station::new(queue), isns: HashMap::new(), reserve: 0 };
        // Until the address of IPv6 has been tested, and told of.
        stage.wait(5_000);
        stage.reserve = stage.held();
        stage
    }

    /// Frames of ours that are neither free nor with the wire.
    fn held(&self) -> usize {
        self.server.poll.ports().iter().map(|port| port.queue().census().held).sum()
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
            if !seen && !self.server.poll.stack().has_work() {
                return;
            }
        }
        panic!("no rest after {TURNS_MAX} turns: {:?}", self.server.poll.stack().census());
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
            let next = self.server.poll.stack().next_deadline(now).unwrap_or(end).max(Duration::from_micros(100));
            self.wire.clock().set((here + next).min(end));
            self.settle();
        }
    }

    /// Everybody is silent until all has ended, then nothing may be left.
    fn end(&mut self) {
        // Who takes nothing has left the flows open; no peer answers any more.
        let open: Vec<_> = self.server.flows.keys().copied().collect();
        for id in open {
            if let Some(flow) = self.server.poll.flow(id) {
                flow.abort();
            }
            self.server.flows.remove(&id);
        }
        for _ in 0..END_SECS / 20 {
            self.wait(20_000);
            if self.server.poll.flows() == 0 && self.server.poll.stack().census().time_wait == 0 {
                break;
            }
        }
        self.end_routers();
        self.server.closed.clear();
        self.server.received.clear();
        self.server.assert_nothing_open();
        assert_eq!(self.held(), self.reserve, "frames are held");
        assert_eq!(self.server.poll.stack().stats().contained, 0, "a flow was thrown away because of a panic");
    }
}

/// What a router may say of its lifetime (RFC 4861 §4.2), and a little more, in milliseconds.
const LONGEST_LIFETIME: u64 = 66_000_000;

impl Stage {
    /// Routers that were believed are known for as long as they have said, and those whose time is over until the next is heard:
    /// one that comes, and goes.
    fn end_routers(&mut self) {
        if self.server.poll.stack().census().stations_held == 0 {
            return;
        }
        self.wait(LONGEST_LIFETIME);
        for lifetime in [1_800_u16, 0] {
            let router = std::net::Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
            self.send(&v6::router_advertisement(router, lifetime, &[]));
            self.settle();
        }
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
fn put_right(frame: &mut [u8], isns: &Isns) {
    if frame.len() < 34 {
        return;
    }
    if frame[0] & 1 == 0 {
        frame[..6].copy_from_slice(&OWN.0);
    }
    let at = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
    if frame.len() >= at + 40 && frame[at - 2..at] == [0x86, 0xdd] {
        return put_right_v6(&mut frame[at..], isns);
    }
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
    if ip[9] == 6 {
        count_ack(body, false, isns);
    }
    sum_body(ip, body);
}

/// The same of an IPv6 packet: what is for a group stays so, and the checksum is that of the first header of TCP, UDP or
/// ICMPv6 behind those before it. A part of a packet is left as it is.
fn put_right_v6(packet: &mut [u8], isns: &Isns) {
    let (header, rest) = packet.split_at_mut(40);
    if header[24] != 0xff {
        header[24..40].copy_from_slice(&v6::US6.octets());
    }
    if header[8..24] == v6::US6.octets() {
        header[8..24].copy_from_slice(&v6::THEM6.octets());
    }
    let len = usize::from(u16::from_be_bytes([header[4], header[5]])).min(rest.len());
    let (mut next, mut at) = (header[6], 0);
    // Options for each hop, for the destination, and a routing header.
    while [0, 60, 43].contains(&next) && at + 8 <= len {
        (next, at) = (rest[at], at + 8 * (1 + usize::from(rest[at + 1])));
    }
    let Some(body) = rest.get_mut(at..len) else { return };
    let sum_at = match next {
        6 if body.len() >= 20 => 16,
        17 if body.len() >= 8 => 6,
        58 if body.len() >= 4 => 2,
        _ => return,
    };
    if next == 6 {
        count_ack(body, true, isns);
    }
    body[sum_at..sum_at + 2].fill(0);
    let octets = |at: usize| *header[at..].first_chunk().expect("40 bytes");
    let sum = checksum::pseudo_header_v6(octets(8), octets(24), next, body.len() as u32);
    let field = checksum::field(checksum::add(sum, body));
    body[sum_at..sum_at + 2].copy_from_slice(&field);
}

/// Counts what a segment acknowledges from our first sequence number to its port.
fn count_ack(segment: &mut [u8], v6: bool, isns: &Isns) {
    if segment.len() >= 20 && segment[13] & ACK != 0 {
        let port = u16::from_be_bytes([segment[0], segment[1]]);
        let relative = u32::from_be_bytes([segment[8], segment[9], segment[10], segment[11]]);
        let ack = relative.wrapping_add(isns.get(&(v6, port)).copied().unwrap_or(0));
        segment[8..12].copy_from_slice(&ack.to_be_bytes());
    }
}

/// Checks a frame that the stack has sent, and notes the first sequence number of a flow.
pub fn check(frame: &[u8], isns: &mut Isns) {
    assert!(frame.len() <= FRAME_MAX && frame[6..12] == OWN.0, "{frame:02x?}");
    let sliced = SlicedPacket::from_ethernet(frame).unwrap_or_else(|error| panic!("{error}: {frame:02x?}"));
    let v6 = match &sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "{frame:02x?}");
            assert_eq!(header.source, US.octets(), "{frame:02x?}");
            false
        }
        Some(NetSlice::Ipv6(ip)) => {
            let header = ip.header().to_header();
            // Who tests its address, and who reports its groups before it has one, has none yet.
            let own = header.source_addr() == v6::US6 || header.source_addr().is_unspecified();
            assert!(own && header.hop_limit >= 1 && !header.destination_addr().is_unspecified(), "{frame:02x?}");
            true
        }
        Some(NetSlice::Arp(_)) => return,
        other => panic!("neither IP nor ARP but {other:?}: {frame:02x?}"),
    };
    assert!(sums_are_right(&sliced), "{frame:02x?}");
    match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            if tcp.syn() {
                isns.insert((v6, tcp.destination_port()), tcp.sequence_number());
            }
            assert!(!(tcp.syn() && (tcp.fin() || tcp.rst())), "flags {SYN} with others: {frame:02x?}");
        }
        Some(TransportSlice::Udp(udp)) => {
            assert_ne!(udp.checksum(), 0, "{frame:02x?}");
            assert!(udp.destination_port() >= 1_024 && udp.destination_port() != PORT, "a port that may answer");
        }
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) => {}
        other => panic!("{other:?}: {frame:02x?}"),
    }
}

/// Whether the checksum of the segment, datagram or message of a packet is right.
fn sums_are_right(packet: &SlicedPacket<'_>) -> bool {
    let sum = match (&packet.net, &packet.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) => {
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).map(|sum| sum == tcp.checksum())
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Tcp(tcp))) => {
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).map(|sum| sum == tcp.checksum())
        }
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) => {
            let header = ip.header().to_header();
            udp.to_header().calc_checksum_ipv4(&header, udp.payload()).map(|sum| sum == udp.checksum())
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Udp(udp))) => {
            let header = ip.header().to_header();
            udp.to_header().calc_checksum_ipv6(&header, udp.payload()).map(|sum| sum == udp.checksum())
        }
        (_, Some(TransportSlice::Icmpv4(icmp))) => Ok(sum(&[icmp.slice()]) == [0, 0]),
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            Ok(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()))
        }
        _ => return false,
    };
    sum.expect("not too long")
}
