//! Makes cases of meta commands, with classic commands between them.
//!
//! The answers must not depend on when they are asked for: times lie at least a thousand seconds apart, so that a tick
//! between two commands changes neither which client wins a token nor what `t` is rounded to. Where `c` is asked for, `k` is
//! too: a unique means something only together with its key. Numbers stay below 2^63, where memcached's `ma` is
//! reliable (see [`unreliable`](crate::memcached::unreliable)).

use crate::case::{CasOf, Case, KeyId, Piece};
use crate::generate::{Maker, case_of};
use crate::line::{Line, word};

/// What an ms of a connection with bad input names as the unique of its item, and nothing else does: memcached keeps it, when
/// the value turns out to be bad, for the next store of the connection (see `cache/tests/differences.md`).
const LEFT_BEHIND: &str = "E18446744073709551614";

const TTLS: [&str; 8] = ["0", "0", "-1", "10000", "100000", "2592000", "2592001", "2147483647"];
const RECACHE: [&str; 6] = ["0", "-1", "5000", "50000", "1000000", "60000"];
const OPAQUES: [&str; 6] =
    ["O", "O1", "Oabc", "O123456789", "O!#$%&()*+,-./:;<=>?@[]^_`{|}", "O1234567890123456789012345678901"];
/// Longest key that is still short enough when encoded.
const ENCODABLE_BYTES: usize = 187;

/// Case number `index` of campaign `seed`.
pub fn case(seed: u64, index: u64) -> Case {
    case_of(seed, index, make, true)
}

pub(crate) fn make(maker: &mut Maker) -> Line {
    match maker.draw.below(100) {
        0..30 => get(maker),
        30..52 => set(maker),
        52..64 => delete(maker),
        64..76 => arith(maker),
        76..78 => Line::new(vec![word("mn")]),
        78..82 => debug(maker),
        _ => maker.classic(),
    }
}

/// A key, sometimes encoded; the flag b for it is the second part.
fn key(maker: &mut Maker, id: KeyId) -> (Piece, bool) {
    if maker.draw.chance(1, 6) && maker.key_length(id) <= ENCODABLE_BYTES {
        (Piece::EncodedKey(id), true)
    } else {
        (Piece::Key(id), false)
    }
}

/// Flags in any order, each with the chance given.
fn flags(maker: &mut Maker, base64: bool, choices: &[(&str, usize)]) -> Vec<Piece> {
    let mut names: Vec<&str> =
        choices.iter().filter(|(_, share)| maker.draw.chance(*share, 100)).map(|(name, _)| *name).collect();
    if base64 {
        names.push("b");
    }
    if names.contains(&"c") && !names.contains(&"k") {
        names.push("k");
    }
    for at in (1..names.len()).rev() {
        let other = maker.draw.below(at + 1);
        names.swap(at, other);
    }
    names.into_iter().map(|name| flag(maker, name)).collect()
}

fn flag(maker: &mut Maker, name: &str) -> Piece {
    let value = match name {
        "T" | "N" => maker.draw.pick(&TTLS),
        "R" => maker.draw.pick(&RECACHE),
        "O" => return word(maker.draw.pick(&OPAQUES)),
        "F" => maker.draw.pick(&["0", "1", "42", "65535", "4294967295"]),
        "D" => maker.draw.pick(&["0", "1", "2", "9", "10", "90", "1000", "4294967296"]),
        "J" => maker.draw.pick(&["0", "1", "9", "99", "4294967295"]),
        "C" => maker.draw.pick(&["0", "7777777777777777776", "18446744073709551615"]),
        // Larger than any that a server gives, so that both find the same of the two older; or none.
        "E" => maker.draw.pick(&["0", "7777777777777777776", "9000000000000000000", "18446744073709551615"]),
        _ => "",
    };
    word(format!("{name}{value}"))
}

/// C with the unique last seen, mostly.
fn unique(maker: &mut Maker, id: KeyId, share: usize, words: &mut Vec<Piece>) {
    if maker.draw.chance(share, 100) {
        words.push(match maker.draw.below(10) {
            0 => flag(maker, "C"),
            1..=4 => Piece::FlaggedCas(CasOf::Stale(id)),
            _ => Piece::FlaggedCas(CasOf::Last(id)),
        });
    }
}

fn get(maker: &mut Maker) -> Line {
    let id = maker.key();
    let (key, base64) = key(maker, id);
    let mut words = vec![word("mg"), key];
    let often: [(&str, usize); 16] = [
        ("v", 60),
        ("f", 20),
        ("s", 25),
        ("t", 30),
        ("c", 30),
        ("k", 30),
        ("O", 20),
        ("q", 12),
        ("h", 25),
        ("l", 15),
        ("u", 12),
        ("T", 15),
        ("N", 12),
        ("E", 8),
        ("R", 15),
        ("P", 3),
    ];
    words.extend(flags(maker, base64, &often));
    unique(maker, id, 15, &mut words);
    Line::new(words)
}

fn set(maker: &mut Maker) -> Line {
    let id = maker.key();
    let (key, base64) = key(maker, id);
    let value = maker.value(id);
    let mut words = vec![word("ms"), key, word(value.len().to_string())];
    let rough = if maker.rough { 3 } else { 0 };
    words.extend(flags(
        maker,
        base64,
        &[
            ("T", 35),
            ("F", 25),
            ("c", 25),
            ("k", 20),
            ("O", 20),
            ("q", 12),
            ("I", 20),
            ("E", 12),
            ("N", 15),
            ("s", 20),
            ("t", rough),
        ],
    ));
    if maker.rough {
        let names = |piece: &&mut Piece| matches!(piece, Piece::Bytes(bytes) if bytes.starts_with(b"E"));
        words[3..].iter_mut().filter(names).for_each(|piece| *piece = word(LEFT_BEHIND));
    }
    if maker.draw.chance(1, 3) {
        words.push(word(maker.draw.pick(&["ME", "MA", "MP", "MR", "MS"])));
    }
    unique(maker, id, 25, &mut words);
    if maker.rough && maker.draw.chance(1, 12) {
        let opaque = "O".repeat(33);
        words.push(word(maker.draw.pick(&["Mx", "MEE", "M", "Tx", "Cx", "Fx", "S1", &opaque])));
    }
    Line { body: Some((value, b"\r\n".to_vec())), ..Line::new(words) }
}

fn delete(maker: &mut Maker) -> Line {
    let id = maker.key();
    let (key, base64) = key(maker, id);
    let mut words = vec![word("md"), key];
    words.extend(flags(
        maker,
        base64,
        &[("I", 65), ("x", 20), ("E", 12), ("F", 10), ("T", 30), ("k", 20), ("O", 20), ("q", 20)],
    ));
    unique(maker, id, 20, &mut words);
    Line::new(words)
}

fn arith(maker: &mut Maker) -> Line {
    let id = maker.number_key();
    let (key, base64) = key(maker, id);
    let mut words = vec![word("ma"), key];
    let often = [
        ("v", 60),
        ("t", 30),
        ("c", 25),
        ("k", 25),
        ("O", 15),
        ("q", 12),
        ("T", 15),
        ("N", 30),
        ("E", 12),
        ("J", 25),
        ("D", 40),
    ];
    words.extend(flags(maker, base64, &often));
    if maker.draw.chance(1, 3) {
        words.push(word(maker.draw.pick(&["MI", "M+", "MD", "M-"])));
    }
    unique(maker, id, 15, &mut words);
    Line::new(words)
}

fn debug(maker: &mut Maker) -> Line {
    let id = maker.key();
    let (key, base64) = key(maker, id);
    let mut words = vec![word("me"), key];
    if base64 {
        words.push(word("b"));
    }
    Line::new(words)
}
