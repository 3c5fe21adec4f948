//! The stats command of the text protocol: lists, dumps, and what it sets.

use super::operate::SLAB_CLASSES_MAX;
use super::{Stop, Taking};
use crate::core::walk::{Over, Walk};
use crate::dump::{Dump, Told};
use crate::number::unsigned_32;
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::proto::words::next_word;
use crate::replies::Owed;
use crate::stats;

impl Taking<'_> {
    /// stats.
    pub(super) fn stats(&mut self, arguments: &[u8]) -> Result<(), Stop> {
        self.text_room()?;
        let (group, rest) = next_word(arguments).unwrap_or((b"", b""));
        let line = match group {
            b"conns" => {
                self.begin_walk(Walk::new(Over::Connections, usize::MAX));
                return Ok(());
            }
            b"cachedump" if !self.clients.config.commands.dump => Line::CachedumpDisabled,
            b"cachedump" => match dump_arguments(rest) {
                Ok((class, most)) => {
                    let told = Told { dump: Dump::Cache, classes: 1 << class };
                    self.begin_walk(Walk::new(Over::Items(told), most));
                    return Ok(());
                }
                Err(line) => line,
            },
            b"reset" => {
                self.clients.shared.counters.reset();
                Line::Reset
            }
            b"detail" if !self.clients.config.commands.dump => Line::DetailDisabled,
            b"detail" => match next_word(rest).map(|(word, _)| word) {
                Some(word @ (b"on" | b"off")) => {
                    self.clients.shared.counters.prefixes.set_on(word == b"on");
                    Line::Ok
                }
                Some(b"dump") => {
                    self.begin_walk(Walk::new(Over::Prefixes, usize::MAX));
                    return Ok(());
                }
                _ => Line::DetailUsage,
            },
            group => match stats::list(group, &self.clients.shared, self.here.now) {
                Some(text) => {
                    self.owe(&Form::classic(false), Owed::Text(text));
                    return Ok(());
                }
                None => Line::Error,
            },
        };
        self.answer(line)
    }
}

/// The class and the number of items of `stats cachedump <class> <number>`; number 0 is all.
fn dump_arguments(rest: &[u8]) -> Result<(usize, usize), Line> {
    let (class, rest) = next_word(rest).ok_or(Line::BadStats)?;
    let (most, _) = next_word(rest).ok_or(Line::BadStats)?;
    let (Some(class), Some(most)) = (unsigned_32(class), unsigned_32(most)) else { return Err(Line::BadFormat) };
    if class >= SLAB_CLASSES_MAX {
        return Err(Line::BadSlabId);
    }
    Ok((class as usize, if most == 0 { usize::MAX } else { most as usize }))
}
