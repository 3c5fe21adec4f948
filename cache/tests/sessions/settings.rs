//! The lists of `stats` beside memcached's own, name by name, and of the settings value by value.

use sidestep_cache::CacheConfig;

use crate::loopback::{Loopback, Pace};
use crate::memcached::Memcached;

/// Settings whose values are not memcached's defaults, and what they are here. Those of the machine are not compared.
const OTHERWISE: [(&str, Option<&str>); 11] = [
    ("domain_socket", Some("NULL")),
    ("inter", None),
    ("tcpport", None),
    ("hash_algorithm", Some("siphash13")),
    ("lru_maintainer_thread", Some("no")),
    ("lru_segmented", Some("no")),
    ("reqs_per_event", Some("64")),
    ("slab_automove", Some("0")),
    ("slab_reassign", Some("no")),
    ("tcp_backlog", None),
    ("umask", None),
];

/// What the cache answers on a connection of its own.
fn ask(cache: &mut Loopback, request: &[u8]) -> Vec<u8> {
    let client = cache.connect(0);
    cache.send(client, request);
    cache.run();
    let reply = cache.take_received(client);
    cache.close(client);
    reply
}

fn names(settings: &[(String, String)]) -> Vec<String> {
    settings.iter().map(|(name, _)| name.clone()).collect()
}

fn settings(list: &[u8]) -> Vec<(String, String)> {
    let text = std::str::from_utf8(list).expect("a text");
    let lines = text.strip_suffix("END\r\n").expect("an end").lines();
    let setting = |line: &str| {
        let (name, value) = line.strip_prefix("STAT ")?.split_once(' ')?;
        Some((name.to_owned(), value.to_owned()))
    };
    lines.map(|line| setting(line).unwrap_or_else(|| panic!("{line:?} is no setting"))).collect()
}

#[test]
fn stats_settings_leaves_out_no_name_of_memcached() {
    let Some(mut memcached) = Memcached::start(&[]) else {
        println!("no memcached here to compare with");
        return;
    };
    let theirs = settings(&memcached.exchange(b"stats settings\r\n"));
    let mut cache = Loopback::new(&CacheConfig::default(), Pace::Even, 0);
    let ours = settings(&ask(&mut cache, b"stats settings\r\n"));
    let (of_tls, ours): (Vec<_>, Vec<_>) = ours.into_iter().partition(|(name, _)| name.starts_with("ssl_"));
    assert_eq!(of_tls.len(), 11, "what a memcached without TLS does not show");
    assert_eq!(names(&ours), names(&theirs), "the names, in order");
    for ((name, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        match OTHERWISE.iter().find(|(other, _)| other == name) {
            None => assert_eq!(ours, theirs, "{name}"),
            Some((_, Some(here))) => assert_eq!(ours, here, "{name}"),
            Some((_, None)) => {}
        }
    }
}

#[test]
fn no_list_of_stats_leaves_out_a_name_of_memcached() {
    let Some(mut memcached) = Memcached::start(&[]) else {
        println!("no memcached here to compare with");
        return;
    };
    let mut cache = Loopback::new(&CacheConfig::default(), Pace::Even, 0);
    let store = b"set k 0 0 1\r\nx\r\n";
    assert_eq!((memcached.exchange(store), ask(&mut cache, store)), (b"STORED\r\n".to_vec(), b"STORED\r\n".to_vec()));
    for list in [&b"stats\r\n"[..], b"stats items\r\n", b"stats slabs\r\n", b"stats sizes\r\n"] {
        let (theirs, ours) = (settings(&memcached.exchange(list)), settings(&ask(&mut cache, list)));
        assert_eq!(names(&ours), names(&theirs), "{}", list.escape_ascii());
    }
}
