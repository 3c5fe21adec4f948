//! What the server answers: the fixed lines of the text protocol, and the header before a value.
//!
//! Read first: memcached `protocol.txt`; every string below is 1.6.18's, byte for byte.

use arrayvec::ArrayVec;

use crate::key::KEY_MAX_BYTES;

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
    /// `-Y`: no such name with that password.
    AuthFailure,
}

impl Line {
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
            Line::AuthFailure => b"CLIENT_ERROR authentication failure\r\n",
        }
    }
}

/// Bytes of the longest [`value_header`]: `VALUE `, the key, three blanks, flags, length, cas, `\r\n`.
pub const HEADER_MAX_BYTES: usize = 6 + KEY_MAX_BYTES + 3 + 10 + 10 + 20 + 2;

/// A short reply on its way into the caller's buffer.
pub type Header = ArrayVec<u8, HEADER_MAX_BYTES>;

/// `VALUE <key> <flags> <bytes> [<cas>]\r\n` (`protocol.txt`, "Retrieval command").
pub fn value_header(key: &[u8], flags: u32, bytes: usize, cas: Option<u64>) -> Header {
    let mut header = Header::new();
    append(&mut header, b"VALUE ");
    append(&mut header, key);
    append(&mut header, b" ");
    append_number(&mut header, u64::from(flags));
    append(&mut header, b" ");
    append_number(&mut header, bytes as u64);
    if let Some(cas) = cas {
        append(&mut header, b" ");
        append_number(&mut header, cas);
    }
    append(&mut header, b"\r\n");
    header
}

/// A number on a line of its own: incr's and decr's answer.
pub fn number_line(value: u64) -> Header {
    let mut header = Header::new();
    append_number(&mut header, value);
    append(&mut header, b"\r\n");
    header
}

/// Appends; leaves the header as it is when there is no room, which a key of at most 250 bytes cannot bring about.
fn append(header: &mut Header, bytes: &[u8]) {
    let fits = header.try_extend_from_slice(bytes);
    debug_assert!(fits.is_ok(), "a reply header is longer than {HEADER_MAX_BYTES} bytes");
}

/// Appends `value` in decimal.
fn append_number(header: &mut Header, value: u64) {
    let mut digits = [0u8; 20];
    let mut start = digits.len();
    let mut rest = value;
    loop {
        start -= 1;
        digits[start] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    append(header, &digits[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_header_fits() {
        let key = [b'k'; KEY_MAX_BYTES];
        let header = value_header(&key, u32::MAX, u32::MAX as usize, Some(u64::MAX));
        assert_eq!(header.len(), HEADER_MAX_BYTES);
        assert!(header.ends_with(b" 4294967295 4294967295 18446744073709551615\r\n"));
    }

    #[test]
    fn headers_and_numbers_are_memcacheds() {
        assert_eq!(&value_header(b"a", 0, 2, None)[..], b"VALUE a 0 2\r\n");
        assert_eq!(&value_header(b"a", 7, 0, Some(10))[..], b"VALUE a 7 0 10\r\n");
        assert_eq!(&number_line(0)[..], b"0\r\n");
        assert_eq!(&number_line(u64::MAX)[..], b"18446744073709551615\r\n");
    }

    #[test]
    fn the_version_line_carries_the_version() {
        assert_eq!(Line::Version.bytes(), format!("VERSION {VERSION}\r\n").as_bytes());
    }
}
