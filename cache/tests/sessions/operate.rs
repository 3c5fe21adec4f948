//! What those who run a server see: dumps, watchers, the list of connections, names and passwords, on one to three
//! cores.

use std::collections::BTreeSet;

use differential::packet::Packet;
use sidestep_cache::{CacheConfig, CloseReason, Commands, ConnId, Stopping, User, WATCHERS_MAX};

use crate::loopback::{Client, Loopback, Pace};

fn config(cores: usize) -> CacheConfig {
    let mut config = CacheConfig { cores, connections_per_core: 32, ..CacheConfig::default() };
    config.shard.memory_bytes = cores * (8 << 20);
    config
}

/// Every number of cores, and of those every core that a client may be on.
fn everywhere(config: impl Fn(usize) -> CacheConfig, mut test: impl FnMut(Loopback, usize)) {
    for cores in 1..=3 {
        for core in 0..cores {
            test(Loopback::new(&config(cores), Pace::Even, 0), core);
        }
    }
}

/// The lines of a dump, between what memcached says before them and the end.
#[track_caller]
fn told<'a>(dump: &'a str, end: &str) -> &'a str {
    dump.strip_prefix("OK\r\n").expect("the right to dump").strip_suffix(end).expect("an end")
}

#[test]
fn crawls_and_dumps_that_begin_are_counted_and_refused_ones_are_not() {
    everywhere(config, |mut server, core| {
        let client = server.connect(core);
        for line in
            ["crawl all", "crawl 1,2", "metadump all", "mgdump hash", "crawl 0", "crawl x", "metadump x", "tocrawl 1"]
        {
            server.ask(client, format!("lru_crawler {line}\r\n"));
        }
        let stats = server.ask(client, "stats\r\n");
        assert!(stats.contains("STAT lru_crawler_starts 4\r\n"), "{stats}");
        server.end();
    });
}

#[test]
fn a_dump_shows_every_item_once_and_no_expired_one() {
    everywhere(config, |mut server, core| {
        let client = server.connect(core);
        let keys: BTreeSet<String> = (0..3_000).map(|n| format!("key-{n}")).collect();
        for key in &keys {
            server.send(client, format!("set {key} 7 0 3 noreply\r\nabc\r\n").as_bytes());
        }
        assert_eq!(server.ask(client, "set gone 0 1 1\r\nx\r\n"), "STORED\r\n");
        server.tick(2);
        let dump = server.ask(client, "lru_crawler metadump all\r\n");
        let lines: Vec<&str> = told(&dump, "END\r\n").lines().collect();
        let shown: BTreeSet<String> =
            lines.iter().filter_map(|line| Some(line.strip_prefix("key=")?.split(' ').next()?.to_owned())).collect();
        assert_eq!(lines.len(), keys.len());
        assert!(lines.iter().all(|line| line.ends_with(" flags=7 ")), "as 1.6.45, with a blank at the end");
        assert_eq!(shown, keys);
        let dump = server.ask(client, "lru_crawler mgdump hash\r\n");
        let shown: BTreeSet<String> =
            told(&dump, "EN\r\n").lines().filter_map(|line| Some(line.strip_prefix("mg ")?.to_owned())).collect();
        assert_eq!(shown, keys);
        // Keys of five to eight bytes with flags: classes 1 and 2 of memcached's hold nothing else.
        let all = server.ask(client, "stats cachedump 1 0\r\n");
        assert_eq!(all.lines().filter(|line| line.starts_with("ITEM key-")).count(), 3_000);
        let some = server.ask(client, "stats cachedump 1 10\r\n");
        assert_eq!((some.lines().count(), some.ends_with("END\r\n")), (11, true));
        server.end();
    });
}

#[test]
fn a_dump_survives_growth_and_a_slow_reader_and_only_one_runs_at_a_time() {
    for cores in 1..=3 {
        let mut server = Loopback::new(&config(cores), Pace::Seeded, 0xd0_0d + cores as u64);
        let (reader, writer) = (server.connect(0), server.connect(cores - 1));
        let keys: BTreeSet<String> = (0..2_000).map(|n| format!("stays-{n}")).collect();
        for key in &keys {
            server.send(writer, format!("set {key} 0 0 1 noreply\r\nx\r\n").as_bytes());
        }
        server.run();
        server.set_reads(reader, false);
        server.send(reader, b"lru_crawler metadump all\r\n");
        server.run();
        assert_eq!(server.ask(writer, "lru_crawler metadump all\r\n"), "BUSY currently processing crawler request\r\n");
        for n in 0..20_000 {
            server.send(writer, format!("set more-{n} 0 0 1 noreply\r\nx\r\n").as_bytes());
        }
        server.run();
        server.set_reads(reader, true);
        server.run();
        let dump = String::from_utf8(server.take_received(reader)).expect("text");
        let mut seen = BTreeSet::new();
        for key in dump.lines().filter_map(|line| line.strip_prefix("key=")?.split(' ').next()) {
            if key.starts_with("stays-") {
                assert!(seen.insert(key.to_owned()), "{key} twice");
            }
        }
        assert_eq!(seen, keys);
        // One that dies in the middle gives the right to dump back.
        server.set_reads(reader, false);
        server.send(reader, b"lru_crawler metadump all\r\n");
        server.run();
        server.close(reader);
        server.run();
        assert!(server.ask(writer, "lru_crawler mgdump all\r\n").ends_with("EN\r\n"));
        server.end();
    }
}

/// Before, one client that did not read kept everybody from a dump for as long as it liked.
#[test]
fn a_dump_that_is_not_read_keeps_nobody_from_another() {
    for cores in 1..=2 {
        let mut server = Loopback::new(&config(cores), Pace::Even, 1);
        let (deaf, reader) = (server.connect_with(0, 4_096, 8_192), server.connect(cores - 1));
        for n in 0..2_000 {
            server.send(reader, format!("set key-{n} 0 0 1 noreply\r\nx\r\n").as_bytes());
        }
        server.run();
        server.set_reads(deaf, false);
        server.send(deaf, b"lru_crawler metadump all\r\n");
        server.run();
        let busy = "BUSY currently processing crawler request\r\n";
        assert_eq!(server.ask(reader, "lru_crawler metadump all\r\n"), busy);
        server.tick(60);
        let whole = |dump: &str| dump.lines().filter(|line| line.starts_with("key=")).count() == 2_000;
        for _ in 0..2 {
            assert!(whole(&server.ask(reader, "lru_crawler metadump all\r\n")), "{cores} cores");
        }
        // It goes on where it was, without the right, and takes it from nobody when it ends.
        let other = server.connect_with(0, 4_096, 8_192);
        server.set_reads(other, false);
        server.send(other, b"lru_crawler metadump all\r\n");
        server.run();
        server.set_reads(deaf, true);
        server.run();
        assert!(whole(&String::from_utf8_lossy(&server.take_received(deaf))), "{cores} cores");
        assert_eq!(server.ask(reader, "lru_crawler metadump all\r\n"), busy);
        server.end();
    }
}

/// A core takes one step a turn, for its own connections or for other cores; who finds it taken comes again.
#[test]
fn dumps_that_meet_on_a_core_all_come_to_their_end() {
    for seed in 0..12 {
        let mut server = Loopback::new(&config(2), Pace::Seeded, seed);
        let clients: Vec<Client> = (0..6).map(|number| server.connect(number % 2)).collect();
        for &client in &clients {
            server.send(client, "stats cachedump 1 0\r\n".repeat(20).as_bytes());
        }
        server.run();
        for &client in &clients {
            let ended = server.take_received(client) == "END\r\n".repeat(20).as_bytes();
            assert!(ended && server.unread(client) == 0, "seed {seed}: {} bytes are unread", server.unread(client));
        }
        server.end();
    }
}

#[test]
fn a_watcher_sees_what_others_do_on_every_core() {
    everywhere(config, |mut server, core| {
        let watcher = server.connect(core);
        assert_eq!(server.ask(watcher, "watch fetchers mutations deletions\r\n"), "OK\r\n");
        let client = server.connect(0);
        server.send(
            client,
            b"set foo 0 90 5\r\nhello\r\nget foo\r\nget nope\r\nappend foo 0 90 3\r\nyou\r\ndelete foo\r\n",
        );
        server.run();
        let text = String::from_utf8(server.take_received(watcher)).expect("text");
        let cfd = text.lines().next().and_then(|line| line.split("cfd=").nth(1)?.split(' ').next()).expect("a number");
        let kinds: BTreeSet<String> =
            text.lines().map(|line| line.split_once(" type=").expect("a type").1.to_owned()).collect();
        let expected = [
            format!("item_get key=foo status=not_found clsid=0 cfd={cfd} size=0"),
            format!("item_store key=foo status=stored cmd=set ttl=90 clsid=1 cfd={cfd} size=5"),
            format!("item_get key=foo status=found clsid=1 cfd={cfd} size=5"),
            format!("item_get key=nope status=not_found clsid=0 cfd={cfd} size=0"),
            format!("item_store key=foo status=stored cmd=append ttl=90 clsid=1 cfd={cfd} size=8"),
            format!("item_get key=foo status=found clsid=1 cfd={cfd} size=8"),
            "deleted key=foo cmd=delete clsid=1 size=8".to_owned(),
        ];
        assert_eq!(kinds, expected.into_iter().collect());
        assert!(text.lines().all(|line| line.starts_with("ts=1700000100.0 gid=")), "{text}");
        // It is heard no more, and leaves by closing.
        assert_eq!(server.ask(watcher, "version\r\n"), "");
        assert!(server.ask(client, "stats\r\n").contains("STAT log_watchers 1\r\n"));
        server.shut_down(watcher);
        server.run();
        assert!(server.is_closed(watcher));
        assert!(server.ask(client, "stats\r\n").contains("STAT log_watchers 0\r\n"));
        server.end();
    });
}

#[test]
fn a_watcher_that_does_not_read_loses_lines_and_holds_nobody_up() {
    everywhere(config, |mut server, core| {
        let watcher = server.connect(core);
        assert_eq!(server.ask(watcher, "watch fetchers\r\n"), "OK\r\n");
        server.set_reads(watcher, false);
        let client = server.connect(0);
        for _ in 0..10_000 {
            server.send(client, b"get nope\r\n");
        }
        server.run();
        assert_eq!(server.take_received(client), b"END\r\n".repeat(10_000));
        server.set_reads(watcher, true);
        server.run();
        let text = String::from_utf8(server.take_received(watcher)).expect("text");
        let skipped: u64 = text.lines().filter_map(|line| line.strip_prefix("skipped=")?.parse::<u64>().ok()).sum();
        let told = text.lines().filter(|line| line.contains("type=item_get")).count() as u64;
        assert!(skipped > 0, "{} lines", text.lines().count());
        assert_eq!(told + skipped, 10_000);
    });
}

#[test]
fn evictions_and_connections_are_watched() {
    everywhere(config, |mut server, core| {
        let client = server.connect(0);
        let watcher = server.connect(core);
        assert_eq!(server.ask(watcher, "watch evictions connevents\r\n"), "OK\r\n");
        let value = "x".repeat(8_000);
        for n in 0..5_000 {
            server.send(client, format!("set key-{n} 0 0 8000 noreply\r\n{value}\r\n").as_bytes());
            if n % 100 == 0 {
                server.run();
            }
        }
        server.run();
        let other = server.connect(0);
        server.run();
        server.cores[0].note_close(ConnId(1), CloseReason::IdleTimeout);
        server.close(other);
        server.run();
        let text = String::from_utf8(server.take_received(watcher)).expect("text");
        assert!(text.contains(" type=eviction key=key-"), "{text}");
        assert!(text.contains(" fetch=no ttl=-1 la=0 clsid="), "{text}");
        assert!(text.contains(" type=conn_new rip=10.0.0.1 rport=1002 transport=tcp cfd="), "{text}");
        assert!(text.contains(" transport=tcp reason=idle_timeout cfd="), "{text}");
    });
}

#[test]
fn the_first_store_after_a_watch_is_seen_to_evict_also_by_a_core_that_slept() {
    let mut server = Loopback::new(&config(2), Pace::Even, 0);
    let client = server.connect(1);
    let set = |server: &mut Loopback, key: &str| {
        server.send(client, format!("set {key} 0 0 8000 noreply\r\n{}\r\n", "x".repeat(8_000)).as_bytes());
    };
    for n in 0..15_000 {
        set(&mut server, &format!("fill-{n}"));
        server.run();
    }
    let evictions = |server: &Loopback| server.cores[1].shard().stats().evictions.value();
    let of_core_1 = (0..100).map(|n| format!("probe-{n}")).find(|key| {
        let before = evictions(&server);
        set(&mut server, key);
        server.run();
        evictions(&server) > before
    });
    let key = of_core_1.expect("the keys of two cores are mixed");
    assert_eq!(server.ask(client, format!("delete {key}\r\n")), "DELETED\r\n");
    let watcher = server.connect(0);
    server.send(watcher, b"watch evictions\r\n");
    while server.turn(0) {}
    assert_eq!(server.take_received(watcher), b"OK\r\n");
    let before = evictions(&server);
    set(&mut server, &key);
    server.run();
    assert!(evictions(&server) > before);
    let text = String::from_utf8(server.take_received(watcher)).expect("text");
    assert!(text.contains(" type=eviction key="), "{text:?}");
}

#[test]
fn no_more_than_twenty_watch() {
    let mut server = Loopback::new(&config(2), Pace::Even, 0);
    for index in 0..WATCHERS_MAX {
        let watcher = server.connect(index % 2);
        assert_eq!(server.ask(watcher, "watch\r\n"), "OK\r\n");
    }
    let late = server.connect(0);
    assert_eq!(server.ask(late, "watch\r\n"), "WATCHER_TOO_MANY log watcher limit reached\r\n");
}

#[test]
fn connections_are_listed_in_order_of_their_numbers_whatever_their_cores() {
    everywhere(config, |mut server, core| {
        let cores = server.cores.len();
        let clients: Vec<_> = (0..12).map(|n| server.connect((cores - 1) - n % cores)).collect();
        let asker = server.connect(core);
        let text = server.ask(asker, "stats conns\r\n");
        let numbers: Vec<u32> = text
            .lines()
            .filter_map(|line| line.strip_prefix("STAT ")?.split_once(":addr tcp:10.0.0.1:")?.0.parse().ok())
            .collect();
        assert_eq!(numbers.len(), clients.len() + 1, "{text}");
        assert!(numbers.is_sorted(), "{text}");
        assert!(text.ends_with("END\r\n"), "{text}");
    });
}

#[test]
fn nothing_is_obeyed_before_name_and_password() {
    let with_users = |cores| CacheConfig {
        users: vec![User { name: (*b"foo").into(), password: (*b"bar").into() }],
        ..config(cores)
    };
    everywhere(with_users, |mut server, core| {
        let client = server.connect(core);
        assert_eq!(server.ask(client, "get a\r\n"), "CLIENT_ERROR unauthenticated\r\n");
        assert_eq!(server.ask(client, "set a 0 0 2\r\nhi\r\n"), "CLIENT_ERROR bad authentication token format\r\n");
        assert_eq!(server.ask(client, "set a 0 0 7\r\nfoo bab\r\n"), "CLIENT_ERROR authentication failure\r\n");
        assert_eq!(server.ask(client, "set a 0 0 7\r\nfoo bar!!"), "CLIENT_ERROR bad command line termination\r\n");
        let long = format!("set a 0 0 5000\r\n{}\r\n", "x".repeat(5_000));
        assert_eq!(server.ask(client, long), "CLIENT_ERROR authentication failure\r\n");
        assert_eq!(server.ask(client, "set a 0 0 7\r\nfoo bar\r\n"), "STORED\r\n");
        assert_eq!(server.ask(client, "get a\r\n"), "END\r\n", "what was said is not stored");
        let stats = server.ask(client, "stats\r\n");
        assert!(stats.contains("STAT auth_cmds 3\r\n") && stats.contains("STAT auth_errors 2\r\n"), "{stats}");
        let other = server.connect(core);
        assert_eq!(server.ask(other, "version\r\n"), "CLIENT_ERROR unauthenticated\r\n");
        // Whoever is in may stay; whoever comes after a change must know the new words.
        server.cores[0].shared().control.set_users(Vec::new());
        assert_eq!(server.ask(client, "get a\r\n"), "END\r\n");
        assert_eq!(server.ask(other, "set a 0 0 7\r\nfoo bar\r\n"), "CLIENT_ERROR authentication failure\r\n");
    });
}

#[test]
fn a_name_and_password_announced_longer_than_any_are_refused_before_they_come() {
    let with_users = |cores| CacheConfig {
        users: vec![User { name: (*b"foo").into(), password: (*b"bar").into() }],
        ..config(cores)
    };
    everywhere(with_users, |mut server, core| {
        let client = server.connect(core);
        for bytes in [16_385, 2_000_000_000, u32::MAX] {
            let line = format!("set a 0 0 {bytes}\r\n");
            assert_eq!(server.ask(client, line), "CLIENT_ERROR auth token too long\r\n");
        }
        assert_eq!(server.ask(client, "set a 0 0 7\r\nfoo bar\r\n"), "STORED\r\n", "the next line is read");
    });
}

#[test]
fn commands_that_are_off_say_so() {
    let off = |cores| CacheConfig {
        commands: Commands { flush: false, dump: false, watch: false, lru_crawler: false, ..Commands::default() },
        ..config(cores)
    };
    everywhere(off, |mut server, core| {
        let client = server.connect(core);
        for (request, reply) in [
            ("flush_all\r\n", "CLIENT_ERROR flush_all not allowed\r\n"),
            ("watch\r\n", "CLIENT_ERROR watch commands not allowed\r\n"),
            ("stats cachedump 1 1\r\n", "CLIENT_ERROR stats cachedump not allowed\r\n"),
            ("lru_crawler metadump all\r\n", "CLIENT_ERROR lru crawler disabled\r\n"),
            ("lru_crawler enable\r\n", "OK\r\n"),
            ("lru_crawler metadump all\r\n", "ERROR metadump not allowed\r\n"),
            ("shutdown\r\n", "SERVER_ERROR: shutdown not enabled\r\n"),
            ("debugtime 1\r\n", "ERROR\r\n"),
        ] {
            assert_eq!(server.ask(client, request), reply, "{request}");
        }
    });
}

/// Lines were refused and packets were not, so that whoever could ask got the names of keys (memcached 1.6.44's aa352388a).
#[test]
fn packets_are_told_no_detail_of_keys_where_dumps_are_off() {
    let off = |cores| CacheConfig {
        commands: Commands { dump: false, ..Commands::default() },
        detail: true,
        ..config(cores)
    };
    everywhere(off, |mut server, core| {
        let client = server.connect(core);
        for group in ["detail on", "detail dump", "detail off", "detail"] {
            let packet = Packet { key: group.into(), ..Packet::new(0x10) };
            server.send(client, &packet.encode());
            server.run();
            let said = server.take_received(client);
            assert_eq!(said[..8], [0x81, 0x10, 0, 0, 0, 0, 0, 1], "{group}: {}", said.escape_ascii());
        }
    });
}

#[test]
fn shutdown_and_debugtime_are_obeyed_where_they_are_on() {
    let on = |cores| CacheConfig {
        commands: Commands { shutdown: true, debug: true, ..Commands::default() },
        ..config(cores)
    };
    everywhere(on, |mut server, core| {
        let client = server.connect(core);
        assert_eq!(server.ask(client, "shutdown foo\r\n"), "CLIENT_ERROR invalid shutdown mode\r\n");
        let shown = |server: &Loopback| server.cores[0].shared().control.shown(server.now).secs;
        let start = shown(&server);
        assert_eq!(server.ask(client, "debugtime 10\r\n"), "OK\r\n");
        assert_eq!(shown(&server), start + 10);
        assert_eq!(server.ask(client, "debugtime p\r\ndebugtime 5\r\ndebugtime -1\r\n"), "OK\r\nOK\r\nERROR\r\n");
        server.now.secs += 3;
        assert_eq!(shown(&server), start + 5, "it was stopped where the session stood, and moved by hand");
        assert_eq!(server.ask(client, "debugtime r\r\n"), "OK\r\n");
        assert_eq!(shown(&server), start + 18);
        assert_eq!(server.cores[0].shared().control.stopping(), None);
        assert_eq!(server.ask(client, "shutdown graceful\r\n"), "");
        assert!(server.is_closed(client));
        assert_eq!(server.cores[0].shared().control.stopping(), Some(Stopping::Graceful));
    });
}

#[test]
fn with_a_limit_on_replies_whoever_asks_for_more_at_once_is_refused_and_counted() {
    let limited = |cores| CacheConfig { reply_limit: Some(26), requests_per_take: 500, ..config(cores) };
    everywhere(limited, |mut server, core| {
        let counted = |server: &mut Loopback, client: Client| {
            let stats = server.ask(client, "stats\r\n");
            let line = stats.lines().find_map(|line| line.strip_prefix("STAT response_obj_oom ")).expect("a line");
            line.parse::<u32>().expect("a number")
        };
        let client = server.connect(core);
        assert_eq!(server.ask(client, "get a b c d e\r\n"), "END\r\n", "few keys are no matter, wherever they are");
        let refused = server.ask(client, format!("get{}\r\n", " foo".repeat(400)));
        assert_eq!(refused, "SERVER_ERROR out of memory writing get response\r\n");
        assert_eq!(counted(&mut server, client), 1);
        let greedy = server.connect(core);
        assert_eq!(server.ask(greedy, "mg foo v\r\n".repeat(500)), "");
        assert!(server.is_closed(greedy));
        assert_eq!(counted(&mut server, client), 2);
        // The same one after the other.
        for _ in 0..500 {
            assert_eq!(server.ask(client, "mg foo v\r\n"), "EN\r\n");
        }
        assert_eq!(counted(&mut server, client), 2);
        server.end();
    });
    everywhere(config, |mut server, core| {
        let client = server.connect(core);
        assert_eq!(server.ask(client, format!("get{}\r\n", " foo".repeat(4000))), "END\r\n", "no limit: it waits");
        assert_eq!(server.ask(client, "mg foo v\r\n".repeat(5000)), "EN\r\n".repeat(5000));
    });
}

/// What memcached 1.6.45 -C answers to the same bytes.
#[test]
fn without_cas_uniques_all_are_0_and_none_matches() {
    let without = |cores| {
        let mut config = config(cores);
        config.shard.use_cas = false;
        config
    };
    everywhere(without, |mut server, core| {
        let client = server.connect(core);
        for (request, reply) in [
            ("set a 0 0 1\r\nx\r\ngets a\r\n", "STORED\r\nVALUE a 0 1 0\r\nx\r\nEND\r\n"),
            (
                "cas a 0 0 1 0\r\ny\r\ncas a 0 0 1 1\r\ny\r\ncas no 0 0 1 5\r\ny\r\n",
                "EXISTS\r\nEXISTS\r\nNOT_FOUND\r\n",
            ),
            ("mg a v c\r\nms a 1 c\r\nq\r\nms a 1 c C0\r\nr\r\n", "VA 1 c0\r\nx\r\nHD c0\r\nEX c0\r\n"),
            ("md a C1\r\nset n 0 0 1\r\n1\r\nma n c t\r\nma n C9 c\r\n", "EX\r\nSTORED\r\nHD c0 t-1\r\nEX\r\n"),
            ("gats 0 n\r\nmd n I\r\nmg n v c s\r\n", "VALUE n 0 1 0\r\n2\r\nEND\r\nHD\r\nVA 1 c0 s1 X W\r\n2\r\n"),
            ("ms n 2 T0 c\r\nab\r\nms n 2 C3 MA c\r\ncd\r\nmg n v c\r\n", "HD c0\r\nHD c0\r\nVA 4 c0\r\nabcd\r\n"),
            ("me n\r\n", "ME n exp=-1 la=0 cas=0 fetch=yes cls=1 size=56\r\n"),
            (
                "mg viv N30 c v\r\nappend n 0 0 1\r\nx\r\ngets n\r\n",
                "VA 0 c0 W\r\n\r\nSTORED\r\nVALUE n 0 5 0\r\nabcdx\r\nEND\r\n",
            ),
        ] {
            assert_eq!(server.ask(client, request), reply, "{request:?}");
        }
        let dump = server.ask(client, "lru_crawler metadump all\r\n");
        assert_eq!(dump.lines().filter(|line| line.contains(" cas=0 ")).count(), 3, "{dump}");
        // A packet's unique has nowhere to be kept: the set takes place.
        let packets = server.connect(core);
        let mut set = vec![0x80, 1, 0, 1, 8, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 3];
        set.extend_from_slice(b"\0\0\0\0\0\0\0\0aw");
        server.send(packets, &set);
        server.run();
        let mut stored = [0; 24];
        (stored[0], stored[1], stored[15]) = (0x81, 1, 7);
        assert_eq!(server.take_received(packets), stored);
        assert_eq!(server.ask(client, "gets a\r\n"), "VALUE a 0 1 0\r\nw\r\nEND\r\n");
        assert_eq!(server.ask(client, "flush_all\r\nget a\r\n"), "OK\r\nEND\r\n");
    });
}

/// Stores `key` by a packet.
fn set_by_packet(server: &mut Loopback, core: usize, key: &[u8]) {
    let client = server.connect(core);
    let body = (8 + key.len() + 1) as u32;
    let mut packet = vec![0x80, 1, 0, key.len() as u8, 8, 0, 0, 0];
    packet.extend(body.to_be_bytes());
    packet.extend([0; 12 + 8]);
    server.send(client, &[&packet, key, b"x"].concat());
    server.run();
    assert_eq!(server.take_received(client)[..8], *b"\x81\x01\0\0\0\0\0\0");
    server.close(client);
}

#[test]
fn a_key_with_line_ends_in_it_makes_no_line_of_its_own_in_any_list() {
    const BENT: [&[u8]; 4] = [b"a\r\nEND\r\nset b 0 0 1:y", b"two words:\n", b"\0:\x7f", b"key\r"];
    everywhere(config, |mut server, core| {
        let client = server.connect(core);
        let watcher = server.connect(core);
        assert_eq!(server.ask(watcher, "watch mutations\r\n"), "OK\r\n");
        assert_eq!(server.ask(client, "stats detail on\r\n"), "OK\r\n");
        for key in BENT {
            set_by_packet(&mut server, core, key);
        }
        // "as\r\nbase64", and a plain key sent so.
        assert_eq!(server.ask(client, "ms YXMNCmJhc2U2NA== 1 b\r\nx\r\n"), "HD\r\n");
        assert_eq!(server.ask(client, "ms cGxhaW4= 1 b\r\nx\r\nset bare 0 0 1\r\nx\r\n"), "HD\r\nSTORED\r\n");
        let stored = BENT.len() + 3;

        let dump = server.ask(client, "lru_crawler mgdump all\r\n");
        let lines: Vec<&str> = told(&dump, "EN\r\n").split_inclusive("\r\n").collect();
        assert_eq!(lines.len(), stored, "{dump:?}");
        for line in lines {
            let request = format!("{} v k\r\n", line.trim_end());
            let reply = server.ask(client, &request);
            let key = line.trim_end().strip_prefix("mg ").expect("a request for the item");
            assert_eq!(reply, format!("VA 1 k{key}\r\nx\r\n"), "to {request:?}");
            let debug = server.ask(client, line.replacen("mg", "me", 1));
            assert!(debug.starts_with("ME ") && debug.lines().count() == 1, "{debug:?}");
        }
        for (command, start) in [
            ("lru_crawler metadump all\r\n", "key="),
            ("stats cachedump 1 0\r\n", "ITEM "),
            ("stats detail dump\r\n", "PREFIX "),
        ] {
            let list = server.ask(client, command);
            let list = list.strip_prefix("OK\r\n").filter(|_| command.contains("metadump")).unwrap_or(&list);
            let lines: Vec<&str> = list.strip_suffix("END\r\n").expect("an end").lines().collect();
            assert!(!lines.is_empty() && lines.iter().all(|line| line.starts_with(start)), "{command}: {list:?}");
            if !command.contains("detail") {
                assert_eq!(lines.len(), stored, "{command}: {list:?}");
            }
        }
        let told = String::from_utf8(server.take_received(watcher)).expect("a text");
        assert_eq!(told.lines().count(), stored, "{told:?}");
        assert!(told.lines().all(|line| line.contains(" type=item_store key=")), "{told:?}");
    });
}

#[test]
fn prefixes_are_told_apart_by_the_thousand_and_those_that_find_no_room_are_said() {
    everywhere(config, |mut server, core| {
        let client = server.connect(core);
        assert_eq!(server.ask(client, "stats detail on\r\n"), "OK\r\n");
        let set_all = |server: &mut Loopback, name: &str, count: usize| {
            for n in 0..count {
                server.send(client, format!("set {name}{n}:x 0 1 1 noreply\r\nx\r\n").as_bytes());
            }
            server.run();
        };
        set_all(&mut server, "user", 3_000);
        assert_eq!(server.ask(client, "get wanted:a\r\n"), "END\r\n");
        let dump = server.ask(client, "stats detail dump\r\n");
        assert_eq!(dump.lines().count(), 3_001 + 1);
        assert!(dump.contains("PREFIX wanted get 1 hit 0 set 0 del 0\r\n") && dump.ends_with("\r\nEND\r\n"));
        let of_sidestep = |server: &mut Loopback, name: &str| -> u64 {
            let stats = server.ask(client, "stats sidestep\r\n");
            let line = stats.lines().find_map(|line| line.strip_prefix(&format!("STAT {name} ")));
            line.unwrap_or_else(|| panic!("no {name}")).parse().expect("a number")
        };
        assert_eq!(of_sidestep(&mut server, "detail_uncounted"), 0);
        // More than all cores have room for; what came first goes on being counted.
        let room = 12_288 * server.cores.len();
        set_all(&mut server, "more", room);
        assert!(of_sidestep(&mut server, "detail_uncounted") >= 3_001);
        assert_eq!(server.ask(client, "get wanted:a\r\n"), "END\r\n");
        assert!(server.ask(client, "stats detail dump\r\n").contains("PREFIX wanted get 2 hit 0 set 0 del 0\r\n"));
        // A reset makes room again.
        assert_eq!(server.ask(client, "stats reset\r\n"), "RESET\r\n");
        set_all(&mut server, "other", 3_000);
        let dump = server.ask(client, "stats detail dump\r\n");
        assert_eq!(dump.lines().filter(|line| line.starts_with("PREFIX other")).count(), 3_000);
        assert_eq!(dump.lines().count(), 3_000 + 1);
        server.end();
    });
}
