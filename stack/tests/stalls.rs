//! Data never waits for ever: where smoltcp has lost its timer, the peer is asked where it is.

#[path = "lab/lab.rs"]
mod lab;

use std::time::Duration;

use lab::App;
use lab::bench::Bench;
use lab::raw::{ACK, PSH, Tcp};

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
    let mut bench = Bench::new(App::Echo);
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
    assert_eq!(bench.wait(Duration::from_secs(30)), [], "nothing is left to be said");
}

#[test]
fn data_in_flight_when_a_window_closes_and_opens_is_sent_again() {
    let mut bench = Bench::new(App::Echo);
    let next = bench.open(5_000, 100);
    let mut sent = Vec::new();
    for part in 0..2u32 {
        sent.extend(bench.tcp(&Tcp::new(5_000, ACK | PSH, 101 + part * 600, next).with(&[b'a' + part as u8; 600])));
    }
    assert_eq!(data(&sent, next).len(), 1_200);
    // The first half came; the window is closed and then open; the second half was lost.
    let mut closed = Tcp::new(5_000, ACK, 1_301, next.wrapping_add(600));
    closed.window = 0;
    bench.tcp(&closed);
    let mut again = bench.tcp(&Tcp::new(5_000, ACK, 1_301, next.wrapping_add(600)));
    for _ in 0..20 {
        again.extend(bench.wait(Duration::from_millis(500)));
        if let Some(probe) = again.last().filter(|last| last.data.is_empty()) {
            assert_eq!(probe.seq, next.wrapping_add(599));
            again.extend(bench.tcp(&Tcp::new(5_000, ACK, 1_301, next.wrapping_add(600))));
        }
    }
    assert_eq!(data(&again, next.wrapping_add(600)), [b'b'; 600]);
}
