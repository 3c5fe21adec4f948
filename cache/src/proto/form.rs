//! `Form`: how the reply to a request is to look, which the request says and its outcome does not.
//!
//! A reply is made of a form and of what is [said](Said), which may be known much later: its head, then the value where one is
//! wanted and was found, then what follows a value. Each protocol writes its head in one place, whatever that is for
//! (`text.rs`, `meta.rs`, `binary.rs`, each with its `head`): to [measure](Form::measure) it as well as to write it.

use super::base64::ENCODED_KEY_MAX_BYTES;
use super::meta::{FLAGS_MAX, Name, OPAQUE_MAX_BYTES};
use super::reply::{LINE_MAX_BYTES, Line};
use super::sink::{Measure, Sink, Writer};
use super::{binary, meta, text};
use crate::key::KEY_MAX_BYTES;
use crate::operation::Outcome;

/// Bytes of the longest head: meta's, with `VA`, every flag, and the key encoded.
pub(crate) const HEAD_MAX_BYTES: usize =
    3 + 10 + 6 * 22 + 1 + OPAQUE_MAX_BYTES + 2 + ENCODED_KEY_MAX_BYTES + 2 + 6 + 2 + 22;

/// Bytes of the longest [`tail`](Form::tail).
pub(crate) const TAIL_MAX_BYTES: usize = 7;

/// What a reply says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Said {
    /// How an operation ended.
    Outcome(Outcome),
    /// A fixed line: an order was obeyed or not, or a request was wrong.
    Line(Line),
}

impl From<Outcome> for Said {
    #[inline]
    fn from(outcome: Outcome) -> Said {
        Said::Outcome(outcome)
    }
}

impl From<Line> for Said {
    #[inline]
    fn from(line: Line) -> Said {
        Said::Line(line)
    }
}

/// Which protocol and command a reply is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One key of get, gets, gat or gats. `cas`: the unique is shown; `last`: END follows.
    Fetch { cas: bool, last: bool },
    /// Another command of the classic text protocol, which is answered with one line.
    Classic,
    /// A meta command.
    Meta(Name),
    /// A packet of the binary protocol, with its opcode.
    Packet(u8),
}

/// How a reply is to look.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Form<'a> {
    pub(crate) kind: Kind,
    /// The client does not want to see the nominal outcome; of a classic command (`noreply`), any.
    pub(crate) quiet: bool,
    /// The value is wanted.
    pub(crate) value: bool,
    /// The request's key was base64.
    pub(crate) base64: bool,
    /// Letters of the flags, in order.
    pub(crate) letters: &'a [u8],
    /// What the client wants to be given back: O with its letter, or the bytes of a packet.
    pub(crate) opaque: &'a [u8],
    /// The key where the reply repeats it. That of a [`Kind::Fetch`] is found beside the value.
    pub(crate) key: &'a [u8],
}

impl<'a> Form<'a> {
    /// The form of one key of a classic fetch.
    pub(crate) fn fetch(key: &'a [u8], cas: bool, last: bool) -> Form<'a> {
        Form { value: true, key, ..Form::bare(Kind::Fetch { cas, last }) }
    }

    /// The form of another classic command.
    pub(crate) fn classic(noreply: bool) -> Form<'a> {
        Form { quiet: noreply, ..Form::bare(Kind::Classic) }
    }

    /// A form of which nothing but its kind is known.
    pub(crate) const fn bare(kind: Kind) -> Form<'a> {
        Form { kind, quiet: false, value: false, base64: false, letters: &[], opaque: &[], key: &[] }
    }

    /// This form for the item of `key`, whose key it needs if it is that of a fetch.
    pub(crate) fn of_item(self, key: &'a [u8]) -> Form<'a> {
        if matches!(self.kind, Kind::Fetch { .. }) { Form { key, ..self } } else { self }
    }

    /// Whether the reply to a hit has the item's value. That of a number is in the head.
    pub(crate) fn takes_value(&self) -> bool {
        self.value && self.kind != Kind::Meta(Name::Arith)
    }

    /// Whether nothing is answered, whatever the outcome.
    pub(crate) fn is_silent(&self) -> bool {
        self.quiet && self.kind == Kind::Classic
    }

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

    /// Bytes of the value that follows the head.
    #[inline]
    pub(crate) fn value_len(&self, said: &Said) -> usize {
        match said {
            Said::Outcome(Outcome::Hit(view)) if self.value => view.len as usize,
            _ => 0,
        }
    }

    /// What follows the value.
    #[inline]
    pub(crate) fn tail(&self, said: &Said) -> &'static [u8] {
        match (self.kind, said) {
            (Kind::Fetch { last, .. }, Said::Outcome(Outcome::Hit(_))) => text::value_tail(last),
            (Kind::Meta(_), Said::Outcome(Outcome::Hit(_))) if self.value => text::value_tail(false),
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

/// A form that is kept until the outcome is known, but for its bytes: letters, opaque and key, in this order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormHead {
    kind: Kind,
    quiet: bool,
    value: bool,
    base64: bool,
    letters: u8,
    opaque: u8,
    key: u8,
}

impl FormHead {
    /// The most bytes that a form may have beside its head.
    pub(crate) const BYTES_MAX: usize = FLAGS_MAX + OPAQUE_MAX_BYTES + KEY_MAX_BYTES;

    /// The form of what is never answered.
    pub(crate) const SILENT: FormHead =
        FormHead { kind: Kind::Classic, quiet: true, value: false, base64: false, letters: 0, opaque: 0, key: 0 };

    /// Splits `form`: its bytes are appended to `bytes`. Not the key of a fetch, which is kept with the value.
    pub(crate) fn of(form: &Form<'_>, bytes: &mut [u8]) -> FormHead {
        let &Form { kind, quiet, value, base64, letters, opaque, key } = form;
        let key = if matches!(kind, Kind::Fetch { .. }) { &[] } else { key };
        let mut lengths = [0; 3];
        let parts = [(letters, FLAGS_MAX), (opaque, OPAQUE_MAX_BYTES), (key, KEY_MAX_BYTES)];
        let mut at = 0;
        for ((part, most), length) in parts.into_iter().zip(&mut lengths) {
            let part = part.get(..most).unwrap_or(part);
            bytes[at..at + part.len()].copy_from_slice(part);
            *length = part.len() as u8;
            at += part.len();
        }
        let [letters, opaque, key] = lengths;
        FormHead { kind, quiet, value, base64, letters, opaque, key }
    }

    /// The form again, from what [`of`](Self::of) has put into `bytes`.
    pub(crate) fn with<'a>(&self, bytes: &'a [u8]) -> Form<'a> {
        let &FormHead { kind, quiet, value, base64, letters, opaque, key } = self;
        let (letters, rest) = bytes.split_at(usize::from(letters));
        let (opaque, rest) = rest.split_at(usize::from(opaque));
        Form { kind, quiet, value, base64, letters, opaque, key: &rest[..usize::from(key)] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operation::{ItemFacts, Number, Purpose, View};

    const KEY: &[u8; KEY_MAX_BYTES] = &[b'k'; KEY_MAX_BYTES];

    /// Everything that can be said, with the longest of numbers.
    fn sayings() -> Vec<Said> {
        let (cas, ttl) = (u64::MAX, Some(u32::MAX));
        let mut view =
            View { cas, ttl, flags: u32::MAX, len: 5, idle: u32::MAX, fetched: true, base64: true, ..View::default() };
        (view.stale, view.token_sent, view.won) = (true, true, true);
        let facts = ItemFacts {
            expired_for: i32::MIN,
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
            Outcome::Stored { cas },
            Outcome::Deleted,
            Outcome::Touched,
            Outcome::Number(Number { value: u64::MAX, cas, created: true, ttl }),
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
            [Line::Ok, Line::Version, Line::BadDelete, Line::Error, Line::FlushDisabled, Line::MemlimitNotBytes];
        outcomes.map(Said::from).into_iter().chain(lines.map(Said::from)).collect()
    }

    fn forms() -> Vec<Form<'static>> {
        let mut forms = vec![Form::classic(false), Form::fetch(KEY, true, true), Form::fetch(KEY, false, false)];
        let names = [Name::Get, Name::Set, Name::Delete, Name::Arith, Name::Debug];
        for name in names {
            for value in [false, name != Name::Set] {
                let (letters, opaque) = (b"kOctsflhvqbTNRuI", &[b'O'; OPAQUE_MAX_BYTES]);
                forms.push(Form { value, base64: true, letters, opaque, key: KEY, ..Form::bare(Kind::Meta(name)) });
            }
        }
        for opcode in 0..=0x24 {
            let value = binary::Command::of(opcode).0.answers_value();
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
