//! Whole servers of every number of queues and cores: whatever core a connection came to, the cache behind it is one.

use std::time::Duration;

use nic::{Faults, TxBurst};
use smoltcp::socket::tcp::State;

use crate::rig::raw::{ACK, FIN, PSH, RST, Tcp};
use crate::rig::{self, LAYOUTS, Rig, Shape, push, shown};

fn rigs() -> impl Iterator<Item = Rig> {
    let faults = || Faults { delay: Duration::from_micros(20), ..Faults::default() };
    LAYOUTS
        .into_iter()
        .map(move |(queues, cores)| Rig::new(Shape { queues, cores, faults: faults(), ..Shape::default() }))
}

fn set(key: &str, value: &[u8], noreply: bool) -> Vec<u8> {
    let noreply = if noreply { " noreply" } else { "" };
    let mut request = format!("set {key} 0 0 {}{noreply}\r\n", value.len()).into_bytes();
    request.extend(value);
    request.extend(b"\r\n");
    request
}

fn hit(key: &str, value: &[u8]) -> Vec<u8> {
    let mut reply = format!("VALUE {key} 0 {}\r\n", value.len()).into_bytes();
    reply.extend(value);
    reply.extend(b"\r\n");
    reply
}

fn bytes(tag: usize, count: usize) -> Vec<u8> {
    (0..count).map(|at| (at.wrapping_mul(31) ^ at >> 8 ^ tag) as u8).collect()
}

#[test]
fn a_key_set_over_one_connection_is_read_over_every_other() {
    for mut rig in rigs() {
        let ports = rig.connect_all(64);
        for worker in &rig.workers {
            assert!(worker.poll.stack().flows() > 0, "every core has connections");
        }
        for (number, &port) in ports.iter().enumerate() {
            rig.ask(port, &set(&format!("key-{number}"), &bytes(number, number * 10), false), b"STORED\r\n");
        }
        for &port in &ports {
            for number in (0..ports.len()).step_by(5) {
                let mut reply = hit(&format!("key-{number}"), &bytes(number, number * 10));
                reply.extend(b"END\r\n");
                rig.ask(port, format!("get key-{number}\r\n").as_bytes(), &reply);
            }
        }
        let items: usize = rig.finish().iter().map(|core| core.shard.items).sum();
        assert_eq!(items, 64);
    }
}

#[test]
fn pipelined_replies_of_all_shards_come_in_the_order_of_the_requests() {
    for mut rig in rigs() {
        let (mut requests, mut replies) = (Vec::new(), Vec::new());
        for round in 0..20 {
            for key in 0..40 {
                let (name, value) = (format!("p{key}"), bytes(round * 40 + key, (round * 37 + key * 53) % 700));
                requests.extend(set(&name, &value, key % 3 == 0));
                replies.extend(if key % 3 == 0 { &b""[..] } else { b"STORED\r\n" });
                requests.extend(format!("get p{key} none p{key}\r\n").bytes());
                replies.extend([hit(&name, &value), hit(&name, &value), b"END\r\n".to_vec()].concat());
            }
            requests.extend(b"bogus\r\nincr p0 1\r\nversion\r\n");
            replies.extend(b"ERROR\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n");
            replies.extend(format!("VERSION {}\r\n", version(&mut rig)).bytes());
        }
        let port = rig.connect_all(1)[0];
        rig.ask(port, &requests, &replies);
        let crossed: u64 = rig.workers.iter().map(|worker| worker.cache.counters().cross_core_requests.value()).sum();
        assert!(crossed > 100, "{crossed}");
        rig.finish();
    }
}

/// What the server calls itself.
fn version(rig: &mut Rig) -> String {
    let port = rig.connect_all(1)[0];
    rig.client(port).send(b"version\r\n");
    rig.run_until(Duration::from_secs(10), |rig| rig.client(port).received.ends_with(b"\r\n"));
    let reply = std::mem::take(&mut rig.client(port).received);
    String::from_utf8(reply).expect("text").trim_start_matches("VERSION ").trim_end().to_owned()
}

#[test]
fn ten_thousand_keys_are_fetched_by_one_line() {
    for mut rig in rigs() {
        let port = rig.connect_all(1)[0];
        let names: Vec<_> = (0..10_000).map(|key| format!("multi-{key}")).collect();
        let (mut store, mut line, mut reply) = (Vec::new(), b"get".to_vec(), Vec::new());
        for (number, name) in names.iter().enumerate() {
            line.extend(format!(" {name}").bytes());
            if number % 10 != 0 {
                store.extend(set(name, &bytes(number, number % 40), true));
                reply.extend(hit(name, &bytes(number, number % 40)));
            }
        }
        line.extend(b"\r\n");
        reply.extend(b"END\r\n");
        rig.client(port).send(&store);
        rig.ask(port, &line, &reply);
        assert_eq!(rig.finish().iter().map(|core| core.shard.items).sum::<usize>(), 9_000);
    }
}

#[test]
fn a_megabyte_goes_each_way_from_and_to_every_core() {
    for mut rig in rigs() {
        let ports = rig.connect_all(8);
        for (number, &port) in ports.iter().enumerate() {
            rig.ask(port, &set(&format!("big-{number}"), &bytes(number, 1_000_000), false), b"STORED\r\n");
        }
        // All at once, each the next one's.
        for (number, &port) in ports.iter().enumerate() {
            rig.client(port).send(format!("get big-{}\r\n", (number + 1) % 8).as_bytes());
        }
        for (number, &port) in ports.iter().enumerate() {
            let number = (number + 1) % 8;
            let reply = [hit(&format!("big-{number}"), &bytes(number, 1_000_000)), b"END\r\n".to_vec()].concat();
            rig.expect(port, &reply);
        }
        rig.finish();
    }
}

#[test]
fn a_flood_without_replies_is_obeyed_and_the_others_are_served_meanwhile() {
    for mut rig in rigs() {
        let ports = rig.connect_all(5);
        let flood: Vec<u8> = (0..30_000).flat_map(|n| set(&format!("f{}", n % 100), &bytes(n, 20), true)).collect();
        rig.client(ports[0]).send(&flood);
        rig.client(ports[0]).send(b"get f99\r\n");
        let mut asked = 0;
        while rig.client(ports[0]).received.is_empty() {
            for &port in &ports[1..] {
                rig.ask(port, &set("other", b"x", false), b"STORED\r\n");
                asked += 1;
            }
        }
        assert!(asked > 40, "others were served {asked} times");
        rig.expect(ports[0], &[hit("f99", &bytes(29_999, 20)), b"END\r\n".to_vec()].concat());
        assert_eq!(rig.finish().iter().map(|core| core.shard.items).sum::<usize>(), 101);
    }
}

#[test]
fn one_who_reads_nothing_for_a_minute_holds_up_nobody_and_gets_all_in_the_end() {
    for mut rig in rigs() {
        let ports = rig.connect_all(9);
        let (deaf, others) = (&ports[..4], &ports[4..]);
        let value = bytes(9, 200_000);
        for key in 0..4 {
            rig.ask(others[0], &set(&format!("large-{key}"), &value, false), b"STORED\r\n");
        }
        let mut reply = Vec::new();
        for key in 0..40 {
            reply.extend([hit(&format!("large-{}", key % 4), &value), b"END\r\n".to_vec()].concat());
        }
        for &port in deaf {
            rig.client(port).reads = false;
            for key in 0..40 {
                rig.client(port).send(format!("get large-{}\r\n", key % 4).as_bytes());
            }
        }
        for second in 0..60 {
            for &port in others {
                rig.ask(port, &set("small", format!("{second}").as_bytes(), false), b"STORED\r\n");
                let small = [hit("small", format!("{second}").as_bytes()), b"END\r\n".to_vec()].concat();
                rig.ask(port, b"get small\r\n", &small);
            }
            rig.run_for(Duration::from_secs(1));
        }
        // 32 replies are owed to a connection at most, each by one pin.
        let held: Vec<_> = rig.workers.iter().map(|worker| worker.cache.census()).collect();
        assert!(held.iter().map(|core| core.pins).sum::<usize>() <= deaf.len() * 32, "{held:?}");
        assert!(held.iter().all(|core| core.entries <= deaf.len() * 32 && core.copied_bytes == 0), "{held:?}");
        for &port in deaf {
            rig.client(port).reads = true;
        }
        for &port in deaf {
            rig.expect(port, &reply);
        }
        rig.finish();
    }
}

#[test]
fn connections_above_the_limit_are_told_so() {
    let mut rig = Rig::new(Shape { connection_limit: 3, ..Shape::default() });
    let ports = rig.connect_all(3);
    let above = rig.connect();
    rig.run_until(Duration::from_secs(5), |rig| rig.client(above).peer_closed());
    assert_eq!(rig.client(above).received, b"ERROR Too many open connections\r\n");
    rig.client(above).received.clear();
    rig.client(ports[0]).send(b"quit\r\n");
    rig.run_until(Duration::from_secs(5), |rig| rig.client(ports[0]).peer_closed());
    let again = rig.connect_all(1)[0];
    rig.ask(again, &set("k", b"v", false), b"STORED\r\n");
    rig.finish();
}

#[test]
fn what_comes_by_another_queue_than_its_flows_is_found_by_the_right_core() {
    let (mut rig, mut other) = Rig::on_two_links(Shape { sleeps: false, ..Shape::default() });
    let mut tx = TxBurst::default();
    let source = [10, 77, 0, 1];

    let mut ack = rig.open(source, 5_000, 100);
    assert_eq!((rig.workers[0].poll.stack().flows(), rig.workers[1].poll.stack().flows()), (1, 0));
    // Data by the other queue is served by the flow's core, and answered by the flow's own queue.
    push(
        &mut other.queue,
        &mut tx,
        &Tcp::new(5_000, ACK | PSH, 101, ack).with(b"set a 0 0 1\r\nx\r\n").frame_from(source),
    );
    let answers = rig.tcp(source, &Tcp::new(5_000, ACK, 101, ack));
    let data: Vec<u8> = answers.iter().flat_map(|answer| answer.data.clone()).collect();
    assert_eq!(data, b"STORED\r\n", "{answers:?}");
    ack = ack.wrapping_add(8);
    // An ACK by the other queue counts: nothing is sent again.
    push(&mut other.queue, &mut tx, &Tcp::new(5_000, ACK, 117, ack).frame_from(source));
    rig.turns(|turn| turn());
    rig.run_for(Duration::from_secs(5));
    let mut more = 0;
    rig.look_at_frames(|_| more += 1);
    assert_eq!(more, 0);
    // An RST by the other queue ends the flow, unanswered.
    push(&mut other.queue, &mut tx, &Tcp::new(5_000, RST, 117, 0).frame_from(source));
    rig.turns(|turn| turn());
    assert_eq!(rig.workers[0].poll.stack().flows(), 0);
    assert_eq!(rig.workers[0].poll.stack().stats().resets, 1);
    // A segment that no core knows is answered by one RST, after each has looked.
    push(&mut other.queue, &mut tx, &Tcp::new(6_000, ACK | FIN, 7, 1_234).frame_from(source));
    rig.turns(|turn| turn());
    let mut resets = Vec::new();
    rig.look_at_frames(|frame| resets.push(Tcp::read(frame)));
    rig::look_at(&mut other.queue, |frame| resets.push(Tcp::read(frame)));
    let [reset] = &resets[..] else { panic!("{resets:?}") };
    assert_eq!((reset.flags, reset.seq, reset.peer_port), (RST, 1_234, 6_000));
    let strays: Vec<_> = rig.workers.iter().map(|worker| worker.poll.strays().counts()).collect();
    assert_eq!(strays[1].0, 4, "{strays:?}");
    rig.finish();
}

#[test]
fn requests_that_straddle_the_end_of_their_ring_get_their_turn_where_places_are_few() {
    // Few places for values of other cores, so that most fetches wait; lines of all lengths, so that many of them
    // straddle the end of a receive ring when their turn comes.
    let mut rig = Rig::new(Shape { landing_slots: 2, ..Shape::default() });
    let ports = rig.connect_all(60);
    let (mut requests, mut replies) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let key = format!("{number}-{}", "k".repeat(number * 12));
        rig.ask(ports[0], &set(&key, &bytes(number, 300), false), b"STORED\r\n");
        requests.extend(format!("get {key}\r\n").bytes());
        replies.extend([hit(&key, &bytes(number, 300)), b"END\r\n".to_vec()].concat());
    }
    for &port in &ports {
        rig.client(port).send(&requests.repeat(4));
    }
    for &port in &ports {
        rig.expect(port, &replies.repeat(4));
    }
    let short: u64 = rig.workers.iter().map(|worker| worker.cache.counters().slots_short.value()).sum();
    assert!(short > 1_000, "{short}");
    rig.finish();
}

#[test]
fn a_server_that_stops_answers_what_has_arrived_and_then_closes() {
    for mut rig in rigs() {
        let ports = rig.connect_all(150);
        for (number, &port) in ports.iter().enumerate() {
            rig.ask(port, &set(&format!("d{number}"), &bytes(number, 100), false), b"STORED\r\n");
        }
        // Requests reach the queues; no core has looked yet.
        let request = |number: usize| format!("get d{number} d{}\r\n", (number + 75) % 150);
        for (number, &port) in ports.iter().enumerate() {
            for _ in 0..3 {
                rig.client(port).send(request(number).as_bytes());
            }
        }
        let now = rig.now();
        rig.poll_clients(now);
        rig.wire.clock().advance(Duration::from_millis(1));
        rig.stop();
        let begin = rig.now();
        rig.run_until(Duration::from_secs(1), |rig| ports.iter().all(|&port| rig.client(port).peer_closed()));
        for (number, &port) in ports.iter().enumerate() {
            let value = |number| hit(&format!("d{number}"), &bytes(number, 100));
            let once = [value(number), value((number + 75) % 150), b"END\r\n".to_vec()].concat();
            let received = std::mem::take(&mut rig.client(port).received);
            assert!(received == once.repeat(3), "port {port}: {}{}", shown(&received), rig.what_is_left());
            assert_eq!(rig.client(port).state(), State::CloseWait, "closed by FIN, not by RST");
        }
        assert!(rig.now().since(begin) < Duration::from_millis(500), "{:?}", rig.now().since(begin));
        rig.finish();
    }
}
