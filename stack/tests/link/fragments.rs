//! TCP in fragments, as routers make them of packets that may be cut.

use std::time::Duration;

use sidestep_stack::{DropReason, StackStats};

use crate::lab::bench::Bench;
use crate::lab::odd::cut;
use crate::lab::raw::{ACK, PSH, SYN, Tcp};
use crate::lab::{self, App, config};

/// What a flow's peer sends next: the flow of `port` is opened.
fn open(bench: &mut Bench, port: u16) -> Tcp {
    let [syn_ack] = &bench.tcp(&Tcp::new(port, SYN, 100, 0))[..] else { panic!("a SYN-ACK") };
    let next = Tcp::new(port, ACK, 101, syn_ack.seq.wrapping_add(1));
    assert_eq!(bench.tcp(&next), []);
    Tcp { flags: ACK | PSH, ..next }
}

fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 7 % 251) as u8).collect()
}

/// Frames whose end is counted: a segment taken, dropped, or kept, which those of a packet that is given up were before.
fn accounted(stats: &StackStats) -> u64 {
    let dropped = stats.drops.total() - stats.drops.of(DropReason::FragmentsIncomplete);
    stats.syns + stats.segments + stats.fragments + dropped
}

#[test]
fn a_segment_in_fragments_is_answered_like_one_that_nobody_has_cut() {
    for most in [8, 24, 576, 1_440] {
        let mut bench = Bench::new(App::Echo);
        let mut next = open(&mut bench, 5_000);
        for (id, backwards) in [(1, false), (2, true), (3, false)] {
            let data = bytes(400);
            let mut frames = cut(&next.clone().with(&data).frame(), id, most);
            if backwards {
                frames.reverse();
            }
            let last = frames.pop().expect("one at least");
            for frame in &frames {
                assert!(bench.frame(frame).is_empty(), "it is not whole");
            }
            let answers = bench.frame(&last);
            let [answer] = &answers[..] else { panic!("one answer, not {}", answers.len()) };
            let answer = Tcp::read(answer);
            assert_eq!((&answer.data, answer.ack), (&data, next.seq + 400));
            (next.seq, next.ack) = (next.seq + 400, next.ack.wrapping_add(400));
        }
        let stats = bench.server.poll.stack().stats();
        assert_eq!((stats.drops.total(), accounted(stats)), (0, stats.frames), "{stats:?}");
    }
}

#[test]
fn a_connection_opens_and_closes_in_fragments() {
    let mut bench = Bench::new(App::Echo);
    let syn = Tcp { mss: Some(1_000), ..Tcp::new(5_000, SYN, 100, 0) };
    let answers: Vec<_> = cut(&syn.frame(), 1, 8).iter().flat_map(|frame| bench.frame(frame)).collect();
    let [syn_ack] = &answers[..] else { panic!("a SYN-ACK") };
    let next = Tcp::new(5_000, ACK, 101, Tcp::read(syn_ack).seq.wrapping_add(1));
    for (id, segment) in [(2, next.clone()), (3, Tcp { flags: ACK | lab::raw::FIN, ..next.clone() })] {
        for frame in cut(&segment.frame(), id, 8) {
            bench.frame(&frame);
        }
    }
    let answered: Vec<_> = bench.turn().iter().map(|frame| Tcp::read(frame).flags).collect();
    assert_eq!((bench.server.opened, answered.len()), (1, 0));
    assert_eq!(bench.server.poll.stack().stats().opened, 1);
}

#[test]
fn a_segment_longer_than_any_frame_fills_the_window_and_no_more() {
    let mut bench = Bench::new(App::Deaf);
    let next = open(&mut bench, 5_000);
    let data = bytes(1_400);
    let long = cut(&next.clone().with(&[&data[..]; 46].concat()).frame(), 1, 1_400);
    for frame in &long {
        assert!(bench.frame(frame).is_empty(), "its ACK waits a little");
    }
    let answers = bench.wait(Duration::from_millis(10));
    let taken: Vec<u32> = answers.iter().map(|answer| answer.ack.wrapping_sub(next.seq)).collect();
    assert_eq!(taken, [bench.server.poll.stack().config().rings.rx as u32]);
    assert_eq!(accounted(bench.server.poll.stack().stats()), bench.server.poll.stack().stats().frames);
}

/// RFC 5722's reason: what overlaps was made by an attacker or is damaged; and a checksum is of all of it.
#[test]
fn what_overlaps_or_is_damaged_reaches_no_connection() {
    let mut bench = Bench::new(App::Echo);
    let next = open(&mut bench, 5_000);
    let whole = next.clone().with(&bytes(400)).frame();
    let frames = cut(&whole, 1, 200);
    let other = cut(&next.clone().with(&bytes(401)[1..]).frame(), 1, 208);
    for frame in [&frames[0], &other[1], &frames[1], &frames[2]] {
        assert!(bench.frame(frame).is_empty());
    }
    assert!(bench.drops(DropReason::FragmentOverlap) > 0);
    let mut damaged = cut(&whole, 2, 200);
    damaged[1][60] ^= 1;
    for frame in &damaged {
        assert!(bench.frame(frame).is_empty());
    }
    assert_eq!(bench.drops(DropReason::TcpChecksum), 1);
    // Halves of two packets are none.
    for frame in [&cut(&whole, 3, 200)[0], &cut(&whole, 4, 200)[1], &cut(&whole, 4, 200)[2]] {
        assert!(bench.frame(frame).is_empty());
    }
    bench.wire.clock().advance(Duration::from_secs(2));
    let told = bench.turn();
    assert_eq!(told.iter().map(|frame| &frame[34..36]).collect::<Vec<_>>(), [[11, 1]], "of the first that was alone");
    let answers: Vec<_> = cut(&whole, 5, 200).iter().flat_map(|frame| bench.frame(frame)).collect();
    assert_eq!(answers.iter().map(|frame| Tcp::read(frame).data).collect::<Vec<_>>(), [bytes(400)]);
    let stats = bench.server.poll.stack().stats();
    // What was left of the first, and the halves.
    assert_eq!((stats.drops.of(DropReason::FragmentsIncomplete), accounted(stats)), (3, stats.frames), "{stats:?}");
}

#[test]
fn a_segment_of_no_connection_is_refused_when_it_is_whole() {
    let mut bench = Bench::new(App::Echo);
    let frames = cut(&Tcp::new(5_000, ACK, 100, 7).with(&bytes(40)).frame(), 1, 16);
    let answers: Vec<_> = frames.iter().flat_map(|frame| bench.frame(frame)).map(|frame| Tcp::read(&frame)).collect();
    assert_eq!(answers.iter().map(|answer| (answer.flags, answer.seq)).collect::<Vec<_>>(), [(lab::raw::RST, 7)]);
    assert_eq!(bench.drops(DropReason::NoFlow), 1);
}

/// NICs spread fragments by addresses alone: those of a flow may all come to a core that does not have it.
#[test]
fn a_segment_whose_fragments_came_to_another_core_finds_its_flow() {
    let mut config = config();
    config.peers = 1;
    let (mut home, mut other) = (Bench::with(config.clone(), App::Echo), Bench::with(config, App::Echo));
    let next = open(&mut home, 5_000);
    for frame in cut(&next.with(&bytes(1_400)).frame(), 1, 1_000) {
        assert!(other.frame(&frame).is_empty(), "the flow's core has not seen it");
    }
    assert_eq!(other.drops(DropReason::Stray), 1);
    let mut offered = Vec::new();
    assert!(other.server.poll.stack_mut().next_stray(|frame, hops| offered.push((frame.to_vec(), hops))));
    let [(frame, 1)] = &mut offered[..] else { panic!("one stray") };
    let now = home.now();
    home.server.take_stray(now, frame, 1);
    let answers: Vec<u8> = home.turn().iter().flat_map(|frame| Tcp::read(frame).data).collect();
    assert_eq!(answers, bytes(1_400));
}
