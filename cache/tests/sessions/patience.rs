//! Patience: nobody's slowness is paid by others. Whoever does not read what it asked for, or does not finish a value,
//! holds entries, landing slots, pins and room for as long as it likes; whoever asks meanwhile is answered.

use sidestep_cache::{CacheConfig, ConnId, Core, Overdue, Session, Stop};

use crate::asking::{NO_MEMORY, RING, closed, config, deaf, drip, hit, set, store, value_of};
use crate::loopback::{Client, Loopback, Pace, keys_of};

/// Readers that take a ring each 15 seconds hold more than there are pins, copies and landing slots. They are never
/// named as silent, since a byte moved just now.
#[test]
fn readers_that_drip_hold_nothing_that_others_need() {
    // On their own core, and on another: few gets each on many connections, many on few.
    for (reader_core, readers, gets) in [(1, 160, 1), (0, 160, 1), (1, 12, 30), (0, 60, 30)] {
        let what = format!("{readers} readers on core {reader_core} with {gets} gets each");
        let mut loopback = Loopback::new(&config(2), Pace::Even, 1);
        let keys = keys_of(1, 2, 71);
        let setter = loopback.connect(0);
        store(&mut loopback, setter, &keys[..70], 300_000);
        store(&mut loopback, setter, &keys[70..], 20_000);
        let mut slow_keys = keys[..70].iter().cycle();
        let slow: Vec<Client> = (0..readers)
            .map(|_| {
                let request: String = slow_keys.by_ref().take(gets).map(|key| format!("get {key}\r\n")).collect();
                deaf(&mut loopback, reader_core, &request)
            })
            .collect();
        let honest = [loopback.connect(0), loopback.connect(1)];
        for _ in 0..20 {
            loopback.tick(15);
            drip(&mut loopback, reader_core, &slow);
            for client in honest {
                let answer = loopback.ask(client, format!("get {}\r\nget {}\r\n", keys[69], keys[70]));
                assert!(answer == hit(&keys[69], 300_000) + &hit(&keys[70], 20_000), "{what}: {:.50}", answer);
            }
        }
        assert_eq!(closed(&loopback, &slow), 0, "{what}: nobody needed the memory");
        if readers * gets > 200 {
            assert!(loopback.counted(|core| core.pins_short.value()) > 0, "{what}: pins were short");
        }
        // They are answered whole as soon as they read.
        slow.iter().for_each(|&client| loopback.set_reads(client, true));
        loopback.run();
        for &client in &slow {
            let ends = loopback.received(client).windows(7).filter(|&window| window == b"\r\nEND\r\n").count();
            assert_eq!(ends, gets, "{what}");
        }
        loopback.end();
    }
}

/// The first landing slot of each connection is its own, and a connection with many gets under way has a share of the
/// others. Before, 32 connections that did not read held all there were.
#[test]
fn landing_slots_are_shared_and_the_first_is_always_there() {
    let config = CacheConfig { landing_slots: 32, ..config(2) };
    let mut loopback = Loopback::new(&config, Pace::Even, 1);
    let keys = keys_of(1, 2, 40);
    let setter = loopback.connect(0);
    store(&mut loopback, setter, &keys, 9_000);
    let request: String = keys.iter().map(|key| format!("get {key}\r\n")).collect();
    let slow: Vec<Client> = (0..100).map(|_| deaf(&mut loopback, 0, &request)).collect();
    assert!(loopback.counted(|core| core.slots_short.value()) > 0, "the pool that is short has a name");
    let honest = loopback.connect(0);
    let whole: String = keys.iter().map(|key| hit(key, 9_000)).collect();
    assert!(loopback.ask(honest, request) == whole, "{:?}", loopback.census());
    assert_eq!(closed(&loopback, &slow), 0);
    loopback.end();
}

/// The same of entries.
#[test]
fn entries_are_shared_and_the_first_is_always_there() {
    for cores in [1, 2] {
        let config = CacheConfig { pending_per_core: 32, ..config(cores) };
        let mut loopback = Loopback::new(&config, Pace::Even, 1);
        let keys = keys_of(0, cores, 40);
        let setter = loopback.connect(0);
        store(&mut loopback, setter, &keys, 9_000);
        let request: String = keys.iter().map(|key| format!("get {key}\r\n")).collect();
        let slow: Vec<Client> = (0..100).map(|_| deaf(&mut loopback, 0, &request)).collect();
        assert!(loopback.counted(|core| core.entries_short.value()) > 0, "the pool that is short has a name");
        let honest = loopback.connect(0);
        let whole: String = keys.iter().map(|key| hit(key, 9_000)).collect();
        assert!(loopback.ask(honest, request) == whole, "{cores}: {:?}", loopback.census());
        assert_eq!(closed(&loopback, &slow), 0);
        loopback.end();
    }
}

/// Clients of another core that read nothing hold this core's pins by streams: who asks here is served, and so are the
/// gets that come from there.
#[test]
fn pins_held_for_readers_of_another_core_stop_nobody() {
    let mut config = CacheConfig { copied_bytes_max: 0, ..config(2) };
    config.shard.memory_bytes = 2 * (8 << 20);
    config.shard.item_size_max = 128 << 10;
    let mut loopback = Loopback::new(&config, Pace::Even, 0);
    let client = loopback.connect(0);
    let keys = keys_of(0, 2, 50);
    store(&mut loopback, client, &keys, 100_000);
    let slow: Vec<Client> =
        keys.chunks(4).map(|keys| deaf(&mut loopback, 1, &format!("get {}\r\n", keys.join(" ")))).collect();
    let all = |keys: &[String]| -> String {
        let items = keys.iter().map(|key| hit(key, 100_000).trim_end_matches("END\r\n").to_owned());
        items.collect::<String>() + "END\r\n"
    };
    for core in [0, 1] {
        let honest = loopback.connect(core);
        let answer = loopback.ask(honest, format!("get {}\r\n", keys.join(" ")));
        assert!(answer == all(&keys), "core {core}: {:?}", loopback.census());
    }
    assert!(loopback.cores[0].counters().pins_taken.value() > 0, "those who do not read lost theirs");
    // Nothing has taken the place of what they read: it is there still.
    slow.iter().for_each(|&client| loopback.set_reads(client, true));
    loopback.run();
    for (keys, &client) in keys.chunks(4).zip(&slow) {
        assert!(loopback.take_received(client) == all(keys).into_bytes());
    }
    loopback.end();
}

/// Where pins are short, values are copied up to a bound and not a byte beyond; and what was copied is given back.
#[test]
fn copies_made_for_those_who_do_not_read_stay_within_their_bound() {
    let keys: Vec<String> = keys_of(0, 1, 100).into_iter().filter(|key| key.len() == 5).collect();
    let bound = 2 * (100_000 + 5);
    for (more, copies) in [(0, 2), (100_004, 2), (100_005, 3)] {
        let mut config = CacheConfig { copied_bytes_max: bound + more, ..config(1) };
        config.shard.memory_bytes = 2 * (8 << 20);
        config.shard.item_size_max = 128 << 10;
        let mut loopback = Loopback::new(&config, Pace::Even, 0);
        let client = loopback.connect(0);
        store(&mut loopback, client, &keys, 100_000);
        for key in &keys {
            deaf(&mut loopback, 0, &format!("get {key}\r\n"));
            assert!(loopback.cores[0].census().copied_bytes <= bound + more, "{:?}", loopback.census());
        }
        let counters = loopback.cores[0].counters();
        assert_eq!(counters.copies.value(), copies, "{:?}", loopback.census());
        assert!(counters.pins_taken.value() > 0, "then those who do not read lost their pins");
        loopback.end();
    }
}

/// Who reads on keeps its pin when pins are short, who does not loses it: and its connection when the store, which goes
/// on, needs the room. Nobody is sent a torn value.
#[test]
fn a_reader_that_moves_keeps_its_pin_and_one_that_does_not_gives_way() {
    for reader_core in [0, 1] {
        let mut config = CacheConfig { copied_bytes_max: 0, ..config(2) };
        config.shard.memory_bytes = 2 * (8 << 20);
        config.shard.item_size_max = 1 << 20;
        let mut loopback = Loopback::new(&config, Pace::Even, 0);
        let client = loopback.connect(0);
        // Of 8 MiB in segments of 64 KiB half may be pinned: four values of 900,000 bytes.
        let keys = keys_of(0, 2, 5);
        store(&mut loopback, client, &keys, 900_000);
        let readers: Vec<Client> =
            keys[..4].iter().map(|key| deaf(&mut loopback, reader_core, &format!("get {key}\r\n"))).collect();
        assert_eq!(loopback.census()[0].pins, 4);
        let (moving, stuck) = readers.split_at(2);
        for _ in 0..10 {
            loopback.tick(1);
            for _ in 0..4 {
                drip(&mut loopback, reader_core, moving);
                loopback.run();
            }
        }
        // Two more come, one after the other: those who are stuck make room.
        let late = [deaf(&mut loopback, 0, &format!("get {}\r\n", keys[4]))];
        assert!(loopback.counted(|core| core.pins_taken.value()) > 0);
        // The keys go, and the store goes on: its whole memory is replaced, twice.
        for key in &keys {
            assert_eq!(loopback.ask(client, format!("delete {key}\r\n")), "DELETED\r\n");
        }
        for key in keys_of(0, 2, 2_000) {
            let name = format!("{key}:");
            loopback.ask(client, set(&name, 16_000));
        }
        readers.iter().chain(&late).for_each(|&client| loopback.set_reads(client, true));
        loopback.run();
        for (key, &client) in keys.iter().zip(moving) {
            assert!(loopback.take_received(client) == hit(key, 900_000).into_bytes(), "whole");
        }
        let (stuck_closed, moving_closed) = (closed(&loopback, stuck), closed(&loopback, moving));
        assert_eq!((stuck_closed, moving_closed), (1, 0), "core {reader_core}: {:?}", loopback.census());
        for (key, &client) in keys[2..].iter().zip(stuck) {
            let received = loopback.take_received(client);
            assert!(hit(key, 900_000).into_bytes().starts_with(&received), "never torn");
            let why = loopback.is_closed(client).then_some(Overdue::SlowReader);
            assert_eq!(loopback.overdue(client), why);
        }
        assert_eq!(stuck_closed as u64, loopback.counted(|core| core.slow_readers_closed.value()));
        loopback.end();
    }
}

/// Writers that send a byte each 15 seconds, whose values hold all the room that values on their way may have.
#[test]
fn writers_that_drip_give_their_room_to_others_and_keep_their_connections() {
    for writers in [16, 100] {
        for key_core in [0, 1] {
            let what = format!("{writers} writers of core 0 to core {key_core}");
            let mut loopback = Loopback::new(&config(2), Pace::Even, 1);
            let keys = keys_of(key_core, 2, writers + 60);
            let slow: Vec<Client> = keys[..writers]
                .iter()
                .map(|key| {
                    let client = loopback.connect_with(0, 4_096, RING);
                    loopback.send(client, format!("set {key} 0 0 500000\r\nx").as_bytes());
                    loopback.run();
                    client
                })
                .collect();
            loopback.tick(15);
            let honest = loopback.connect(0);
            for key in &keys[writers..] {
                slow.iter().for_each(|&client| loopback.send(client, b"x"));
                loopback.tick(15);
                assert_eq!(loopback.ask(honest, set(key, 400_000)), "STORED\r\n", "{what}");
            }
            assert_eq!(closed(&loopback, &slow), 0, "{what}");
            let dropped = loopback.counted(|core| core.uploads_dropped.value());
            assert_eq!(dropped > 0, writers == 100, "{what}: {dropped} gave way");
            // Those who gave way are told so at the end of their value, and go on.
            for (key, &client) in keys.iter().zip(&slow) {
                let answer = loopback.ask(client, format!("{}\r\nget none\r\n", "x".repeat(500_000 - 61)));
                let (first, rest) = answer.split_once('\n').expect("an answer");
                assert!(
                    matches!(first, "STORED\r" | "SERVER_ERROR out of memory storing object\r"),
                    "{what}: {answer}"
                );
                assert_eq!(rest, "END\r\n", "{what}: {key}");
            }
            loopback.end();
        }
    }
}

/// A value that keeps coming keeps its room, on its own core as from another, however many wait for room: only the one
/// that drips beside it gives way.
#[test]
fn a_writer_that_moves_keeps_its_room_and_one_that_drips_gives_way() {
    for key_core in [0, 1] {
        let mut config = config(2);
        config.shard.memory_bytes = 2 * (8 << 20);
        let mut loopback = Loopback::new(&config, Pace::Even, 1);
        let keys = keys_of(key_core, 2, 12);
        let begin = |loopback: &mut Loopback, key: &str| {
            let client = loopback.connect_with(0, 4_096, RING);
            loopback.send(client, format!("set {key} 0 0 1000000\r\n").as_bytes());
            loopback.run();
            client
        };
        // Three quarters of 8 MiB: six values of a megabyte.
        let movers: Vec<Client> = keys[..3].iter().map(|key| begin(&mut loopback, key)).collect();
        let drippers: Vec<Client> = keys[3..6].iter().map(|key| begin(&mut loopback, key)).collect();
        for _ in 0..30 {
            loopback.tick(1);
            movers.iter().for_each(|&client| loopback.send(client, &[b'v'; 20_000]));
            drippers.iter().for_each(|&client| loopback.send(client, b"v"));
            loopback.run();
        }
        let late: Vec<Client> = keys[6..9].iter().map(|key| begin(&mut loopback, key)).collect();
        loopback.tick(1);
        for client in &late {
            loopback.send(*client, &[b'v'; 1_000_000]);
            loopback.send(*client, b"\r\n");
        }
        loopback.run();
        let told = |loopback: &mut Loopback, clients: &[Client]| -> Vec<String> {
            clients.iter().map(|&it| String::from_utf8_lossy(&loopback.take_received(it)).into_owned()).collect()
        };
        assert_eq!(told(&mut loopback, &late), ["STORED\r\n"; 3], "core {key_core}");
        for client in &movers {
            loopback.send(*client, &[b'v'; 400_000]);
            loopback.send(*client, b"\r\n");
        }
        for client in &drippers {
            loopback.send(*client, &[b'v'; 999_970]);
            loopback.send(*client, b"\r\n");
        }
        loopback.run();
        assert_eq!(told(&mut loopback, &movers), ["STORED\r\n"; 3], "core {key_core}: who moves keeps its room");
        assert_eq!(told(&mut loopback, &drippers), [NO_MEMORY; 3], "core {key_core}: who drips gives way");
        assert_eq!(loopback.counted(|core| core.uploads_dropped.value()), 3);
        assert!(loopback.counted(|core| core.uploads_short.value()) > 0, "the pool that is short has a name");
        loopback.end();
    }
}

/// Where room for values on their way is short and readers hold it, those who are slow lose their pins and nobody else.
/// Before, one was found slow and the next one in the list lost its pin.
#[test]
fn room_for_a_value_is_taken_from_slow_readers_and_from_no_others() {
    for slow_first in [true, false] {
        let mut config = CacheConfig { copied_bytes_max: 0, ..config(1) };
        config.shard.memory_bytes = 8 << 20;
        let mut loopback = Loopback::new(&config, Pace::Even, 1);
        let client = loopback.connect(0);
        // Half of 8 MiB in segments of 64 KiB may be pinned, three quarters with the values on their way: 32 values of
        // two segments, two of sixteen.
        let keys = keys_of(0, 1, 35);
        let (read, sent) = keys.split_at(32);
        store(&mut loopback, client, read, 128_000);
        let readers: Vec<Client> = read.iter().map(|key| deaf(&mut loopback, 0, &format!("get {key}\r\n"))).collect();
        assert_eq!(loopback.census()[0].pins, 32);
        let is_fast = |at: usize| (at < 16) != slow_first;
        let fast: Vec<Client> = (0..32).filter(|&at| is_fast(at)).map(|at| readers[at]).collect();
        for _ in 0..3 {
            loopback.tick(1);
            (0..3).for_each(|_| drip(&mut loopback, 0, &fast));
        }
        for key in sent {
            let sender = loopback.connect(0);
            assert_eq!(loopback.ask(sender, format!("set {key} 0 0 1000000\r\nx")), "");
        }
        let taken = loopback.counted(|core| core.pins_taken.value());
        assert!((8..=16).contains(&taken) && loopback.counted(|core| core.uploads_dropped.value()) == 0, "{taken}");
        // The keys go, and others come in their place.
        for key in read {
            assert_eq!(loopback.ask(client, format!("delete {key}\r\n")), "DELETED\r\n");
        }
        for key in keys_of(0, 1, 500) {
            loopback.ask(client, set(&format!("{key}:"), 16_000));
        }
        readers.iter().for_each(|&client| loopback.set_reads(client, true));
        loopback.run();
        for at in (0..32).filter(|&at| is_fast(at)) {
            assert!(
                loopback.take_received(readers[at]) == hit(&read[at], 128_000).into_bytes(),
                "reader {at} reads on"
            );
        }
        loopback.end();
    }
}

/// What is there is found, whoever holds what: before, a get of another core's item was answered END where nothing more
/// could be held, and counted as a hit.
#[test]
fn an_item_that_is_there_is_never_called_missing() {
    let mut config = CacheConfig { copied_bytes_max: 0, ..config(2) };
    config.shard.memory_bytes = 2 * (8 << 20);
    let mut loopback = Loopback::new(&config, Pace::Even, 1);
    let keys = keys_of(0, 2, 30);
    let setter = loopback.connect(0);
    store(&mut loopback, setter, &keys, 150_000);
    let gets = |keys: &[String]| keys.iter().map(|key| format!("get {key}\r\n")).collect::<String>();
    let slow: Vec<Client> = (0..60).map(|at| deaf(&mut loopback, at % 2, &gets(&keys))).collect();
    let meta: String = keys.iter().map(|key| format!("mg {key} v\r\n")).collect();
    for core in [0, 1] {
        let honest = loopback.connect(core);
        let hits: String = keys.iter().map(|key| hit(key, 150_000)).collect();
        assert!(loopback.ask(honest, gets(&keys)) == hits, "core {core}");
        let values: String = keys.iter().map(|key| format!("VA 150000\r\n{}\r\n", value_of(key, 150_000))).collect();
        assert!(loopback.ask(honest, &meta) == values, "core {core}");
    }
    assert!(loopback.counted(|core| core.pins_taken.value()) > 0 && closed(&loopback, &slow) == 0);
    loopback.end();
}

/// What `stats` counts of fetches.
fn fetches(loopback: &mut Loopback) -> Vec<u64> {
    let client = loopback.connect(0);
    let stats = loopback.ask(client, "stats\r\n");
    loopback.close(client);
    let names = ["cmd_get", "get_hits", "get_misses", "cmd_touch", "touch_hits", "touch_misses"];
    let value = |name: &str| stats.split_once(&format!("STAT {name} ")).and_then(|(_, rest)| rest.split_once("\r\n"));
    names.iter().map(|name| value(name).and_then(|(value, _)| value.parse().ok()).expect("a count")).collect()
}

type Request<'a> = &'a dyn Fn(&str) -> Vec<u8>;

/// Fetches of all keys over UDP, by a core that has no frame for answers until all have come if `slow`.
fn fetch_by_datagrams(loopback: &mut Loopback, core: usize, keys: &[String], request: Request<'_>, slow: bool) {
    loopback.mailbox.frames = slow.then_some(0);
    for (id, key) in keys.iter().enumerate() {
        loopback.datagram(core, id as u16, &request(key));
        loopback.run();
    }
    loopback.mailbox.frames = None;
    loopback.run();
    let last = |sent: &&(u32, Vec<u8>)| sent.1[2..4] == [0, 0];
    assert_eq!(loopback.mailbox.sent.iter().filter(last).count(), 100, "all are answered");
    loopback.mailbox.sent.clear();
}

/// Fetches of all keys, each by a connection of its own, which reads only when all have come if `slow`.
fn fetch_by_connections(loopback: &mut Loopback, core: usize, keys: &[String], request: Request<'_>, slow: bool) {
    let readers: Vec<Client> = keys.iter().map(|_| loopback.connect_with(core, 65_535, 1_000)).collect();
    for (key, &reader) in keys.iter().zip(&readers) {
        loopback.set_reads(reader, !slow);
        loopback.send(reader, &request(key));
        loopback.run();
    }
    readers.iter().for_each(|&reader| loopback.set_reads(reader, true));
    loopback.run();
    assert!(readers.iter().all(|&reader| loopback.received(reader).len() > 100_000), "all are answered");
    readers.iter().for_each(|&reader| loopback.close(reader));
}

/// A fetch whose value has to be held while none can be is counted and touches its item as often as one that is read at
/// once, by every road. Before, whoever waited for a pin was executed twice.
#[test]
fn a_fetch_for_which_pins_are_short_is_counted_once() {
    let packet = |opcode: u8, extras: &[u8], key: &str| {
        let lengths = [0, key.len() as u8, extras.len() as u8, 0, 0, 0, 0, 0, 0, (extras.len() + key.len()) as u8];
        [&[0x80, opcode][..], &lengths, &[0; 12], extras, key.as_bytes()].concat()
    };
    let roads: [(&str, Request<'_>); 7] = [
        ("get", &|key| format!("get {key}\r\n").into_bytes()),
        ("gat", &|key| format!("gat 100 {key}\r\n").into_bytes()),
        ("mg", &|key| format!("mg {key} v\r\n").into_bytes()),
        ("mg and touch", &|key| format!("mg {key} v T100\r\n").into_bytes()),
        ("packet", &|key| packet(0x00, &[], key)),
        ("gat packet", &|key| packet(0x1d, &[0, 0, 0, 100], key)),
        ("quiet gat packet", &|key| packet(0x1e, &[0, 0, 0, 100], key)),
    ];
    for cores in [1, 2] {
        let mut config = CacheConfig { copied_bytes_max: 0, datagram_places: 128, ..config(cores) };
        config.shard.memory_bytes = cores * (16 << 20);
        for (road, request) in roads {
            for udp in [false, true] {
                let what = format!("{road}, {cores} cores, UDP: {udp}");
                println!("{what}");
                let mut loopback = Loopback::new(&config, Pace::Even, 1);
                let keys = keys_of(0, cores, 100);
                let setter = loopback.connect(0);
                store(&mut loopback, setter, &keys, 100_000);
                // Each is fetched once and read at once; then by those who do not read, together.
                let mut counts = Vec::new();
                for slow in [false, true] {
                    let before = fetches(&mut loopback);
                    let fetch = if udp { fetch_by_datagrams } else { fetch_by_connections };
                    fetch(&mut loopback, cores - 1, &keys, request, slow);
                    let after = fetches(&mut loopback);
                    counts.push(after.iter().zip(before).map(|(after, before)| after - before).collect::<Vec<u64>>());
                }
                assert!(loopback.cores[0].counters().pins_taken.value() > 0, "{what}: pins were short");
                assert!(counts[0].iter().sum::<u64>() >= 200 && counts[0] == counts[1], "{what}: {counts:?}");
                loopback.end();
            }
        }
    }
}

/// Who has waited for an entry and is named as the next has it, whoever comes between that and its try.
#[test]
fn what_is_promised_to_a_connection_that_was_woken_goes_to_no_other() {
    let mut config = CacheConfig { connections_per_core: 4, pending_per_core: 2, ..config(2) };
    config.shard.memory_bytes = 16 << 20;
    let mut loopback = Loopback::new(&config, Pace::Even, 1);
    let get = format!("get {}\r\n", keys_of(1, 2, 1)[0]).into_bytes();
    let now = loopback.now;
    let [zero, one] = &mut loopback.cores[..] else { panic!("two cores") };
    let take = |core: &mut Core, session: &mut Session| session.take(core, &get, &mut [0; 8192], now);
    // Connections that ask another core and die leave an entry each until it has answered: one has, five have not.
    for number in 0..6 {
        let mut session = Session::new(ConnId(0));
        assert_eq!(take(zero, &mut session).consumed, get.len(), "entry {number} of six");
        session.end(zero);
        if number == 0 {
            zero.post();
            one.collect(now);
            one.post();
        }
    }
    let [mut patient, mut hasty] = [1, 2].map(|conn| Session::new(ConnId(conn)));
    assert_eq!(take(zero, &mut patient).stop, Stop::Waiting);
    zero.collect(now);
    assert_eq!(zero.next_resumable(), Some(ConnId(1)), "there is one entry, and it has waited");
    assert_eq!((take(zero, &mut hasty).consumed, take(zero, &mut patient).consumed), (0, get.len()));
    for session in [patient, hasty] {
        session.end(zero);
    }
    loopback.end();
}
