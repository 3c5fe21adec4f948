//! Decimal numbers as incr and decr read and write them.
//!
//! Reading follows memcached's `safe_strtoull`: leading white space and a sign are taken, the digits end at white space
//! or at the value's end, anything above 2^64 - 1 is no number. Deviates: C's `strtoull` runs on into what follows the
//! value; here the value's end ends it.

/// Bytes of the longest decimal number below 2^64.
pub(crate) const DIGITS_MAX: usize = 20;

/// The number that `text` begins with.
pub(crate) fn parse(text: &[u8]) -> Option<u64> {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r');
    let start = text.iter().position(|byte| !is_space(byte))?;
    let (negative, digits) = match &text[start..] {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    let len = digits.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(digits.len());
    if len == 0 || !digits.get(len).is_none_or(|byte| is_space(byte) || *byte == 0) {
        return None;
    }
    let value = digits[..len]
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    let value = if negative { value.wrapping_neg() } else { value };
    // C negates after reading and memcached refuses the result only when it looks negative.
    (!negative || (value as i64) >= 0).then_some(value)
}

/// Writes `value` at the start of `digits` and returns how many there are.
pub(crate) fn format(value: u64, digits: &mut [u8; DIGITS_MAX]) -> usize {
    let mut rest = value;
    let mut len = 0;
    loop {
        digits[len] = b'0' + (rest % 10) as u8;
        len += 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    digits[..len].reverse();
    len
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_memcached_reads_them() {
        for (text, value) in [
            (&b"0"[..], Some(0)),
            (b"18446744073709551615", Some(u64::MAX)),
            (b"18446744073709551616", None),
            (b"99999999999999999999999", None),
            (b"12 ", Some(12)),
            (b"12 monkeys", Some(12)),
            (b"12monkeys", None),
            (b" \t12", Some(12)),
            (b"+12", Some(12)),
            (b"-0", Some(0)),
            (b"-1", None),
            (b"", None),
            (b"   ", None),
            (b"-", None),
            (b"007", Some(7)),
            (b"1\0", Some(1)),
        ] {
            assert_eq!(parse(text), value, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn numbers_are_written_without_leading_zeros() {
        let mut digits = [0; DIGITS_MAX];
        for value in [0, 9, 10, 12_345, u64::MAX] {
            let len = format(value, &mut digits);
            assert_eq!(digits[..len], *value.to_string().as_bytes());
        }
    }
}
