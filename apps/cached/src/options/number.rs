//! Numbers as memcached reads them, with the limits of what they count.
//!
//! memcached reads with `atoi(3)` and `atof(3)`: blanks before the number are passed over, and what follows it is not
//! read. Charts, unit files and compose files rely on both: a list item `-m 128` is one argument whose value is ` 128`,
//! and `-m 200m` is two hundred megabytes. What is not read is said in a note, since `-m 4g` is four megabytes.

use std::str::FromStr;

use super::error::OptionError;

/// A value that was read, and what is to be said of that at the start.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Noted<T> {
    /// The value.
    pub(super) value: T,
    /// What of the text was not read, if anything.
    pub(super) note: Option<String>,
}

impl<T> Noted<T> {
    /// Another value of the same text.
    pub(super) fn map<U>(self, of: impl FnOnce(T) -> U) -> Noted<U> {
        Noted { value: of(self.value), note: self.note }
    }

    /// The value; the note goes to `notes`.
    pub(super) fn take(self, notes: &mut Vec<String>) -> T {
        notes.extend(self.note);
        self.value
    }
}

/// What an option counts, and from where to where it may.
#[derive(Debug, Clone, Copy)]
pub(super) struct Number {
    /// The option's letter or name.
    option: &'static str,
    /// What is counted.
    unit: &'static str,
    /// Smallest that is taken.
    least: i64,
    /// Largest that is taken.
    most: i64,
    /// What to do next, if there is more to say than the limits.
    hint: &'static str,
}

impl Number {
    /// Of `unit` for `option`, from `least` to `most`.
    pub(super) const fn new(option: &'static str, unit: &'static str, least: i64, most: i64) -> Number {
        Number { option, unit, least, most, hint: "" }
    }

    /// With more to say than the limits where a value is refused.
    pub(super) const fn hint(self, hint: &'static str) -> Number {
        Number { hint, ..self }
    }

    /// Reads `text` as `atoi(3)` does.
    ///
    /// # Errors
    /// It does not begin with a number, or that is out of the limits.
    pub(super) fn read(&self, text: &str) -> Result<Noted<u64>, OptionError> {
        let (value, rest) = integer(text).ok_or_else(|| self.wrong(text))?;
        if !(self.least.max(0)..=self.most).contains(&value) {
            return Err(self.wrong(text));
        }
        let note = (!rest.is_empty()).then(|| {
            let (option, text, unit) = (self.option, text.trim(), self.unit);
            format!("{option} {text}: read as {value}, {unit}; memcached does not read `{rest}` either")
        });
        Ok(Noted { value: value.unsigned_abs(), note })
    }

    /// Reads `text` as memcached's `safe_strtoul` does, which takes nothing behind the number but blanks.
    ///
    /// # Errors
    /// It is no number, or out of the limits.
    pub(super) fn read_whole(&self, text: &str) -> Result<u64, OptionError> {
        match integer(text) {
            Some((value, "")) if (self.least.max(0)..=self.most).contains(&value) => Ok(value.unsigned_abs()),
            _ => Err(self.wrong(text)),
        }
    }

    /// Why `text` is refused.
    pub(super) fn wrong(&self, text: &str) -> OptionError {
        let Number { option, unit, least, most, hint } = *self;
        OptionError::Number { option, value: text.trim().to_owned(), unit, least, most, hint }
    }
}

/// The integer that `text` begins with behind blanks, and what follows it, without blanks; `None` if there is none, or
/// none that 64 bits hold.
pub(super) fn integer(text: &str) -> Option<(i64, &str)> {
    let text = text.trim();
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    let (number, rest) = text.split_at(sign + digits);
    Some((i64::from_str(number).ok()?, rest.trim_start()))
}

/// The decimal number that `text` begins with behind blanks, as `atof(3)` reads it, and what follows it.
pub(super) fn decimal(text: &str) -> Option<(f64, &str)> {
    let text = text.trim();
    // What a decimal number may consist of is at the beginning; the longest part of it that is one counts.
    let most = text.bytes().take_while(|byte| byte.is_ascii_digit() || b"+-.eE".contains(byte)).count();
    let read = |end: usize| Some((f64::from_str(text.get(..end)?).ok()?, text[end..].trim_start()));
    (1..=most).rev().find_map(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_read_as_atoi_reads_them() {
        for (text, read) in [
            ("128", Some((128, ""))),
            (" 128", Some((128, ""))),
            ("\t128\n", Some((128, ""))),
            ("128 ", Some((128, ""))),
            ("+5", Some((5, ""))),
            ("-1", Some((-1, ""))),
            ("0064", Some((64, ""))),
            ("200m", Some((200, "m"))),
            ("64 MB", Some((64, "MB"))),
            ("1.5", Some((1, ".5"))),
            ("12é", Some((12, "é"))),
            ("", None),
            (" ", None),
            ("-", None),
            ("m", None),
            ("- 1", None),
            ("99999999999999999999", None),
        ] {
            assert_eq!(integer(text), read, "{text:?}");
        }
    }

    #[test]
    fn decimals_are_read_as_atof_reads_them() {
        for (text, read) in [
            ("1.25", Some((1.25, ""))),
            (" 2 ", Some((2.0, ""))),
            ("1.08x", Some((1.08, "x"))),
            ("1.5e", Some((1.5, "e"))),
            ("1.2.3", Some((1.2, ".3"))),
            ("2-1", Some((2.0, "-1"))),
            ("1e1", Some((10.0, ""))),
            ("x", None),
            ("", None),
            ("nan", None),
        ] {
            assert_eq!(decimal(text), read, "{text:?}");
        }
    }

    #[test]
    fn what_is_not_read_is_said() {
        let number = Number::new("-m", "a number of megabytes", 1, 4096);
        assert_eq!(number.read(" 64 "), Ok(Noted { value: 64, note: None }));
        let note = "-m 4g: read as 4, a number of megabytes; memcached does not read `g` either".to_owned();
        assert_eq!(number.read("4g"), Ok(Noted { value: 4, note: Some(note) }));
        assert!(number.read("0").is_err() && number.read("4097").is_err());
        assert!(number.read_whole("4g").is_err() && number.read_whole(" 4 ") == Ok(4));
    }
}
