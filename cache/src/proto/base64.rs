//! Base64 as memcached 1.6.45's `base64.c` reads and writes it: keys of meta commands with the flag b.
//!
//! Reading is lenient in memcached's way: bytes outside the alphabet are passed over, and what follows the padding is
//! ignored. Writing is RFC 4648 §4 with padding and without line ends.

use arrayvec::ArrayVec;

use crate::key::KEY_MAX_BYTES;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes of the longest key once encoded.
pub const ENCODED_KEY_MAX_BYTES: usize = KEY_MAX_BYTES.div_ceil(3) * 4;

/// A key as its bytes are.
pub type Key = ArrayVec<u8, KEY_MAX_BYTES>;

/// The six bits of a character; `=` counts as 0. `None` outside the alphabet.
fn bits_of(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        b'=' => Some(0),
        _ => None,
    }
}

/// Decodes a key of at most [`KEY_MAX_BYTES`] characters; `None` where memcached's decoder finds nothing.
pub fn decode(text: &[u8]) -> Option<Key> {
    let count = text.iter().filter(|&&byte| bits_of(byte).is_some()).count();
    if count == 0 || count % 4 != 0 {
        return None;
    }
    let mut key = Key::new();
    let (mut block, mut filled, mut padding) = ([0u8; 4], 0, 0);
    for (&byte, bits) in text.iter().filter_map(|byte| Some((byte, bits_of(*byte)?))) {
        padding += usize::from(byte == b'=');
        block[filled] = bits;
        filled += 1;
        if filled < 4 {
            continue;
        }
        filled = 0;
        let [a, b, c, d] = block;
        let bytes = [a << 2 | b >> 4, b << 4 | c >> 2, c << 6 | d];
        let kept = bytes.get(..3usize.checked_sub(padding).filter(|&kept| kept > 0)?)?;
        key.try_extend_from_slice(kept).ok()?;
        if padding > 0 {
            break;
        }
    }
    (!key.is_empty()).then_some(key)
}

/// Encodes `key`: `put` is given four characters at a time.
pub fn encode(key: &[u8], mut put: impl FnMut(&[u8; 4])) {
    let digit = |bits: u8| ALPHABET[usize::from(bits & 63)];
    for chunk in key.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| chunk.get(at).copied().unwrap_or(0));
        let mut four = [digit(a >> 2), digit(a << 4 | b >> 4), digit(b << 2 | c >> 6), digit(c)];
        four[chunk.len() + 1..].fill(b'=');
        put(&four);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(key, |four| out.extend_from_slice(four));
        out
    }

    #[test]
    fn keys_of_every_length_come_back() {
        let key: Vec<u8> = (0..KEY_MAX_BYTES as u32).map(|n| (n * 37 + 11) as u8).collect();
        for length in 1..=KEY_MAX_BYTES {
            assert_eq!(decode(&encoded(&key[..length])).as_deref(), Some(&key[..length]));
        }
        assert_eq!(encoded(&key).len(), ENCODED_KEY_MAX_BYTES);
    }

    #[test]
    fn reading_is_as_lenient_as_memcacheds() {
        for (text, key) in [
            (&b"Zm9v"[..], Some(&b"foo"[..])),
            (b"Zm8=", Some(b"fo")),
            (b"Zg==", Some(b"f")),
            (b"Z-m9_v", Some(b"foo")),
            (b"Zm9vZg==Zm9v", Some(b"foof")),
            (b"Zm9", None),
            (b"", None),
            (b"----", None),
            (b"A===", None),
            (b"====", None),
            (b"==AA", Some(b"\0")),
        ] {
            assert_eq!(decode(text).as_deref(), key, "{:?}", text.escape_ascii().to_string());
        }
    }
}
