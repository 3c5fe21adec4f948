//! `Asked`: what a request asks for. Each protocol reads its requests as one of these, beside the [`Form`] of the reply.
//!
//! [`Form`]: super::form::Form

use super::line::Line;
use crate::operation::{Operation, Store};

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked<'a> {
    /// An operation, without a value, on the item of a key of at most 250 bytes.
    Operation { key: &'a [u8], operation: Operation },
    /// To store the value that follows.
    Store(Storing<'a>),
    /// To be told this, and nothing else.
    Line(Line),
    /// Something wrong: this is the answer, once so many bytes that follow have been passed over.
    PassOver { bytes: u64, line: Line },
    /// What those ask for who run the server.
    Order(Order<'a>),
}

/// A request with a value, but for the value and what the reply is to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Storing<'a> {
    /// At most 250 bytes.
    pub(crate) key: &'a [u8],
    /// How the value is stored.
    pub(crate) store: Store,
    /// Bytes of the value, without its line end.
    pub(crate) bytes: u32,
}

/// What those ask for who run the server; of most the words behind the name, perhaps none, are read where they are
/// obeyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order<'a> {
    /// flush_all, by an exptime; 0 and below is at once. `Err` when it is no number, which is answered after the other
    /// checks.
    Flush(Result<i64, Line>),
    /// cache_memlimit, with a number that it may have: 8 to 10^9.
    MemoryLimit { megabytes: u32 },
    /// verbosity; the server keeps at most 2.
    Verbosity { level: u32 },
    /// stats.
    Stats(&'a [u8]),
    /// watch.
    Watch(&'a [u8]),
    /// lru_crawler.
    Crawler(&'a [u8]),
    /// lru.
    Lru(&'a [u8]),
    /// slabs.
    Slabs(&'a [u8]),
    /// shutdown.
    Shutdown(&'a [u8]),
    /// config, in a server that tells of a cluster.
    Config(&'a [u8]),
    /// debugtime, in a server that obeys it.
    Debugtime(&'a [u8]),
}
