//! Meta commands: `mg ms md ma mn me`, a key, and flags of one letter (`protocol.txt`, "Meta Commands").
//!
//! Reads the words after the name as memcached's `_meta_flag_preparse` does: every command takes every flag that is
//! known, and uses those that mean something to it. Some flags act in the order in which they stand (T, N, R before or
//! after t), so that order is kept; and writes the answers. Read first: `proto_parser.c` of memcached 1.6.45.

use arrayvec::ArrayVec;

use super::asked::{Asked, Storing};
use super::base64::{self, Key};
use super::form::{FLAGS_MAX, Form, Kind, OPAQUE_MAX_BYTES};
use super::line::Line;
use super::sink::Sink;
use super::text::LINE_END;
use super::word::is_word;
use super::words::{self, WORDS_MAX, Words};
use crate::clock::{Expiry, Now};
use crate::key::KEY_MAX_BYTES;
use crate::number;
use crate::operation::{
    Count, Delete, Get, ItemFacts, Number, Operation, Outcome, Step, Steps, Store, StoreMode, View,
};

/// Their names.
mod name;

pub use name::Name;

/// A key as the client wrote it, or decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "a key is decoded without allocating")]
pub enum MetaKey<'a> {
    /// As it stands in the line.
    Plain(&'a [u8]),
    /// Sent as base64.
    Decoded(Key),
}

impl Default for MetaKey<'_> {
    fn default() -> Self {
        MetaKey::Plain(&[])
    }
}

impl MetaKey<'_> {
    /// The key's bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            MetaKey::Plain(key) => key,
            MetaKey::Decoded(key) => key,
        }
    }

    /// Whether it was sent as base64.
    pub fn is_base64(&self) -> bool {
        matches!(self, MetaKey::Decoded(_))
    }
}

/// What the flags of a command say. A flag that was not given is 0, false or `None`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta<'a> {
    /// The key.
    pub key: MetaKey<'a>,
    /// Letters of the flags, in order.
    pub letters: ArrayVec<u8, FLAGS_MAX>,
    /// O with its letter, empty without.
    pub opaque: &'a [u8],
    /// q: nominal answers are not wanted.
    pub quiet: bool,
    /// v: the value is wanted.
    pub value: bool,
    /// u: the item is not to be marked as asked for.
    pub no_update: bool,
    /// I: stale instead of gone, or instead of refused.
    pub stale: bool,
    /// x: the value goes, the item stays.
    pub empty: bool,
    /// C.
    pub cas: Option<u64>,
    /// E: the cas unique that the item gets.
    pub named: Option<u64>,
    /// T, as an exptime.
    pub ttl: Option<i32>,
    /// N, as an exptime.
    pub vivify: Option<i32>,
    /// R, as an exptime.
    pub recache: Option<i32>,
    /// F.
    pub client_flags: u32,
    /// M.
    pub mode: Option<u8>,
    /// Bytes of the value, of an ms.
    pub bytes: u32,
    /// J.
    pub initial: u64,
    /// D; 1 without.
    pub delta: u64,
}

impl<'a> Meta<'a> {
    /// No flags.
    fn of(key: &'a [u8]) -> Meta<'a> {
        Meta { key: MetaKey::Plain(key), delta: 1, ..Meta::default() }
    }

    /// What `name` asks for at `now`.
    pub(crate) fn asked(&self, name: Name, now: Now) -> Asked<'_> {
        match name {
            Name::Noop => Asked::Line(Line::MetaNoop),
            Name::Set => Asked::Store(self.storing(now)),
            _ => Asked::Operation { key: self.key.bytes(), operation: self.operation(name, now) },
        }
    }

    /// What `name`, which has no value, asks for at `now`.
    fn operation(&self, name: Name, now: Now) -> Operation {
        let (steps, named) = (self.steps(now), self.named);
        match name {
            Name::Get => {
                let (update, known) = (!self.no_update, self.cas);
                Operation::Get(Get { steps, update, known, named, classic: false })
            }
            Name::Delete => {
                let expiry = self.ttl.map(|ttl| Expiry::from_exptime(ttl.into(), now));
                let empty = self.empty.then_some(self.client_flags);
                let (cas, stale) = (self.cas, self.stale);
                Operation::Delete(Delete { cas, stale, empty, expiry, named, classic: false })
            }
            Name::Arith => {
                let (delta, up, cas) = (self.delta, counts_up(self).unwrap_or(true), self.cas.unwrap_or(0));
                Operation::Count(Count { cas, steps, named, initial: self.initial, ..Count::by(delta, up) })
            }
            Name::Set | Name::Noop | Name::Debug => Operation::Debug,
        }
    }

    /// The flags that act in the order in which they stand.
    fn steps(&self, now: Now) -> Steps {
        let expiry = |exptime: Option<i32>| Expiry::from_exptime(exptime.unwrap_or(0).into(), now);
        let mut steps = Steps::NONE;
        for letter in &self.letters {
            match letter {
                b'T' => steps.push(Step::Touch(expiry(self.ttl))),
                b'N' => steps.push(Step::Vivify(expiry(self.vivify))),
                b'R' => steps.push(Step::Recache(expiry(self.recache))),
                b't' => steps.push(Step::ShowTtl),
                _ => {}
            }
        }
        steps
    }

    /// How the reply to `name` is to look.
    pub(crate) fn form(&self, name: Name) -> Form<'_> {
        let shows_key = name == Name::Debug || self.letters.contains(&b'k');
        Form {
            quiet: self.quiet,
            value: self.value && matches!(name, Name::Get | Name::Arith),
            base64: self.key.is_base64(),
            sent: self.bytes,
            letters: &self.letters,
            opaque: self.opaque,
            key: if shows_key { self.key.bytes() } else { &[] },
            ..Form::bare(Kind::Meta(name))
        }
    }

    /// What an ms asks for at `now`.
    fn storing(&self, now: Now) -> Storing<'_> {
        let mode = store_mode(self).unwrap_or(StoreMode::Set);
        // N makes what an append or a prepend finds missing, with its own time; other modes do not know it.
        let vivify = self.vivify.filter(|_| mode.joins());
        let exptime = vivify.or(self.ttl).unwrap_or(0);
        let store = Store {
            mode,
            flags: self.client_flags,
            expiry: Expiry::from_exptime(exptime.into(), now),
            vivify: vivify.is_some(),
            // As in memcached, an E of 0 asks for nothing here.
            named: self.named.filter(|&named| named != 0),
            base64: self.key.is_base64(),
            drops_old: true,
            classic: false,
        };
        Storing { key: self.key.bytes(), store, bytes: self.bytes }
    }
}

/// A key and its flags, read from the words after the name.
///
/// # Errors
/// What is asked for instead, in memcached's order of checks: the answer, and of an ms whose length is known the value
/// is passed over.
pub(crate) fn parse(name: Name, text: &[u8]) -> Result<Meta<'_>, Asked<'static>> {
    if name == Name::Noop {
        return Ok(Meta::default());
    }
    let words = words_of(text);
    let at_once = Asked::Line(Line::BadFormat);
    let (key, length, words) = match (name, words.as_slice()) {
        (Name::Set, [key, length, words @ ..]) => (key, Some(length), words),
        (Name::Set, _) | (_, []) => return Err(at_once),
        (_, [key, words @ ..]) => (key, None, words),
    };
    if !may_be_flags(words) {
        return Err(at_once);
    }
    if name == Name::Debug {
        return debug(key, words).map_err(Asked::Line);
    }
    let bytes = length.map(|length| number::length(length).ok_or(at_once)).transpose()?;
    let refused = |line| match bytes {
        Some(bytes) => Asked::PassOver { bytes: u64::from(bytes) + LINE_END.len() as u64, line },
        None => Asked::Line(line),
    };
    let meta = flags(key, words, FLAGS_MAX - usize::from(length.is_some())).map_err(|line| match name {
        Name::Arith => refused(Line::InvalidOrDuplicateFlag),
        _ => refused(line),
    })?;
    match name {
        Name::Arith if counts_up(&meta).is_none() => Err(refused(Line::BadArithMode)),
        Name::Set if store_mode(&meta).is_none() => Err(refused(Line::BadSetMode)),
        // Deviates: memcached notices an overlong opaque of mg and ma when it has already touched or counted.
        _ if meta.opaque.len() > OPAQUE_MAX_BYTES => Err(refused(Line::OpaqueTooLong)),
        _ => Ok(Meta { bytes: bytes.unwrap_or(0), ..meta }),
    }
}

/// The key of an me, which takes no flag but b, and that only behind the key.
fn debug<'a>(key: &'a [u8], words: &[&[u8]]) -> Result<Meta<'a>, Line> {
    if key.len() > KEY_MAX_BYTES {
        return Err(Line::BadFormat);
    }
    let encoded = words.first() == Some(&&b"b"[..]);
    let decoded = if encoded { Some(base64::decode(key).ok_or(Line::BadFormat)?) } else { None };
    Ok(Meta { key: decoded.map_or(MetaKey::Plain(key), MetaKey::Decoded), ..Meta::of(key) })
}

/// Whether ma counts up; `None` for an M that it does not know.
pub fn counts_up(meta: &Meta<'_>) -> Option<bool> {
    match meta.mode {
        None | Some(b'I' | b'+') => Some(true),
        Some(b'D' | b'-') => Some(false),
        Some(_) => None,
    }
}

/// What M, C and I of an ms make of it together; `None` for an M that it does not know.
fn store_mode(meta: &Meta<'_>) -> Option<StoreMode> {
    let cas = meta.cas.unwrap_or(0);
    Some(match (meta.mode, meta.cas) {
        (Some(b'E'), _) => StoreMode::Add,
        // As in memcached, a C of 0 asks for nothing here.
        (Some(b'A'), _) if cas != 0 => StoreMode::AppendIf(cas),
        (Some(b'P'), _) if cas != 0 => StoreMode::PrependIf(cas),
        (Some(b'A'), _) => StoreMode::Append,
        (Some(b'P'), _) => StoreMode::Prepend,
        (None | Some(b'S' | b'R'), Some(_)) if meta.stale => StoreMode::CasOrStale(cas),
        (None | Some(b'S' | b'R'), Some(_)) => StoreMode::Cas(cas),
        (None | Some(b'S'), None) => StoreMode::Set,
        (Some(b'R'), None) => StoreMode::Replace,
        (Some(_), _) => return None,
    })
}

/// The words after the name.
fn words_of(text: &[u8]) -> Words<'_> {
    words::first(text, WORDS_MAX - 1)
}

/// Whether each of these words begins with what may be the letter of a flag (`_mcmc_tokenize_meta`).
fn may_be_flags(words: &[&[u8]]) -> bool {
    words.iter().all(|word| matches!(word, [b'A'..=b'z' | b'0'..=b'9', ..]))
}

/// Reads all flags, the words behind the key of mg, md and ma and behind the length of ms (`_meta_flag_preparse`): the
/// last thing wrong is told, an unknown or repeated letter at once. `most`: how many flags there may be.
fn flags<'a>(key: &'a [u8], words: &[&'a [u8]], most: usize) -> Result<Meta<'a>, Line> {
    if key.len() > KEY_MAX_BYTES {
        return Err(Line::BadFormat);
    }
    if words.len() > most {
        return Err(Line::OptionsTooLong);
    }
    let mut meta = Meta::of(key);
    let mut wrong = None;
    for word in words {
        let Some((&letter, rest)) = word.split_first() else { continue };
        if meta.letters.contains(&letter) {
            return Err(Line::DuplicateFlag);
        }
        match read_flag(&mut meta, key, letter, word, rest) {
            Ok(()) => {}
            Err(Line::InvalidFlag) => return Err(Line::InvalidFlag),
            // memcached has no words of its own for what is wrong with F: whatever else is wrong is told.
            Err(Line::BadFormat) => wrong = wrong.or(Some(Line::BadFormat)),
            Err(line) => wrong = Some(line),
        }
        // At most FLAGS_MAX words come here.
        let _ = meta.letters.try_push(letter);
    }
    wrong.map_or(Ok(meta), Err)
}

/// Reads one flag: `word` is its `letter` and the `rest`. The error is the line that is due for this flag alone.
#[inline]
fn read_flag<'a>(meta: &mut Meta<'a>, key: &[u8], letter: u8, word: &'a [u8], rest: &[u8]) -> Result<(), Line> {
    let exptime = || number::signed_32(rest).ok_or(Line::BadToken);
    let unique = || number::unsigned(rest).ok_or(Line::BadToken);
    match letter {
        b'b' => meta.key = MetaKey::Decoded(base64::decode(key).ok_or(Line::BadKeyEncoding)?),
        b'N' => meta.vivify = Some(exptime()?),
        b'T' => meta.ttl = Some(exptime()?),
        b'R' => meta.recache = Some(exptime()?),
        b'O' => meta.opaque = word,
        b'l' | b'P' | b'L' | b'k' | b's' | b't' | b'c' | b'f' | b'h' => {}
        b'v' => meta.value = true,
        b'u' => meta.no_update = true,
        b'q' => meta.quiet = true,
        b'F' => meta.client_flags = number::unsigned_32(rest).ok_or(Line::BadFormat)?,
        b'C' => meta.cas = Some(unique()?),
        b'E' => meta.named = Some(unique()?),
        // What follows the first letter is ignored, and a NUL is none; a blank is no mode that any command knows.
        b'M' => meta.mode = Some(rest.first().copied().unwrap_or(b' ')).filter(|&mode| mode != 0),
        b'J' => meta.initial = number::unsigned(rest).ok_or(Line::BadInitial)?,
        b'D' => meta.delta = number::unsigned(rest).ok_or(Line::BadDeltaValue)?,
        b'I' => meta.stale = true,
        b'x' => meta.empty = true,
        _ => return Err(Line::InvalidFlag),
    }
    Ok(())
}

/// Whether a quiet `name` hides this outcome.
pub(crate) fn is_nominal(name: Name, outcome: &Outcome) -> bool {
    match name {
        Name::Get => matches!(outcome, Outcome::Missed),
        Name::Set => matches!(outcome, Outcome::Stored { .. }),
        Name::Delete => matches!(outcome, Outcome::Deleted),
        Name::Arith => matches!(outcome, Outcome::Number(_)),
        Name::Noop | Name::Debug => false,
    }
}

/// Writes the reply but for a value that follows: a code of two letters, then what each flag asks for, in the order of
/// the flags (`proto_parser.c` of memcached 1.6.45).
pub(crate) fn head(form: &Form<'_>, name: Name, outcome: &Outcome, out: &mut impl Sink) {
    match outcome {
        Outcome::Debug(facts) => return debug_line(form, facts, out),
        Outcome::Hit(view) if form.shows(view) => {
            out.put(b"VA ");
            out.number(view.len.into());
        }
        Outcome::Number(number) if form.value => {
            out.put(b"VA ");
            out.number(number::digits(number.value) as u64);
        }
        Outcome::Hit(_) | Outcome::Number(_) | Outcome::Stored { .. } | Outcome::Deleted | Outcome::Touched => {
            out.put(b"HD");
        }
        Outcome::Missed if matches!(name, Name::Get | Name::Debug) => out.put(b"EN"),
        Outcome::Missed => out.put(b"NF"),
        Outcome::NotStored => out.put(b"NS"),
        Outcome::Exists => out.put(b"EX"),
        failure => return out.put(Line::of(failure).bytes()),
    }
    for &letter in form.letters {
        shown_flag(form, name, outcome, letter, out);
    }
    if let Outcome::Hit(view) = outcome {
        for (shown, mark) in [(view.token_sent, b" Z"), (view.stale, b" X"), (view.won, b" W")] {
            out.put(if shown { &mark[..] } else { b"" });
        }
    }
    out.put(b"\r\n");
    if let Outcome::Number(number) = outcome
        && form.value
    {
        out.number(number.value);
        out.put(b"\r\n");
    }
}

/// Writes what one flag asks for.
fn shown_flag(form: &Form<'_>, name: Name, outcome: &Outcome, letter: u8, out: &mut impl Sink) {
    let mut flag = |value: u64| {
        out.put(&[b' ', letter]);
        out.number(value);
    };
    match (letter, outcome) {
        (b'O', _) => {
            out.put(b" ");
            out.put(form.opaque);
        }
        (b'k', _) => {
            // An item that is there tells how its own key was sent.
            let encoded = match outcome {
                Outcome::Hit(view) => view.base64 || asked_by_bytes(form),
                _ => form.base64,
            };
            out.put(b" k");
            shown_key(form, encoded, out);
            out.put(if encoded { b" b" } else { b"" });
        }
        (b'c', &(Outcome::Hit(View { cas, .. }) | Outcome::Number(Number { cas, .. }))) => flag(cas),
        (b'c', &Outcome::Stored { cas, .. }) => flag(cas),
        (b'c', _) if name == Name::Set => flag(0),
        (b't', &(Outcome::Hit(View { ttl, .. }) | Outcome::Number(Number { ttl, .. }))) => match ttl {
            Some(ttl) => flag(ttl.into()),
            None => out.put(b" t-1"),
        },
        (b's', &(Outcome::Hit(View { len, .. }) | Outcome::Stored { len, .. })) => flag(len.into()),
        // Where nothing was stored: what would have been.
        (b's', _) if name == Name::Set => flag(form.sent.into()),
        (b'f', Outcome::Hit(view)) => flag(view.flags.into()),
        (b'l', Outcome::Hit(view)) => flag(view.idle.into()),
        (b'h', Outcome::Hit(view)) => flag(view.fetched.into()),
        _ => {}
    }
}

/// Whether the key was sent as base64 because a line cannot hold it. Deviates: memcached writes the key of an item that a
/// packet has stored as it is, line ends and all.
fn asked_by_bytes(form: &Form<'_>) -> bool {
    form.base64 && !is_word(form.key)
}

fn shown_key(form: &Form<'_>, encoded: bool, out: &mut impl Sink) {
    if encoded {
        base64::encode(form.key, |four| out.put(four));
    } else {
        out.put(form.key);
    }
}

/// `ME <key> exp=... la=... cas=... fetch=... cls=... size=...`.
fn debug_line(form: &Form<'_>, facts: &ItemFacts, out: &mut impl Sink) {
    out.put(b"ME ");
    shown_key(form, facts.base64 || asked_by_bytes(form), out);
    out.put(if facts.expires_in < 0 { b" exp=-" } else { b" exp=" });
    out.number(facts.expires_in.unsigned_abs().into());
    out.put(b" la=");
    out.number(facts.idle.into());
    out.put(b" cas=");
    out.number(facts.cas);
    out.put(if facts.fetched { b" fetch=yes cls=" } else { b" fetch=no cls=" });
    out.number(facts.class.into());
    out.put(b" size=");
    out.number(facts.bytes.into());
    out.put(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: Name, text: &str) -> Line {
        match parse(name, text.as_bytes()) {
            Err(Asked::Line(line)) => line,
            other => panic!("{name:?} {text:?} is {other:?}"),
        }
    }

    #[test]
    fn flags_are_read_and_keep_their_order() {
        let meta = parse(Name::Get, b" key t T-5 v O123 N30 k R1 q u").unwrap();
        assert_eq!((meta.key.bytes(), &meta.letters[..]), (&b"key"[..], &b"tTvONkRqu"[..]));
        assert_eq!((meta.ttl, meta.vivify, meta.recache), (Some(-5), Some(30), Some(1)));
        assert_eq!((meta.opaque, meta.quiet, meta.value, meta.no_update), (&b"O123"[..], true, true, true));
        assert_eq!((meta.delta, meta.initial, meta.cas, meta.mode), (1, 0, None, None));
        let meta = parse(Name::Arith, b" Zm9v b D5 J7 C9 M-").unwrap();
        assert_eq!((meta.key.bytes(), meta.key.is_base64()), (&b"foo"[..], true));
        assert_eq!((meta.delta, meta.initial, meta.cas, counts_up(&meta)), (5, 7, Some(9), Some(false)));
    }

    #[test]
    fn the_last_thing_wrong_is_told_but_an_unknown_or_second_letter_at_once() {
        assert_eq!(line(Name::Get, ""), Line::BadFormat);
        assert_eq!(line(Name::Get, " k Fx"), Line::BadFormat);
        assert_eq!(line(Name::Get, " k Fx Tx"), Line::BadToken);
        assert_eq!(line(Name::Get, " k Tx Fx"), Line::BadToken);
        assert_eq!(line(Name::Get, " k Tx Jx"), Line::BadInitial);
        assert_eq!(line(Name::Get, " k Tx v v"), Line::DuplicateFlag);
        assert_eq!(line(Name::Get, " k Tx S1 v v"), Line::InvalidFlag);
        assert_eq!(line(Name::Get, " k 1 1"), Line::InvalidFlag);
        for word in ["!", "\u{7f}", "\t", "{", "@"] {
            assert_eq!(line(Name::Get, &format!(" k v v {word}")), Line::BadFormat);
            assert_eq!(line(Name::Arith, &format!(" k v v {word}")), Line::BadFormat);
        }
        assert_eq!(line(Name::Delete, " k Tx"), Line::BadToken);
        assert_eq!(line(Name::Arith, " k Tx"), Line::InvalidOrDuplicateFlag);
        assert_eq!(line(Name::Arith, " k MX O12345678901234567890123456789012"), Line::BadArithMode);
        assert_eq!(line(Name::Get, " k O12345678901234567890123456789012"), Line::OpaqueTooLong);
        assert_eq!(line(Name::Get, &" v".repeat(19)), Line::DuplicateFlag);
        assert_eq!(line(Name::Delete, &" w".repeat(20)), Line::OptionsTooLong);
        assert_eq!(line(Name::Delete, &format!(" {}", "w".repeat(251))), Line::BadFormat);
        assert_eq!(line(Name::Arith, &format!(" {}", "w".repeat(251))), Line::InvalidOrDuplicateFlag);
    }

    #[test]
    fn modes_and_uniques_of_ms_make_one_store_mode() {
        let mode = |text: &str| parse(Name::Set, text.as_bytes()).map(|meta| store_mode(&meta).unwrap());
        for (text, expected) in [
            (" k 1", StoreMode::Set),
            (" k 1 MS", StoreMode::Set),
            (" k 1 ME C5", StoreMode::Add),
            (" k 1 MR", StoreMode::Replace),
            (" k 1 MR C5", StoreMode::Cas(5)),
            (" k 1 C0", StoreMode::Cas(0)),
            (" k 1 C5 I", StoreMode::CasOrStale(5)),
            (" k 1 I", StoreMode::Set),
            (" k 1 MA C0", StoreMode::Append),
            (" k 1 MA C5 I", StoreMode::AppendIf(5)),
            (" k 1 MP C5", StoreMode::PrependIf(5)),
        ] {
            assert_eq!(mode(text), Ok(expected), "{text}");
        }
        let refused = |line, bytes: Option<u64>| {
            Err(bytes.map_or(Asked::Line(line), |bytes| Asked::PassOver { bytes: bytes + 2, line }))
        };
        assert_eq!(mode(" k"), refused(Line::BadFormat, None));
        assert_eq!(mode(" k -1"), refused(Line::BadFormat, None));
        assert_eq!(mode(" k 2 !"), refused(Line::BadFormat, None));
        assert_eq!(mode(" k 2 Mx"), refused(Line::BadSetMode, Some(2)));
        assert_eq!(mode(" k 2 M"), refused(Line::BadSetMode, Some(2)));
        assert_eq!(mode(" k 2 MEE"), Ok(StoreMode::Add));
        assert_eq!(mode(&format!(" k 2{}", " v".repeat(18))), refused(Line::OptionsTooLong, Some(2)));
        assert_eq!(mode(&format!(" {} 2", "k".repeat(251))), refused(Line::BadFormat, Some(2)));
        assert_eq!(mode(" k 2 S2"), refused(Line::InvalidFlag, Some(2)));
    }
}
