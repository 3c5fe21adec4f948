//! Meta commands: read, then executed on the shard that owns the key.
//!
//! Read first: [`crate::proto::meta`] for what the flags say, [`crate::shard::meta`] for what they do.

use super::value::Storing;
use super::{State, Step, Stop, Taking};
use crate::clock::Expiry;
use crate::core::entries::Owed;
use crate::core::{Core, Need};
use crate::key::KeyHash;
use crate::operation::Outcome;
use crate::proto::framed::{Kind, Template};
use crate::proto::meta::{self, Meta, Name, Refused};
use crate::proto::reply::Line;
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

/// What `meta` gives its reply.
fn template<'a>(meta: &'a Meta<'_>, kind: Kind) -> Template<'a> {
    let shows_key = meta.letters.contains(&b'k');
    Template {
        kind,
        quiet: meta.quiet,
        value: meta.value && matches!(kind, Kind::Get | Kind::Arith),
        base64: meta.key.is_base64(),
        letters: &meta.letters,
        opaque: meta.opaque,
        key: if shows_key { meta.key.bytes() } else { &[] },
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
        let key = meta.key.bytes();
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
                self.framed_get(key, &ask, &template(&meta, Kind::Get))
            }
            Name::Delete => {
                let removal = Removal {
                    cas: meta.cas,
                    stale: meta.stale,
                    ttl: meta.ttl.map(|ttl| expiry(Some(ttl))),
                    classic_counts: false,
                };
                self.framed_on_owner(
                    key,
                    &template(&meta, Kind::Delete),
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
                self.framed_on_owner(
                    key,
                    &template(&meta, Kind::Arith),
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
        let template = Template {
            kind: Kind::Debug,
            quiet: false,
            value: false,
            base64: key.is_base64(),
            letters: &[],
            opaque: &[],
            key: key.bytes(),
        };
        self.framed_on_owner(
            key.bytes(),
            &template,
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
        let manner = Manner { framed: true, base64: meta.key.is_base64(), forgets: true, counts_prefix: false };
        let storing = Storing {
            mode,
            key: meta.key.bytes(),
            flags: meta.client_flags,
            expiry: Expiry::from_exptime(i64::from(meta.ttl.unwrap_or(0)), self.core.now()),
            bytes,
            noreply: false,
            manner,
            frame: Some(&template(&meta, Kind::Set)),
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
                self.owe(Owed::Line(refused.line));
            }
            Some(bytes) => {
                let reply = Some(self.owe(Owed::Answer { quiet: false }));
                let remaining = u64::from(bytes) + LINE_END_BYTES;
                self.session.state = State::Swallow { remaining, reply, line: refused.line };
            }
        }
        self.core.counters().requests.add(1);
        Step::Executed(line_bytes)
    }

    /// A framed get, here or on its owner.
    pub(super) fn framed_get(&mut self, key: &[u8], ask: &Ask, template: &Template<'_>) -> Result<(), Stop> {
        if !template.value {
            return self.framed_on_owner(
                key,
                template,
                |core, hash| core.meta_get(hash, key, ask),
                |key, hash| Request::MetaGet { key, hash, ask: *ask, room: None },
            );
        }
        self.reply_room()?;
        let (hash, owner) = self.core.locate(key);
        if owner == self.core.id {
            let now = self.core.now();
            // Held before anything is done, which may move the item.
            let at = self.core.shard.peek(hash, key, now).filter(|&at| !self.core.shard.item(at).value.is_empty());
            let hold = at.map(|at| self.core.hold(at));
            let outcome = self.core.meta_get(hash, key, ask);
            let token = self.owe_as(Owed::Nothing, Some(template));
            self.core.settle(token, &outcome);
            if let Some(hold) = hold {
                self.core.entries.entry_mut(token).owed = Owed::FramedValue { hold };
            }
            return Ok(());
        }
        self.slot_room()?;
        self.message_room(owner, key.len())?;
        let Some((slot, room)) = self.core.take_slot(self.session.conn, key, owner) else {
            return Err(self.wait(Need::Slot));
        };
        let token = self.owe_as(Owed::Fetch { slot, cas: false, end: false }, Some(template));
        self.core.ask(owner, token, [key, &[]], |[key, _]| Request::MetaGet { key, hash, ask: *ask, room: Some(room) });
        self.core.counters().cross_core_requests.add(1);
        Ok(())
    }

    /// Executes a framed command without a value here, or asks the key's owner to.
    pub(super) fn framed_on_owner(
        &mut self,
        key: &[u8],
        template: &Template<'_>,
        here: impl FnOnce(&mut Core, KeyHash) -> Outcome,
        there: impl FnOnce(Span, KeyHash) -> Request,
    ) -> Result<(), Stop> {
        self.reply_room()?;
        let (hash, owner) = self.core.locate(key);
        if owner == self.core.id {
            let outcome = here(self.core, hash);
            let token = self.owe_as(Owed::Nothing, Some(template));
            self.core.settle(token, &outcome);
            return Ok(());
        }
        self.message_room(owner, key.len())?;
        let token = self.owe_as(Owed::Answer { quiet: false }, Some(template));
        self.core.ask(owner, token, [key, &[]], |[key, _]| there(key, hash));
        self.core.counters().cross_core_requests.add(1);
        Ok(())
    }
}
