//! Data never waits for ever: where smoltcp has lost its timer, the peer is asked where it is.

use std::time::Duration;

use crate::lab::bench::Bench;
use crate::lab::family::USUAL_MSS;
use crate::lab::raw::{ACK, PSH, Tcp};
use crate::lab::{self, App, config};

/// Has `test` run on servers that have run for a while, and that ask silent peers whether they are there never, after a
/// minute, or after 5 s.
fn on_each(test: impl Fn(Bench)) {
    for keep_alive in [None, Some(Duration::from_secs(60)), Some(Duration::from_secs(5))] {
        println!("keep-alives {keep_alive:?}");
        let mut config = config();
        config.keep_alive = keep_alive;
        let bench = Bench::with(config, App::Echo);
        bench.wire.clock().set(Duration::from_secs(100));
        test(bench);
    }
}

/// What was sent with the sequence number of the answer or after it, put together.
fn data(sent: &[Tcp], first: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for segment in sent {
        if segment.seq == first.wrapping_add(bytes.len() as u32) {
            bytes.extend(&segment.data);
        }
    }
    bytes
}

#[test]
fn data_lost_before_a_closed_window_is_sent_again_though_the_window_update_was_lost() {
    on_each(|mut bench| {
        let next = bench.open(5_000, 100);
        let text = [b'x'; 500];
        let answer = bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(&text));
        assert_eq!(answer.data, text);
        // The answer is lost; an ACK that was sent before overtakes, with a window of 0.
        let mut closed = Tcp::new(5_000, ACK, 601, next);
        closed.window = 0;
        assert_eq!(bench.tcp(&closed), []);
        // The window update is lost. The peer is asked, and answers.
        let sent = bench.wait(Duration::from_secs(3));
        assert!(!sent.is_empty() && sent.len() < 20, "{} frames", sent.len());
        for probe in &sent {
            assert_eq!((probe.flags & ACK, probe.data.len(), probe.ack), (ACK, 0, 601), "{probe:?}");
            assert_eq!(probe.seq, next.wrapping_sub(1), "before the window, so that the peer answers");
        }
        bench.tcp(&Tcp::new(5_000, ACK, 601, next));
        let sent = bench.wait(Duration::from_secs(3));
        assert_eq!(data(&sent, next), text);
        bench.tcp(&Tcp::new(5_000, ACK, 601, next.wrapping_add(500)));
        let keep_alive = bench.server.poll.stack().config().keep_alive.unwrap_or(Duration::MAX);
        let quiet = Duration::from_secs(30).min(keep_alive - Duration::from_secs(1));
        assert_eq!(bench.wait(quiet), [], "nothing is left to be said");
    });
}

#[test]
fn data_in_flight_when_a_window_closes_and_opens_is_sent_again() {
    // Of one segment and a little.
    let half = USUAL_MSS as u32 + 64;
    on_each(|mut bench| {
        let next = bench.open(5_000, 100);
        let mut sent = Vec::new();
        for part in 0..2u32 {
            let asked = vec![b'a' + part as u8; half as usize];
            sent.extend(bench.tcp(&Tcp::new(5_000, ACK | PSH, 101 + part * half, next).with(&asked)));
        }
        assert_eq!(data(&sent, next).len(), 2 * half as usize);
        // The first half came; the window is closed and then open; the second half was lost.
        let (all, middle) = (101 + 2 * half, next.wrapping_add(half));
        let mut closed = Tcp::new(5_000, ACK, all, middle);
        closed.window = 0;
        bench.tcp(&closed);
        let mut again = bench.tcp(&Tcp::new(5_000, ACK, all, middle));
        for _ in 0..20 {
            again.extend(bench.wait(Duration::from_millis(500)));
            if let Some(probe) = again.last().filter(|last| last.data.is_empty()) {
                assert_eq!(probe.seq, middle.wrapping_sub(1));
                again.extend(bench.tcp(&Tcp::new(5_000, ACK, all, middle)));
            }
        }
        // One segment goes first after so long a silence (RFC 5681 §3.1), the rest when it is acknowledged.
        assert_eq!(data(&again, middle), [b'b'; USUAL_MSS]);
        let last = next.wrapping_add(2 * half - 64);
        let rest = bench.tcp(&Tcp::new(5_000, ACK, all, last));
        assert_eq!(data(&rest, last), [b'b'; 64]);
    });
}

#[test]
fn an_ack_sent_while_data_is_sent_again_carries_the_sequence_number_after_all_of_it() {
    on_each(|mut bench| {
        let next = bench.open(5_000, 100);
        // The answer takes several segments; the ACKs of all are lost, so the first ones are sent again.
        let request = Tcp::new(5_000, ACK | PSH, 101, next).with(&[b'x'; 1_400]);
        let mut answer = bench.tcp(&request);
        answer.extend(bench.tcp(&Tcp::new(5_000, ACK | PSH, 1_501, next).with(&[b'y'; 1_400])));
        let total = data(&answer, next).len();
        let again = bench.wait(Duration::from_millis(300));
        let sent_again = data(&again, next).len();
        assert!((1..total).contains(&sent_again), "{sent_again} of {total} bytes");
        // The request again, since the answer's acknowledgement of it was lost too. A peer that has all of the answer
        // takes only an ACK that comes after it (RFC 9293 §3.10.7.4, first check).
        let ack = bench.one(&request);
        assert_eq!((ack.flags, ack.ack, ack.data.len()), (ACK, 2_901, 0));
        assert_eq!(ack.seq, next.wrapping_add(total as u32));
    });
}

#[test]
fn data_in_flight_before_a_window_that_stays_closed_is_sent_again_when_it_opens() {
    on_each(|mut bench| {
        let next = bench.open(5_000, 100);
        assert_eq!(bench.one(&Tcp::new(5_000, ACK | PSH, 101, next).with(&[b'x'; 500])).data.len(), 500);
        // Part of the answer is acknowledged by an ACK that closes the window; the rest, and the ACK that opens it, are lost.
        let part = next.wrapping_add(100);
        let mut closed = Tcp::new(5_000, ACK, 601, part);
        closed.window = 0;
        let mut sent = bench.tcp(&closed);
        // The peer has nothing to say but in answer to what comes before its window (RFC 9293 §3.10.7.4, first check).
        for _ in 0..40 {
            let asked = sent.iter().filter(|segment| segment.seq == part.wrapping_sub(1)).count();
            let rest = data(&sent, part);
            if rest.len() == 400 {
                return;
            }
            sent = (0..asked).flat_map(|_| bench.tcp(&Tcp::new(5_000, ACK, 601, part))).collect();
            sent.extend(bench.wait(Duration::from_millis(500)));
        }
        panic!("the rest of the answer was never sent again");
    });
}

/// RFC 9293 §3.8.4: a peer that vanished is asked twice, and given up at the third time.
#[test]
fn keep_alives_come_at_whatever_interval_is_set_and_end_what_does_not_answer() {
    for seconds in [1, 5, 12, 60] {
        let mut config = config();
        config.keep_alive = Some(Duration::from_secs(seconds));
        let mut bench = Bench::with(config, App::Echo);
        bench.wire.clock().set(Duration::from_secs(100));
        let next = bench.open(5_000, 100);
        for round in 0..3 {
            assert_eq!(bench.wait(Duration::from_millis(seconds * 1_000 - 100)), [], "{seconds} s, {round}");
            let [question] = &bench.wait(Duration::from_millis(200))[..] else { panic!("one question: {seconds} s") };
            assert_eq!((question.seq, question.ack, &question.data[..]), (next.wrapping_sub(1), 101, &[0][..]));
            assert_eq!(bench.tcp(&Tcp::new(5_000, ACK, 101, next)), []);
        }
        let sent = bench.wait(Duration::from_secs(10 * seconds));
        let flags: Vec<u8> = sent.iter().map(|segment| segment.flags).collect();
        assert_eq!(flags, [ACK, ACK, ACK | lab::raw::RST], "{seconds} s");
        bench.server.assert_nothing_left();
    }
}

/// The peer has not taken the octet by which it was asked, so that what follows that would be behind its window (RFC 9293
/// §3.10.7.4): it would throw our ACKs away, and send the same again until it has room itself.
#[test]
fn who_reads_nothing_is_acknowledged_all_the_same() {
    on_each(|mut bench| {
        let next = bench.open(5_000, 100);
        let ask = |seq, data: &[u8]| {
            let mut segment = Tcp::new(5_000, ACK | PSH, seq, next).with(data);
            segment.window = 0;
            segment
        };
        bench.tcp(&ask(101, b"one"));
        let probes = bench.wait(Duration::from_millis(900));
        assert!(probes.iter().any(|probe| (probe.seq, probe.data.len()) == (next, 1)), "it is asked: {probes:?}");
        // In order, and again.
        let mut answers = bench.tcp(&ask(104, b"two"));
        answers.extend(bench.wait(Duration::from_millis(50)));
        answers.extend(bench.tcp(&ask(104, b"two")));
        let empty = answers.iter().filter(|answer| answer.data.is_empty());
        let said: Vec<_> = empty.map(|answer| (answer.seq, answer.ack)).collect();
        assert!(said.len() >= 2 && said.iter().all(|&said| said == (next, 107)), "{said:?}");
    });
}
