//! Meta commands: read, then executed on the shard that owns the key.
//!
//! Read first: [`crate::proto::meta`] for what the flags say, [`crate::operation`] for what they ask for.

use super::value::Storing;
use super::{State, Step, Stop, Taking};
use crate::clock::{Expiry, Now};
use crate::operation::{self, Count, Delete, Get, Operation, Outcome, Steps, Store, View};
use crate::proto::form::{Form, Kind};
use crate::proto::meta::{self, Meta, Name, Refused};
use crate::proto::reply::Line;
use crate::replies::{Owed, Source, Waiting};

/// Bytes of the line end that follows a value.
const LINE_END_BYTES: u64 = 2;

/// The flags of `meta` that act in the order in which they stand.
fn steps_of(meta: &Meta<'_>, now: Now) -> Steps {
    let expiry = |exptime: Option<i32>| Expiry::from_exptime(i64::from(exptime.unwrap_or(0)), now);
    let mut steps = Steps::NONE;
    for letter in &meta.letters {
        match letter {
            b'T' => steps.push(operation::Step::Touch(expiry(meta.ttl))),
            b'N' => steps.push(operation::Step::Vivify(expiry(meta.vivify))),
            b'R' => steps.push(operation::Step::Recache(expiry(meta.recache))),
            b't' => steps.push(operation::Step::ShowTtl),
            _ => {}
        }
    }
    steps
}

/// How the reply to `meta` is to look.
fn form_of<'a>(name: Name, meta: &'a Meta<'_>) -> Form<'a> {
    let shows_key = meta.letters.contains(&b'k');
    Form {
        quiet: meta.quiet,
        value: meta.value && matches!(name, Name::Get | Name::Arith),
        base64: meta.key.is_base64(),
        letters: &meta.letters,
        opaque: meta.opaque,
        key: if shows_key { meta.key.bytes() } else { &[] },
        ..Form::bare(Kind::Meta(name))
    }
}

impl Taking<'_> {
    /// Any meta command without a value.
    pub(super) fn meta(&mut self, name: Name, words: &[u8]) -> Result<(), Stop> {
        if name == Name::Noop {
            return self.answer(Line::MetaNoop, false);
        }
        if name == Name::Debug {
            return self.meta_debug(words);
        }
        let meta = match meta::parse(name, words) {
            Ok(meta) => meta,
            Err(refused) => return self.answer(refused.line, false),
        };
        let now = self.core.now();
        let (key, form, steps) = (meta.key.bytes(), form_of(name, &meta), steps_of(&meta, now));
        match name {
            Name::Get => {
                let get = Get { steps, update: !meta.no_update, classic: false };
                self.get_on_owner(key, &Operation::Get(get), &form)
            }
            Name::Delete => {
                let expiry = meta.ttl.map(|ttl| Expiry::from_exptime(i64::from(ttl), now));
                let delete = Delete { cas: meta.cas, stale: meta.stale, expiry, classic: false };
                self.operate_on_owner(key, &Operation::Delete(delete), &form)
            }
            _ => {
                let up = meta::counts_up(&meta).unwrap_or(true);
                let count = Count { delta: meta.delta, up, cas: meta.cas.unwrap_or(0), steps, initial: meta.initial };
                self.operate_on_owner(key, &Operation::Count(count), &form)
            }
        }
    }

    /// me.
    fn meta_debug(&mut self, words: &[u8]) -> Result<(), Stop> {
        let key = match meta::parse_debug(words) {
            Ok(key) => key,
            Err(line) => return self.answer(line, false),
        };
        let form = Form { base64: key.is_base64(), key: key.bytes(), ..Form::bare(Kind::Meta(Name::Debug)) };
        self.operate_on_owner(key.bytes(), &Operation::Debug, &form)?;
        self.core.counters().cmd_meta.add(1);
        Ok(())
    }

    /// ms, whose line is the first `line_bytes` bytes of `input`.
    pub(super) fn meta_set(&mut self, input: &[u8], line_bytes: usize, words: &[u8]) -> Step {
        let (meta, mode, bytes) = match meta::parse_set(words) {
            Ok(set) => set,
            Err(refused) => return self.refuse_set(line_bytes, refused),
        };
        let store = Store {
            mode,
            flags: meta.client_flags,
            expiry: Expiry::from_exptime(i64::from(meta.ttl.unwrap_or(0)), self.core.now()),
            base64: meta.key.is_base64(),
            drops_old: true,
            classic: false,
        };
        let storing = Storing { key: meta.key.bytes(), store, bytes, form: &form_of(Name::Set, &meta) };
        self.store(input, line_bytes, &storing)
    }

    /// An ms that is wrong: its value, as far as its length is known, is passed over before the answer.
    fn refuse_set(&mut self, line_bytes: usize, refused: Refused) -> Step {
        if let Err(stop) = self.reply_room() {
            return Step::Stop(0, stop);
        }
        match refused.value_bytes {
            None => {
                self.say(&Form::classic(false), refused.line);
            }
            Some(bytes) => {
                let reply = Some(self.owe(&Form::classic(false), Owed::Waiting(Waiting::Outcome)));
                let remaining = u64::from(bytes) + LINE_END_BYTES;
                self.session.state = State::Swallow { remaining, reply, said: refused.line.into() };
            }
        }
        self.core.counters().requests.add(1);
        Step::Executed(line_bytes)
    }

    /// A get that may show the value, here or on the core that owns the key.
    pub(super) fn get_on_owner(&mut self, key: &[u8], get: &Operation, form: &Form<'_>) -> Result<(), Stop> {
        if !form.value {
            return self.operate_on_owner(key, get, form);
        }
        let (key, owner) = self.locate(key);
        if owner != self.core.id {
            let (token, room) = self.expect_value(owner, key.bytes, form)?;
            self.core.ask_to_operate(owner, token, key, get, b"", Some(room));
            return Ok(());
        }
        self.reply_room()?;
        match self.core.operate(key, get, b"") {
            (Outcome::Hit(view @ View { len: 1.., .. }), Some(at)) => {
                let source = Source::Held(self.core.hold(at));
                self.owe(form, Owed::Body { view, source });
            }
            (outcome, _) => self.say(form, outcome),
        }
        Ok(())
    }
}
