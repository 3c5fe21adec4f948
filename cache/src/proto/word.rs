//! Bytes that a client chose, inside lines that another client or a program reads.
//!
//! A key of the binary protocol, or one sent as base64, may hold any byte. Written as it is into a dump or a list, one
//! with a line end makes lines of its own, which whoever reads the list takes for the server's and whoever replays a
//! dump sends as commands. Every list of keys goes through one of these functions.

/// Whether `bytes` can stand in a line as one word: no blank, no control character.
pub(crate) fn is_word(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_visible(byte))
}

fn is_visible(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f
}

/// Appends `bytes` as one word, every blank and control character as `%xx`. Lists that memcached writes as they are
/// look the same for every key that a text client can store, but for those with control characters.
pub(crate) fn append_word(text: &mut Vec<u8>, bytes: &[u8]) {
    append_escaping(text, bytes, |byte| !is_visible(byte));
}

/// Appends `bytes` with every byte but letters, digits and `-._~` written as `%xx` (memcached's `uriencode`).
pub(crate) fn append_uri(text: &mut Vec<u8>, bytes: &[u8]) {
    append_escaping(text, bytes, |byte| !byte.is_ascii_alphanumeric() && !matches!(byte, b'-' | b'.' | b'_' | b'~'));
}

fn append_escaping(text: &mut Vec<u8>, bytes: &[u8], escapes: impl Fn(u8) -> bool) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in bytes {
        if escapes(byte) {
            text.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        } else {
            text.push(byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_bytes_are_they_stay_one_word() {
        let all: Vec<u8> = (0..=255).collect();
        for append in [append_word, append_uri] {
            let mut text = Vec::new();
            append(&mut text, &all);
            assert!(is_word(&text), "{}", text.escape_ascii());
        }
        assert!(is_word(b"user:1%20") && is_word("schlüssel".as_bytes()));
        for wrong in [&b""[..], b"a b", b"a\r", b"\na", b"\0", b"\t", b"\x7f"] {
            assert!(!is_word(wrong), "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_plain_key_is_written_as_it_is() {
        let (mut word, mut uri) = (Vec::new(), Vec::new());
        append_word(&mut word, b"user:1%\xc3\xbc b");
        append_uri(&mut uri, b"user:1.~ b");
        assert_eq!((&word[..], &uri[..]), (&b"user:1%\xc3\xbc%20b"[..], &b"user%3A1.~%20b"[..]));
    }
}
