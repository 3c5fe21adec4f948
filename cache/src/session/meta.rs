//! Meta commands: read, then executed on the shard that owns the key.
//!
//! Read first: [`crate::proto::meta`] for what the flags say, [`crate::operation`] for what they ask for.

use super::{Done, Halt, LINE_END, Stop, Taking};
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::proto::meta::{self, Name, Refused};

impl Taking<'_> {
    /// Any meta command without a value.
    pub(super) fn meta(&mut self, name: Name, words: &[u8]) -> Result<(), Stop> {
        if name == Name::Noop {
            return self.answer(Line::MetaNoop, false);
        }
        let meta = match meta::parse(name, words) {
            Ok(meta) => meta,
            Err(line) => return self.answer(line, false),
        };
        let operation = meta.operation(name, self.here.now);
        self.perform(self.locate(meta.key.bytes()), &operation, b"", &meta.form(name))?;
        self.clients.counters.cmd_meta.add(u64::from(name == Name::Debug));
        Ok(())
    }

    /// ms, whose line is the first `line_bytes` bytes of `input`.
    pub(super) fn meta_set(&mut self, input: &[u8], line_bytes: usize, words: &[u8]) -> Result<Done, Halt> {
        match meta::parse_set(words) {
            Ok((meta, mode)) => {
                let storing = meta.storing(mode, self.here.now);
                self.store(input, line_bytes, &storing, &meta.form(Name::Set))
            }
            Err(refused) => self.refuse_set(line_bytes, refused),
        }
    }

    /// An ms that is wrong: its value, as far as its length is known, is passed over before the answer.
    fn refuse_set(&mut self, line_bytes: usize, refused: Refused) -> Result<Done, Halt> {
        let form = Form::classic(false);
        match refused.value_bytes {
            None => {
                self.reply_room()?;
                self.say(&form, refused.line);
            }
            Some(bytes) => self.pass_over(u64::from(bytes) + LINE_END.len() as u64, &form, refused.line)?,
        }
        Ok(self.executed(line_bytes))
    }
}
