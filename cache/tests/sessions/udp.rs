//! Requests over UDP: what each datagram is answered, that none harms the next, and that everything is bounded.

use std::collections::BTreeMap;

use sidestep_cache::{CacheConfig, Network, ShardConfig};

use crate::loopback::{Loopback, Pace, SENDER, keys_of};

fn config(cores: usize) -> CacheConfig {
    CacheConfig { cores, datagram_places: 32, ..CacheConfig::default() }
}

fn cache(cores: usize) -> Loopback {
    Loopback::new(&config(cores), Pace::Even, 0)
}

/// Sends a request to core 0 and returns the messages that answer it, put together.
#[track_caller]
fn ask(cache: &mut Loopback, request: &[u8]) -> Vec<Vec<u8>> {
    cache.datagram(0, 7, request);
    cache.run();
    messages(cache)
}

/// What was sent, message by message. Every datagram must be in its place.
#[track_caller]
fn messages(cache: &mut Loopback) -> Vec<Vec<u8>> {
    let (mut messages, mut expected): (Vec<Vec<u8>>, u16) = (Vec::new(), 0);
    for (peer, datagram) in std::mem::take(&mut cache.mailbox.sent) {
        let (header, body) = datagram.split_at(8);
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        assert_eq!((u32::from(field(0)), field(6)), (peer, 0));
        assert!(datagram.len() <= 1400);
        let (sequence, total) = (field(2), field(4));
        assert_eq!(sequence, expected, "of {total}");
        match sequence {
            0 => messages.push(body.to_vec()),
            _ => messages.last_mut().expect("it was begun").extend_from_slice(body),
        }
        assert!(body.len() == 1392 || sequence + 1 >= total, "only the last is not full");
        expected = if sequence + 1 >= total { 0 } else { sequence + 1 };
    }
    assert_eq!(expected, 0, "a message is not whole");
    messages
}

#[track_caller]
fn check(cache: &mut Loopback, request: &[u8], replies: &[&[u8]]) {
    let found = ask(cache, request);
    let shown = |messages: &[&[u8]]| messages.iter().map(|m| m.escape_ascii().to_string()).collect::<Vec<_>>();
    let found: Vec<&[u8]> = found.iter().map(Vec::as_slice).collect();
    assert_eq!(shown(&found), shown(replies), "to {}", request.escape_ascii());
}

/// Keys enough that some are of each shard.
fn keys() -> impl Iterator<Item = String> + Clone {
    (0..24).map(|number| format!("key-{number}"))
}

#[test]
fn one_command_is_answered_by_one_message_wherever_its_key_is() {
    for cores in 1..=3 {
        let mut cache = cache(cores);
        for key in keys() {
            check(&mut cache, format!("set {key} 5 0 3\r\nabc\r\n").as_bytes(), &[b"STORED\r\n"]);
            check(
                &mut cache,
                format!("get {key}\r\n").as_bytes(),
                &[format!("VALUE {key} 5 3\r\nabc\r\nEND\r\n").as_bytes()],
            );
            check(
                &mut cache,
                format!("get {key}\n").as_bytes(),
                &[format!("VALUE {key} 5 3\r\nabc\r\nEND\r\n").as_bytes()],
            );
            let gets = ask(&mut cache, format!("gets {key}\r\n").as_bytes());
            assert!(gets.len() == 1 && gets[0].starts_with(format!("VALUE {key} 5 3 ").as_bytes()), "{gets:?}");
            check(&mut cache, format!("set {key} 0 0 1\r\n8\r\n").as_bytes(), &[b"STORED\r\n"]);
            check(&mut cache, format!("incr {key} 2\r\n").as_bytes(), &[b"10\r\n"]);
            check(&mut cache, format!("append {key} 0 0 1 noreply\r\n0\r\n").as_bytes(), &[]);
            check(&mut cache, format!("mg {key} v k\r\n").as_bytes(), &[format!("VA 3 k{key}\r\n100\r\n").as_bytes()]);
            check(&mut cache, format!("touch {key} 0\r\n").as_bytes(), &[b"TOUCHED\r\n"]);
            check(&mut cache, format!("delete {key}\r\n").as_bytes(), &[b"DELETED\r\n"]);
            check(&mut cache, format!("get {key}\r\n").as_bytes(), &[b"END\r\n"]);
            check(&mut cache, format!("mg {key} v q\r\n").as_bytes(), &[]);
        }
        cache.assert_nothing_held();
    }
}

/// As memcached: every command and every item a message of its own.
#[test]
fn several_commands_are_answered_in_order_by_messages_of_their_own() {
    for cores in 1..=3 {
        let mut cache = cache(cores);
        check(
            &mut cache,
            b"set a 0 0 1\r\nx\r\nset b 0 0 1 noreply\r\ny\r\nget a\r\nget b\r\n",
            &[b"STORED\r\n", b"VALUE a 0 1\r\nx\r\nEND\r\n", b"VALUE b 0 1\r\ny\r\nEND\r\n"],
        );
        check(&mut cache, b"get a none b none\r\n", &[b"VALUE a 0 1\r\nx\r\n", b"VALUE b 0 1\r\ny\r\n", b"END\r\n"]);
        check(&mut cache, b"get none a\r\n", &[b"VALUE a 0 1\r\nx\r\nEND\r\n"]);
        check(
            &mut cache,
            b"foo\r\n\r\nversion\r\n",
            &[b"ERROR\r\n", b"CLIENT_ERROR bad command line format\r\n", b"VERSION 1.6.45-sidestep\r\n"],
        );
        check(&mut cache, b"flush_all\r\nget a\r\n", &[b"OK\r\n", b"END\r\n"]);
        check(&mut cache, b"mn\r\n", &[b"MN\r\n"]);
        let many = b"get a\r\n".repeat(200);
        check(&mut cache, &many, &[&b"END\r\n"[..]; 200]);
        cache.assert_nothing_held();
    }
}

#[test]
fn packets_are_told_by_the_first_byte_of_each_datagram() {
    let packet = |opcode: u8, extras: &[u8], key: &[u8], value: &[u8]| {
        let body = (extras.len() + key.len() + value.len()) as u32;
        let mut packet = vec![0x80, opcode, 0, key.len() as u8, extras.len() as u8, 0, 0, 0];
        packet.extend(body.to_be_bytes());
        packet.extend([0; 12]);
        [&packet[..], extras, key, value].concat()
    };
    for cores in 1..=3 {
        let mut cache = cache(cores);
        for key in keys() {
            let stored = ask(&mut cache, &packet(1, &[0; 8], key.as_bytes(), b"value"));
            assert!(stored.len() == 1 && stored[0][..8] == [0x81, 1, 0, 0, 0, 0, 0, 0], "{stored:?}");
            let found = ask(&mut cache, &packet(0, b"", key.as_bytes(), b""));
            assert!(found.len() == 1 && found[0].ends_with(b"\0\0\0\0value"), "{found:?}");
            let both = [packet(0x14, b"", key.as_bytes(), b""), packet(0x0a, b"", b"", b"")].concat();
            let both = ask(&mut cache, &both);
            assert!(both.len() == 1 && both[0][..2] == [0x81, 0x0a], "a quiet delete is not answered: {both:?}");
            check(&mut cache, format!("get {key}\r\n").as_bytes(), &[b"END\r\n"]);
        }
        // What is not whole, and what is no packet.
        check(&mut cache, &packet(1, &[0; 8], b"k", b"value")[..30], &[]);
        check(&mut cache, &[0x80], &[]);
        let noop = [&packet(0x0a, b"", b"", b"")[..], b"get k\r\n"].concat();
        assert_eq!(ask(&mut cache, &noop).len(), 1);
        cache.assert_nothing_held();
    }
}

/// memcached gives the right to renew a stale item to the first mg, not to packets before it.
#[test]
fn a_packet_does_not_take_the_right_to_renew() {
    let mut cache = cache(2);
    check(&mut cache, b"set k 0 0 1\r\nx\r\nmd k I\r\n", &[b"STORED\r\n", b"HD\r\n"]);
    for packet in [
        &b"\x80\x00\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0k"[..],
        b"\x80\x1d\0\x01\x04\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0k",
    ] {
        let found = ask(&mut cache, packet);
        assert!(found.len() == 1 && found[0].ends_with(b"x"), "{found:?}");
    }
    check(&mut cache, b"mg k v\r\nmg k v\r\n", &[b"VA 1 X W\r\nx\r\n", b"VA 1 Z X\r\nx\r\n"]);
}

#[test]
fn what_is_not_whole_has_no_effect_and_harms_nothing_after_it() {
    for cores in 1..=3 {
        let mut cache = cache(cores);
        for key in keys() {
            check(&mut cache, format!("set {key} 0 0 3\r\nold\r\n").as_bytes(), &[b"STORED\r\n"]);
            let before = cache.counted(|core| core.udp_incomplete.value());
            for broken in [
                format!("set {key} 0 0 10\r\nabc"),
                format!("set {key} 0 0 10\r\nabc\r\n"),
                format!("set {key} 0 0 3\r\nabc\r"),
                format!("set {key} 0 0 1048576\r\nabc\r\n"),
                format!("set {key} 0 0 2000000\r\nabc\r\n"),
                format!("set {key} 0 0"),
                format!("ms {key} 10 T0\r\nabc"),
                format!("append {key} 0 0 10 noreply\r\nabc"),
                format!("get {key}"),
                format!("delete {key}"),
            ] {
                check(&mut cache, broken.as_bytes(), &[]);
                let found = format!("VALUE {key} 0 3\r\nold\r\nEND\r\n");
                check(&mut cache, format!("get {key}\r\n").as_bytes(), &[found.as_bytes()]);
                check(&mut cache, format!("get {key}\r\n{broken}").as_bytes(), &[found.as_bytes()]);
            }
            assert_eq!(cache.counted(|core| core.udp_incomplete.value()) - before, 20);
        }
        check(
            &mut cache,
            b"set k 0 0 1\r\nxxx\r\n",
            &[b"CLIENT_ERROR bad data chunk\r\n", b"CLIENT_ERROR bad command line format\r\n"],
        );
        cache.assert_nothing_held();
    }
}

#[test]
fn a_quit_is_a_header_without_datagrams() {
    let mut cache = cache(2);
    for (request, sent) in [(&b"quit\r\n"[..], 1), (b"quit\r\nget a\r\n", 1), (b"GET / HTTP/1.0\r\n", 0)] {
        cache.datagram(0, 9, request);
        cache.run();
        let quit = (9, vec![0, 9, 0, 0, 0, 0, 0, 0]);
        assert_eq!(std::mem::take(&mut cache.mailbox.sent), vec![quit; sent], "{}", request.escape_ascii());
    }
    cache.assert_nothing_held();
}

/// Before, it was when the commands before it were of this core's keys, and was not when one was of another's.
#[test]
fn a_quit_behind_commands_that_are_not_answered_is_answered_whoever_has_their_keys() {
    let mut cache = cache(2);
    for key in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        cache.datagram(0, 9, format!("set {key} 0 0 1 noreply\r\nx\r\nquit\r\n").as_bytes());
        cache.run();
        assert_eq!(std::mem::take(&mut cache.mailbox.sent), [(9, vec![0, 9, 0, 0, 0, 0, 0, 0])], "{key}");
        check(
            &mut cache,
            format!("get {key}\r\n").as_bytes(),
            &[format!("VALUE {key} 0 1\r\nx\r\nEND\r\n").as_bytes()],
        );
    }
    cache.assert_nothing_held();
}

#[test]
fn a_datagram_that_is_no_request_is_passed_over_and_counted() {
    let mut cache = cache(1);
    for bad in [
        &b""[..],
        b"\0\x07\0\0\0\x01\0",
        b"\0\x07\0\0\0\x01\0\0",
        b"\0\x07\0\0\0\x02\0\0get a\r\n",
        b"\0\x07\0\0\0\0\0\0get a\r\n",
    ] {
        cache.datagram_from(0, SENDER, 1, bad);
    }
    cache.run();
    assert_eq!((cache.mailbox.sent.len(), cache.counted(|core| core.udp_bad_frames.value())), (0, 5));
}

#[test]
fn long_replies_are_cut_into_datagrams_wherever_the_value_is() {
    for (cores, pace) in [(1, Pace::Even), (2, Pace::Even), (3, Pace::Seeded)] {
        let mut cache = Loopback::new(&config(cores), pace, 3);
        let client = cache.connect(0);
        for (number, key) in keys().enumerate() {
            let length = [1, 1_300, 1_392, 4_000, 20_000, 300_000][number % 6];
            let value: Vec<u8> = (0..length).map(|at| b'a' + ((at + number) % 26) as u8).collect();
            let set = format!("set {key} 0 0 {length}\r\n");
            cache.send(client, &[set.as_bytes(), &value, b"\r\n"].concat());
            cache.run();
            assert_eq!(cache.take_received(client), b"STORED\r\n");
            let found = [format!("VALUE {key} 0 {length}\r\n").as_bytes(), &value, b"\r\nEND\r\n"].concat();
            check(&mut cache, format!("get {key}\r\n").as_bytes(), &[&found]);
            let meta = [format!("VA {length}\r\n").as_bytes(), &value, b"\r\n"].concat();
            check(&mut cache, format!("mg {key} v\r\nmn\r\n").as_bytes(), &[&meta, b"MN\r\n"]);
        }
        let stats = ask(&mut cache, b"stats\r\n");
        assert!(stats.len() == 1 && stats[0].len() > 1_392 && stats[0].ends_with(b"\r\nEND\r\n"));
        let conns = ask(&mut cache, b"stats conns\r\n");
        assert!(conns.len() == 1 && conns[0].ends_with(b"\r\nEND\r\n"), "{conns:?}");
        check(&mut cache, b"watch fetchers\r\n", &[b"CLIENT_ERROR watch commands not allowed\r\n"]);
        cache.close(client);
        cache.run();
        cache.assert_nothing_held();
    }
}

/// A value that is read while its key is overwritten, deleted and evicted comes whole, as it was.
#[test]
fn a_value_that_is_overwritten_while_it_leaves_comes_whole() {
    for cores in 1..=2 {
        let mut config = config(cores);
        config.shard = ShardConfig { memory_bytes: cores * (8 << 20), ..ShardConfig::default() };
        let mut cache = Loopback::new(&config, Pace::Even, 0);
        let client = cache.connect(0);
        for (number, key) in keys().enumerate() {
            let old = vec![b'a' + (number % 26) as u8; 200_000];
            let set = |value: &[u8]| [format!("set {key} 0 0 {}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat();
            cache.send(client, &set(&old));
            cache.run();
            // Ten of its datagrams leave, then none for a while.
            cache.mailbox.frames = Some(10);
            cache.datagram(0, 7, format!("get {key}\r\n").as_bytes());
            cache.run();
            assert_eq!(cache.mailbox.sent.len(), 10);
            cache.send(client, &set(&vec![b'#'; 200_000]));
            cache.send(client, format!("delete {key}\r\n").as_bytes());
            for filler in 0..60 {
                cache.send(
                    client,
                    &[format!("set filler-{filler} 0 0 300000\r\n").as_bytes(), &[b'-'; 300_000], b"\r\n"].concat(),
                );
            }
            cache.run();
            cache.mailbox.frames = None;
            cache.run();
            let found = messages(&mut cache);
            let whole = [format!("VALUE {key} 0 200000\r\n").as_bytes(), &old, b"\r\nEND\r\n"].concat();
            assert!(found == [whole], "{cores} cores, {key}: {} messages", found.len());
        }
        cache.close(client);
        cache.run();
        cache.assert_nothing_held();
    }
}

#[test]
fn requests_that_find_no_place_are_dropped_and_those_that_stay_too_long_given_up() {
    for cores in 1..=2 {
        let mut cache = cache(cores);
        check(&mut cache, b"set k 0 0 1\r\nx\r\n", &[b"STORED\r\n"]);
        cache.mailbox.frames = Some(0);
        for id in 0..100 {
            cache.datagram(0, id, b"get k\r\nget k\r\n");
        }
        cache.run();
        // One place is for requests that do not stay.
        assert_eq!(cache.udp[0].pending(), 31);
        assert_eq!(cache.counted(|core| core.udp_table_full.value()), 69);
        cache.mailbox.frames = None;
        cache.tick(1);
        let answered = messages(&mut cache);
        assert_eq!((answered.len(), cache.udp[0].pending()), (62, 0));
        cache.mailbox.frames = Some(0);
        for id in 0..10 {
            cache.datagram(0, id, b"get k\r\nget k\r\n");
        }
        cache.tick(3);
        assert_eq!((cache.udp[0].pending(), cache.counted(|core| core.udp_overdue.value())), (0, 10));
        cache.mailbox.frames = None;
        check(&mut cache, b"get k\r\n", &[b"VALUE k 0 1\r\nx\r\nEND\r\n"]);
        cache.assert_nothing_held();
    }
}

#[test]
fn who_is_not_trusted_is_sent_at_most_three_times_what_he_sent() {
    const STRANGER: [u8; 4] = [192, 0, 2, 1];
    for cores in 1..=2 {
        let mut cache = cache(cores);
        cache.trust(&[Network::new([10, 0, 0, 0], 8).expect("a network")]);
        let values = [5, 60, 400, 1_300, 5_000, 100_000];
        let client = cache.connect(0);
        for (number, key) in keys().enumerate() {
            let length = values[number % values.len()];
            let value = vec![b'v'; length];
            cache.send(client, &[format!("set {key} 0 0 {length}\r\n").as_bytes(), &value, b"\r\n"].concat());
        }
        cache.run();
        let (mut answered, mut dropped) = (0, 0);
        for (round, (number, key)) in keys().enumerate().cycle().take(200).enumerate() {
            // Each in a second of its own: the reply must not exceed three times this very datagram.
            cache.tick(1);
            let request = format!("get {key}\r\n").into_bytes();
            let datagram = [&[0, 1, 0, 0, 0, 1, 0, 0][..], &request].concat();
            cache.datagram_from(0, STRANGER, 1, &datagram);
            cache.run();
            let sent: usize = std::mem::take(&mut cache.mailbox.sent).iter().map(|(_, sent)| sent.len()).sum();
            assert!(sent <= 3 * datagram.len(), "round {round}: {sent} bytes for {}", datagram.len());
            let expected = 8
                + format!("VALUE {key} 0 {0}\r\n", values[number % values.len()]).len()
                + values[number % values.len()]
                + 7;
            let whole = expected <= 3 * datagram.len();
            assert_eq!(sent, if whole { expected } else { 0 }, "whole or not at all");
            answered += u64::from(whole);
            dropped += u64::from(!whole);
        }
        assert!(answered > 20 && dropped > 20);
        assert_eq!(cache.counted(|core| core.udp_budget_drops.value()), dropped);
        // The stranger's budget grows by what the stranger has sent within the second, and not by what others have.
        let long = [&[0, 1, 0, 0, 0, 1, 0, 0][..], b"set s 0 0 1000 noreply\r\n", &[b's'; 1000], b"\r\n"].concat();
        cache.tick(1);
        cache.datagram_from(0, STRANGER, 1, &long);
        cache.datagram_from(0, STRANGER, 1, b"\0\x01\0\0\0\x01\0\0get s\r\n");
        cache.run();
        assert_eq!(std::mem::take(&mut cache.mailbox.sent).len(), 1);
        cache.datagram_from(0, [192, 0, 2, 2], 1, b"\0\x01\0\0\0\x01\0\0get s\r\n");
        cache.run();
        assert_eq!(cache.mailbox.sent.len(), 0);
        check(&mut cache, b"get s\r\n", &[&[b"VALUE s 0 1000\r\n", &[b's'; 1000][..], b"\r\nEND\r\n"].concat()]);
        cache.close(client);
        cache.run();
        cache.assert_nothing_held();
    }
}

/// A thousand lies about who asks, each answered in full by other servers.
#[test]
fn many_sources_cost_no_memory_and_get_no_more_than_their_own_datagrams_pay_for() {
    let mut cache = cache(2);
    cache.trust(&[]);
    cache.datagram_from(0, SENDER, 0, &[&b"\0\x01\0\0\0\x01\0\0set k 0 0 30\r\n"[..], &[b'k'; 30], b"\r\n"].concat());
    cache.run();
    cache.mailbox.sent.clear();
    let mut came = BTreeMap::<u32, usize>::new();
    for number in 0..50_000u32 {
        let peer = number % 10_000;
        let [_, b, c, d] = peer.to_be_bytes();
        let request =
            [&b"\0\x01\0\0\0\x01\0\0get k\r\n"[..], b"\0\x01\0\0\0\x01\0\0get k k k k k k\r\n"][number as usize % 2];
        *came.entry(peer).or_default() += request.len();
        cache.datagram_from(number as usize % 2, [198, b, c, d], peer, request);
        cache.run();
    }
    let mut went = BTreeMap::<u32, usize>::new();
    for (peer, datagram) in &cache.mailbox.sent {
        *went.entry(*peer).or_default() += datagram.len();
    }
    assert!(!went.is_empty() && went.iter().all(|(peer, bytes)| *bytes <= 3 * came[peer]));
    cache.assert_nothing_held();
}

#[test]
fn a_reply_waits_until_an_unanswered_command_of_its_datagram_is_done_on_its_core() {
    let key = keys_of(1, 2, 1).remove(0);
    let mut cache = cache(2);
    cache.datagram(0, 7, format!("set {key} 0 0 1 noreply\r\nx\r\nversion\r\n").as_bytes());
    for _ in 0..10 {
        cache.turn(0);
    }
    assert_eq!(messages(&mut cache), [b""; 0], "core 1 has not had a turn");
    cache.run();
    assert_eq!(messages(&mut cache), [b"VERSION 1.6.45-sidestep\r\n"]);
    check(&mut cache, format!("get {key}\r\n").as_bytes(), &[format!("VALUE {key} 0 1\r\nx\r\nEND\r\n").as_bytes()]);
    cache.assert_nothing_held();
}

/// Replies that were known at once were counted when they were written to the datagram and when it left.
#[test]
fn each_byte_of_a_datagram_is_counted_once() {
    let mut cache = cache(2);
    for request in [&b"set a 0 0 1\r\n1\r\n"[..], b"get a\r\n", b"mg a v\r\n", b"delete a\r\n", b"version\r\nmn\r\n"] {
        cache.datagram(0, 7, request);
        cache.run();
    }
    let sent: usize = cache.mailbox.sent.iter().map(|(_, datagram)| datagram.len()).sum();
    assert_eq!(cache.counted(|core| core.bytes_written.value()), sent as u64);
}
