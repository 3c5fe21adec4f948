//! Connections of which one end has closed: what is still to be said is said, and what came is there to be read.

use std::time::Duration;

use sidestep_stack::{CloseReason, DropReason, FlowId, Rings};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::{App, config};

const CLIENT: u16 = 4_000;
const SECOND: Duration = Duration::from_secs(1);

/// A host whose only connection has its id here; the client's next number is 2.
fn opened(app: App) -> (Bench, FlowId, u32) {
    let mut config = config();
    config.conn_memory = 64 << 20;
    let mut bench = Bench::with(config, app);
    let next = bench.open(CLIENT, 1);
    let id = match app {
        App::Record => bench.server.events.last().expect("it was told").flow(),
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
    let id = bench.server.events.last().expect("it was told").flow();
    let mut flow = bench.server.poll.flow(id).expect("it is open");
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
        assert_eq!(bench.server.poll.stack().stats().timed_out, 0, "{} bytes were taken", end.wrapping_sub(next));
    }
    assert!(bench.now().since(began) > 90 * SECOND);
    bench.tcp(&Tcp::new(CLIENT, ACK | FIN, 2, next.wrapping_add(60_001)));
    bench.wait(60 * SECOND);
    assert_eq!(bench.server.poll.stack().stats().finished, 1);
    bench.server.assert_nothing_left();
}

#[test]
fn a_closed_connection_whose_peer_takes_a_byte_at_a_time_is_given_up_after_a_minute() {
    let (mut bench, id, next) = opened(App::Record);
    let mut flow = bench.server.poll.flow(id).expect("it is open");
    assert_eq!(flow.send_slice(&[7; 4_000]), 4_000);
    flow.close();
    bench.turn();
    bench.tcp(&Tcp::new(CLIENT, ACK, 2, next.wrapping_add(100)));
    for taken in 101..112 {
        bench.wait(5 * SECOND);
        bench.tcp(&Tcp::new(CLIENT, ACK, 2, next.wrapping_add(taken)));
    }
    assert_eq!(bench.server.poll.stack().stats().timed_out, 0);
    let sent = bench.wait(10 * SECOND);
    assert!(sent.iter().any(|segment| segment.flags & RST != 0), "{sent:?}");
    assert_eq!(bench.server.poll.stack().stats().timed_out, 1);
    bench.server.assert_nothing_left();
}

/// Reads what waits.
fn read(bench: &mut Bench, id: FlowId) -> Vec<u8> {
    let mut all = Vec::new();
    let mut flow = bench.server.poll.flow(id).expect("it is kept for its application");
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
    bench.server.poll.shutdown(id);
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
    assert_eq!((all.len(), bench.server.poll.stack().stats().rings_enlarged), (told, 1));
    assert!(all == bytes, "a byte is in the wrong place");
    assert_eq!(bench.server.poll.stack().stats().drops.total(), 0);
    bench.tcp(&Tcp::new(CLIENT, ACK | FIN, 3 + told as u32, next));
    bench.server.poll.flow(id).expect("it is open").close();
    bench.wait(60 * SECOND);
    bench.server.assert_nothing_left();
}

/// We have closed first, then the peer, and TIME-WAIT has passed: what came is there all the same.
#[test]
fn what_came_before_the_peers_fin_is_read_whenever_the_application_reads() {
    for closes in [false, true] {
        let (mut bench, id, next) = opened(App::Record);
        bench.server.poll.shutdown(id);
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
        assert!(bench.server.poll.flow(id).expect("it is open").peer_closed());
        if closes {
            bench.server.poll.flow(id).expect("it is open").close();
        } else {
            assert_eq!(read(&mut bench, id), b"the last word");
        }
        bench.turn();
        // It goes by way of a record, as ever.
        assert_eq!((bench.server.poll.stack().census().time_wait, bench.server.poll.stack().stats().finished), (1, 1));
        let again = bench.one(&Tcp::new(CLIENT, ACK | FIN, 15, next));
        assert_eq!((again.flags, again.ack), (ACK, 16));
        let (ended, reason) = *bench.server.closed.last().unwrap_or(&(id, CloseReason::Finished));
        assert_eq!((ended, reason), (id, CloseReason::Finished));
        bench.wait(60 * SECOND);
        bench.server.assert_nothing_left();
    }
}

/// Fills a host of `flows` blocks with connections whose application has closed them over what their peers, which were heard of
/// long ago, have not taken: all of them with a window of so many bytes.
fn full_of_lingering(flows: usize) -> (Bench, Vec<u32>) {
    let mut config = config();
    (config.max_flows, config.flows_at_start) = (flows, flows);
    let mut bench = Bench::with(config, App::Record);
    let mut nexts = Vec::new();
    for at in 0..flows {
        let port = CLIENT + at as u16;
        let syn_ack = bench.one(&Tcp::new(port, SYN, 1, 0));
        let next = syn_ack.seq.wrapping_add(1);
        let mut ack = Tcp::new(port, ACK, 2, next);
        ack.window = 0;
        bench.tcp(&ack);
        let id = bench.server.events.last().expect("it was told").flow();
        let mut flow = bench.server.poll.flow(id).expect("it is open");
        assert_eq!(flow.send_slice(&[7; 1_000]), 1_000);
        flow.close();
        bench.turn();
        nexts.push(next);
    }
    (bench, nexts)
}

/// Who has closed holds a block for a peer that takes nothing for up to a minute, while clients wait at the door.
#[test]
fn a_connection_that_lingers_gives_its_block_to_who_has_none() {
    let (mut bench, nexts) = full_of_lingering(300);
    let newcomer = Tcp::new(CLIENT - 1, SYN, 1, 0);
    // Nobody can tell yet whether their peers get on.
    bench.wire.clock().advance(2 * SECOND);
    assert!(bench.tcp(&newcomer).iter().all(|segment| segment.flags & (RST | SYN) == 0));
    bench.wait(SECOND / 100);
    assert_eq!((bench.drops(DropReason::NoFreeFlow), bench.server.poll.stack().stats().gave_way), (1, 0));
    // All but one take nothing.
    let mut ack = Tcp::new(CLIENT + 299, ACK, 2, nexts[299]);
    for taken in [0, 100, 500, 900] {
        ack.ack = nexts[299].wrapping_add(taken);
        bench.tcp(&ack);
    }
    bench.wire.clock().advance(2 * SECOND);
    let began = bench.tcp(&newcomer);
    let resets: Vec<u16> = [began, bench.wait(SECOND / 100)]
        .concat()
        .iter()
        .filter(|sent| sent.flags & RST != 0)
        .map(|sent| sent.peer_port)
        .collect();
    assert!(
        resets.len() == 1 && resets[0] != CLIENT + 299,
        "one for one, and not the one that takes something: {resets:?}"
    );
    assert_eq!((bench.drops(DropReason::NoFreeFlow), bench.server.poll.stack().stats().gave_way), (2, 1));
    let answer = bench.one(&newcomer);
    assert_eq!((answer.flags, answer.ack), (SYN | ACK, 2));
}

/// An open connection is its application's, however useless, and one that lingers is left alone unless it is in the way.
#[test]
fn nobody_gives_way_but_who_has_been_closed_and_whose_peer_takes_nothing() {
    let (mut bench, nexts) = full_of_lingering(64);
    bench.wait(10 * SECOND);
    assert_eq!(bench.server.poll.stack().stats().gave_way, 0, "nobody has asked");
    for (at, next) in nexts.iter().enumerate() {
        let mut ack = Tcp::new(CLIENT + at as u16, ACK, 2, *next);
        ack.window = 30_000;
        bench.tcp(&ack);
        bench.tcp(&Tcp::new(CLIENT + at as u16, ACK, 2, next.wrapping_add(1_001)));
    }
    // Their peers have everything and do not close, for less than 3 s.
    bench.tcp(&Tcp::new(CLIENT - 1, SYN, 1, 0));
    bench.wait(SECOND);
    assert_eq!((bench.drops(DropReason::NoFreeFlow), bench.server.poll.stack().stats().gave_way), (1, 0));
    bench.wait(3 * SECOND);
    bench.tcp(&Tcp::new(CLIENT - 1, SYN, 1, 0));
    bench.wait(SECOND / 100);
    assert_eq!(bench.server.poll.stack().stats().gave_way, 1);
    assert_eq!(bench.one(&Tcp::new(CLIENT - 1, SYN, 1, 0)).flags, SYN | ACK);

    // Open ones stay.
    let mut config = config();
    (config.max_flows, config.flows_at_start, config.keep_alive) = (64, 64, None);
    let mut bench = Bench::with(config, App::Record);
    for at in 0..64 {
        bench.open(CLIENT + at, 1);
    }
    bench.wait(10 * SECOND);
    bench.tcp(&Tcp::new(CLIENT - 1, SYN, 1, 0));
    bench.wait(SECOND);
    assert_eq!((bench.drops(DropReason::NoFreeFlow), bench.server.poll.stack().stats().gave_way), (1, 0));
}
