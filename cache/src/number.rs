//! Decimal numbers, in commands and in values, read exactly as memcached 1.6.45 does; and how they are written.
//!
//! It reads them in two ways. Most words of a command are digits and nothing else, a bounded number of them, and a number
//! that does not fit is none (`mcmc_toktou32` and its kin). The flags and the exptime of a storage command, and the value
//! that incr counts, are read with C's strtol: blanks before the number are skipped, a sign is taken, whatever follows a
//! blank after the number is ignored, and narrowing to 32 bits keeps the low bits (`safe_strtoul`, `safe_strtol`).

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

/// Whether the number ends where the token ends, at a blank, or at a NUL.
fn ends_well(rest: &[u8]) -> bool {
    rest.first().is_none_or(|&byte| is_blank(byte) || byte == 0)
}

/// The number that digits alone make, at most `most` of them. `None` without one, and above 2^64 - 1.
fn digits_only(text: &[u8], most: usize) -> Option<u64> {
    if text.is_empty() || text.len() > most {
        return None;
    }
    text.iter().try_fold(0u64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|&digit| digit < 10)?;
        value.checked_mul(10)?.checked_add(digit.into())
    })
}

/// An unsigned 64-bit number (`mcmc_toktou64`): incr's delta, a cas unique. `None` is the caller's error line.
pub fn unsigned(text: &[u8]) -> Option<u64> {
    digits_only(text, 22)
}

/// An unsigned 32-bit number (`mcmc_toktou32`): megabytes, verbosity, a meta command's client flags.
pub fn unsigned_32(text: &[u8]) -> Option<u32> {
    digits_only(text, 11)?.try_into().ok()
}

/// A signed 32-bit number (`mcmc_tokto32`): an exptime, but for that of a classic storage command. A minus alone is 0.
pub fn signed_32(text: &[u8]) -> Option<i32> {
    match text {
        b"-" => Some(0),
        [b'-', digits @ ..] => i32::try_from(-(digits_only(digits, 10)? as i64)).ok(),
        digits => digits_only(digits, 11)?.try_into().ok(),
    }
}

/// A value's length in bytes: 0 to 2^31 - 3, since the line end is added in an `int`.
pub fn length(text: &[u8]) -> Option<u32> {
    signed_32(text)?.try_into().ok().filter(|&bytes| bytes <= i32::MAX as u32 - 2)
}

/// The flags of a classic storage command (`safe_strtoflags`): the low 32 bits.
pub fn client_flags(text: &[u8]) -> Option<u32> {
    of_value(text).map(|value| value as u32)
}

/// The exptime of a classic storage command (`safe_strtol`): the low 32 bits.
pub fn exptime(text: &[u8]) -> Option<i32> {
    let Scanned { negative, magnitude, rest } = scan(text)?;
    let value = if negative { 0i64.checked_sub_unsigned(magnitude)? } else { i64::try_from(magnitude).ok()? };
    ends_well(rest).then_some(value as i32)
}

/// The number that an item's value begins with, as incr and decr read it (`safe_strtoull`).
///
/// Deviates: C's `strtoull` runs on into what follows the value; here the value's end ends the number.
pub(crate) fn of_value(value: &[u8]) -> Option<u64> {
    let Scanned { negative, magnitude, rest } = scan(value)?;
    let number = if negative { magnitude.wrapping_neg() } else { magnitude };
    // C negates after reading, and memcached refuses the result only when it looks negative.
    let refused = negative && number > i64::MAX as u64;
    (ends_well(rest) && !refused).then_some(number)
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
    fn words_of_commands_are_digits_and_nothing_else() {
        for (text, expected) in [
            ("0", Some(0)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("0000000000000000000005", Some(5)),
            ("00000000000000000000005", None),
            ("-1", None),
            ("-0", None),
            ("+5", None),
            ("\t5", None),
            ("5\r", None),
            ("5x", None),
            ("", None),
            ("-", None),
        ] {
            assert_eq!(unsigned(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!((unsigned_32(b"4294967295"), unsigned_32(b"4294967296")), (Some(u32::MAX), None));
        assert_eq!((unsigned_32(b"00000000005"), unsigned_32(b"000000000005")), (Some(5), None));
        for (text, expected) in [
            ("2147483647", Some(i32::MAX)),
            ("2147483648", None),
            ("-2147483648", Some(i32::MIN)),
            ("-2147483649", None),
            ("-0000000005", Some(-5)),
            ("-00000000005", None),
            ("-", Some(0)),
            ("--1", None),
            ("", None),
        ] {
            assert_eq!(signed_32(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!((length(b"2147483645"), length(b"2147483646"), length(b"-1")), (Some(2_147_483_645), None, None));
        assert_eq!(length(b"-0"), Some(0));
    }

    #[test]
    fn flags_and_exptime_of_a_storage_command_are_read_as_c_reads_them() {
        for (text, flags, time) in [
            ("4294967296", Some(0), Some(0)),
            ("4294967295", Some(u32::MAX), Some(-1)),
            // strtoull negates modulo 2^64, and memcached looks for the sign only when the result is huge.
            ("-18446744073709551615", Some(1), None),
            ("-9223372036854775808", None, Some(0)),
            ("9223372036854775808", Some(0), None),
            ("-1", None, Some(-1)),
            ("+5", Some(5), Some(5)),
            ("\t5", Some(5), Some(5)),
            ("5\tx", Some(5), Some(5)),
            ("5\0x", Some(5), Some(5)),
            ("5x", None, None),
            ("-", None, None),
        ] {
            assert_eq!((client_flags(text.as_bytes()), exptime(text.as_bytes())), (flags, time), "{text:?}");
        }
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
