//! Outcomes as the lines and fields that replies are still made of. Goes when replies are written from outcomes.

use super::entries::Owed;
use crate::operation::{ItemFacts, Number, Outcome, Purpose, View};
use crate::proto::framed::Seen;
use crate::proto::reply::Line;

impl Outcome {
    /// The line of the text protocol that says so.
    pub(crate) fn line(&self) -> Line {
        match self {
            Outcome::Stored { .. } | Outcome::Hit(_) | Outcome::Number(_) | Outcome::Debug(_) => Line::Stored,
            Outcome::Deleted => Line::Deleted,
            Outcome::Touched => Line::Touched,
            Outcome::Missed => Line::NotFound,
            Outcome::Exists => Line::Exists,
            Outcome::NotStored => Line::NotStored,
            Outcome::TooLarge => Line::TooLarge,
            Outcome::NoMemory(Purpose::Store) => Line::NoMemoryStoring,
            Outcome::NoMemory(Purpose::Change) => Line::NoMemory,
            Outcome::NoMemory(Purpose::Create) => Line::NoMemoryCreating,
            Outcome::NotANumber => Line::NonNumeric,
        }
    }

    /// What a classic command is owed.
    pub(crate) fn owed(&self) -> Owed {
        match self {
            Outcome::Number(number) => Owed::Number(number.value),
            outcome => Owed::Line(outcome.line()),
        }
    }

    /// What a framed reply is made of; Stored stands for success of any kind.
    pub(crate) fn head(&self) -> (Line, Seen) {
        let line = match self {
            Outcome::Deleted => Line::Stored,
            outcome => outcome.line(),
        };
        let seen = match *self {
            Outcome::Hit(View { cas, flags, len, ttl, idle, fetched, base64, stale, token_sent, won }) => {
                let (ttl, expires) = ttl_fields(ttl);
                Seen { cas, flags, len, ttl, expires, idle, hit: fetched, base64, stale, token_sent, won }
            }
            Outcome::Stored { cas } => Seen { cas, ..Seen::NOTHING },
            Outcome::Number(Number { value, cas, created, ttl }) => {
                let (ttl, expires) = ttl_fields(ttl);
                let (flags, len) = ((value >> 32) as u32, value as u32);
                Seen { cas, flags, len, ttl, expires, won: created, ..Seen::NOTHING }
            }
            Outcome::Debug(ItemFacts { expired_for, idle, cas, fetched, class, bytes, base64 }) => Seen {
                cas,
                flags: class,
                len: bytes,
                ttl: expired_for as u32,
                idle,
                hit: fetched,
                base64,
                ..Seen::NOTHING
            },
            _ => Seen::NOTHING,
        };
        (line, seen)
    }
}

fn ttl_fields(shown: Option<u32>) -> (u32, bool) {
    (shown.unwrap_or(u32::MAX), shown.is_some())
}
