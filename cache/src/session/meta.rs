//! Meta commands: read, then executed on the shard that owns the key.
//!
//! Read first: [`crate::proto::meta`] for what the flags say, [`crate::shard::meta`] for what they do.

use super::value::Storing;
use super::{State, Step, Stop, Taking};
use crate::clock::Expiry;
use crate::operation::Outcome;
use crate::proto::form::{Form, Kind};
use crate::proto::meta::{self, Meta, Name, Refused};
use crate::proto::reply::Line;
use crate::replies::{Owed, Source, Waiting};
use crate::route::message::{Manner, Request, Span};
use crate::shard::meta::{ActsInOrder, Ask, Count, Removal};

/// Bytes of the line end that follows a value.
const LINE_END_BYTES: u64 = 2;

/// The flags of `meta` that act in the order in which they stand.
fn acts_of(meta: &Meta<'_>) -> ActsInOrder {
    let mut acts = [0; 4];
    let acting = meta.letters.iter().filter(|letter| matches!(letter, b'T' | b'N' | b'R' | b't'));
    acts.iter_mut().zip(acting).for_each(|(act, &letter)| *act = letter);
    acts
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
        let expiry = |exptime: Option<i32>| Expiry::from_exptime(i64::from(exptime.unwrap_or(0)), now);
        let (key, form) = (meta.key.bytes(), form_of(name, &meta));
        match name {
            Name::Get => {
                let ask = Ask {
                    acts: acts_of(&meta),
                    ttl: expiry(meta.ttl),
                    vivify: expiry(meta.vivify),
                    recache: expiry(meta.recache),
                    update: !meta.no_update,
                    classic_counts: false,
                };
                self.get_on_owner(key, &ask, &form)
            }
            Name::Delete => {
                let removal = Removal {
                    cas: meta.cas,
                    stale: meta.stale,
                    ttl: meta.ttl.map(|ttl| expiry(Some(ttl))),
                    classic_counts: false,
                };
                self.operate_on_owner(
                    key,
                    &form,
                    |core, hash| core.meta_delete(hash, key, &removal),
                    |key, hash| Request::MetaDelete { key, hash, removal },
                )
            }
            _ => {
                let count = Count {
                    delta: meta.delta,
                    increment: meta::counts_up(&meta).unwrap_or(true),
                    cas: meta.cas.unwrap_or(0),
                    acts: acts_of(&meta),
                    ttl: expiry(meta.ttl),
                    vivify: expiry(meta.vivify),
                    initial: meta.initial,
                };
                self.operate_on_owner(
                    key,
                    &form,
                    |core, hash| core.meta_arith(hash, key, &count),
                    |key, hash| Request::MetaArith { key, hash, count },
                )
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
        self.operate_on_owner(
            key.bytes(),
            &form,
            |core, hash| core.meta_debug(hash, key.bytes()),
            |key, hash| Request::MetaDebug { key, hash },
        )?;
        self.core.counters().cmd_meta.add(1);
        Ok(())
    }

    /// ms, whose line is the first `line_bytes` bytes of `input`.
    pub(super) fn meta_set(&mut self, input: &[u8], line_bytes: usize, words: &[u8]) -> Step {
        let (meta, mode, bytes) = match meta::parse_set(words) {
            Ok(set) => set,
            Err(refused) => return self.refuse_set(line_bytes, refused),
        };
        let manner = Manner { base64: meta.key.is_base64(), forgets: true, counts_prefix: false };
        let storing = Storing {
            mode,
            key: meta.key.bytes(),
            flags: meta.client_flags,
            expiry: Expiry::from_exptime(i64::from(meta.ttl.unwrap_or(0)), self.core.now()),
            bytes,
            manner,
            form: &form_of(Name::Set, &meta),
        };
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
    pub(super) fn get_on_owner(&mut self, key: &[u8], ask: &Ask, form: &Form<'_>) -> Result<(), Stop> {
        if !form.value {
            return self.operate_on_owner(
                key,
                form,
                |core, hash| core.meta_get(hash, key, ask),
                |key, hash| Request::MetaGet { key, hash, ask: *ask, room: None },
            );
        }
        let (hash, owner) = self.locate(key);
        if owner != self.core.id {
            let (token, room) = self.expect_value(owner, key, form)?;
            let build = |[key, _]: [Span; 2]| Request::MetaGet { key, hash, ask: *ask, room: Some(room) };
            self.core.ask(owner, token, [key, &[]], build);
            return Ok(());
        }
        self.reply_room()?;
        let now = self.core.now();
        // Held before anything is done, which may move the item.
        let at = self.core.shard.peek(hash, key, now).filter(|&at| !self.core.shard.item(at).value.is_empty());
        let hold = at.map(|at| self.core.hold(at));
        match (hold, self.core.meta_get(hash, key, ask)) {
            (Some(hold), Outcome::Hit(view)) => {
                self.owe(form, Owed::Body { view, source: Source::Held(hold) });
            }
            (_, outcome) => self.say(form, outcome),
        }
        Ok(())
    }
}
