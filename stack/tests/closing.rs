//! Connections of which one end has closed: what is still to be said is said, and what came is there to be read.

#[path = "lab/lab.rs"]
mod lab;

use std::time::Duration;

use lab::bench::Bench;
use lab::raw::{ACK, FIN, PSH, RST, Tcp};
use lab::{App, config};
use sidestep_stack::{CloseReason, FlowId, Rings};

const CLIENT: u16 = 4_000;
const SECOND: Duration = Duration::from_secs(1);

/// A host whose only connection has its id here; the client's next number is 2.
fn opened(app: App) -> (Bench, FlowId, u32) {
    let mut config = config();
    config.conn_memory = 64 << 20;
    let mut bench = Bench::with(config, app);
    let next = bench.open(CLIENT, 1);
    let id = match app {
        App::Record => bench.server.events.last().expect("it was reported").0,
        _ => *bench.server.flows.keys().next().unwrap_or(&FlowId::from_bits(0)),
    };
    (bench, id, next)
}

/// A closed connection lingers for a minute at most while its peer takes next to nothing, not in all (as Linux does).
#[test]
fn what_was_written_before_a_close_arrives_however_long_that_takes() {
    let mut config = config();
    config.rings = Rings { rx: 32_768, tx: 65_535 };
    let mut bench = Bench::with(config, App::Record);
    let next = bench.open(CLIENT, 1);
    let id = bench.server.events.last().expect("it was reported").0;
    let mut flow = bench.server.stack.flow(id).expect("it is open");
    assert_eq!(flow.send_slice(&[7; 60_000]), 60_000);
    flow.close();
    let began = bench.now();
    let (mut end, mut sent) = (next, bench.turn().iter().map(|frame| Tcp::read(frame)).collect::<Vec<_>>());
    // A segment in a second and a half, 21 kB a minute.
    while !sent.iter().any(|segment| segment.flags & FIN != 0) {
        for segment in &sent {
            let behind = segment.seq.wrapping_add(segment.data.len() as u32);
            end = if (behind.wrapping_sub(end) as i32) > 0 { behind } else { end };
        }
        let mut ack = Tcp::new(CLIENT, ACK, 2, end);
        ack.window = 600;
        sent = bench.tcp(&ack);
        sent.extend(bench.wait(3 * SECOND / 2));
        assert_eq!(bench.server.stack.stats().timed_out, 0, "{} bytes were taken", end.wrapping_sub(next));
    }
    assert!(bench.now().since(began) > 90 * SECOND);
    bench.tcp(&Tcp::new(CLIENT, ACK | FIN, 2, next.wrapping_add(60_001)));
    bench.wait(60 * SECOND);
    assert_eq!(bench.server.stack.stats().finished, 1);
    bench.server.assert_nothing_left();
}

#[test]
fn a_closed_connection_whose_peer_takes_a_byte_at_a_time_is_given_up_after_a_minute() {
    let (mut bench, id, next) = opened(App::Record);
    let mut flow = bench.server.stack.flow(id).expect("it is open");
    assert_eq!(flow.send_slice(&[7; 4_000]), 4_000);
    flow.close();
    bench.turn();
    bench.tcp(&Tcp::new(CLIENT, ACK, 2, next.wrapping_add(100)));
    for taken in 101..112 {
        bench.wait(5 * SECOND);
        bench.tcp(&Tcp::new(CLIENT, ACK, 2, next.wrapping_add(taken)));
    }
    assert_eq!(bench.server.stack.stats().timed_out, 0);
    let sent = bench.wait(10 * SECOND);
    assert!(sent.iter().any(|segment| segment.flags & RST != 0), "{sent:?}");
    assert_eq!(bench.server.stack.stats().timed_out, 1);
    bench.server.assert_nothing_left();
}

/// Reads what waits.
fn read(bench: &mut Bench, id: FlowId) -> Vec<u8> {
    let mut all = Vec::new();
    let mut flow = bench.server.stack.flow(id).expect("it is kept for its application");
    while flow.recv_queue() > 0 {
        flow.recv(|bytes| {
            all.extend_from_slice(bytes);
            (bytes.len(), ())
        });
    }
    all
}

/// A peer was told that it may send what larger rings take: once we have closed our direction, the connection can get none.
#[test]
fn all_that_a_peer_was_told_it_may_send_has_room_after_a_shutdown() {
    let (mut bench, id, next) = opened(App::Record);
    // The window that the SYN-ACK tells is that of the ring; the first answer tells more.
    assert_eq!(bench.tcp(&Tcp::new(CLIENT, ACK | PSH, 2, next).with(b"?")), []);
    let ack = bench.wait(SECOND);
    let told = usize::from(ack[0].window);
    assert!(told > 16_000, "{ack:?}");
    assert_eq!(read(&mut bench, id), b"?");
    bench.server.stack.shutdown(id);
    let fin = bench.turn();
    assert_eq!(Tcp::read(&fin[0]).flags & FIN, FIN);
    let next = next.wrapping_add(1);
    let mut all = Vec::new();
    let bytes: Vec<u8> = (0..told).map(|at| (at % 251) as u8).collect();
    for (at, segment) in bytes.chunks(1_460).enumerate() {
        let seq = 3 + 1_460 * at as u32;
        bench.tcp(&Tcp::new(CLIENT, ACK, seq, next).with(segment));
    }
    bench.wait(SECOND);
    all.extend(read(&mut bench, id));
    assert_eq!((all.len(), bench.server.stack.stats().rings_enlarged), (told, 1));
    assert!(all == bytes, "a byte is in the wrong place");
    assert_eq!(bench.server.stack.stats().drops.total(), 0);
    bench.tcp(&Tcp::new(CLIENT, ACK | FIN, 3 + told as u32, next));
    bench.server.stack.flow(id).expect("it is open").close();
    bench.wait(60 * SECOND);
    bench.server.assert_nothing_left();
}

/// We have closed first, then the peer, and TIME-WAIT has passed: what came is there all the same.
#[test]
fn what_came_before_the_peers_fin_is_read_whenever_the_application_reads() {
    for closes in [false, true] {
        let (mut bench, id, next) = opened(App::Record);
        bench.server.stack.shutdown(id);
        let fin = Tcp::read(&bench.turn()[0]);
        assert_eq!(fin.flags & FIN, FIN);
        let next = next.wrapping_add(1);
        bench.tcp(&Tcp::new(CLIENT, ACK | PSH, 2, next).with(b"the last word"));
        let ack = bench.one(&Tcp::new(CLIENT, ACK | FIN, 15, next));
        assert_eq!((ack.flags, ack.ack), (ACK, 16));
        assert_eq!(bench.wait(300 * SECOND), []);
        // Its ACK may have been lost.
        let again = bench.one(&Tcp::new(CLIENT, ACK | FIN, 15, next));
        assert_eq!((again.flags, again.ack), (ACK, 16));
        assert!(bench.server.stack.flow(id).expect("it is open").peer_closed());
        if closes {
            bench.server.stack.flow(id).expect("it is open").close();
        } else {
            assert_eq!(read(&mut bench, id), b"the last word");
        }
        bench.turn();
        // It goes by way of a record, as ever.
        assert_eq!((bench.server.stack.census().time_wait, bench.server.stack.stats().finished), (1, 1));
        let again = bench.one(&Tcp::new(CLIENT, ACK | FIN, 15, next));
        assert_eq!((again.flags, again.ack), (ACK, 16));
        let (ended, reason) = *bench.server.closed.last().unwrap_or(&(id, CloseReason::Finished));
        assert_eq!((ended, reason), (id, CloseReason::Finished));
        bench.wait(60 * SECOND);
        bench.server.assert_nothing_left();
    }
}
