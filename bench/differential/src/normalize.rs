//! Cas uniques made comparable: each becomes "the n-th version of this key that was shown".
//!
//! Two servers number their items differently; what a client may rely on is that the unique of a key stays while the
//! item stays and changes when the item is stored anew. Values are stepped over by their length, so that bytes inside
//! a value are never taken for protocol.

use std::collections::HashMap;

use crate::base64;
use crate::packet;

#[derive(Debug, Clone, Copy)]
struct Seen {
    unique: u64,
    stale: Option<u64>,
    version: u64,
}

/// Uniques from here on are none that a server has counted up to: a client has named them (`E`), and they stay as they are.
const NAMED_LEAST: u64 = 1 << 52;
const NAMED_BELOW: i64 = NAMED_LEAST as i64;

/// The uniques that one target has shown during one case.
#[derive(Debug, Default)]
pub struct Uniques {
    seen: HashMap<Vec<u8>, Seen>,
}

impl Uniques {
    /// The unique last shown for `key`.
    pub fn last(&self, key: &[u8]) -> Option<u64> {
        self.seen.get(key).map(|seen| seen.unique)
    }

    /// The unique shown for `key` before the last one.
    pub fn stale(&self, key: &[u8]) -> Option<u64> {
        self.seen.get(key).and_then(|seen| seen.stale)
    }

    fn version(&mut self, key: &[u8], unique: u64) -> u64 {
        let seen = self.seen.entry(key.to_vec()).or_insert(Seen { unique, stale: None, version: 0 });
        if seen.unique != unique {
            *seen = Seen { unique, stale: Some(seen.unique), version: seen.version + 1 };
        }
        seen.version
    }

    /// `replies` with every cas unique replaced by `#n`, n counting the versions of that key shown so far.
    pub fn normalize(&mut self, replies: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::with_capacity(replies.len()), replies);
        while !rest.is_empty() {
            let end = rest.iter().position(|&byte| byte == b'\n').map_or(rest.len(), |at| at + 1);
            let (line, after) = rest.split_at(end);
            rest = after;
            if let Some((shown, length)) = self.meta_line(line) {
                out.extend_from_slice(&shown);
                let (body, after) = rest.split_at(length.min(rest.len()));
                out.extend_from_slice(body);
                rest = after;
                continue;
            }
            let Some((key, length, unique)) = value_line(line) else {
                out.extend_from_slice(line);
                continue;
            };
            match unique {
                Some((_, NAMED_LEAST..)) | None => out.extend_from_slice(line),
                Some((text, unique)) => {
                    let version = self.version(key, unique);
                    out.extend_from_slice(&line[..line.len() - text.len() - 2]);
                    out.extend_from_slice(format!("#{version}\r\n").as_bytes());
                }
            }
            let (body, after) = rest.split_at(length.saturating_add(2).min(rest.len()));
            out.extend_from_slice(body);
            rest = after;
        }
        out
    }
}

impl Uniques {
    /// A line of a meta command, made comparable, and the bytes of the value that follows; `None` for any other line.
    fn meta_line(&mut self, line: &[u8]) -> Option<(Vec<u8>, usize)> {
        let text = line.strip_suffix(b"\r\n")?;
        let mut words: Vec<Vec<u8>> = text.split(|&byte| byte == b' ').map(<[u8]>::to_vec).collect();
        let code = words[0].clone();
        if ![&b"VA"[..], b"HD", b"ME", b"EX", b"NS", b"NF", b"EN"].contains(&&code[..]) {
            return None;
        }
        let length = match (&code[..], words.get(1)) {
            (b"VA", Some(length)) => std::str::from_utf8(length).ok()?.parse::<usize>().ok()? + 2,
            _ => 0,
        };
        let encoded = words.iter().any(|word| word == b"b");
        let plain = |key: &[u8]| if encoded { base64::decode(key) } else { None }.unwrap_or_else(|| key.to_vec());
        let key = match &code[..] {
            b"ME" => words.get(1).cloned(),
            _ => words.iter().skip(1).find_map(|word| word.strip_prefix(b"k")).map(plain),
        };
        for word in words.iter_mut().skip(1) {
            let (name, digits) = match word.iter().position(|byte| *byte == b'=') {
                Some(at) => word.split_at(at + 1),
                None => word.split_at(1.min(word.len())),
            };
            let number = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<i64>().ok());
            let shown = match (name, number, &key) {
                // The unique of an item that me shows under an encoded key is looked up under that name alone.
                (b"c" | b"cas=", Some(unique @ 1..NAMED_BELOW), Some(key)) => {
                    format!("#{}", self.version(key, unique as u64))
                }
                (b"c" | b"cas=", Some(1..NAMED_BELOW), None) => "#?".to_owned(),
                (b"t" | b"exp=", Some(left), _) => about(left),
                (b"l" | b"la=", Some(_), _) => "#".to_owned(),
                _ => continue,
            };
            *word = [name, shown.as_bytes()].concat();
        }
        Some(([words.join(&b' '), b"\r\n".to_vec()].concat(), length))
    }
}

impl Uniques {
    /// Responses of the binary protocol as lines, every unique replaced as in [`Uniques::normalize`]. The first byte of
    /// a packet's opaque is the number of its key, whose name `key` gives.
    pub fn normalize_packets(&mut self, replies: &[u8], key: impl Fn(usize) -> Option<Vec<u8>>) -> Vec<u8> {
        packet::lines(replies, |response| match (response.cas, key((response.opaque >> 24) as usize)) {
            (unique @ (0 | NAMED_LEAST..), _) => unique.to_string(),
            (unique, Some(key)) => format!("#{}", self.version(&key, unique)),
            (_, None) => "#?".to_owned(),
        })
    }
}

/// Seconds left, rounded so far that a few of them do not show.
fn about(left: i64) -> String {
    match left {
        -1 => "-1".to_owned(),
        -50_000_000..50_000_000 => format!("~{}", (left + left.signum() * 500) / 1000),
        _ => "#far".to_owned(),
    }
}

/// Key, length of the value, and the unique as text and as a number.
type ValueLine<'a> = (&'a [u8], usize, Option<(&'a [u8], u64)>);

/// Takes `VALUE key flags length [unique]\r\n` apart; `None` for any other line.
fn value_line(line: &[u8]) -> Option<ValueLine<'_>> {
    let mut words = line.strip_suffix(b"\r\n")?.strip_prefix(b"VALUE ")?.split(|&byte| byte == b' ');
    let number = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    let (key, _flags, length) = (words.next()?, words.next()?, number(words.next()?)?);
    let unique = match words.next() {
        None => None,
        Some(text) => Some((text, number(text)?)),
    };
    if words.next().is_some() { None } else { Some((key, usize::try_from(length).ok()?, unique)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unique_becomes_the_version_of_its_key() {
        let mut uniques = Uniques::default();
        let replies =
            b"VALUE a 0 1 90\r\nx\r\nEND\r\nVALUE b 0 1 90\r\nx\r\nVALUE a 0 1 90\r\nx\r\nVALUE a 0 1 95\r\nx\r\n";
        let expected =
            b"VALUE a 0 1 #0\r\nx\r\nEND\r\nVALUE b 0 1 #0\r\nx\r\nVALUE a 0 1 #0\r\nx\r\nVALUE a 0 1 #1\r\nx\r\n";
        assert_eq!(uniques.normalize(replies).escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!((uniques.last(b"a"), uniques.stale(b"a")), (Some(95), Some(90)));
        assert_eq!((uniques.last(b"c"), uniques.stale(b"b")), (None, None));
    }

    #[test]
    fn meta_lines_keep_what_does_not_depend_on_server_or_clock() {
        let mut uniques = Uniques::default();
        let replies = b"VA 3 c90 ka t99999 l2 h1\r\nc9 \r\nHD ka c91 W\r\nHD kYQ== b c91 t-1\r\nEX c0 ka\r\n\
                        ME a exp=-99998 la=0 cas=91 fetch=no cls=1 size=61\r\nEN O1\r\nHD t4294967290\r\n";
        let expected = b"VA 3 c#0 ka t~100 l# h1\r\nc9 \r\nHD ka c#1 W\r\nHD kYQ== b c#1 t-1\r\nEX c0 ka\r\n\
                         ME a exp=~-100 la=# cas=#1 fetch=no cls=1 size=61\r\nEN O1\r\nHD t#far\r\n";
        assert_eq!(uniques.normalize(replies).escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert_eq!((uniques.last(b"a"), uniques.stale(b"a")), (Some(91), Some(90)));
    }

    #[test]
    fn protocol_inside_a_value_is_left_alone() {
        let replies = b"VALUE a 0 20 7\r\nVALUE b 0 1 9\r\nx\r\nEN\r\nEND\r\n";
        let expected = b"VALUE a 0 20 #0\r\nVALUE b 0 1 9\r\nx\r\nEN\r\nEND\r\n";
        assert_eq!(
            Uniques::default().normalize(replies).escape_ascii().to_string(),
            expected.escape_ascii().to_string()
        );
    }

    #[test]
    fn torn_and_odd_replies_pass_through() {
        for replies in [&b"VALUE a 0 5 7\r\nxy"[..], b"VALUE a", b"VALUE a b c d e\r\n", b"\r\n\n", b""] {
            let out = Uniques::default().normalize(replies);
            assert_eq!(out.len(), replies.len().max(out.len()));
        }
    }
}
