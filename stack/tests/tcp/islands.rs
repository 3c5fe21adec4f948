//! A flow keeps 64 islands, eight of them in its socket: what that is worth to a peer that recovers as Linux does (RFC 6675,
//! RFC 8985), and what is beyond.

use std::time::Duration;

use etherparse::{SlicedPacket, TcpOptionElement, TransportSlice};
use sidestep_stack::{DropReason, FlowId};

use crate::lab::App;
use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, SYN, Tcp};

const PEER_PORT: u16 = 5_000;
const ISN: u32 = 100;
const BYTES: usize = 20;

/// A segment of the peer's: when it was sent last, by a count of segments, and whether it has arrived as far as the peer
/// knows.
#[derive(Clone, Copy)]
struct Sent {
    order: usize,
    arrived: bool,
}

/// A peer with a window for all that it sends.
struct Peer {
    bench: Bench,
    port: u16,
    /// The ACK number that it sends.
    next: u32,
    segments: Vec<Sent>,
    sent: usize,
}

impl Peer {
    fn open(count: usize) -> Self {
        Self::on(Bench::new(App::Deaf), PEER_PORT, count)
    }

    /// A peer of its own port.
    fn on(mut bench: Bench, port: u16, count: usize) -> Self {
        bench.server.flows.clear();
        let options =
            [TcpOptionElement::MaximumSegmentSize(1_460), TcpOptionElement::SelectiveAcknowledgementPermitted];
        let answers = bench.frame(&Tcp::new(port, SYN, ISN, 0).frame_with(&options));
        let next = Tcp::read(answers.first().expect("a SYN-ACK")).seq.wrapping_add(1);
        assert_eq!(bench.tcp(&Tcp::new(port, ACK, ISN + 1, next)), []);
        Self { bench, port, next, segments: vec![Sent { order: 0, arrived: false }; count], sent: 0 }
    }

    /// Its flow.
    fn flow(&self) -> FlowId {
        *self.bench.server.flows.keys().next().expect("it is open")
    }

    fn seq(&self, number: usize) -> u32 {
        ISN + 1 + (number * BYTES) as u32
    }

    /// Sends a segment, which arrives unless it is `lost`, and hears what the answer says.
    fn send(&mut self, number: usize, lost: bool) {
        self.sent += 1;
        self.segments[number].order = self.sent;
        if lost {
            return;
        }
        let segment = Tcp::new(self.port, ACK | PSH, self.seq(number), self.next).with(&[7; BYTES]);
        for frame in self.bench.frame(&segment.frame()) {
            let sliced = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(TransportSlice::Tcp(tcp)) = sliced.transport else { panic!("no TCP") };
            let mut told = vec![(0, tcp.acknowledgment_number())];
            for option in tcp.options_iterator() {
                if let Ok(TcpOptionElement::SelectiveAcknowledgement(first, others)) = option {
                    told.extend(std::iter::once(first).chain(others.into_iter().flatten()));
                }
            }
            for at in 0..self.segments.len() {
                let (from, to) = (self.seq(at), self.seq(at + 1));
                self.segments[at].arrived |= told.iter().any(|&(left, right)| left <= from && to <= right);
            }
        }
    }

    /// What is to be sent again: what was sent before something that has arrived.
    fn lost(&self) -> Vec<usize> {
        let newest = self.segments.iter().filter(|sent| sent.arrived).map(|sent| sent.order).max().unwrap_or(0);
        let lost = |&number: &usize| !self.segments[number].arrived && self.segments[number].order < newest;
        (0..self.segments.len()).filter(lost).collect()
    }
}

#[test]
fn a_peer_that_loses_every_second_of_128_segments_sends_these_again_and_no_other() {
    let mut peer = Peer::open(128);
    for number in 0..128 {
        peer.send(number, number % 2 == 0);
    }
    assert_eq!(peer.bench.drops(DropReason::NoIsland), 0);
    let mut rounds = Vec::new();
    while peer.segments.iter().any(|sent| !sent.arrived) {
        let lost = peer.lost();
        assert!(!lost.is_empty() && rounds.len() < 10, "it does not know what to send: {rounds:?}");
        for &number in &lost {
            peer.send(number, false);
        }
        // The last ACK waits for a while.
        if let Some(last) = peer.bench.wait(Duration::from_millis(10)).last() {
            for number in (0..128).filter(|&number| peer.seq(number + 1) <= last.ack).collect::<Vec<_>>() {
                peer.segments[number].arrived = true;
            }
        }
        rounds.push(lost.len());
    }
    assert_eq!(rounds, [64]);
    let id = peer.flow();
    assert_eq!(peer.bench.server.poll.flow(id).expect("it is open").recv_queue(), 128 * BYTES);
}

#[test]
fn the_65th_island_is_dropped_and_what_was_kept_of_a_flow_that_ends_makes_room_for_others() {
    let mut peer = Peer::open(140);
    for number in 0..140 {
        peer.send(number, number % 2 == 0);
    }
    assert_eq!(peer.bench.drops(DropReason::NoIsland), 70 - 64);
    let id = peer.flow();
    peer.bench.server.poll.flow(id).expect("it is open").abort();
    peer.bench.turn();
    // Three more of the kind find room for all; a fourth and a fifth have half of what is left, so that there is some for a sixth.
    let mut bench = peer.bench;
    for (number, lost) in (1..).zip([0, 0, 0, 56 - 44, 56 - 22]) {
        let before = bench.drops(DropReason::NoIsland);
        let mut peer = Peer::on(bench, PEER_PORT + number, 128);
        for number in 0..128 {
            peer.send(number, number % 2 == 0);
        }
        assert_eq!(peer.bench.drops(DropReason::NoIsland) - before, lost, "{number}");
        bench = peer.bench;
    }
}

#[test]
fn a_peer_that_loses_eight_segments_of_128_sends_no_other_again() {
    let mut peer = Peer::open(128);
    for number in 0..128 {
        peer.send(number, number % 16 == 3);
    }
    let lost = peer.lost();
    assert_eq!(lost, (0..8).map(|hole| 16 * hole + 3).collect::<Vec<_>>());
    for &number in &lost {
        peer.send(number, false);
    }
    let last = peer.bench.wait(Duration::from_millis(10)).last().map(|last| last.ack);
    assert!(last == Some(peer.seq(128)) || peer.segments.iter().all(|sent| sent.arrived));
}
