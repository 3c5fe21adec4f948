//! Decimal numbers, in commands and in values, read exactly as memcached 1.6.18's `safe_strtoul`, `safe_strtol` and
//! `safe_strtoull` do; and how they are written.
//!
//! They rest on C's strtol: blanks before the number are skipped, a sign is taken, and whatever follows a blank after
//! the number is ignored. Narrowing to 32 bits keeps the low bits, as in memcached; lengths are the exception, since a
//! length that wraps wedges the connection (`set a 0 0 4294967296` hangs 1.6.18): see `length`.

/// What `strtoull(text, &end, 10)` leaves: whether there was a minus sign, the magnitude, and the rest.
struct Scanned<'a> {
    negative: bool,
    magnitude: u64,
    rest: &'a [u8],
}

/// C's `isspace` in the POSIX locale.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Skips blanks, takes a sign and digits. `None` without a digit or above 2^64 - 1.
fn scan(text: &[u8]) -> Option<Scanned<'_>> {
    let mut rest = text;
    while let [first, tail @ ..] = rest
        && is_blank(*first)
    {
        rest = tail;
    }
    let negative = matches!(rest, [b'-', ..]);
    if let [b'-' | b'+', tail @ ..] = rest {
        rest = tail;
    }
    let mut magnitude = 0u64;
    let mut digits = 0usize;
    while let [digit @ b'0'..=b'9', tail @ ..] = rest {
        magnitude = magnitude.checked_mul(10)?.checked_add(u64::from(digit - b'0'))?;
        digits += 1;
        rest = tail;
    }
    (digits > 0).then_some(Scanned { negative, magnitude, rest })
}

/// Whether the number ends where the token ends or at a blank.
fn ends_well(rest: &[u8]) -> bool {
    rest.first().is_none_or(|&byte| is_blank(byte))
}

/// An unsigned 64-bit number (`safe_strtoull`): incr's delta, a cas unique. `None` is the caller's error line.
pub fn unsigned(text: &[u8]) -> Option<u64> {
    let Scanned { negative, magnitude, rest } = scan(text)?;
    let value = if negative { magnitude.wrapping_neg() } else { magnitude };
    // A minus sign is looked for only when the number does not fit a signed one, and then in all that follows.
    let refused = value > i64::MAX as u64 && text.contains(&b'-');
    (ends_well(rest) && !refused).then_some(value)
}

/// An unsigned 32-bit number (`safe_strtoul`): flags, megabytes, verbosity. Keeps the low 32 bits, as 1.6.18 does.
pub fn unsigned_32(text: &[u8]) -> Option<u32> {
    unsigned(text).map(|value| value as u32)
}

/// A signed number of C's `long`.
fn signed(text: &[u8]) -> Option<i64> {
    let Scanned { negative, magnitude, rest } = scan(text)?;
    let value = if negative { 0i64.checked_sub_unsigned(magnitude)? } else { i64::try_from(magnitude).ok()? };
    ends_well(rest).then_some(value)
}

/// A signed 32-bit number (`safe_strtol`): an exptime. Keeps the low 32 bits, as 1.6.18 does.
pub fn signed_32(text: &[u8]) -> Option<i32> {
    signed(text).map(|value| value as i32)
}

/// A value's length in bytes: 0 to 2^31 - 3 (`process_update_command` adds the line end in an `int`).
///
/// Deviates: a length outside 32 bits is refused; 1.6.18 keeps the low bits and then waits for the wrong bytes.
pub fn length(text: &[u8]) -> Option<u32> {
    u32::try_from(signed(text)?).ok().filter(|&bytes| bytes <= i32::MAX as u32 - 2)
}

/// The number that an item's value begins with, as incr and decr read it (`safe_strtoull`); it may end at a NUL too.
///
/// Deviates: C's `strtoull` runs on into what follows the value; here the value's end ends the number.
pub(crate) fn of_value(value: &[u8]) -> Option<u64> {
    let Scanned { negative, magnitude, rest } = scan(value)?;
    let number = if negative { magnitude.wrapping_neg() } else { magnitude };
    // C negates after reading, and memcached refuses the result only when it looks negative.
    let refused = negative && number > i64::MAX as u64;
    ((ends_well(rest) || rest.first() == Some(&0)) && !refused).then_some(number)
}

/// Bytes of the longest number below 2^64.
pub(crate) const DIGITS_MAX: usize = 20;

/// Writes `value` in decimal to the front of `out`, which has room for it; returns its length.
///
/// Most numbers are short, as flags and lengths of values are. Each length of these is written without a loop, as part
/// of the caller.
#[inline(always)]
pub(crate) fn write(out: &mut [u8], value: u64) -> usize {
    match value {
        0..10 => {
            out[0] = last_digit(value);
            1
        }
        10..100 => {
            out[..2].copy_from_slice(&[last_digit(value / 10), last_digit(value)]);
            2
        }
        100..1000 => {
            out[..3].copy_from_slice(&[last_digit(value / 100), last_digit(value / 10), last_digit(value)]);
            3
        }
        _ => write_long(out, value),
    }
}

/// The same, of any number.
#[inline(never)]
fn write_long(out: &mut [u8], value: u64) -> usize {
    let len = digits(value);
    let mut rest = value;
    for place in out[..len].iter_mut().rev() {
        *place = last_digit(rest);
        rest /= 10;
    }
    len
}

#[inline(always)]
fn last_digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

/// How many digits `value` has.
#[inline]
pub(crate) fn digits(value: u64) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsigned_reads_what_strtoull_reads() {
        for (text, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("-1", None),
            ("-0", Some(0)),
            // strtoull negates modulo 2^64, and memcached looks for the sign only when the result is huge.
            ("-18446744073709551615", Some(1)),
            ("+5", Some(5)),
            ("\t5", Some(5)),
            ("5\r", Some(5)),
            ("5\tx", Some(5)),
            ("5x", None),
            ("", None),
            ("-", None),
            ("x", None),
        ] {
            assert_eq!(unsigned(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn narrow_numbers_keep_their_low_bits_but_lengths_do_not() {
        assert_eq!(unsigned_32(b"4294967296"), Some(0));
        assert_eq!(signed_32(b"4294967295"), Some(-1));
        assert_eq!(signed_32(b"-9223372036854775808"), Some(0));
        assert_eq!(signed_32(b"9223372036854775808"), None);
        assert_eq!(length(b"4294967296"), None);
        assert_eq!(length(b"2147483645"), Some(2_147_483_645));
        assert_eq!(length(b"2147483646"), None);
        assert_eq!(length(b"-1"), None);
        assert_eq!(length(b"-0"), Some(0));
    }

    #[test]
    fn numbers_of_values_are_read_as_memcached_reads_them() {
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
            assert_eq!(of_value(text), value, "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn numbers_are_written_as_rust_writes_them() {
        let mut out = [0; DIGITS_MAX];
        for shift in 0..64 {
            for value in [1 << shift, (1u64 << shift) - 1, 10u64.pow(shift % 20), 10u64.pow(shift % 20) - 1] {
                let len = write(&mut out, value);
                assert_eq!(out[..len], *value.to_string().as_bytes());
            }
        }
    }
}
