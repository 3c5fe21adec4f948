//! Orders to every core, and stats.
//!
//! flush_all and cache_memlimit are barriers within a connection: they begin when everything before them has been
//! answered, and nothing after them begins before every shard has obeyed.

use super::operate::SLAB_CLASSES_MAX;
use super::{State, Stop, Taking};
use crate::core::walk::{Over, Walk};
use crate::dump::{Dump, Told};
use crate::mesh::message::{OrderToAll, Request};
use crate::number::unsigned_32;
use crate::proto::form::Form;
use crate::proto::line::Line;
use crate::proto::words::next_word;
use crate::replies::{Owed, Waiting};
use crate::stats;

impl Taking<'_> {
    /// flush_all.
    pub(super) fn flush_all(&mut self, delay: Result<i32, Line>, noreply: bool) -> Result<(), Stop> {
        let refused = match delay {
            _ if !self.clients.config.commands.flush => Line::FlushDisabled,
            Ok(exptime) => return self.flush(exptime.into(), &Form::classic(noreply)),
            Err(line) => line,
        };
        self.answer(refused, noreply)?;
        self.clients.counters.cmd_flush.add(1);
        Ok(())
    }

    /// Every item stored before `exptime` is gone, of all cores.
    pub(super) fn flush(&mut self, exptime: i64, form: &Form<'_>) -> Result<(), Stop> {
        self.begin_barrier()?;
        self.order_all(OrderToAll::Flush { exptime }, form);
        self.clients.counters.cmd_flush.add(1);
        Ok(())
    }

    /// cache_memlimit.
    pub(super) fn memory_limit(&mut self, megabytes: u32, noreply: bool) -> Result<(), Stop> {
        self.begin_barrier()?;
        let bytes = (u64::from(megabytes) << 20) / self.clients.shared.counters.cores() as u64;
        if self.order_all(OrderToAll::MemoryLimit { bytes }, &Form::classic(noreply)) {
            self.clients.shared.control.set_limit_bytes(u64::from(megabytes) << 20);
        }
        Ok(())
    }

    /// verbosity: one number that every core reads.
    pub(super) fn verbosity(&mut self, level: u32, noreply: bool) -> Result<(), Stop> {
        self.answer(Line::Ok, noreply)?;
        self.clients.shared.control.set_verbosity(level);
        Ok(())
    }

    /// Stops until everything before the barrier has been answered by the other cores and there is room for its reply.
    fn begin_barrier(&mut self) -> Result<(), Stop> {
        self.reply_room()?;
        if self.clients.conns[self.session.conn].in_flight > 0 { Err(Stop::Waiting) } else { Ok(()) }
    }

    /// Has this core obey an order, and every other. The answer is known when all have. Returns whether this core could.
    fn order_all(&mut self, order: OrderToAll, form: &Form<'_>) -> bool {
        let obeyed = self.here.obey(order);
        let line = if obeyed { Line::Ok } else { Line::MemlimitRefused };
        let cores = self.clients.shared.counters.cores();
        if cores == 1 {
            self.say(form, line);
            return obeyed;
        }
        let token = self.owe(form, Owed::Waiting(Waiting::Order { said: line.into() }));
        let this = self.here.id;
        for peer in (0..cores).filter(|&peer| peer != this) {
            self.clients.owe(peer, token, Request::Order(order));
        }
        self.session.state = State::Barrier;
        obeyed
    }

    /// stats. A connection has one such text at a time, and what it counts includes all that was answered before.
    pub(super) fn stats(&mut self, arguments: &[u8]) -> Result<(), Stop> {
        if !self.session.owed.is_empty() {
            return Err(Stop::NeedRoom);
        }
        self.reply_room()?;
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
        self.answer(line, false)
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
