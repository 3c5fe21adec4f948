//! Makes cases: operations weighted over all commands, on a handful of keys, over a few connections.
//!
//! Nothing made here depends on when it runs. Expiry times are 0, in the past, or at least a day ahead; a delayed
//! flush lies more than a week ahead. memcached's answer to a line above 2,048 bytes without a `get` depends on how
//! the bytes arrive, so that such a line appears only as the last thing on a connection, without its end; and a leg
//! with bad input, after which a value may be read as commands, has small values only.

use crate::case::{CasOf, Case, KeyId, Leg, Operation, Piece, Split};
use crate::draw::Draw;
use crate::line::{Line, word};
use crate::mutate;

/// Connections of a case.
const LEGS: usize = 4;
/// Operations on one connection, on average.
const OPERATIONS: usize = 64;
/// Keys of a case; the upper half holds numbers, mostly.
const KEYS: usize = 12;

const KEY_LENGTHS: [usize; 14] = [1, 2, 3, 5, 8, 13, 20, 36, 64, 100, 200, 249, 250, 250];
const SMALL_VALUES: [usize; 12] = [0, 1, 2, 3, 5, 10, 20, 50, 100, 200, 300, 900];
const LARGE_VALUES: [usize; 13] =
    [2_000, 2_047, 2_048, 4_096, 8_000, 16_383, 16_384, 16_385, 65_535, 65_536, 262_144, 524_288, 1_000_000];
/// What `incr` and `decr` read, or must refuse; none with a minus, see [`Maker::value`].
const NUMBERS: [&str; 15] =
    ["0", "1", "2", "9", "10", "99", "100", "4294967295", "007", " 5", "5 ", "abc", "12abc", "", "0x10"];
/// The edges of 64 bits and beyond; see [`Maker::huge`].
const HUGE_NUMBERS: [&str; 10] = [
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551614",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999",
    "123456789012345678901",
    "1e3",
    "+5",
];
/// Never, in the past (relative and absolute), far ahead (relative and absolute).
const EXPTIMES: [&str; 9] =
    ["0", "-1", "-2147483648", "100000", "2592000", "2592001", "1000000000", "2147483647", "86400"];
const FLAGS: [&str; 6] = ["0", "1", "42", "65535", "2147483648", "4294967295"];

pub(crate) struct Maker {
    pub(crate) draw: Draw,
    /// Far flushes may appear, and all keys are long enough to be unique.
    pub(crate) unique: bool,
    /// Numbers of 2^63 and more appear. memcached may refuse to count them, see
    /// [`unreliable`](crate::memcached::unreliable); so that this can be seen, none is counted without a reply.
    huge: bool,
    /// `version` appears: one case in ten, since every one of them differs from ours and costs a play.
    pub(crate) version: bool,
    /// This leg holds bad input.
    pub(crate) rough: bool,
    /// Makes a line; drawn once for each operation.
    pub(crate) make: Make,
    /// The case asks whether items were fetched before, as meta commands do.
    pub(crate) marks_show: bool,
    /// Replies must not be more than what a socket holds: no value is longer than this.
    pub(crate) value_max: usize,
    key_lengths: Vec<usize>,
}

/// Case number `index` of campaign `seed`.
pub fn case(seed: u64, index: u64) -> Case {
    case_of(seed, index, Maker::classic, false)
}

/// Case number `index` of campaign `seed`, its lines made by `make`. `meta`: it asks whether items were fetched before,
/// and numbers of 2^63 and more do not appear.
pub(crate) fn case_of(seed: u64, index: u64, make: Make, meta: bool) -> Case {
    let mut maker = maker(seed, index, make, meta);
    let legs = (0..LEGS).map(|_| maker.leg()).collect();
    maker.case(index, legs)
}

/// What makes case number `index` of campaign `seed`; see [`case_of`].
pub(crate) fn maker(seed: u64, index: u64, make: Make, meta: bool) -> Maker {
    let mut draw = Draw::new(seed, index);
    let unique = draw.chance(1, 10);
    let key_lengths: Vec<usize> = (0..KEYS)
        .map(|_| {
            let length = KEY_LENGTHS[draw.below(KEY_LENGTHS.len())];
            if unique { length.max(13) } else { length }
        })
        .collect();
    let huge = draw.chance(1, 2) && !meta;
    let version = draw.chance(1, 10);
    Maker { draw, unique, huge, version, rough: false, make, marks_show: meta, value_max: usize::MAX, key_lengths }
}

pub(crate) type Make = fn(&mut Maker) -> Line;

/// Every command with its weight.
const COMMANDS: [(usize, Make); 17] = [
    (14, |maker| maker.fetch("get")),
    (9, |maker| maker.fetch("gets")),
    (4, |maker| maker.fetch_and_touch("gat")),
    (4, |maker| maker.fetch_and_touch("gats")),
    (18, |maker| maker.store("set")),
    (6, |maker| maker.store("add")),
    (5, |maker| maker.store("replace")),
    (6, |maker| maker.store("append")),
    (5, |maker| maker.store("prepend")),
    (9, Maker::cas),
    (6, Maker::delete),
    (9, |maker| maker.count("incr")),
    (7, |maker| maker.count("decr")),
    (5, Maker::touch),
    (1, Maker::flush),
    (1, Maker::verbosity),
    (1, |maker| if maker.version { Line::new(vec![word("version")]) } else { maker.touch() }),
];

impl Maker {
    /// The case of these connections.
    pub(crate) fn case(self, index: u64, legs: Vec<Leg>) -> Case {
        Case { index, key_lengths: self.key_lengths, unique: self.unique, attempt: 0, legs }
    }

    pub(crate) fn leg(&mut self) -> Leg {
        self.rough = self.draw.chance(1, 3);
        let count = 1 + self.draw.below(2 * OPERATIONS - 1);
        let mut operations = Vec::with_capacity(count + 1);
        for number in 0..count {
            let line = (self.make)(self);
            // The first byte of a connection decides its protocol, so the first line is a good one.
            // And where a far flush may bring back what an older one hid, only keys of this case may appear.
            let may_bend = number > 0 && !self.unique;
            if self.rough && may_bend && self.draw.chance(1, 7) {
                operations.push(mutate::bend(line, &mut self.draw, self.marks_show));
            } else {
                operations.push(line.operation());
            }
        }
        if !self.rough && self.draw.chance(1, 40) {
            operations.push(self.long_get());
        }
        if self.draw.chance(1, 10) {
            operations.push(self.last_words());
        }
        let split = self.split();
        Leg { operations, split, udp: false }
    }

    /// How the bytes of a connection arrive.
    pub(crate) fn split(&mut self) -> Split {
        match self.draw.below(20) {
            0 if self.rough => Split::Pieces { most: 1, seed: self.draw.below(1 << 30) as u64 },
            0..=4 => Split::Pieces { most: 64, seed: self.draw.below(1 << 30) as u64 },
            5..=10 => Split::Pieces { most: 3_000, seed: self.draw.below(1 << 30) as u64 },
            _ => Split::Whole,
        }
    }

    /// Any command of the classic protocol.
    pub(crate) fn classic(&mut self) -> Line {
        let chosen = self.draw.weighted(COMMANDS.iter().map(|(weight, _)| *weight));
        COMMANDS[chosen].1(self)
    }

    pub(crate) fn key(&mut self) -> KeyId {
        self.draw.below(KEYS)
    }

    /// Bytes of a key's name.
    pub(crate) fn key_length(&self, id: KeyId) -> usize {
        self.key_lengths[id]
    }

    /// Mostly a key that holds a number.
    pub(crate) fn number_key(&mut self) -> KeyId {
        if self.draw.chance(9, 10) { KEYS / 2 + self.draw.below(KEYS / 2) } else { self.key() }
    }

    fn number(&mut self) -> &'static str {
        let huge = self.huge && self.draw.chance(1, 2);
        self.draw.pick(if huge { &HUGE_NUMBERS } else { &NUMBERS })
    }

    fn exptime(&mut self) -> Piece {
        if self.draw.chance(7, 10) { word("0") } else { word(self.draw.pick(&EXPTIMES)) }
    }

    fn noreply(&mut self, words: &mut Vec<Piece>) {
        if self.draw.chance(1, 8) {
            words.push(word("noreply"));
        }
    }

    /// A value that does not begin with white space and has no minus in it. Of white space alone memcached's `incr` reads on beyond
    /// the item's end, since `strtoull` skips the line end too; in a value of 2^63 and more it looks for a minus
    /// (`strchr`) up to the next zero byte, in what older items left there, and refuses when it finds one.
    pub(crate) fn value(&mut self, key: KeyId) -> Vec<u8> {
        if key >= KEYS / 2 && self.draw.chance(3, 4) {
            return self.number().as_bytes().to_vec();
        }
        let length = if self.rough || !self.draw.chance(1, 60) {
            SMALL_VALUES[self.draw.below(SMALL_VALUES.len())]
        } else if self.draw.chance(1, 12) {
            // Around memcached's item limit of 1 MiB, header and key included, and beyond.
            match self.draw.below(3) {
                0 => (1 << 20) - self.draw.below(400),
                1 => (1 << 20) + self.draw.below(3),
                _ => 1_100_000 + self.draw.below(1_000_000),
            }
        } else {
            LARGE_VALUES[self.draw.below(LARGE_VALUES.len())]
        };
        let length = length.min(self.value_max);
        match self.draw.below(4) {
            0 => b"VALUE k 0 1\r\nEND\r\nget a\r\n".iter().copied().cycle().take(length).collect(),
            1 if !self.rough => {
                let odd = |byte: u8| byte == b'-' || byte.is_ascii_whitespace() || byte == 0x0b;
                let mut value = self.draw.bytes(length);
                if let Some(first) = value.first_mut().filter(|first| odd(**first)) {
                    *first = b'+';
                }
                value.iter_mut().filter(|byte| **byte == b'-').for_each(|byte| *byte = b'+');
                value
            }
            _ => b"The quick brown fox. ".iter().copied().cycle().take(length).collect(),
        }
    }

    fn fetch(&mut self, name: &str) -> Line {
        let mut words = vec![word(name)];
        let keys = if self.draw.chance(1, 4) { 1 + self.draw.below(KEYS) } else { 1 };
        words.extend((0..keys.min(7)).map(|_| Piece::Key(self.key())));
        Line::new(words)
    }

    fn fetch_and_touch(&mut self, name: &str) -> Line {
        let mut line = self.fetch(name);
        line.words.insert(1, self.exptime());
        line
    }

    fn storage(&mut self, name: &str) -> (Vec<Piece>, Vec<u8>) {
        let key = self.key();
        let value = self.value(key);
        let flags = self.draw.pick(&FLAGS);
        let words = vec![word(name), Piece::Key(key), word(flags), self.exptime(), word(value.len().to_string())];
        (words, value)
    }

    fn store(&mut self, name: &str) -> Line {
        let (mut words, value) = self.storage(name);
        self.noreply(&mut words);
        Line { body: Some((value, b"\r\n".to_vec())), ..Line::new(words) }
    }

    fn cas(&mut self) -> Line {
        let (mut words, value) = self.storage("cas");
        let unique = match self.draw.below(10) {
            0 => word("0"),
            1 => word("18446744073709551615"),
            choice => match words[1] {
                Piece::Key(id) if choice <= 3 => Piece::Cas(CasOf::Stale(id)),
                Piece::Key(id) => Piece::Cas(CasOf::Last(id)),
                _ => word("1"),
            },
        };
        words.push(unique);
        self.noreply(&mut words);
        Line { body: Some((value, b"\r\n".to_vec())), ..Line::new(words) }
    }

    fn delete(&mut self) -> Line {
        let mut words = vec![word("delete"), Piece::Key(self.key())];
        if self.draw.chance(1, 6) {
            words.push(word(self.draw.pick(&["0", "10", "noreply", "-1"])));
        }
        self.noreply(&mut words);
        Line::new(words)
    }

    fn count(&mut self, name: &str) -> Line {
        let delta = match self.draw.below(30) {
            0 => "-1",
            1..=15 => self.draw.pick(&NUMBERS[..8]),
            _ => self.number(),
        };
        let mut words = vec![word(name), Piece::Key(self.number_key()), word(delta)];
        if !self.huge {
            self.noreply(&mut words);
        }
        Line::new(words)
    }

    fn touch(&mut self) -> Line {
        let mut words = vec![word("touch"), Piece::Key(self.key()), self.exptime()];
        self.noreply(&mut words);
        Line::new(words)
    }

    /// A flush now, or, in a case of unique keys, one that lies far ahead. Never both in one case: a delayed flush
    /// makes memcached forget the one before it, so that flushed items come back (see `cache/tests/differences.md`).
    fn flush(&mut self) -> Line {
        let mut words = vec![word("flush_all")];
        if self.unique {
            words.push(word(self.draw.pick(&["2000000", "2147483647", "abc"])));
        } else if self.draw.chance(1, 3) {
            words.push(word(self.draw.pick(&["0", "-1", "abc"])));
        }
        self.noreply(&mut words);
        Line::new(words)
    }

    fn verbosity(&mut self) -> Line {
        let mut words = vec![word("verbosity")];
        if self.draw.chance(9, 10) {
            words.push(word(self.draw.pick(&["0", "1", "-1", "abc", "4294967296"])));
        }
        self.noreply(&mut words);
        Line::new(words)
    }

    /// A get of hundreds of keys: the one line that may be longer than 2,048 bytes.
    fn long_get(&mut self) -> Operation {
        let mut line = Line::new(vec![word(self.draw.pick(&["get", "gets"]))]);
        for _ in 0..100 + self.draw.below(900) {
            line.words.push(Piece::Key(self.key()));
        }
        line.operation()
    }

    /// Something after which the connection ends, or that never becomes whole. Not a byte more than the server reads:
    /// a TCP that closes with bytes unread sends RST, and replies still on their way may be lost.
    fn last_words(&mut self) -> Operation {
        let bytes = match self.draw.below(7) {
            0 => b"quit\r\n".to_vec(),
            1 => b"quit noreply\r\n".to_vec(),
            2 => vec![b'a'; 2_049],
            3 => b"get some".to_vec(),
            4 => b"set some 0 0 10\r\n1234".to_vec(),
            5 => b"GET / HTTP/1.1\r\n".to_vec(),
            _ => b"set some 0 0 3000000\r\nabc".to_vec(),
        };
        Operation { fenced: true, ..Operation::new(vec![Piece::Bytes(bytes)]) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::normalize::Uniques;

    fn bytes(case: &Case) -> Vec<u8> {
        let mut out = Vec::new();
        for operation in case.legs.iter().flat_map(|leg| &leg.operations) {
            case.render(operation, &Uniques::default(), &mut out);
        }
        out
    }

    #[test]
    fn the_same_seed_and_index_make_the_same_case() {
        assert_eq!(case(1, 5), case(1, 5));
        assert_ne!(case(1, 5), case(1, 6));
        assert_ne!(case(1, 5), case(2, 5));
    }

    #[test]
    fn every_command_appears_and_a_case_has_256_operations_on_average() {
        let (mut seen, mut operations) = (HashMap::new(), 0);
        for index in 0..400 {
            let case = case(1, index);
            operations += case.len();
            for operation in case.legs.iter().flat_map(|leg| &leg.operations) {
                if let Some(Piece::Bytes(name)) = operation.pieces.first() {
                    *seen.entry(name.clone()).or_insert(0) += 1;
                }
            }
        }
        for name in [
            "get",
            "gets",
            "gat",
            "gats",
            "set",
            "add",
            "replace",
            "append",
            "prepend",
            "cas",
            "delete",
            "incr",
            "decr",
            "touch",
            "flush_all",
            "verbosity",
            "version",
        ] {
            assert!(
                seen.get(name.as_bytes()).is_some_and(|&count| count > 50),
                "{name}: {:?}",
                seen.get(name.as_bytes())
            );
        }
        assert!((240 * 400..280 * 400).contains(&operations), "{operations}");
    }

    #[test]
    fn keys_at_the_limit_and_values_beyond_it_appear() {
        let cases: Vec<_> = (0..400).map(|index| case(1, index)).collect();
        assert!(cases.iter().any(|case| case.key_lengths.contains(&250)));
        assert!(cases.iter().any(|case| bytes(case).len() > 1 << 20));
    }
}
