//! Base64 (RFC 4648 §4), as clients write keys of meta commands and read them back.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// `bytes` in base64, with padding.
pub fn encode(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |group, &byte| group << 8 | u32::from(byte)) << (8 * (3 - chunk.len()));
        let digits = [18, 12, 6, 0].map(|shift| ALPHABET[(group >> shift & 63) as usize]);
        out.extend_from_slice(&digits[..=chunk.len()]);
        out.resize(out.len().next_multiple_of(4), b'=');
    }
    out
}

/// What `text` stands for; `None` when it is not what [`encode`] makes.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let padding = text.iter().rev().take_while(|&&byte| byte == b'=').count();
    let mut bits = 0u32;
    let mut out = Vec::new();
    for (at, byte) in text.iter().enumerate().take(text.len() - padding) {
        bits = bits << 6 | ALPHABET.iter().position(|digit| digit == byte)? as u32;
        if at % 4 > 0 {
            out.push((bits >> (6 - 2 * (at % 4))) as u8);
        }
    }
    (encode(&out) == text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for length in 0..20 {
            let bytes: Vec<u8> = (0..length).map(|n: u8| n.wrapping_mul(53).wrapping_add(7)).collect();
            assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
        assert_eq!(encode(b"foo!"), b"Zm9vIQ==");
        assert_eq!(decode(b"Zm9"), None);
        assert_eq!(decode(b"Zm9v!"), None);
    }
}
