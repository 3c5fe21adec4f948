//! Bent conversations of every protocol: no panic, no hang, nothing held afterwards, bounded replies, and the same
//! replies however the bytes are cut.
//!
//! The conversations are those of the differential harness, bent with an eye to their framing: bytes flipped, numbers
//! replaced by others that matter, pieces left out, doubled, and taken from another conversation. A failure names its
//! seed; `SIDESTEP_SEED` begins elsewhere, `SIDESTEP_ROUNDS` goes on for longer.

use differential::case::Case;
use differential::draw::Draw;
use differential::normalize::Uniques;
use differential::{binary, generate, meta, udp};
use sidestep_cache::CacheConfig;

use crate::loopback::{self, Loopback, Pace};

/// The largest item of these caches, in bytes: no reply to one request is longer than this and a head.
const ITEM_MAX: usize = 16 << 10;

/// Bytes that mean something in one of the protocols.
const MATTER: [u8; 24] = [
    0x00, 0x01, 0x80, 0x81, 0xff, 0x7f, 0x04, 0x08, 0x14, b'\r', b'\n', b' ', b'-', b'0', b'9', b'm', b'g', b's', b'b',
    b'k', b'N', b'O', b'T', b'q',
];

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}: no number")))
}

/// The bytes of one connection of `case`, as a client that has seen no unique sends them; no more than a few thousand.
fn bytes_of(case: &Case, leg: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for operation in &case.legs[leg % case.legs.len()].operations {
        if out.len() > 4000 {
            break;
        }
        case.render(operation, &Uniques::default(), &mut out);
    }
    out.truncate(12_000);
    out
}

fn bend(bytes: &mut Vec<u8>, other: &[u8], draw: &mut Draw) {
    for _ in 0..1 + draw.below(6) {
        let at = draw.below(bytes.len() + 1);
        let end = (at + 1 + draw.below(30)).min(bytes.len());
        match draw.below(9) {
            0 if at < end => bytes[at] ^= 1 << draw.below(8),
            1 if at < end => bytes[at] = MATTER[draw.below(MATTER.len())],
            2 => bytes.insert(at, MATTER[draw.below(MATTER.len())]),
            3 => drop(bytes.drain(at..end)),
            4 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let from = draw.below(other.len() + 1);
                let to = (from + draw.below(60)).min(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            6 if at + 24 < bytes.len() => {
                // One of the lengths of a header that may begin here.
                let field = [2, 3, 4, 8, 9, 10, 11][draw.below(7)];
                bytes[at + field] = [0, 1, 2, 8, 20, 250, 251, 255][draw.below(8)];
            }
            7 => {
                let number =
                    [&b"-1"[..], b"0", b"4294967296", b"2147483645", b"18446744073709551616", b"251"][draw.below(6)];
                bytes.splice(at..at, number.iter().copied());
            }
            8 => bytes.truncate(bytes.len() - draw.below(bytes.len() / 4 + 1)),
            _ => {}
        }
    }
}

/// A cache whose bounds are soon met.
fn config(cores: usize) -> CacheConfig {
    let mut config = CacheConfig { cores, ..CacheConfig::default() };
    config.shard.item_size_max = ITEM_MAX as u32;
    config.shard.memory_bytes = cores << 21;
    config.pending_per_core = 256;
    config.landing_slots = 32;
    config.connections_per_core = 4;
    config
}

/// What a cache of `cores` cores answers, and whether it closed.
fn replies(bytes: &[u8], cores: usize, pace: Pace, seed: u64) -> (Vec<u8>, bool) {
    let mut cache = Loopback::new(&config(cores), pace, seed);
    let client = cache.connect(0);
    cache.send(client, bytes);
    cache.shut_down(client);
    cache.run();
    assert!(cache.is_closed(client), "{} of {} bytes are unread after the end", cache.unread(client), bytes.len());
    let received = cache.take_received(client);
    cache.end();
    (received, true)
}

fn bent_conversations(name: &str, make: fn(u64, u64) -> Case) {
    let first = number("SIDESTEP_SEED", 1);
    for seed in first..first + number("SIDESTEP_ROUNDS", 120) {
        let mut draw = Draw::new(seed, 0);
        let mut bytes = bytes_of(&make(seed, 0), draw.below(4));
        let other = bytes_of(&make(seed, 1), draw.below(4));
        bend(&mut bytes, &other, &mut draw);
        let cores = [1, 3][draw.below(2)];
        println!("{name}, seed {seed}, {cores} cores: {} bytes", bytes.len());
        let (whole, _) = replies(&bytes, cores, Pace::Even, 0);
        // The shortest request of a value has five bytes.
        let most = (bytes.len() / 5 + 1) * (ITEM_MAX + 1000);
        assert!(whole.len() <= most, "{} bytes of replies to {}", whole.len(), bytes.len());
        // What stats count depends on the cut.
        if whole.windows(11).any(|window| window == b"rusage_user") {
            continue;
        }
        let paces = [(Pace::Seeded, seed), (Pace::Seeded, seed + 1), (Pace::ByteByByte, 0)];
        for (pace, pace_seed) in paces {
            let (cut, _) = replies(&bytes, cores, pace, pace_seed);
            let same = whole.iter().zip(&cut).take_while(|(a, b)| a == b).count();
            assert!(
                whole == cut,
                "{name}, seed {seed}, {cores} cores, {pace:?}: {} bytes whole, {} cut; they part at {same}\n whole: {}\n cut: {}",
                whole.len(),
                cut.len(),
                whole[same.saturating_sub(60)..whole.len().min(same + 60)].escape_ascii(),
                cut[same.saturating_sub(60)..cut.len().min(same + 60)].escape_ascii(),
            );
        }
    }
}

#[test]
fn bent_lines_are_answered_the_same_however_they_are_cut() {
    bent_conversations("text", generate::case);
}

#[test]
fn bent_meta_commands_are_answered_the_same_however_they_are_cut() {
    bent_conversations("meta", meta::case);
}

#[test]
fn bent_packets_are_answered_the_same_however_they_are_cut() {
    bent_conversations("binary", binary::case);
}

/// The bent datagrams of one connection of `case`, frame headers included.
fn bent_datagrams(case: &Case, other: &[u8], draw: &mut Draw) -> Vec<Vec<u8>> {
    let leg = case.legs.iter().find(|leg| leg.udp).unwrap_or(&case.legs[0]);
    let requests = case.datagrams(leg, &Uniques::default(), true);
    let mut framed = |request: Vec<u8>| {
        let mut datagram = [&[0, 0, 0, 0, 0, 1, 0, 0][..], &request].concat();
        if draw.below(3) > 0 {
            bend(&mut datagram, other, draw);
        }
        datagram.truncate(loopback::PAYLOAD_MAX);
        datagram
    };
    requests.into_iter().take(60).map(&mut framed).collect()
}

/// What a cache of `cores` cores answers to each datagram.
fn answers(datagrams: &[Vec<u8>], cores: usize, pace: Pace, seed: u64) -> Vec<Vec<Vec<u8>>> {
    let config = CacheConfig { datagram_places: 8, ..config(cores) };
    let mut cache = Loopback::new(&config, pace, seed);
    let mut all = Vec::new();
    for (number, datagram) in datagrams.iter().enumerate() {
        cache.datagram_from(number % cores, loopback::SENDER, number as u32, datagram);
        cache.run();
        // One that is left waits for what never comes: each is judged alone.
        assert_eq!(cache.udp[number % cores].pending(), 0, "to {}", datagram.escape_ascii());
        let sent = std::mem::take(&mut cache.mailbox.sent);
        assert!(sent.iter().all(|(peer, reply)| *peer == number as u32 && (8..=1400).contains(&reply.len())));
        all.push(sent.into_iter().map(|(_, reply)| reply).collect());
    }
    // Whatever came before, the next request is answered.
    cache.datagram(0, 7, b"mn\r\n");
    cache.run();
    assert_eq!(cache.mailbox.sent, [(7, b"\0\x07\0\0\0\x01\0\0MN\r\n".to_vec())]);
    cache.end();
    all
}

#[test]
fn bent_datagrams_are_judged_alone_and_answered_the_same_on_any_number_of_cores() {
    let first = number("SIDESTEP_SEED", 1);
    for seed in first..first + number("SIDESTEP_ROUNDS", 120) {
        let mut draw = Draw::new(seed, 0);
        let case = udp::case(seed, 0);
        let other = bytes_of(&generate::case(seed, 1), 0);
        let datagrams = bent_datagrams(&case, &other, &mut draw);
        println!("udp, seed {seed}: {} datagrams", datagrams.len());
        let whole = answers(&datagrams, 1, Pace::Even, 0);
        for (datagram, replies) in datagrams.iter().zip(&whole) {
            let most = (datagram.len() / 5 + 1) * (ITEM_MAX + 1000) + 8 * 1500;
            let bytes: usize = replies.iter().map(Vec::len).sum();
            assert!(bytes <= most, "{bytes} bytes of replies to {}", datagram.len());
        }
        if whole.iter().flatten().any(|reply| reply.windows(11).any(|window| window == b"rusage_user")) {
            continue;
        }
        for (cores, pace) in [(2, Pace::Even), (3, Pace::Seeded)] {
            let cut = answers(&datagrams, cores, pace, seed);
            for (number, (one, many)) in whole.iter().zip(&cut).enumerate() {
                assert!(
                    one == many || shows_a_unique(one),
                    "seed {seed}, {cores} cores, datagram {number}: {}\n one core: {one:?}\n here: {many:?}",
                    datagrams[number].escape_ascii()
                );
            }
        }
    }
}

/// Whether a reply shows a cas unique, which depends on the shard.
fn shows_a_unique(replies: &[Vec<u8>]) -> bool {
    let unique = |reply: &Vec<u8>| {
        let text = reply.get(8..).unwrap_or_default();
        let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let words = || line.split(|&byte| byte == b' ');
        text.first() == Some(&0x81)
            || text.starts_with(b"ME ")
            || text.starts_with(b"VALUE ") && words().count() > 4
            || words().any(|word| word.starts_with(b"c"))
    };
    replies.iter().any(unique)
}
