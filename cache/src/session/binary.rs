//! Packets of the binary protocol: read, then executed like the meta commands that mean the same.
//!
//! Read first: [`crate::proto::binary`] for the bytes, [`crate::operation`] for what is asked of a shard.

use super::value::Storing;
use super::{State, Step, Stop, Taking};
use crate::clock::Expiry;
use crate::core::Core;
use crate::key::KEY_MAX_BYTES;
use crate::operation::{self, Count, Delete, Operation, Outcome, Steps, Store, StoreMode};
use crate::proto::binary::{Command, HEADER_BYTES, NO_VIVIFY, RequestHeader, stat_packet, stat_packets};
use crate::proto::form::{Form, Kind, Said};
use crate::proto::reply::Line;
use crate::replies::{Owed, Waiting};
use crate::route::message::Request;
use crate::stats;

/// Bytes of a dump of prefixes, which is one packet here; one that is cut does not end with END.
const PREFIX_DUMP_MAX_BYTES: usize = 128 << 10;

/// The extras of a packet, read from its end: what is not there is 0.
struct Extras<'a>(&'a [u8]);

impl Extras<'_> {
    fn u32_at(&self, at: usize) -> u32 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }

    fn u64_at(&self, at: usize) -> u64 {
        self.0.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }
}

impl Taking<'_> {
    /// Executes the packet at the start of `input`, if its header, extras and key are there.
    pub(super) fn packet(&mut self, input: &[u8]) -> Step {
        let Some(bytes) = input.first_chunk::<HEADER_BYTES>() else { return Step::Stop(0, Stop::NeedInput) };
        let Some(header) = RequestHeader::read(bytes) else {
            self.close();
            return Step::Moved(0);
        };
        let (command, quiet) = Command::of(header.opcode);
        let value = command.answers_value();
        let form = Form { quiet, value, opaque: &header.opaque, ..Form::bare(Kind::Packet(header.opcode)) };
        if let Err(line) = header.check(KEY_MAX_BYTES) {
            return match self.tell(&form, line) {
                Ok(()) => {
                    self.close();
                    Step::Executed(HEADER_BYTES)
                }
                Err(stop) => Step::Stop(0, stop),
            };
        }
        if matches!(command, Command::Unknown | Command::SaslList | Command::Sasl) {
            return self.pass_over(&header, &form);
        }
        let head_bytes = header.head_bytes();
        let Some(body) = input.get(HEADER_BYTES..head_bytes) else { return Step::Stop(0, Stop::NeedInput) };
        let (extras, key) = body.split_at(usize::from(header.extras_len));
        let extras = Extras(extras);
        let form = Form { key: if command.answers_key() { key } else { &[] }, ..form };
        let done = match command {
            Command::Store(_) | Command::Join { .. } => {
                let storing = storing(&header, command, &extras, key, &form, self.core);
                return self.store(input, head_bytes, &storing);
            }
            // A quit that asks for no answer is obeyed without one.
            Command::Quit => {
                self.session.quit = quiet;
                return match self.tell(&form, Line::Ok) {
                    Ok(()) => {
                        self.close();
                        Step::Executed(head_bytes)
                    }
                    Err(stop) => Step::Stop(0, stop),
                };
            }
            Command::Noop => self.tell(&form, Line::Ok),
            Command::Version => self.tell(&form, Line::Version),
            Command::Flush => self.flush_packet(i64::from(extras.u32_at(0)), &form),
            Command::Stat => self.stat(key, &header, &form),
            _ => self.keyed_packet(&header, command, &extras, key, &form),
        };
        match done {
            Ok(()) => {
                self.core.counters().requests.add(1);
                Step::Executed(head_bytes)
            }
            Err(stop) => Step::Stop(0, stop),
        }
    }

    /// Answers with a packet that is known at once.
    fn tell(&mut self, form: &Form<'_>, said: impl Into<Said>) -> Result<(), Stop> {
        self.room_to_say(form)?;
        self.say(form, said);
        Ok(())
    }

    /// A command that is not known: its body is passed over, then that is said.
    ///
    /// Deviates: 1.6.18 passes over the body once more than it is there when it has extras or a key.
    fn pass_over(&mut self, header: &RequestHeader, form: &Form<'_>) -> Step {
        if let Err(stop) = self.reply_room() {
            return Step::Stop(0, stop);
        }
        let reply = Some(self.owe(form, Owed::Waiting(Waiting::Outcome)));
        self.session.state = State::Swallow { remaining: u64::from(header.body_len), reply, said: Line::Error.into() };
        self.core.counters().requests.add(1);
        Step::Executed(HEADER_BYTES)
    }

    /// A command on a key, without a value.
    fn keyed_packet(
        &mut self,
        header: &RequestHeader,
        command: Command,
        extras: &Extras<'_>,
        key: &[u8],
        form: &Form<'_>,
    ) -> Result<(), Stop> {
        let now = self.core.now();
        let expiry = |exptime: u32| Expiry::from_exptime(i64::from(exptime), now);
        match command {
            Command::Delete => {
                let cas = (header.cas != 0).then_some(header.cas);
                let delete = Delete { cas, stale: false, expiry: None, classic: true };
                self.operate_on_owner(key, &Operation::Delete(delete), form)
            }
            Command::Arith { increment } => {
                let exptime = extras.u32_at(16);
                let steps = if exptime == NO_VIVIFY {
                    Steps::NONE
                } else {
                    Steps::one(operation::Step::Vivify(expiry(exptime)))
                };
                let (delta, initial) = (extras.u64_at(0), extras.u64_at(8));
                let count = Count { delta, up: increment, cas: header.cas, steps, initial };
                self.operate_on_owner(key, &Operation::Count(count), form)
            }
            Command::Touch | Command::GetAndTouch { .. } => {
                self.get_on_owner(key, &Operation::get_and_touch(expiry(extras.u32_at(0))), form)
            }
            _ => self.get_on_owner(key, &Operation::GET, form),
        }
    }

    /// Flush.
    fn flush_packet(&mut self, exptime: i64, form: &Form<'_>) -> Result<(), Stop> {
        if !self.core.config.commands.flush {
            return self.tell(form, Line::FlushDisabled);
        }
        self.begin_barrier()?;
        let now = self.core.now();
        self.core.shard.flush_all(exptime, now);
        self.order_all(Line::Ok, form, Request::Flush { exptime });
        self.core.counters().cmd_flush.add(1);
        Ok(())
    }

    /// Stat: a packet for each line of the text protocol's answer, then an empty one.
    fn stat(&mut self, group: &[u8], header: &RequestHeader, form: &Form<'_>) -> Result<(), Stop> {
        if self.session.pending > 0 {
            return Err(Stop::NeedRoom);
        }
        self.reply_room()?;
        let counters = &self.core.shared.counters;
        let list = |group: &[u8]| stats::list(group, &self.core.shared, self.core.now());
        let packets = |text: &[u8]| stat_packets(text, header.opaque);
        // memcached compares these by their beginning.
        let text = match group {
            [b'r', b'e', b's', b'e', b't', ..] => {
                counters.reset();
                packets(b"")
            }
            _ if group.starts_with(b"settings") => packets(&list(b"settings").unwrap_or_default()),
            _ if group.starts_with(b"detail on") => {
                counters.prefixes.set_on(true);
                packets(b"")
            }
            _ if group.starts_with(b"detail off") => {
                counters.prefixes.set_on(false);
                packets(b"")
            }
            _ if group.starts_with(b"detail dump") => {
                let mut out = Vec::new();
                stat_packet(&mut out, header.opaque, b"detailed", &counters.prefixes.dump(PREFIX_DUMP_MAX_BYTES));
                stat_packet(&mut out, header.opaque, b"", b"");
                out.into_boxed_slice()
            }
            group => match list(group) {
                Some(text) => packets(&text),
                None => return self.tell(form, Outcome::Missed),
            },
        };
        self.owe(form, Owed::Text(text));
        Ok(())
    }
}

/// What a packet with a value asks for.
fn storing<'a>(
    header: &RequestHeader,
    command: Command,
    extras: &Extras<'_>,
    key: &'a [u8],
    form: &'a Form<'a>,
    core: &Core,
) -> Storing<'a> {
    // Without uniques (`-C`) memcached has nowhere to keep the one that was sent, and stores as if there were none.
    let cas = if core.config.shard.use_cas { header.cas } else { 0 };
    let mode = match command {
        Command::Join { append: true } if cas != 0 => StoreMode::AppendIf(cas),
        Command::Join { append: true } => StoreMode::Append,
        Command::Join { append: false } if cas != 0 => StoreMode::PrependIf(cas),
        Command::Join { append: false } => StoreMode::Prepend,
        Command::Store(_) if cas != 0 => StoreMode::Cas(cas),
        Command::Store(mode) => mode,
        _ => StoreMode::Set,
    };
    // An append has no extras; it takes flags and expiry of the item there.
    let expiry = Expiry::from_exptime(i64::from(extras.u32_at(4)), core.now());
    let drops_old = command == Command::Store(StoreMode::Set);
    let store = Store { mode, flags: extras.u32_at(0), expiry, base64: false, drops_old, classic: true };
    Storing { key, store, bytes: header.value_len(), form }
}
