//! `Line`: the fixed lines of the text protocol, which answer orders and wrong requests.
//!
//! Read first: memcached `protocol.txt`; every string below is 1.6.18's, byte for byte.

use crate::operation::{Outcome, Purpose};

/// The version that `version` and `stats` report.
///
/// Clients parse the part before the first dash and turn features on by it, so that part is the version whose contract
/// this server keeps; what follows the dash says that it is not memcached itself.
pub const VERSION: &str = "1.6.18-sidestep";

/// A line of the protocol that never varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Line {
    /// A store took place.
    Stored,
    /// The condition of add, replace, append or prepend was not met.
    NotStored,
    /// cas: another unique.
    Exists,
    /// No item under that key.
    NotFound,
    /// delete took place.
    Deleted,
    /// touch took place.
    Touched,
    /// The end of a fetch.
    End,
    /// An administrative command took place.
    Ok,
    /// `stats reset` took place.
    Reset,
    /// `version`.
    Version,
    /// Unknown command, or too few or too many words.
    Error,
    /// `shutdown` without `-A` (1.6.18's wording).
    ShutdownDisabled,
    /// An overlong key, a bad number in a storage command.
    BadFormat,
    /// delete with an argument that it does not take.
    BadDelete,
    /// `stats` with too few words.
    BadStats,
    /// The value was not followed by `\r\n`.
    BadChunk,
    /// incr's or decr's amount.
    BadDelta,
    /// incr or decr on something that is not a number.
    NonNumeric,
    /// gat's, touch's or flush_all's time.
    BadExptime,
    /// `stats detail` with something else.
    DetailUsage,
    /// `stats cachedump` of a class that memcached never has.
    BadSlabId,
    /// `-F`.
    FlushDisabled,
    /// `cache_memlimit` below 8.
    MemlimitTooSmall,
    /// `cache_memlimit` in bytes by mistake.
    MemlimitNotBytes,
    /// `cache_memlimit` that the shards cannot follow.
    MemlimitRefused,
    /// The item is larger than `-I`.
    TooLarge,
    /// No room for an item, and nothing may be evicted.
    NoMemoryStoring,
    /// No room for a longer number or a copy.
    NoMemory,
    /// A fetch of more than `-o read_buf_mem_limit` has room for.
    NoMemoryFetching,
    /// ma: no room for a number that is not there yet.
    NoMemoryCreating,
    /// mn.
    MetaNoop,
    /// A meta flag twice, or a letter outside ASCII.
    DuplicateFlag,
    /// A meta flag that 1.6.18 does not know.
    InvalidFlag,
    /// md and ma: either of these, or a flag whose number is wrong.
    InvalidOrDuplicateFlag,
    /// A meta flag's number.
    BadToken,
    /// b with a key that is no base64.
    BadKeyEncoding,
    /// M with no letter or several.
    ModeLength,
    /// M of an ms.
    BadSetMode,
    /// M of an ma.
    BadArithMode,
    /// J.
    BadInitial,
    /// D.
    BadDeltaValue,
    /// O.
    OpaqueTooLong,
    /// mg: more than 20 words.
    OptionsAreTooLong,
    /// ms, md, ma: more than 20 words.
    OptionsTooLong,
    /// `shutdown` with a word that it does not know.
    ShutdownMode,
    /// `slabs reassign`: there are no slabs.
    SlabsDisabled,
    /// `lru tune`: too much for hot and warm.
    LruPercents,
    /// `lru tune`: no factor.
    LruFactors,
    /// `lru_crawler` while it is disabled.
    CrawlerDisabled,
    /// `lru_crawler enable` while it is enabled.
    CrawlerRunning,
    /// `lru_crawler sleep` of more than a second.
    CrawlerSleep,
    /// Another dump is under way.
    CrawlerBusy,
    /// No slab class.
    BadClass,
    /// `-X`, to metadump and mgdump.
    DumpDisabled,
    /// `-X`, to cachedump.
    CachedumpDisabled,
    /// `-W`.
    WatchDisabled,
    /// As many watch as may.
    WatchersFull,
    /// `-Y`, before the client has said who it is.
    Unauthenticated,
    /// `-Y`: not a name and a password.
    AuthFormat,
    /// `-Y`: not ended by `\r\n`.
    AuthTermination,
    /// `-Y`: longer than any name and password.
    AuthTooLong,
    /// `-Y`: no such name with that password.
    AuthFailure,
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

    /// The line with its `\r\n`.
    pub fn bytes(self) -> &'static [u8] {
        match self {
            Line::Stored => b"STORED\r\n",
            Line::NotStored => b"NOT_STORED\r\n",
            Line::Exists => b"EXISTS\r\n",
            Line::NotFound => b"NOT_FOUND\r\n",
            Line::Deleted => b"DELETED\r\n",
            Line::Touched => b"TOUCHED\r\n",
            Line::End => b"END\r\n",
            Line::Ok => b"OK\r\n",
            Line::Reset => b"RESET\r\n",
            Line::Version => b"VERSION 1.6.18-sidestep\r\n",
            Line::Error => b"ERROR\r\n",
            Line::ShutdownDisabled => b"ERROR: shutdown not enabled\r\n",
            Line::BadFormat => b"CLIENT_ERROR bad command line format\r\n",
            Line::BadDelete => b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]\r\n",
            Line::BadStats => b"CLIENT_ERROR bad command line\r\n",
            Line::BadChunk => b"CLIENT_ERROR bad data chunk\r\n",
            Line::BadDelta => b"CLIENT_ERROR invalid numeric delta argument\r\n",
            Line::NonNumeric => b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
            Line::BadExptime => b"CLIENT_ERROR invalid exptime argument\r\n",
            Line::DetailUsage => b"CLIENT_ERROR usage: stats detail on|off|dump\r\n",
            Line::BadSlabId => b"CLIENT_ERROR Illegal slab id\r\n",
            Line::FlushDisabled => b"CLIENT_ERROR flush_all not allowed\r\n",
            Line::MemlimitTooSmall => b"MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m\r\n",
            Line::MemlimitNotBytes => b"MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes\r\n",
            Line::MemlimitRefused => b"MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust\r\n",
            Line::TooLarge => b"SERVER_ERROR object too large for cache\r\n",
            Line::NoMemoryStoring => b"SERVER_ERROR out of memory storing object\r\n",
            Line::NoMemory => b"SERVER_ERROR out of memory\r\n",
            Line::NoMemoryFetching => b"SERVER_ERROR out of memory writing get response\r\n",
            Line::NoMemoryCreating => b"SERVER_ERROR Out of memory allocating new item\r\n",
            Line::MetaNoop => b"MN\r\n",
            Line::DuplicateFlag => b"CLIENT_ERROR duplicate flag\r\n",
            Line::InvalidFlag => b"CLIENT_ERROR invalid flag\r\n",
            Line::InvalidOrDuplicateFlag => b"CLIENT_ERROR invalid or duplicate flag\r\n",
            Line::BadToken => b"CLIENT_ERROR bad token in command line format\r\n",
            Line::BadKeyEncoding => b"CLIENT_ERROR error decoding key\r\n",
            Line::ModeLength => b"CLIENT_ERROR incorrect length for M token\r\n",
            Line::BadSetMode => b"CLIENT_ERROR invalid mode for ms M token\r\n",
            Line::BadArithMode => b"CLIENT_ERROR invalid mode for ma M token\r\n",
            Line::BadInitial => b"CLIENT_ERROR invalid numeric initial value\r\n",
            Line::BadDeltaValue => b"CLIENT_ERROR invalid numeric delta value\r\n",
            Line::OpaqueTooLong => b"CLIENT_ERROR opaque token too long\r\n",
            Line::OptionsAreTooLong => b"CLIENT_ERROR options flags are too long\r\n",
            Line::OptionsTooLong => b"CLIENT_ERROR options flags too long\r\n",
            Line::ShutdownMode => b"CLIENT_ERROR invalid shutdown mode\r\n",
            Line::SlabsDisabled => b"CLIENT_ERROR slab reassignment disabled\r\n",
            Line::LruPercents => b"ERROR hot and warm pcts must not exceed 80\r\n",
            Line::LruFactors => b"ERROR hot/warm age factors must be greater than 0\r\n",
            Line::CrawlerDisabled => b"CLIENT_ERROR lru crawler disabled\r\n",
            Line::CrawlerRunning => b"ERROR failed to start lru crawler thread\r\n",
            Line::CrawlerSleep => b"CLIENT_ERROR sleep must be one second or less\r\n",
            Line::CrawlerBusy => b"BUSY currently processing crawler request\r\n",
            Line::BadClass => b"BADCLASS invalid class id\r\n",
            Line::DumpDisabled => b"ERROR metadump not allowed\r\n",
            Line::CachedumpDisabled => b"CLIENT_ERROR stats cachedump not allowed\r\n",
            Line::WatchDisabled => b"CLIENT_ERROR watch commands not allowed\r\n",
            Line::WatchersFull => b"WATCHER_TOO_MANY log watcher limit reached\r\n",
            Line::Unauthenticated => b"CLIENT_ERROR unauthenticated\r\n",
            Line::AuthFormat => b"CLIENT_ERROR bad authentication token format\r\n",
            Line::AuthTermination => b"CLIENT_ERROR bad command line termination\r\n",
            Line::AuthTooLong => b"CLIENT_ERROR auth token too long\r\n",
            Line::AuthFailure => b"CLIENT_ERROR authentication failure\r\n",
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
