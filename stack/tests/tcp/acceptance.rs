//! RFC 9293's checks of a segment's sequence and ACK number: of what does not pass them nothing is noted, and what passes
//! in part is taken in part.

use std::time::Duration;

use nic::{PortConfig, QueueId, Wire, WirePort};
use sidestep_stack::{CloseReason, DropReason};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, SYN, Tcp};
use crate::lab::station::Station;
use crate::lab::{self, App, Server, config};

/// The server's first window.
const WINDOW: u32 = 4_096;

/// A connection of port 5000 whose client has sent 100 and whose server begins at the number returned.
fn open(app: App) -> (Bench, u32) {
    let mut bench = Bench::new(app);
    let next = bench.open(5_000, 100);
    (bench, next)
}

/// Fills the server's window but for `left` bytes, unread. Returns the next sequence number.
fn fill(bench: &mut Bench, next: u32, left: u32) -> u32 {
    let mut seq = 101u32;
    let end = 101 + WINDOW - left;
    while seq != end {
        let len = (end - seq).min(1_400);
        bench.tcp(&Tcp::new(5_000, ACK | PSH, seq, next).with(&vec![1; len as usize]));
        seq += len;
    }
    bench.wait(Duration::from_millis(10));
    seq
}

#[test]
fn the_rst_that_answers_a_blind_ack_in_syn_received_leaves_our_sequence_numbers() {
    // Near and far above what was sent, with the right sequence number and another.
    for (seq, above) in [(101, 1), (101, 500_000), (101, 1_000_000_000), (0xdead_beef, 500_000)] {
        let mut bench = Bench::new(App::Echo);
        let syn_ack = bench.one(&Tcp::new(5_000, SYN, 100, 0));
        let next = syn_ack.seq.wrapping_add(1);
        bench.one(&Tcp::new(5_000, ACK, seq, next.wrapping_add(above)));
        assert_eq!(bench.tcp(&Tcp::new(5_000, ACK, 101, next)), []);
        assert_eq!(bench.server.opened, 1);
        let echo = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"get k\r\n"));
        assert_eq!((echo.seq, echo.ack, &echo.data[..]), (next, 108, &b"get k\r\n"[..]), "{above}");
    }
}

#[test]
fn a_fin_behind_data_that_was_cut_is_cut_too() {
    let (mut bench, next) = open(App::Deaf);
    let seq = fill(&mut bench, next, 296);
    let mut answers = bench.tcp(&Tcp::new(5_000, ACK | FIN, seq, next).with(&[2; 1_000]));
    answers.extend(bench.wait(Duration::from_millis(10)));
    let highest = answers.iter().map(|answer| answer.ack.wrapping_sub(101)).max();
    assert_eq!(highest, Some(WINDOW), "{answers:?}");
    let &id = bench.server.flows.keys().next().expect("it is open");
    assert!(!bench.server.poll.flow(id).expect("it is open").peer_closed());
    // The same FIN where all before it has room is taken.
    bench.server.app = App::Echo;
    bench.server.poll.wake(id);
    bench.turn();
    let mut last = bench.tcp(&Tcp::new(5_000, ACK | FIN, seq + 296, next).with(&[2; 704]));
    last.extend(bench.wait(Duration::from_millis(10)));
    assert_eq!(last.last().map(|answer| answer.ack), Some(seq + 1_001), "{last:?}");
}

#[test]
fn an_unacceptable_segment_keeps_no_silent_peer_alive() {
    let mut patient = config();
    patient.idle_timeout = Some(Duration::from_secs(10));
    let mut bench = Bench::with(patient, App::Deaf);
    let next = bench.open(5_000, 100);
    for _ in 0..11 {
        // Beyond the window; before it; of what was never sent; too old.
        bench.tcp(&Tcp::new(5_000, ACK, 102 + WINDOW, next));
        bench.tcp(&Tcp::new(5_000, ACK, 100, next));
        bench.tcp(&Tcp::new(5_000, ACK, 101, next + 1));
        bench.tcp(&Tcp::new(5_000, ACK, 101, next.wrapping_sub(65_536)));
        bench.wait(Duration::from_secs(1));
    }
    assert_eq!(bench.server.closed.iter().map(|closed| closed.1).collect::<Vec<_>>(), [CloseReason::TimedOut]);
    assert!(bench.drops(DropReason::AckOutOfRange) >= 20);
}

#[test]
fn an_unacceptable_segment_closes_no_window() {
    let (mut bench, next) = open(App::Echo);
    bench.wire.clock().set(Duration::from_secs(100));
    let echo = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"x"));
    // Beyond the window; before it; of what was never sent; too old.
    for (seq, ack) in [(103 + WINDOW, next), (101, next), (102, next + 2), (102, next.wrapping_sub(70_000))] {
        let mut closing = Tcp::new(5_000, ACK, seq, ack);
        closing.window = 0;
        bench.tcp(&closing);
    }
    // The answer is lost: it is sent again, and nobody is asked whether there is room.
    let sent = bench.wait(Duration::from_secs(2));
    assert!(sent.iter().filter(|segment| segment.data == echo.data).count() >= 2, "{sent:?}");
    assert_eq!(bench.server.poll.stack().stats().probes, 0, "{sent:?}");
}

#[test]
fn an_unacceptable_segment_does_not_move_a_flow_to_the_queue_that_it_came_by() {
    let port = || lab::family::port(PortConfig::default());
    let wires = [1, 2].map(|seed| Wire::pair(port(), port(), seed).expect("a wire"));
    let queue = |port: &WirePort| port.take_queue(QueueId(0)).expect("opened once");
    let server = Server::new(config(), wires.iter().map(|(_, ours, _)| queue(ours)).collect(), App::Deaf);
    let [other, station] = [&wires[1], &wires[0]].map(|(_, _, theirs)| queue(theirs));
    let mut other = Station::new(other);
    let mut bench = Bench::on(wires[0].0.clone(), server, station);
    let next = bench.open(5_000, 100);
    for (seq, ack) in [(102 + WINDOW, next), (101, next + 1)] {
        other.send(&Tcp::new(5_000, ACK, seq, ack).frame());
        bench.turn();
    }
    bench.wait(Duration::from_millis(10));
    other.receive(|_| ());
    bench.send(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"first").frame());
    let now = bench.now();
    let (stack, ports) = bench.server.poll.parts_mut();
    ports[0].receive();
    stack.ingest(now, &mut ports[0], 0);
    // Between a segment and the ACK of it another comes.
    other.send(&Tcp::new(5_000, ACK, 101, next + 1).frame());
    let acks = bench.wait(Duration::from_millis(10));
    assert_eq!(acks.iter().map(|ack| ack.ack).collect::<Vec<_>>(), [106], "sent where nobody listens");
}

#[test]
fn a_bare_ack_tells_a_window_that_its_peer_may_use() {
    let (mut bench, next) = open(App::Deaf);
    let seq = fill(&mut bench, next, 0);
    let &id = bench.server.flows.keys().next().expect("it is open");
    let mut flow = bench.server.poll.flow(id).expect("it is open");
    while flow.recv_queue() > 0 {
        flow.recv(|bytes| (bytes.len(), ()));
    }
    let update = bench.turn();
    let update = Tcp::read(&update[0]);
    assert_eq!((update.data.len(), update.ack, update.window), (0, seq, WINDOW as u16));
    bench.tcp(&Tcp::new(5_000, ACK | PSH, seq, next).with(b"it is used"));
    let ack = bench.wait(Duration::from_millis(10));
    assert_eq!(ack.iter().map(|ack| ack.ack).collect::<Vec<_>>(), [seq + 10]);
    assert_eq!(bench.drops(DropReason::SeqBeyondWindow), 0);
}

#[test]
fn data_behind_an_ack_number_too_old_to_be_true_is_not_taken() {
    let (mut bench, next) = open(App::Echo);
    let challenge = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next.wrapping_sub(65_536)).with(b"blind"));
    assert_eq!((challenge.flags, challenge.seq, challenge.ack), (ACK, next, 101));
    assert_eq!(bench.server.bytes, 0);
    // RFC 5961 §5.2: as old as the largest window may be.
    let echo = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next.wrapping_sub(65_535)).with(b"late"));
    assert_eq!(echo.data, b"late");
}

#[test]
fn the_ack_of_a_segment_that_finds_no_room_counts() {
    let (mut bench, next) = open(App::Deaf);
    let &id = bench.server.flows.keys().next().expect("it is open");
    assert_eq!(bench.server.poll.flow(id).expect("it is open").send_slice(b"answer"), 6);
    assert_eq!(Tcp::read(&bench.turn()[0]).data, b"answer");
    let seq = fill(&mut bench, next, 0);
    // A probe of the closed window by a byte (RFC 9293 §3.8.6.1), which acknowledges the answer.
    let answer = bench.one(&Tcp::new(5_000, ACK, seq, next + 6).with(b"?"));
    assert_eq!((answer.flags, answer.seq, answer.ack, answer.window), (ACK, next + 6, seq, 0));
    assert_eq!(bench.server.poll.flow(id).expect("it is open").send_queue(), 0);
    assert_eq!(bench.wait(Duration::from_secs(1)), [], "the answer is not sent again");
}

#[test]
fn the_ack_of_a_peer_that_has_filled_the_window_counts_though_a_segment_was_lost() {
    let (mut bench, next) = open(App::Deaf);
    let &id = bench.server.flows.keys().next().expect("it is open");
    assert_eq!(bench.server.poll.flow(id).expect("it is open").send_slice(b"answer"), 6);
    bench.turn();
    // Its next sequence number is the window's edge.
    bench.tcp(&Tcp::new(5_000, ACK, 101 + WINDOW, next + 6));
    assert_eq!(bench.server.poll.flow(id).expect("it is open").send_queue(), 0);
}

#[test]
fn a_fin_that_comes_with_data_sent_again_is_taken() {
    let (mut bench, next) = open(App::Echo);
    let echo = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(b"last"));
    // The ACK on the answer was lost; the kernel has put the FIN into the segment that it sends again.
    let fin = bench.tcp(&Tcp::new(5_000, ACK | PSH | FIN, 101, next).with(b"last"));
    assert_eq!(fin.last().map(|answer| (answer.flags & FIN, answer.ack)), Some((FIN, 106)), "{fin:?} {echo:?}");
}

#[test]
fn options_that_do_not_parse_lose_no_data() {
    let (mut bench, next) = open(App::Echo);
    let mut segment = Tcp::new(5_000, ACK | PSH, 101, next).with(b"data");
    segment.mss = Some(1_000);
    let mut frame = segment.frame();
    // The option's length becomes 0, which the checksum is then corrected for.
    frame[55] = 0;
    let sum = u16::from_be_bytes([frame[50], frame[51]]) + 4;
    frame[50..52].copy_from_slice(&sum.to_be_bytes());
    let answers = bench.frame(&frame);
    assert_eq!(answers.iter().map(|frame| Tcp::read(frame).data).collect::<Vec<_>>(), [b"data"]);
}

#[test]
fn strangers_segments_do_not_keep_the_stack_from_asking_a_silent_peer() {
    let (mut bench, next) = open(App::Echo);
    bench.wire.clock().set(Duration::from_secs(100));
    bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(&[b'x'; 500]));
    let mut closed = Tcp::new(5_000, ACK, 601, next);
    closed.window = 0;
    bench.tcp(&closed);
    let mut probes = 0;
    for _ in 0..20 {
        bench.tcp(&Tcp::new(5_000, ACK, 601, next.wrapping_add(1_000_000)));
        probes += bench.wait(Duration::from_millis(100)).iter().filter(|s| s.seq == next.wrapping_sub(1)).count();
    }
    assert!(probes >= 3, "{probes} questions in two seconds");
}
