//! No wake-up is lost: from cores that sleep whenever they may, every answer comes at the very moment at which it comes
//! from cores that never sleep.

use std::time::Duration;

use nic::{Faults, TxBurst};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::rig::raw::{ACK, PSH, SYN, Tcp};
use crate::rig::{self, LAYOUTS, Rig, Shape, push, seed, shown};

/// Longer than any answer takes that nobody sleeps over.
const SECOND: Duration = Duration::from_secs(1);

fn rig((queues, cores): (u16, usize), sleeps: bool, seed: u64) -> Rig {
    let faults = Faults { delay: Duration::from_micros(20), ..Faults::default() };
    Rig::new(Shape { queues, cores, faults, sleeps, seed, ..Shape::default() })
}

/// A request and its reply.
type Exchange = (Vec<u8>, Vec<u8>);

/// Exchanges about keys of one connection alone, which lie on all cores.
fn exchanges(connection: usize, draws: &mut impl RngCore) -> Vec<Exchange> {
    let mut all = Vec::new();
    for number in 0..6 {
        let key = format!("c{connection}-{number}");
        let value = vec![b'a' + number as u8; [3, 100, 1_000, 10, 500, 40][(number + connection) % 6]];
        let stored = [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
        let hit = [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
        all.push((stored, b"STORED\r\n".to_vec()));
        for _ in 0..2 {
            all.push(match draws.next_u32() % 4 {
                0 => (format!("get {key}\r\n").into(), [&hit[..], b"END\r\n"].concat()),
                1 => (format!("get none {key} no\r\n").into(), [&hit[..], b"END\r\n"].concat()),
                2 => {
                    (format!("delete none\r\nget {key}\r\n").into(), [b"NOT_FOUND\r\n", &hit[..], b"END\r\n"].concat())
                }
                _ => (format!("touch {key} 0\r\nmn\r\n").into(), b"TOUCHED\r\nMN\r\n".to_vec()),
            });
        }
    }
    all
}

/// Has each of `count` connections go through its exchanges, all at once. Returns when each reply was there whole.
fn talk(rig: &mut Rig, count: usize, seed: u64) -> Vec<Vec<Duration>> {
    let mut draws = Xoshiro256PlusPlus::seed_from_u64(seed);
    let ports = rig.connect_all(count);
    let todo: Vec<_> = (0..ports.len()).map(|connection| exchanges(connection, &mut draws)).collect();
    let mut ends = vec![Vec::new(); ports.len()];
    for (&port, todo) in ports.iter().zip(&todo) {
        rig.client(port).send(&todo[0].0);
    }
    rig.run_until(Duration::from_secs(60), |rig| {
        let now = rig.wire.clock().now();
        for ((&port, todo), ends) in ports.iter().zip(&todo).zip(&mut ends) {
            let client = rig.clients.get_mut(&port).expect("it was opened");
            let Some((_, reply)) = todo.get(ends.len()) else { continue };
            if client.received.len() >= reply.len() {
                let received = std::mem::take(&mut client.received);
                assert!(received == *reply, "{} is not {}", shown(&received), shown(reply));
                ends.push(now);
                if let Some((request, _)) = todo.get(ends.len()) {
                    rig.client(port).send(request);
                }
            }
        }
        // What was just sent leaves now, not at the next event.
        rig.settle();
        ends.iter().zip(&todo).all(|(ends, todo)| ends.len() == todo.len())
    });
    ends
}

#[test]
fn an_answer_comes_from_cores_that_sleep_as_soon_as_from_cores_that_do_not() {
    let seed = seed(1);
    for layout in LAYOUTS {
        for (seed, count) in (seed..).zip([2, 3, 4, 6, 24]) {
            let awake = talk(&mut rig(layout, false, seed), count, seed);
            let asleep = talk(&mut rig(layout, true, seed), count, seed);
            for (connection, (awake, asleep)) in awake.iter().zip(&asleep).enumerate() {
                assert_eq!(awake, asleep, "{layout:?}, seed {seed}, connection {connection}");
            }
        }
    }
}

#[test]
fn a_line_for_a_watcher_wakes_the_core_of_the_watcher() {
    for layout in LAYOUTS {
        let mut rig = rig(layout, true, 1);
        let ports = rig.connect_all(16);
        let (watcher, others) = (ports[0], &ports[1..]);
        rig.ask(watcher, b"watch fetchers\r\n", b"OK\r\n");
        for round in 0..40 {
            // One alone, so that the watcher's core sleeps until then; or several, so that it is about to.
            let asking = &others[..if round % 2 == 0 { 1 } else { 6 }];
            for &port in asking {
                rig.client(port).send(b"get none\r\n");
            }
            // There and back for the get, and on to the watcher.
            rig.run_for(Duration::from_micros(100));
            let lines = std::mem::take(&mut rig.client(watcher).received);
            let told = lines.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"ts=")).count();
            assert_eq!(told, asking.len(), "{layout:?}, round {round}: {}", shown(&lines));
        }
    }
}

#[test]
fn a_timer_wakes_a_core_that_sleeps() {
    let sent = |sleeps| {
        let mut rig = rig((1, 2), sleeps, 1);
        let mut sent = Vec::new();
        for port in 5_000..5_016 {
            rig.send_frame(&Tcp::new(port, SYN, 7, 0).frame_from([10, 77, 0, 1]));
        }
        // Nobody answers: each SYN is answered again and again, at times that its core's timers say.
        while rig.unclaimed.len() < 16 * 4 {
            assert!(sent.len() < 20_000, "{}", rig.unclaimed.len());
            rig.run_for(Duration::from_millis(1));
            sent.push(rig.unclaimed.len());
        }
        sent
    };
    assert_eq!(sent(false), sent(true));
}

/// A frame that comes to the wrong core goes on to the right one, which may be about to sleep just then.
#[test]
fn a_core_does_not_sleep_over_a_stray() {
    let seed = seed(1);
    let mut crossed = 0;
    for seed in seed..seed + 40 {
        let faults = Faults { delay: Duration::from_micros(20), ..Faults::default() };
        let (mut rig, mut other) = Rig::on_two_links(Shape { faults, seed, ..Shape::default() });
        let mut tx = TxBurst::default();
        let source = [10, 77, 0, 1];
        // One flow of the first core.
        let other_clock = other.wire.clock();
        let both = |rig: &mut Rig, span| {
            rig.run_for(span);
            other_clock.set(rig.wire.clock().now());
            rig.settle();
        };
        rig.send_frame(&Tcp::new(5_000, SYN, 100, 0).frame_from(source));
        both(&mut rig, Duration::from_micros(100));
        let mut next = Tcp::read(&rig.unclaimed[0]).seq.wrapping_add(1);
        rig.send_frame(&Tcp::new(5_000, ACK, 101, next).frame_from(source));
        both(&mut rig, Duration::from_micros(100));
        for round in 0..8u32 {
            // A request by the other core's link, and at the same time something for the first core to look at.
            let request = Tcp::new(5_000, ACK | PSH, 101 + round * 4, next).with(b"mn\r\n");
            push(&mut other.queue, &mut tx, &request.frame_from(source));
            rig.send_frame(&Tcp::new(5_000, ACK, 101 + round * 4, next).frame_from(source));
            rig.unclaimed.clear();
            both(&mut rig, Duration::from_micros(20));
            both(&mut rig, Duration::from_micros(20));
            let said: Vec<_> = rig.unclaimed.drain(..).flat_map(|frame| Tcp::read(&frame).data).collect();
            assert_eq!(said.escape_ascii().to_string(), "MN\\r\\n", "seed {seed}, round {round}");
            next = next.wrapping_add(4);
        }
        // Between the last turn of the first core and its last look.
        push(&mut other.queue, &mut tx, &Tcp::new(5_000, ACK | PSH, 133, next).with(b"mn\r\n").frame_from(source));
        other_clock.advance(Duration::from_micros(20));
        let (time, now) = rig::clocks(other_clock.now());
        assert!(!rig.workers[0].has_work());
        rig.workers[1].turn(time, now).expect("a wire is never gone");
        assert!(rig.workers[0].has_work(), "the look before the sleep does not see the stray");
        crossed += rig.workers[1].poll.strays().counts().0;
    }
    assert!(crossed >= 40 * 9, "{crossed} strays");
}

/// The answer of one core leaves although another core, asked by the same connection, has not answered yet.
#[test]
fn an_answer_does_not_wait_for_what_else_its_connection_has_to_come() {
    let mut rig = rig((3, 3), true, 1);
    let ports = rig.connect_all(1);
    let core = rig.workers.iter().position(|worker| worker.poll.stack().flows() == 1).expect("it is open");
    let [quick, stalled] = [(core + 1) % 3, (core + 2) % 3];
    let value = vec![b'v'; 200_000];
    let mut key_on = |owner: usize, tag: &str| {
        for number in 0.. {
            let key = format!("{tag}{number}");
            let before = rig.workers[owner].cache.census().shard.items;
            let set = [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\n"].concat();
            rig.ask(ports[0], &set, b"STORED\r\n");
            if rig.workers[owner].cache.census().shard.items > before {
                return key;
            }
        }
        unreachable!("every core owns some keys");
    };
    let (near, far) = (key_on(quick, "near"), key_on(stalled, "far"));
    let hit = |key: &str| [format!("VALUE {key} 0 {}\r\n", value.len()).as_bytes(), &value, b"\r\nEND\r\n"].concat();
    rig.stalled = Some(stalled);
    rig.client(ports[0]).send(format!("get {near}\r\nget {far}\r\n").as_bytes());
    rig.expect(ports[0], &hit(&near));
    rig.run_for(SECOND);
    assert_eq!(shown(&rig.client(ports[0]).received), shown(b""), "the other is stalled");
    rig.stalled = None;
    rig.expect(ports[0], &hit(&far));
    rig.finish();
}
