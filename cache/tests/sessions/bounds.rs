//! Large, long and unfriendly: everything is answered or bounded, and the other clients are served meanwhile.

use sidestep_cache::CacheConfig;

use crate::loopback::{Client, Loopback, Pace, keys_of};

/// `count` items `key0`, `key1`, ... of `bytes` bytes each.
fn store_items(loopback: &mut Loopback, client: Client, count: usize, bytes: usize) {
    for number in 0..count {
        let value = "v".repeat(bytes);
        loopback.send(client, format!("set key{number} {number} 0 {bytes} noreply\r\n{value}\r\n").as_bytes());
    }
    loopback.run();
    assert_eq!(loopback.unread(client), 0);
}

#[test]
fn a_get_of_ten_thousand_keys_gathers_in_order() {
    for (cores, pace) in [(1, Pace::Even), (2, Pace::Even), (4, Pace::Seeded)] {
        let config = CacheConfig { cores, ..CacheConfig::default() };
        let mut loopback = Loopback::new(&config, pace, 7);
        let client = loopback.connect(0);
        store_items(&mut loopback, client, 10_000, 3);
        let keys: String = (0..10_000).map(|number| format!(" key{number}")).collect();
        let mut expected: String = (0..10_000).map(|n| format!("VALUE key{n} {n} 3\r\nvvv\r\n")).collect();
        expected.push_str("END\r\n");
        assert!(loopback.ask(client, format!("get{keys}\r\n")) == expected, "{cores} cores");
        loopback.end();
    }
}

#[test]
fn a_megabyte_goes_each_way_through_small_rings() {
    for cores in [1, 2, 4] {
        let config = CacheConfig { cores, ..CacheConfig::default() };
        let mut loopback = Loopback::new(&config, Pace::Seeded, cores as u64);
        let client = loopback.connect(0);
        let value: String = (0..1_000_000).map(|at| char::from(b'a' + (at % 1009 * (at % 7) % 23) as u8)).collect();
        // Several keys, so that every core owns one.
        for key in 0..4 {
            loopback.send(client, format!("set big{key} 0 0 1000000\r\n{value}\r\nget big{key}\r\n").as_bytes());
        }
        loopback.run();
        let expected: String =
            (0..4).map(|key| format!("STORED\r\nVALUE big{key} 0 1000000\r\n{value}\r\nEND\r\n")).collect();
        assert!(loopback.take_received(client) == expected.into_bytes(), "{cores} cores");
        loopback.end();
    }
}

#[test]
fn a_flood_of_noreply_is_executed_whole_and_owes_nothing() {
    let config = CacheConfig { cores: 4, blocks_per_pair: 2, ..CacheConfig::default() };
    let mut loopback = Loopback::new(&config, Pace::Seeded, 3);
    let client = loopback.connect(1);
    let mut flood = String::from("set n 0 0 1\r\n0\r\n");
    for number in 0..20_000 {
        flood += &format!("incr n 1 noreply\r\nset k{} 0 0 1 noreply\r\nx\r\ndelete none noreply\r\n", number % 100);
    }
    loopback.send(client, flood.as_bytes());
    loopback.run();
    assert_eq!(loopback.take_received(client), b"STORED\r\n");
    assert_eq!(loopback.ask(client, "incr n 0\r\n"), "20000\r\n");
    assert_eq!(loopback.ask(client, "get k0 k99\r\n"), "VALUE k0 0 1\r\nx\r\nVALUE k99 0 1\r\nx\r\nEND\r\n");
    loopback.end();
}

#[test]
fn a_reader_that_never_reads_holds_a_bounded_amount_and_others_are_served() {
    for cores in [1, 2] {
        let config = CacheConfig { cores, ..CacheConfig::default() };
        let mut loopback = Loopback::new(&config, Pace::Even, 0);
        let (writer, deaf) = (loopback.connect(0), loopback.connect(0));
        store_items(&mut loopback, writer, 40, 50_000);
        loopback.set_reads(deaf, false);
        for number in 0..2000 {
            loopback.send(deaf, format!("get key{}\r\n", number % 40).as_bytes());
        }
        loopback.run();
        let before = loopback.unread(deaf);
        assert!(before > 20_000, "reading went on: {before} bytes unread");
        for census in loopback.census() {
            assert!(census.entries <= 32 && census.pins <= 32 + 16 && census.landing_slots <= 16, "{census:?}");
        }
        for _ in 0..60 {
            loopback.tick(1);
            assert!(loopback.ask(writer, "get key1\r\n").ends_with("v\r\nEND\r\n"));
        }
        assert_eq!((loopback.unread(deaf), loopback.is_closed(deaf)), (before, false), "nobody waits for it");
        loopback.set_reads(deaf, true);
        loopback.run();
        let received = loopback.take_received(deaf);
        assert_eq!(received.windows(5).filter(|window| window == b"END\r\n").count(), 2000);
        loopback.end();
    }
}

/// Old or new, never torn: its bytes are pinned when the reply begins, whatever becomes of the key and of the segment.
#[test]
fn a_megabyte_read_slowly_while_its_key_is_overwritten_evicted_and_merged_arrives_whole() {
    // As a run of short segments; and in a long segment, with other items.
    for segment_bytes in [64 << 10, 1 << 20] {
        // Of the reader's own core, and of another.
        for (cores, owner) in [(1, 0), (2, 0), (2, 1)] {
            for overwritten in [false, true] {
                read_a_megabyte_slowly(segment_bytes, cores, owner, overwritten);
            }
        }
    }
}

fn read_a_megabyte_slowly(segment_bytes: usize, cores: usize, owner: usize, overwritten: bool) {
    let case = format!("segments of {segment_bytes} B, owner {owner} of {cores} cores, overwritten: {overwritten}");
    let mut config = CacheConfig { cores, ..CacheConfig::default() };
    config.shard.memory_bytes = cores * (16 << 20);
    config.shard.segment_bytes = segment_bytes;
    let mut loopback = Loopback::new(&config, Pace::Even, 3);
    let (writer, slow) = (loopback.connect(0), loopback.connect(0));
    let key = keys_of(owner, cores, 1).remove(0);
    let value = |seed: usize| -> String {
        (0..1_000_000).map(|at| char::from(b'a' + ((at + seed) % 1009 * (at % 7) % 23) as u8)).collect()
    };
    let (old, new) = (value(0), value(500));
    assert_eq!(loopback.ask(writer, format!("set {key} 0 0 1000000\r\n{old}\r\n")), "STORED\r\n", "{case}");
    loopback.set_reads(slow, false);
    loopback.send(slow, format!("get {key}\r\n").as_bytes());
    loopback.run();
    assert_eq!(loopback.census()[owner].pins, 1, "{case}: the reply has begun");
    if overwritten {
        assert_eq!(loopback.ask(writer, format!("set {key} 0 0 1000000\r\n{new}\r\n")), "STORED\r\n", "{case}");
    }
    // Four times the memory: a third in items that are asked for and so are kept by merging.
    let done = |loopback: &Loopback| {
        let stats = loopback.cores[owner].shard().stats();
        (stats.evictions.value(), stats.merged.value())
    };
    let before = done(&loopback);
    for number in 0..70_000 * cores {
        let body = "v".repeat(900 + number % 90);
        let often = number % 3 == 0;
        let name = if often { format!("often{number}") } else { format!("once{number}") };
        loopback.send(writer, format!("set {name} 0 0 {} noreply\r\n{body}\r\n", body.len()).as_bytes());
        if often {
            loopback.send(writer, format!("touch {name} 0\r\nget {name}\r\n").as_bytes());
        }
        if number % 500 == 0 {
            loopback.run();
            loopback.take_received(writer);
        }
    }
    loopback.run();
    loopback.take_received(writer);
    let after = done(&loopback);
    let (evicted, merged) = (after.0 - before.0, after.1 - before.1);
    assert!(evicted > 10_000 && merged > 1_000, "{case}: {evicted} evicted, {merged} merged");
    if overwritten {
        assert!(loopback.ask(writer, format!("get {key}\r\n")) == "END\r\n", "{case}: the new value is evicted");
    }
    loopback.set_reads(slow, true);
    loopback.run();
    let expected = format!("VALUE {key} 0 1000000\r\n{old}\r\nEND\r\n");
    assert!(loopback.take_received(slow) == expected.into_bytes(), "{case}: the old value, whole");
    loopback.end();
}

#[test]
fn flush_all_is_a_barrier_on_every_core() {
    for seed in 0..30 {
        let cores = 2 + (seed % 3) as usize;
        let config = CacheConfig { cores, blocks_per_pair: 1, ..CacheConfig::default() };
        let mut loopback = Loopback::new(&config, Pace::Seeded, seed);
        let client = loopback.connect(0);
        let busy = loopback.connect(1);
        loopback.send(busy, "set other 0 0 1\r\nx\r\n".repeat(200).as_bytes());
        let keys: String = (0..50).map(|number| format!(" key{number}")).collect();
        let mut expected = String::new();
        let mut said = String::new();
        for round in 0..3 {
            for number in 0..50 {
                said += &format!("set key{number} 0 0 1\r\n{round}\r\n");
                expected += "STORED\r\n";
            }
            said += if round == 1 { "flush_all noreply\r\n" } else { "flush_all\r\n" };
            expected += if round == 1 { "" } else { "OK\r\n" };
            said += &format!("get{keys}\r\nset key{round} 0 0 2\r\nok\r\nget{keys}\r\n");
            expected += &format!("END\r\nSTORED\r\nVALUE key{round} 0 2\r\nok\r\nEND\r\n");
        }
        loopback.send(client, said.as_bytes());
        loopback.run();
        assert_eq!(String::from_utf8_lossy(loopback.received(client)), expected, "seed {seed}");
        let stats = loopback.ask(busy, "stats\r\n");
        assert!(stats.contains("STAT cmd_flush 3\r\n"), "seed {seed}: {stats}");
        loopback.end();
    }
}

#[test]
fn stats_count_every_core_and_begin_anew_at_a_reset() {
    let config = CacheConfig { cores: 3, ..CacheConfig::default() };
    let mut loopback = Loopback::new(&config, Pace::Even, 0);
    let client = loopback.connect(0);
    store_items(&mut loopback, client, 30, 10);
    let keys: String = (0..40).map(|number| format!(" key{number}")).collect();
    loopback.ask(client, format!("get{keys}\r\n"));
    let stats = loopback.ask(client, "stats\r\n");
    for line in ["cmd_get 40", "get_hits 30", "get_misses 10", "cmd_set 30", "curr_items 30", "total_items 30"] {
        assert!(stats.contains(&format!("STAT {line}\r\n")), "{line} is not in {stats}");
    }
    assert!(stats.contains("STAT version 1.6.45-sidestep\r\n") && stats.ends_with("END\r\n"));
    assert_eq!(loopback.ask(client, "stats reset\r\n"), "RESET\r\n");
    let stats = loopback.ask(client, "stats\r\n");
    for line in ["cmd_get 0", "get_hits 0", "curr_items 30", "total_items 0"] {
        assert!(stats.contains(&format!("STAT {line}\r\n")), "{line} is not in {stats}");
    }
    let own = loopback.ask(client, "stats sidestep\r\n");
    assert!(own.contains("STAT requests ") && own.contains("STAT core:2:curr_items "), "{own}");
    let slabs = loopback.ask(client, "stats slabs\r\n");
    assert!(slabs.contains("STAT active_slabs 1\r\n"), "{slabs}");
    assert!(loopback.ask(client, "stats items\r\n").contains(":number 30\r\n"));
    assert!(loopback.ask(client, "stats settings\r\n").contains("STAT num_threads 3\r\n"));
}

/// A client that dies in the middle of a command ends with its connection: FIN is all the server ever hears of it.
#[test]
fn what_a_client_began_and_never_finishes_ends_with_its_direction() {
    let value = "v".repeat(3_000);
    for (cores, pace) in [(1, Pace::Even), (2, Pace::Even), (4, Pace::Seeded), (2, Pace::ByteByByte)] {
        let config = CacheConfig { cores, ..CacheConfig::default() };
        let mut loopback = Loopback::new(&config, pace, 11);
        // Several keys, so that every core owns one.
        for key in 0..8 {
            for begun in [
                format!("set big{key} 0 0 100000\r\n{value}"),
                format!("set big{key} 0 0 100000 noreply\r\n{value}"),
                format!("set big{key} 0 0 3000\r\n{value}\r"),
                format!("set big{key} 0 0 4000000\r\n{value}"),
                format!("set small{key} 0 0 10\r\n12345"),
                format!("get small{key} sm"),
                String::new(),
            ] {
                let client = loopback.connect(key % cores);
                loopback.send(client, format!("get none{key}\r\nincr none{key} 1\r\n{begun}").as_bytes());
                loopback.shut_down(client);
                loopback.run();
                assert!(loopback.is_closed(client), "{cores} cores, after {:?}", begun.get(..30));
                assert_eq!(loopback.take_received(client), b"END\r\nNOT_FOUND\r\n");
                loopback.assert_nothing_held();
            }
        }
    }
}
