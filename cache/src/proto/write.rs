//! Replies written, and measured: by the same code, whatever they are written for.
//!
//! Each protocol writes what stands before a value in one place, its `head` (`text.rs`, `meta.rs`, `binary.rs`): to
//! [measure](Form::measure) a reply as well as to write it.

use super::base64::ENCODED_KEY_MAX_BYTES;
use super::form::{Form, Kind, OPAQUE_MAX_BYTES, Said};
use super::line::LINE_MAX_BYTES;
use super::sink::{Measure, Sink, Writer};
use super::{binary, meta, text};
use crate::operation::Outcome;

/// Bytes of the longest head: meta's, with `VA`, every flag, and the key encoded.
pub(crate) const HEAD_MAX_BYTES: usize =
    3 + 10 + 6 * 22 + 1 + OPAQUE_MAX_BYTES + 2 + ENCODED_KEY_MAX_BYTES + 2 + 6 + 2 + 22;

/// Bytes of the longest [`tail`](Form::tail).
pub(crate) const TAIL_MAX_BYTES: usize = 7;

impl Form<'_> {
    /// Whether the client is not to be told this.
    #[inline]
    pub(crate) fn hides(&self, said: &Said) -> bool {
        match (self.kind, said) {
            (Kind::Classic, _) => self.quiet,
            (Kind::Fetch { last, .. }, said) => !last && matches!(said, Said::Outcome(Outcome::Missed)),
            (Kind::Meta(name), Said::Outcome(outcome)) => self.quiet && meta::is_nominal(name, outcome),
            (Kind::Meta(_), Said::Line(_)) => false,
            (Kind::Packet(opcode), said) => binary::hides(opcode, said),
        }
    }

    /// Bytes that the head of any outcome fits in.
    #[inline]
    pub(crate) fn head_max(&self) -> usize {
        match self.kind {
            Kind::Fetch { .. } => text::HEADER_MAX_BYTES,
            Kind::Classic => LINE_MAX_BYTES,
            Kind::Meta(_) => HEAD_MAX_BYTES,
            Kind::Packet(_) => binary::HEAD_MAX_BYTES,
        }
    }

    /// What follows the value.
    #[inline]
    pub(crate) fn tail(&self, said: &Said) -> &'static [u8] {
        match (self.kind, said) {
            (Kind::Fetch { last, .. }, Said::Outcome(Outcome::Hit(_))) => text::value_tail(last),
            (Kind::Meta(_), Said::Outcome(Outcome::Hit(view))) if self.shows(view) => text::value_tail(false),
            _ => b"",
        }
    }

    /// Writes what stands before the value; all of the reply, where no value is wanted or found. Not of what is
    /// [hidden](Self::hides).
    #[inline]
    pub(crate) fn head(&self, said: &Said, out: &mut impl Sink) {
        match (self.kind, said) {
            (Kind::Packet(opcode), Said::Outcome(outcome)) => binary::head(self, opcode, outcome, out),
            (Kind::Packet(opcode), &Said::Line(line)) => binary::line(self, opcode, line, out),
            (_, Said::Line(line)) => out.put(line.bytes()),
            (Kind::Fetch { .. } | Kind::Classic, Said::Outcome(outcome)) => text::head(self, outcome, out),
            (Kind::Meta(name), Said::Outcome(outcome)) => meta::head(self, name, outcome, out),
        }
    }

    /// Bytes of the whole reply.
    pub(crate) fn measure(&self, said: &Said) -> usize {
        let mut measure = Measure::default();
        self.head(said, &mut measure);
        measure.bytes() + self.value_len(said) + self.tail(said).len()
    }

    /// Whether any reply of this form with a value of `value_len` bytes fits in `out`.
    #[inline]
    pub(crate) fn fits(&self, value_len: usize, out: &Writer<'_>) -> bool {
        out.room() >= self.head_max() + value_len + TAIL_MAX_BYTES
    }

    /// Writes the whole reply to `out`, where it [fits](Self::fits); `value`: what follows the head.
    #[inline]
    pub(crate) fn write(&self, said: &Said, value: &[u8], out: &mut Writer<'_>) {
        debug_assert!(self.fits(value.len(), out) && value.len() == self.value_len(said), "{self:?} {said:?}");
        self.head(said, out);
        out.put(value);
        out.put(self.tail(said));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KEY_MAX_BYTES;
    use crate::operation::{ItemFacts, Number, Purpose, View};
    use crate::proto::form::FormHead;
    use crate::proto::line::Line;
    use crate::proto::meta::Name;

    const KEY: &[u8; KEY_MAX_BYTES] = &[b'k'; KEY_MAX_BYTES];

    /// Everything that can be said, with the longest of numbers.
    fn sayings() -> Vec<Said> {
        let (cas, ttl) = (u64::MAX, Some(u32::MAX));
        let mut view =
            View { cas, ttl, flags: u32::MAX, len: 5, idle: u32::MAX, fetched: true, base64: true, ..View::default() };
        (view.stale, view.token_sent, view.won) = (true, true, true);
        let facts = ItemFacts {
            expires_in: i32::MIN,
            idle: u32::MAX,
            cas,
            fetched: true,
            class: u32::MAX,
            bytes: u32::MAX,
            base64: true,
        };
        let outcomes = [
            Outcome::Hit(view),
            Outcome::Hit(View { len: 0, ..view }),
            Outcome::Hit(View { withheld: true, ..view }),
            Outcome::Stored { cas, len: u32::MAX },
            Outcome::Deleted,
            Outcome::Touched,
            Outcome::Number(Number { value: u64::MAX, cas, ttl }),
            Outcome::Debug(facts),
            Outcome::Missed,
            Outcome::Exists,
            Outcome::NotStored,
            Outcome::TooLarge,
            Outcome::NoMemory(Purpose::Store),
            Outcome::NoMemory(Purpose::Change),
            Outcome::NoMemory(Purpose::Create),
            Outcome::NotANumber,
        ];
        let lines =
            [Line::Ok, Line::Version, Line::AuthTermination, Line::Error, Line::FlushDisabled, Line::MemlimitNotBytes];
        outcomes.map(Said::from).into_iter().chain(lines.map(Said::from)).collect()
    }

    fn forms() -> Vec<Form<'static>> {
        let mut forms = vec![Form::classic(false), Form::fetch(KEY, true, true), Form::fetch(KEY, false, false)];
        let names = [Name::Get, Name::Set, Name::Delete, Name::Arith, Name::Debug];
        for name in names {
            for value in [false, name != Name::Set] {
                let (letters, opaque) = (b"kOctsflhvqbTNRuI", &[b'O'; OPAQUE_MAX_BYTES]);
                let sent = u32::MAX;
                forms.push(Form {
                    value,
                    base64: true,
                    sent,
                    letters,
                    opaque,
                    key: KEY,
                    ..Form::bare(Kind::Meta(name))
                });
            }
        }
        for opcode in 0..=0x24 {
            let value = binary::Opcode::of(opcode).0.answers_value();
            forms.push(Form { value, opaque: b"abcd", key: KEY, ..Form::bare(Kind::Packet(opcode)) });
        }
        forms
    }

    #[test]
    fn what_is_measured_is_what_is_written_and_no_head_is_longer_than_the_longest() {
        for form in forms() {
            for said in sayings() {
                let mut bytes = [0; 2 * HEAD_MAX_BYTES];
                let mut out = Writer::new(&mut bytes);
                form.head(&said, &mut out);
                assert!(out.len() <= form.head_max() && out.len() <= HEAD_MAX_BYTES, "{form:?} {said:?}");
                let mut out = Writer::new(&mut bytes);
                form.write(&said, &b"value"[..form.value_len(&said)], &mut out);
                assert_eq!(out.len(), form.measure(&said), "{form:?} {said:?}");
            }
        }
    }

    #[test]
    fn a_form_comes_back_as_it_was_kept() {
        for form in forms() {
            let mut bytes = [0; FormHead::BYTES_MAX];
            let kept = FormHead::of(&form, &mut bytes).with(&bytes).of_item(KEY);
            assert_eq!(format!("{kept:?}"), format!("{form:?}"));
        }
    }

    #[test]
    fn a_fetch_is_answered_as_memcached_answers_it() {
        let said = Outcome::Hit(View { flags: 7, cas: 10, len: 2, ..View::default() }).into();
        for (cas, last, expected) in
            [(false, false, "VALUE a 7 2\r\nhi\r\n"), (true, true, "VALUE a 7 2 10\r\nhi\r\nEND\r\n")]
        {
            let mut bytes = [0; 400];
            let mut out = Writer::new(&mut bytes);
            Form::fetch(b"a", cas, last).write(&said, b"hi", &mut out);
            assert_eq!(out.into_written(), expected.as_bytes());
        }
    }
}
