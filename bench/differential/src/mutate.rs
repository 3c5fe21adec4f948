//! Bends good operations into bad input: what clients with bugs, and people with telnet, send.

use crate::case::{Operation, Piece};
use crate::draw::Draw;
use crate::line::{Line, word};

const NASTY_NUMBERS: [&str; 16] = [
    "-1",
    "-0",
    "+1",
    "00",
    "1x",
    "x",
    "1.5",
    "2147483648",
    "-2147483649",
    "4294967296",
    "9223372036854775808",
    "18446744073709551616",
    "99999999999999999999999",
    "0x1",
    "1 1",
    "noreply",
];
/// None of these is a command of memcached 1.6.45 under any option.
const UNKNOWN: [&str; 13] =
    ["foo", "gett", "g", "getss", "GET", "Set", "versio", "\x01\x02", "noreply", "END", "STORED", "incrr", "set\x7f"];

type Bend = fn(&mut Line, &mut Draw);

const BENDS: [Bend; 20] = [
    |line, draw| {
        let at = draw.below(line.words.len());
        line.words.remove(at);
    },
    |line, draw| {
        let at = draw.below(line.words.len());
        line.words.insert(at, line.words[at].clone());
    },
    |line, draw| line.words.push(word(draw.pick(&["noreply", "x", "0", "noreply noreply", "NOREPLY", "no reply"]))),
    |line, draw| replace(line, draw, NASTY_NUMBERS.as_slice()),
    |line, draw| replace(line, draw, NASTY_NUMBERS.as_slice()),
    |line, draw| replace(line, draw, &["\x01", "a\x0bb", "\x7f\x1b[2J", "caf\u{e9}", "a\tb", "\u{80}"]),
    |line, _| line.ending = b"\n".to_vec(),
    |line, _| line.gap = b"  ".to_vec(),
    |line, draw| {
        let spaces = 1 + draw.below(110);
        line.words.insert(0, Piece::Bytes(vec![b' '; spaces]));
    },
    |line, draw| {
        let spaces = 1 + draw.below(3);
        line.ending.splice(0..0, vec![b' '; spaces]);
    },
    |line, _| {
        if let Piece::Bytes(name) = &mut line.words[0] {
            name.make_ascii_uppercase();
        }
    },
    |line, draw| line.words[0] = word(draw.pick(&UNKNOWN)),
    |line, _| {
        line.words.clear();
        line.body = None;
    },
    |line, draw| {
        if let Some(Piece::Key(_)) = line.words.get(1) {
            line.words[1] = Piece::Bytes(vec![b'k'; [251, 252, 300, 1_000][draw.below(4)]]);
        }
    },
    |line, draw| {
        // The announced length is not the value's.
        if let (Some((value, _)), true) = (&line.body, line.words.len() > 4) {
            let length = value.len();
            let lies = [
                (length + 1).to_string(),
                (length + 2).to_string(),
                length.saturating_sub(1).to_string(),
                (length + 10).to_string(),
                "-1".to_owned(),
                "-2147483648".to_owned(),
                "2147483647".to_owned(),
                "2147483645".to_owned(),
                "4294967295".to_owned(),
                "abc".to_owned(),
            ];
            line.words[4] = word(&lies[draw.below(lies.len())]);
        }
    },
    |line, draw| {
        if let Some((_, ending)) = &mut line.body {
            *ending = draw.pick(&[&b"xx"[..], b"\n", b"\r", b"", b"\r\r\n", b"x\r\n"]).to_vec();
        }
    },
    |line, _| line.gap = b"\t".to_vec(),
    |line, draw| {
        let at = draw.below(line.words.len());
        line.words[at] = word(b"a\0b");
    },
    |line, draw| {
        for _ in 0..20 + draw.below(40) {
            line.words.push(word("w"));
        }
    },
    |line, draw| {
        let length = 200 + draw.below(1_600);
        line.words.push(Piece::Bytes(vec![b'z'; length]));
    },
];

fn replace(line: &mut Line, draw: &mut Draw, by: &[&str]) {
    if line.words.len() > 1 {
        let at = 1 + draw.below(line.words.len() - 1);
        line.words[at] = word(draw.pick(by));
    }
}

/// Longest line made here, in bytes; from 2,048 on memcached's answer depends on how the line arrives.
const LONGEST_LINE: usize = 2_000;

/// Length of `line`, every key taken as 250 bytes and every unique as 20.
fn most_bytes(line: &Line) -> usize {
    let words: usize = line
        .words
        .iter()
        .map(|word| match word {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::Packet(_) => LONGEST_LINE,
            Piece::Key(_) | Piece::EncodedKey(_) => 250,
            Piece::Cas(_) | Piece::FlaggedCas(_) => 21,
        })
        .sum();
    words + line.words.len() * line.gap.len() + line.ending.len()
}

/// Bends `line` once, sometimes twice. `marks_show`: the case asks whether an item was fetched before.
pub fn bend(line: Line, draw: &mut Draw, marks_show: bool) -> Operation {
    let mut bent = line.clone();
    for _ in 0..1 + usize::from(draw.chance(1, 5)) {
        if !bent.words.is_empty() {
            BENDS[draw.below(BENDS.len())](&mut bent, draw);
        }
    }
    // A key that is too long: memcached has touched or fetched the keys before it (see `cache/tests/differences.md`).
    let fetches = line.is(b"get") || line.is(b"gets");
    let touches = line.is(b"gat") || line.is(b"gats") || marks_show && fetches;
    let long = |word: &Piece| matches!(word, Piece::Bytes(bytes) if bytes.len() > 200);
    // A delay, of which both keep the low 32 bits: memcached forgets the flush before it, and every later answer may
    // differ. The generator says where flushes with a delay may be.
    let delay = |word: &Piece| matches!(word, Piece::Bytes(bytes) if bytes == b"-2147483649");
    let delays = line.is(b"flush_all") && bent.words.iter().any(delay);
    // A unique where a length is expected: the two servers would wait for different values.
    let waits = matches!(bent.words.get(4), Some(Piece::Cas(_)));
    let unfit = most_bytes(&bent) > LONGEST_LINE || touches && bent.words.iter().any(long) || delays || waits;
    let made = if unfit { line } else { bent };
    Operation { fenced: true, ..made.operation() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flush_is_bent_into_one_with_a_delay_and_others_are_bent() {
        let mut bent = 0;
        for index in 0..5_000 {
            let line = Line::new(vec![word("flush_all"), word("0")]);
            let plain = Operation { fenced: true, ..line.clone().operation() };
            let made = bend(line, &mut Draw::new(1, index), false);
            let delays = |piece: &Piece| matches!(piece, Piece::Bytes(bytes) if bytes.windows(11).any(|at| at == b"-2147483649"));
            assert!(!made.pieces.iter().any(delays), "{made:?}");
            bent += usize::from(made != plain);
        }
        assert!(bent > 3_000, "{bent}");
    }
}
