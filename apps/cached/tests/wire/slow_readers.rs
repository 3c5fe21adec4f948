//! 500 clients that ask for megabytes and read nothing, and 500 that read a byte a second: whoever asks beside them is
//! answered at the very moment, and none of them is closed, since memory is not short.

use std::time::Duration;

use smoltcp::socket::tcp::State;

use crate::rig::{Rig, Shape, seed};

const CROWD: usize = 500;
const REQUESTS: usize = 20;
const SECONDS: usize = 20;
const VALUE: usize = 100_000;

/// Asks for the small value, which must come without any time passing.
fn is_answered_at_once(rig: &mut Rig, port: u16) {
    rig.client(port).send(b"get small\r\n");
    let before = rig.now();
    rig.settle();
    let received = std::mem::take(&mut rig.client(port).received);
    assert_eq!(received, b"VALUE small 0 5\r\nhello\r\nEND\r\n", "{}", rig.what_is_left());
    assert_eq!(rig.now(), before);
}

/// A crowd whose clients read so many bytes a second, and others beside it.
fn crowd_beside_others(pace: usize) {
    let shape = Shape { max_flows: CROWD + 600, seed: seed(pace as u64 + 1), ..Shape::default() };
    let mut rig = Rig::new(shape);
    let old = rig.connect_all(1)[0];
    rig.ask(old, b"set small 0 0 5\r\nhello\r\n", b"STORED\r\n");
    let value = "v".repeat(VALUE);
    rig.ask(old, format!("set large 0 0 {VALUE}\r\n{value}\r\n").as_bytes(), b"STORED\r\n");

    let crowd: Vec<u16> = (0..CROWD).map(|_| rig.connect_with(4_096)).collect();
    rig.run_until(Duration::from_secs(10), |rig| {
        crowd.iter().all(|&port| rig.client(port).state() == State::Established)
    });
    for &port in &crowd {
        rig.client(port).reads = false;
        rig.client(port).send(&b"get large\r\n".repeat(REQUESTS));
    }
    let mut taken = vec![0; CROWD];
    for tick in 0..SECONDS * 10 {
        rig.run_for(Duration::from_millis(100));
        is_answered_at_once(&mut rig, old);
        if tick % 5 == 0 {
            let new = rig.connect();
            rig.settle();
            is_answered_at_once(&mut rig, new);
            rig.client(new).close();
        }
        if tick % 10 == 0 && pace > 0 {
            for (&port, taken) in crowd.iter().zip(&mut taken) {
                *taken +=
                    rig.client(port).socket().recv(|bytes| (bytes.len().min(pace), bytes.len().min(pace))).unwrap_or(0);
            }
        }
    }
    for worker in &rig.workers {
        let counters = worker.cache.counters();
        assert_eq!((counters.slow_readers_closed.value(), worker.poll.stack().stats().resets), (0, 0));
    }
    assert!(crowd.iter().all(|&port| rig.client(port).state() == State::Established), "{}", rig.what_is_left());
    assert!(pace == 0 || taken.iter().all(|&bytes| bytes == SECONDS * pace), "{taken:?}");
    // What they were to be sent is there still.
    for &port in &crowd[..3] {
        rig.client(port).reads = true;
    }
    let reply = format!("VALUE large 0 {VALUE}\r\n{value}\r\nEND\r\n").repeat(REQUESTS);
    for (&port, &taken) in crowd[..3].iter().zip(&taken) {
        rig.expect(port, &reply.as_bytes()[taken..]);
    }
    for &port in &crowd {
        rig.client(port).abort();
    }
    rig.run_for(Duration::from_secs(1));
    rig.finish();
}

#[test]
fn a_crowd_that_reads_nothing_stops_nobody_and_is_not_closed() {
    crowd_beside_others(0);
}

#[test]
fn a_crowd_that_reads_a_byte_a_second_stops_nobody_and_is_not_closed() {
    crowd_beside_others(1);
}
