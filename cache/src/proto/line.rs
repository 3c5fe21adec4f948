//! `Line`: the fixed lines of the text protocol, which answer orders and wrong requests.
//!
//! Read first: memcached `protocol.txt`; every string below is 1.6.45's, byte for byte.

use crate::operation::{Outcome, Purpose};

/// The version that `version` and `stats` report.
///
/// Clients parse the part before the first dash and turn features on by it, so that part is the version whose contract
/// this server keeps; what follows the dash says that it is not memcached itself.
pub const VERSION: &str = "1.6.45-sidestep";

/// The lines, each with its text but for the `\r\n`.
macro_rules! lines {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A line of the protocol that never varies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Line {
            $($(#[$doc])* $name,)*
        }

        impl Line {
            /// The line with its `\r\n`.
            pub fn bytes(self) -> &'static [u8] {
                match self {
                    $(Line::$name => concat!($text, "\r\n").as_bytes(),)*
                }
            }
        }
    };
}

lines! {
    /// A store took place.
    Stored = "STORED",
    /// The condition of add, replace, append or prepend was not met.
    NotStored = "NOT_STORED",
    /// cas: another unique.
    Exists = "EXISTS",
    /// No item under that key.
    NotFound = "NOT_FOUND",
    /// delete took place.
    Deleted = "DELETED",
    /// touch took place.
    Touched = "TOUCHED",
    /// The end of a fetch.
    End = "END",
    /// An administrative command took place.
    Ok = "OK",
    /// `stats reset` took place.
    Reset = "RESET",
    /// `version`.
    Version = "VERSION 1.6.45-sidestep",
    /// Unknown command.
    Error = "ERROR",
    /// `shutdown` without `-A`.
    ShutdownDisabled = "SERVER_ERROR: shutdown not enabled",
    /// Too few words, an overlong key, a bad number in a storage command.
    BadFormat = "CLIENT_ERROR bad command line format",
    /// `stats` with too few words.
    BadStats = "CLIENT_ERROR bad command line",
    /// The value was not followed by `\r\n`.
    BadChunk = "CLIENT_ERROR bad data chunk",
    /// incr's or decr's amount.
    BadDelta = "CLIENT_ERROR invalid numeric delta argument",
    /// incr or decr on something that is not a number.
    NonNumeric = "CLIENT_ERROR cannot increment or decrement non-numeric value",
    /// gat's, touch's or flush_all's time.
    BadExptime = "CLIENT_ERROR invalid exptime argument",
    /// `stats detail` with something else.
    DetailUsage = "CLIENT_ERROR usage: stats detail on|off|dump",
    /// `stats cachedump` of a class that memcached never has.
    BadSlabId = "CLIENT_ERROR Illegal slab id",
    /// `-F`.
    FlushDisabled = "CLIENT_ERROR flush_all not allowed",
    /// `cache_memlimit` below 8.
    MemlimitTooSmall = "MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m",
    /// `cache_memlimit` in bytes by mistake.
    MemlimitNotBytes = "MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes",
    /// `cache_memlimit` that the shards cannot follow.
    MemlimitRefused = "MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust",
    /// The item is larger than `-I`.
    TooLarge = "SERVER_ERROR object too large for cache",
    /// No room for an item, and nothing may be evicted.
    NoMemoryStoring = "SERVER_ERROR out of memory storing object",
    /// No room for a longer number or a copy.
    NoMemory = "SERVER_ERROR out of memory",
    /// A fetch of more than `-o read_buf_mem_limit` has room for.
    NoMemoryFetching = "SERVER_ERROR out of memory writing get response",
    /// ma: no room for a number that is not there yet.
    NoMemoryCreating = "SERVER_ERROR Out of memory allocating new item",
    /// mn.
    MetaNoop = "MN",
    /// A meta flag twice.
    DuplicateFlag = "CLIENT_ERROR duplicate flag",
    /// A meta flag that memcached does not know.
    InvalidFlag = "CLIENT_ERROR invalid flag",
    /// ma: anything wrong with its flags or its key.
    InvalidOrDuplicateFlag = "CLIENT_ERROR invalid or duplicate flag",
    /// A meta flag's number.
    BadToken = "CLIENT_ERROR bad token in command line format",
    /// b with a key that is no base64.
    BadKeyEncoding = "CLIENT_ERROR error decoding key",
    /// M of an ms.
    BadSetMode = "CLIENT_ERROR invalid mode for ms M token",
    /// M of an ma.
    BadArithMode = "CLIENT_ERROR invalid mode for ma M token",
    /// J.
    BadInitial = "CLIENT_ERROR invalid numeric initial value",
    /// D.
    BadDeltaValue = "CLIENT_ERROR invalid numeric delta value",
    /// O.
    OpaqueTooLong = "CLIENT_ERROR opaque token too long",
    /// mg, ms, md: more than 20 words.
    OptionsTooLong = "CLIENT_ERROR options flags are too long",
    /// `shutdown` with a word that it does not know.
    ShutdownMode = "CLIENT_ERROR invalid shutdown mode",
    /// `slabs reassign`: there are no slabs.
    SlabsDisabled = "CLIENT_ERROR slab reassignment disabled",
    /// `slabs automove window` out of its limits.
    AutomoveWindow = "CLIENT_ERROR automove window too low or too high",
    /// `lru tune`: too much for hot and warm.
    LruPercents = "ERROR hot and warm pcts must not exceed 80",
    /// `lru tune`: no factor.
    LruFactors = "ERROR hot/warm age factors must be greater than 0",
    /// `lru_crawler` while it is disabled.
    CrawlerDisabled = "CLIENT_ERROR lru crawler disabled",
    /// `lru_crawler enable` while it is enabled.
    CrawlerRunning = "ERROR failed to start lru crawler thread",
    /// `lru_crawler sleep` of more than a second.
    CrawlerSleep = "CLIENT_ERROR sleep must be one second or less",
    /// Another dump is under way.
    CrawlerBusy = "BUSY currently processing crawler request",
    /// No slab class.
    BadClass = "BADCLASS invalid class id",
    /// `-X`, to metadump.
    DumpDisabled = "ERROR metadump not allowed",
    /// `-X`, to mgdump.
    KeyDumpDisabled = "ERROR key dump not allowed",
    /// `-X`, to `stats detail`.
    DetailDisabled = "CLIENT_ERROR stats detail not allowed",
    /// `-X`, to cachedump.
    CachedumpDisabled = "CLIENT_ERROR stats cachedump not allowed",
    /// `-W`.
    WatchDisabled = "CLIENT_ERROR watch commands not allowed",
    /// As many watch as may.
    WatchersFull = "WATCHER_TOO_MANY log watcher limit reached",
    /// `-Y`, before the client has said who it is.
    Unauthenticated = "CLIENT_ERROR unauthenticated",
    /// `-Y`: not a name and a password.
    AuthFormat = "CLIENT_ERROR bad authentication token format",
    /// `-Y`: not ended by `\r\n`.
    AuthTermination = "CLIENT_ERROR bad command line termination",
    /// `-Y`: longer than any name and password.
    AuthTooLong = "CLIENT_ERROR auth token too long",
    /// `-Y`: no such name with that password.
    AuthFailure = "CLIENT_ERROR authentication failure",
}

impl Line {
    /// The line that says `outcome`; of a hit or a number there is more to say.
    pub(crate) fn of(outcome: &Outcome) -> Line {
        match outcome {
            Outcome::Stored { .. } => Line::Stored,
            Outcome::Deleted => Line::Deleted,
            Outcome::Touched => Line::Touched,
            Outcome::Hit(_) | Outcome::Number(_) | Outcome::Debug(_) => Line::Ok,
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
}

/// Bytes of the longest fixed line or number line, with its end.
pub const LINE_MAX_BYTES: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_line_carries_the_version() {
        assert_eq!(Line::Version.bytes(), format!("VERSION {VERSION}\r\n").as_bytes());
    }
}
