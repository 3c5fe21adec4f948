//! The limit on replies that are asked for and have not left (memcached's `-o read_buf_mem_limit`).
//!
//! Without it a connection that asks for more than its core's pools hold is read no further until replies have left.
//! Whoever sets the limit wants such a client refused: as in memcached, a fetch is answered with an error, and any
//! other command that exceeds it ends the connection, unanswered. Replies are counted as memcached counts them, one for
//! each key or command from when it is executed; one that waits for another core takes a landing slot besides.
//! Read first: memcached.c, `resp_allocate`; proto_text.c, `process_get_command`.

use memchr::memchr;

use super::{Speaks, State, Stop, Taking};
use crate::proto::binary::HEADER_BYTES;
use crate::proto::line::Line;
use crate::proto::text::LINE_MAX_BYTES;

/// What a landing slot is counted as, in replies: it has about four times the bytes of memcached's.
const SLOT_REPLIES: usize = 3;

impl Taking<'_> {
    /// Why to stop before `rest`, if there are as many replies as may be: those `before`, which the core's connections
    /// were owed when this take began, and those of the requests that it has `executed`. Refuses what `rest` begins
    /// with, unless that is a part of something that was begun before.
    #[cold]
    pub(super) fn stop_at_limit(&mut self, rest: &[u8], limit: u32, before: usize, executed: u32) -> Option<Stop> {
        if before + executed as usize + SLOT_REPLIES * self.clients.landing.in_use() < limit as usize {
            return None;
        }
        if executed == 0 && !self.session.owed.is_empty() {
            // Earlier calls executed the requests whose replies fill the limit. The connection waits until some have
            // left.
            return matches!(self.session.state, State::Keys { .. } | State::Line).then_some(Stop::NeedRoom);
        }
        match self.session.state {
            State::Keys { .. } => {
                if let Err(stop) = self.answer(Line::NoMemoryFetching) {
                    return Some(stop);
                }
                self.clients.counters.replies_refused.add(1);
                self.session.state = State::SkipLine;
                Some(Stop::Yield)
            }
            State::Line if self.is_whole(rest) => {
                self.clients.counters.replies_refused.add(1);
                self.out.forget();
                self.session.owed.drop_all(self.here, self.clients);
                self.close_broken();
                Some(Stop::Close)
            }
            State::Line => Some(Stop::NeedInput),
            _ => None,
        }
    }

    /// Whether a request that can be executed is at the start of `rest`.
    fn is_whole(&self, rest: &[u8]) -> bool {
        match self.session.speaks {
            Some(Speaks::Binary) => rest.len() >= HEADER_BYTES,
            _ => rest.len() > LINE_MAX_BYTES || memchr(b'\n', rest).is_some(),
        }
    }
}
