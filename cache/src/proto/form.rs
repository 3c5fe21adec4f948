//! `Form`: how the reply to a request is to look, which the request says and its outcome does not.
//!
//! A reply is made of a form and of what is [said](Said), which may be known much later: its head, then the value where
//! one is wanted and was found, then what follows a value. `write.rs` makes it.

use super::line::Line;
use super::meta::Name;
use crate::key::KEY_MAX_BYTES;
use crate::operation::{Outcome, View};

/// Bytes of the longest opaque, its letter counted (`MFLAG_MAX_OPAQUE_LENGTH`).
pub(crate) const OPAQUE_MAX_BYTES: usize = 32;

/// Flags that a meta command may have (`MFLAG_MAX_OPT_LENGTH`, less its name and its key).
pub(crate) const FLAGS_MAX: usize = 18;

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

/// How a reply is to look. `B` is what a form has of its bytes: the bytes, or their number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FormWith<B> {
    pub(crate) kind: Kind,
    /// The client does not want to see the nominal outcome; of a classic command (`noreply`), any.
    pub(crate) quiet: bool,
    /// The value is wanted.
    pub(crate) value: bool,
    /// The request's key was base64.
    pub(crate) base64: bool,
    /// Bytes of the value that an ms has sent.
    pub(crate) sent: u32,
    /// Letters of the flags, in order.
    pub(crate) letters: B,
    /// What the client wants to be given back: O with its letter, or the bytes of a packet.
    pub(crate) opaque: B,
    /// The key where the reply repeats it. That of a [`Kind::Fetch`] is found beside the value.
    pub(crate) key: B,
}

/// How a reply is to look.
pub(crate) type Form<'a> = FormWith<&'a [u8]>;

/// A form that is kept until the outcome is known, but for its bytes: letters, opaque and key, in this order.
pub(crate) type FormHead = FormWith<u8>;

impl<B> FormWith<B> {
    /// The same form with what `put` makes of its letters, opaque and key, in this order, and of the most bytes that
    /// each may have.
    #[inline]
    fn map<C>(self, mut put: impl FnMut(B, usize) -> C) -> FormWith<C> {
        FormWith {
            kind: self.kind,
            quiet: self.quiet,
            value: self.value,
            base64: self.base64,
            sent: self.sent,
            letters: put(self.letters, FLAGS_MAX),
            opaque: put(self.opaque, OPAQUE_MAX_BYTES),
            key: put(self.key, KEY_MAX_BYTES),
        }
    }
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
        Form { kind, quiet: false, value: false, base64: false, sent: 0, letters: &[], opaque: &[], key: &[] }
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

    /// Whether the value of a hit follows the head.
    #[inline]
    pub(crate) fn shows(&self, hit: &View) -> bool {
        self.value && !hit.withheld
    }

    /// Bytes of the value that follows the head.
    #[inline]
    pub(crate) fn value_len(&self, said: &Said) -> usize {
        match said {
            Said::Outcome(Outcome::Hit(view)) if self.shows(view) => view.len as usize,
            _ => 0,
        }
    }
}

impl FormHead {
    /// The most bytes that a form may have beside its head.
    pub(crate) const BYTES_MAX: usize = FLAGS_MAX + OPAQUE_MAX_BYTES + KEY_MAX_BYTES;

    /// The form of what is never answered.
    pub(crate) const SILENT: FormHead = FormHead {
        sent: 0,
        kind: Kind::Classic,
        quiet: true,
        value: false,
        base64: false,
        letters: 0,
        opaque: 0,
        key: 0,
    };

    /// Splits `form`: its bytes are appended to `bytes`. Not the key of a fetch, which is kept with the value.
    pub(crate) fn of(form: &Form<'_>, bytes: &mut [u8]) -> FormHead {
        if let Form { kind: kind @ (Kind::Fetch { .. } | Kind::Classic), quiet, value, .. } = *form {
            return FormHead { kind, quiet, value, ..FormHead::SILENT };
        }
        let mut at = 0;
        form.map(|part, most| {
            let part = part.get(..most).unwrap_or(part);
            bytes[at..at + part.len()].copy_from_slice(part);
            at += part.len();
            part.len() as u8
        })
    }

    /// The form again, from what [`of`](Self::of) has put into `bytes`.
    pub(crate) fn with<'a>(&self, bytes: &'a [u8]) -> Form<'a> {
        let mut rest = bytes;
        self.map(|len, _| {
            let (part, others) = rest.split_at(usize::from(len));
            rest = others;
            part
        })
    }
}
