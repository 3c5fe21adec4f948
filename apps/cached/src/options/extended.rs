//! `-o`: memcached's extended options, a comma-separated list of words.
//!
//! Three kinds: what is kept; what tunes machinery of memcached's that has no counterpart here, so that it is taken and
//! a note says so at the start; and what promises something that is not there, which is refused with the reason.
//! Read first: `memcached -h`, and the `switch` over `getsubopt` in memcached.c.

use super::error::OptionError;
use super::number::{Number, decimal};

/// What `-o` sets.
#[derive(Debug, Clone, PartialEq)]
pub struct Extended {
    /// Whether connections above `-c` are told so and closed, rather than left to wait.
    pub maxconns_fast: bool,
    /// Seconds without a command after which a connection is closed; 0 is never.
    pub idle_timeout_secs: u32,
    /// Shown by `stats settings`.
    pub hashpower: u32,
    /// Whether `stats` shows the line of the LRU maintainer.
    pub lru_maintainer: bool,
    /// Whether the commands of `lru_crawler` are obeyed from the start.
    pub lru_crawler: bool,
    /// Largest chunk of the slab classes by which items are reported, in bytes.
    pub slab_chunk_max: u32,
    /// Bytes that a watcher may be behind each core.
    pub worker_logbuf_bytes: usize,
    /// Bytes that replies may take, as memcached counts them, before whoever asks for more is refused; 0 is no limit.
    pub read_buf_mem_limit_bytes: usize,
    /// Bytes that connections which move much may have beyond their own rings, all cores together; `None`: so many a core
    /// as `CONN_MEMORY_PER_CORE` says.
    pub conn_memory_bytes: Option<usize>,
    /// Most connections of a core that have rings of their own at a time; those beyond, which rest, are kept in a few bytes.
    /// `None`: as many as have them in half of the memory of the machine.
    pub awake_flows: Option<usize>,
    /// Seconds of silence after which a connection's client is asked whether it is there; after three questions without an
    /// answer the connection is closed. 0 is never.
    pub keepalive_secs: u32,
    /// What was taken and changes nothing, with the reason: said at the start.
    pub notes: Vec<String>,
}

impl Default for Extended {
    fn default() -> Extended {
        Extended {
            maxconns_fast: true,
            idle_timeout_secs: 0,
            hashpower: 0,
            lru_maintainer: true,
            lru_crawler: true,
            slab_chunk_max: 512 << 10,
            worker_logbuf_bytes: 64 << 10,
            read_buf_mem_limit_bytes: 0,
            conn_memory_bytes: None,
            awake_flows: None,
            keepalive_secs: KEEPALIVE_SECS,
            notes: Vec::new(),
        }
    }
}

// memcached reads the first two with `atoi`, the others whole (memcached.c, the `switch` over `getsubopt`).
const IDLE_TIMEOUT: Number = Number::new("-o idle_timeout", "a number of seconds", 0, 1 << 31);
const HASHPOWER: Number = Number::new("-o hashpower", "a power of two", 12, 32);
const SLAB_CHUNK_MAX: Number = Number::new("-o slab_chunk_max", "a number of kilobytes", 1, SLAB_PAGE_BYTES as i64);
const WORKER_LOGBUF: Number = Number::new("-o worker_logbuf_size", "a number of kilobytes", 1, 1 << 16);
const READ_BUF_MEM_LIMIT: Number = Number::new("-o read_buf_mem_limit", "a number of megabytes", 0, 1 << 20);

/// Bytes of a slab page of memcached's: its largest chunk.
const SLAB_PAGE_BYTES: u64 = 1 << 20;

const CONN_MEMORY: Number = Number::new("-o conn_memory", "a number of megabytes", 0, 1 << 20);

const AWAKE: Number = Number::new("-o awake_flows", "a number of connections", 1_024, 1 << 24);

const KEEPALIVE: Number = Number::new("-o keepalive", "a number of seconds, or 0 for none", 1, 1 << 15);

/// Seconds between keep-alives if `-o keepalive` does not say otherwise: a client that vanished without a FIN must not hold
/// its place of `-c` for ever.
const KEEPALIVE_SECS: u32 = 60;

/// Bytes of larger rings that a core has if `-o conn_memory` does not say otherwise: 20 connections move values of 1 MiB at
/// once, 128 those of 64 KiB, and one writes 4 MiB before it reads; only what is used takes memory.
const CONN_MEMORY_PER_CORE: usize = 64 << 20;

/// Words that tune what is not here, and why having none does no harm.
const WITHOUT_EFFECT: &[(&[&str], &str)] = &[
    (
        &[
            "slab_reassign",
            "no_slab_reassign",
            "slab_automove",
            "no_slab_automove",
            "slab_automove_ratio",
            "slab_automove_window",
            "slab_automove_freeratio",
            "no_chunked_items",
        ],
        "there are no slab pages to move: memory goes to whichever size of item needs it",
    ),
    (
        &[
            "lru_maintainer",
            "hot_lru_pct",
            "warm_lru_pct",
            "hot_max_factor",
            "warm_max_factor",
            "temporary_ttl",
            "tail_repair_time",
            "lru_crawler_sleep",
            "lru_crawler_tocrawl",
        ],
        "there is no LRU to maintain: expired items go segment by segment",
    ),
    (&["no_hashexpand"], "the index grows a few buckets an operation, never all at once"),
    (&["resp_obj_mem_limit"], "memcached takes this too and does nothing; see read_buf_mem_limit"),
    (&["modern", "no_inline_ascii_resp", "inline_ascii_resp"], "memcached takes this too and does nothing"),
    (&["no_drop_privileges"], "system calls are not filtered anyway"),
    (&["watcher_logbuf_size"], "what a watcher has not read waits in the buffers of the cores, see worker_logbuf_size"),
];

/// Words without effect whose number memcached checks, and its limits. It reads all but the last two with `atoi`, and those whole.
const WITHOUT_EFFECT_INTEGERS: &[(&str, Number)] = &[
    ("slab_automove", Number::new("-o slab_automove", "one of memcached's modes", 0, 2)),
    ("slab_automove_window", Number::new("-o slab_automove_window", "a number of seconds", 3, 1_800)),
    ("tail_repair_time", Number::new("-o tail_repair_time", "a number of seconds", 10, i32::MAX as i64)),
    ("lru_crawler_sleep", Number::new("-o lru_crawler_sleep", "a number of microseconds", 0, 1_000_000)),
    ("hot_lru_pct", Number::new("-o hot_lru_pct", "a percentage", 1, 79)),
    ("warm_lru_pct", Number::new("-o warm_lru_pct", "a percentage", 1, 79)),
    ("lru_crawler_tocrawl", Number::new("-o lru_crawler_tocrawl", "a number of items", 0, i64::MAX)),
    ("watcher_logbuf_size", Number::new("-o watcher_logbuf_size", "a number of kilobytes", 0, i64::MAX)),
];

/// The same of words whose number is a decimal, and its largest.
const WITHOUT_EFFECT_DECIMALS: &[(&str, f64, &str)] = &[
    ("slab_automove_ratio", 1.0, "not a ratio above 0 and up to 1"),
    ("hot_max_factor", f64::INFINITY, "not a factor above 0"),
    ("warm_max_factor", f64::INFINITY, "not a factor above 0"),
];

/// Beginnings of words that promise what is not here, and what there is instead.
const REFUSED: &[(&str, &str)] = &[
    ("ext_", "there is no storage on disk; leave it out"),
    ("ssl_", "there is no TLS; put a TLS proxy in front, or leave it out"),
    ("proxy_", "this is no proxy; leave it out"),
    ("hash_algorithm", "keys are always hashed by keyed SipHash-1-3, so that clients cannot make them collide"),
    ("slab_sizes", "slab classes are only a view of the sizes stored; shape them by -f, -n and slab_chunk_max"),
    ("track_sizes", "sizes are not tracked item by item; `stats slabs` counts items by slab class"),
    ("drop_privileges", "system calls are not filtered; -u USER gives up root's rights"),
    ("sock_cookie_id", "connections have no kernel socket that could be marked"),
];

impl Extended {
    /// Bytes that the connections of a core of `cores` may have beyond their own rings.
    pub fn conn_memory(&self, cores: usize) -> usize {
        self.conn_memory_bytes.map_or(CONN_MEMORY_PER_CORE, |bytes| bytes / cores.max(1))
    }

    /// Replies that a core of `cores` may have asked for before it refuses more: as many as memcached's thread has room
    /// for, which divides the limit into buffers of 16 KiB with 13 replies each, and always has one.
    pub fn reply_limit(&self, cores: usize) -> Option<u32> {
        const BUFFER_BYTES: usize = 16 << 10;
        const REPLIES_PER_BUFFER: usize = 13;
        let buffers = (self.read_buf_mem_limit_bytes / cores.max(1) / BUFFER_BYTES).max(1);
        (self.read_buf_mem_limit_bytes != 0).then(|| u32::try_from(buffers * REPLIES_PER_BUFFER).unwrap_or(u32::MAX))
    }

    /// Reads lists as `-o` was given, in order; a later word stands over an earlier one. With `debug`, words are taken
    /// that only memcached's debug build has.
    ///
    /// # Errors
    /// The first word that is refused or unknown, or whose value is.
    pub fn read(lists: &[String], debug: bool) -> Result<Extended, OptionError> {
        let mut extended = Extended::default();
        for word in lists.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
            extended.take(word, debug)?;
        }
        Ok(extended)
    }

    fn take(&mut self, word: &str, debug: bool) -> Result<(), OptionError> {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        match name {
            "maxconns_fast" => self.maxconns_fast = true,
            "no_maxconns_fast" => self.maxconns_fast = false,
            "idle_timeout" => {
                self.idle_timeout_secs = IDLE_TIMEOUT.read(value)?.take(&mut self.notes) as u32;
            }
            "hashpower" => {
                self.hashpower = HASHPOWER.read(value)?.take(&mut self.notes) as u32;
                self.note(word, "the index starts small and grows as it fills");
            }
            "lru_crawler" => self.lru_crawler = true,
            "no_lru_crawler" => self.lru_crawler = false,
            "no_lru_maintainer" => self.lru_maintainer = false,
            "slab_chunk_max" => {
                let given = SLAB_CHUNK_MAX.read_whole(value)?;
                let in_kib = given <= SLAB_PAGE_BYTES >> 10;
                self.slab_chunk_max = if in_kib { given << 10 } else { given } as u32;
                // As many kilobytes are more than a page, so that 1.6.45 refuses the word: it was written for 1.6.18.
                if !in_kib {
                    self.note(word, "read as bytes, as memcached 1.6.18 does; 1.6.45 reads kilobytes");
                }
            }
            "worker_logbuf_size" => {
                let kib = WORKER_LOGBUF.read_whole(value)?;
                self.worker_logbuf_bytes = (kib as usize) << 10;
            }
            "conn_memory" => {
                self.conn_memory_bytes = Some((CONN_MEMORY.read(value)?.take(&mut self.notes) as usize) << 20);
            }
            "awake_flows" => self.awake_flows = Some(AWAKE.read_whole(value)? as usize),
            "keepalive" if value.trim() == "0" => self.keepalive_secs = 0,
            "keepalive" => self.keepalive_secs = KEEPALIVE.read_whole(value)? as u32,
            "read_buf_mem_limit" => {
                let mib = READ_BUF_MEM_LIMIT.read_whole(value)?;
                self.read_buf_mem_limit_bytes = (mib as usize) << 20;
            }
            // The defaults of memcached 1.4, as far as something here follows them.
            "no_modern" => {
                (self.maxconns_fast, self.lru_crawler, self.lru_maintainer) = (false, false, false);
                self.note(word, "sets no_maxconns_fast and no_lru_crawler; of the rest there is none here");
            }
            "relaxed_privileges" if debug => {}
            _ => return self.take_other(name, word),
        }
        Ok(())
    }

    fn take_other(&mut self, name: &str, word: &str) -> Result<(), OptionError> {
        if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(names, _)| names.contains(&name)) {
            check_number(name, word)?;
            self.note(word, why);
            return Ok(());
        }
        match REFUSED.iter().find(|(beginning, _)| name.starts_with(beginning)) {
            Some((_, why)) => Err(OptionError::Refused { option: format!("-o {word}"), why }),
            None => Err(OptionError::Unknown { value: word.to_owned() }),
        }
    }

    fn note(&mut self, word: &str, why: &str) {
        self.notes.push(format!("-o {word}: {why}"));
    }
}

/// Checks the number of a word without effect as memcached does, so that a mistake is found before the list is taken to a
/// memcached: `slab_automove` alone may stand without one.
fn check_number(name: &str, word: &str) -> Result<(), OptionError> {
    let value = word.split_once('=').map(|(_, value)| value);
    let whole = ["lru_crawler_tocrawl", "watcher_logbuf_size"].contains(&name);
    if let Some((_, number)) = WITHOUT_EFFECT_INTEGERS.iter().find(|(known, _)| *known == name) {
        return match value {
            None if name == "slab_automove" => Ok(()),
            value if whole => number.read_whole(value.unwrap_or("")).map(drop),
            value => number.read(value.unwrap_or("")).map(drop),
        };
    }
    if let Some((_, most, why)) = WITHOUT_EFFECT_DECIMALS.iter().find(|(known, ..)| *known == name) {
        let fits = value.and_then(decimal).is_some_and(|(value, _)| value > 0.0 && value <= *most);
        let refused = || OptionError::Refused { option: format!("-o {word}"), why };
        return if fits { Ok(()) } else { Err(refused()) };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<Extended, OptionError> {
        Extended::read(&[list.to_owned()], false)
    }

    #[test]
    fn what_is_kept_is_set_and_needs_no_note() {
        let extended = read("idle_timeout=3,no_maxconns_fast,slab_chunk_max=16,no_lru_crawler").expect("all are kept");
        assert_eq!((extended.idle_timeout_secs, extended.maxconns_fast), (3, false));
        assert_eq!((extended.slab_chunk_max, extended.lru_crawler), (16_384, false));
        assert_eq!(extended.notes, [""; 0]);
    }

    #[test]
    fn a_slab_chunk_is_in_kilobytes_but_where_only_bytes_can_be_meant() {
        let read = |list| read(list).map(|extended| (extended.slab_chunk_max, extended.notes.len()));
        assert_eq!(read("slab_chunk_max=1"), Ok((1 << 10, 0)));
        assert_eq!(read("slab_chunk_max=1024"), Ok((1 << 20, 0)));
        assert_eq!(read("slab_chunk_max=1025"), Ok((1025, 1)));
        assert_eq!(read("slab_chunk_max=16384,slab_chunk_max=4"), Ok((4 << 10, 1)), "the last wins");
        assert_eq!(read("slab_chunk_max=1048576"), Ok((1 << 20, 1)));
        assert!(read("slab_chunk_max=1048577").is_err() && read("slab_chunk_max=0").is_err());
    }

    #[test]
    fn the_limit_on_replies_is_shared_by_the_cores() {
        assert_eq!(Extended::default().reply_limit(4), None);
        assert_eq!(read("conn_memory=10").expect("a number").conn_memory(4), 10 << 18);
        assert_eq!(read("conn_memory=0").expect("none").conn_memory(1), 0);
        assert_eq!(read("maxconns_fast").expect("the default").conn_memory(4), 64 << 20);
        assert_eq!(read("read_buf_mem_limit=0").expect("no limit").reply_limit(4), None);
        let least = read("read_buf_mem_limit=1").expect("a limit");
        assert_eq!(
            (least.reply_limit(1), least.reply_limit(32), least.reply_limit(64)),
            (Some(832), Some(26), Some(13))
        );
    }

    #[test]
    fn keep_alives_are_a_minute_apart_unless_said_otherwise_and_none_with_0() {
        let seconds = |list| read(list).expect("seconds").keepalive_secs;
        assert_eq!((seconds("maxconns_fast"), seconds("keepalive=1"), seconds("keepalive=0")), (60, 1, 0));
        assert!(read("keepalive=").is_err() && read("keepalive=1m").is_err() && read("keepalive=32769").is_err());
        assert!(read("keepalive=0.5").is_err() && read("keepalive=-1").is_err());
    }

    #[test]
    fn so_many_connections_have_rings_of_their_own_as_is_said() {
        let awake = |list| read(list).map(|extended| extended.awake_flows);
        assert_eq!((awake("maxconns_fast"), awake("awake_flows=5000")), (Ok(None), Ok(Some(5_000))));
        assert!(awake("awake_flows=x").is_err() && awake("awake_flows=1023").is_err());
    }

    #[test]
    fn what_changes_nothing_is_taken_with_a_note() {
        let extended = read("modern,slab_automove_window=3,hot_lru_pct=20").expect("all are taken");
        assert_eq!(extended.notes.len(), 3);
        assert_eq!(Extended { notes: Vec::new(), ..extended }, Extended::default());
    }

    /// Where memcached 1.6.45 refuses a value (the `switch` over `getsubopt` in its memcached.c), so does this.
    #[test]
    fn a_value_that_changes_nothing_is_refused_where_memcached_refuses_it() {
        for taken in [
            "slab_automove",
            "slab_automove=0",
            "slab_automove=2",
            "slab_automove_window=3",
            "slab_automove_window=1800",
            "slab_automove_ratio=0.8",
            "slab_automove_ratio=1",
            "tail_repair_time=10",
            "lru_crawler_sleep=0",
            "lru_crawler_sleep=1000000",
            "lru_crawler_tocrawl=4294967295",
            "hot_lru_pct=1",
            "warm_lru_pct=79",
            "hot_max_factor=0.1",
            "warm_max_factor=2",
            "watcher_logbuf_size=256",
            "temporary_ttl=61",
        ] {
            assert!(read(taken).is_ok_and(|extended| extended.notes.len() == 1), "{taken}");
        }
        for refused in [
            "slab_automove=3",
            "slab_automove=-1",
            "slab_automove_window",
            "slab_automove_window=2",
            "slab_automove_window=1801",
            "slab_automove_ratio=0",
            "slab_automove_ratio=1.1",
            "slab_automove_ratio=x",
            "tail_repair_time=9",
            "lru_crawler_sleep=1000001",
            "lru_crawler_tocrawl=-1",
            "lru_crawler_tocrawl=1x",
            "hot_lru_pct=0",
            "warm_lru_pct=80",
            "hot_max_factor=0",
            "warm_max_factor",
            "watcher_logbuf_size=x",
        ] {
            assert!(read(refused).is_err(), "{refused}");
        }
        let error = read("slab_automove_window=2").expect_err("too short").to_string();
        assert_eq!(error, "-o slab_automove_window 2: not a number of seconds from 3 to 1800");
    }

    #[test]
    fn what_is_not_here_is_refused_with_a_reason() {
        for word in ["ext_path=/tmp/x:64m", "ssl_key=x", "proxy_config=x", "hash_algorithm=xxh3", "drop_privileges"] {
            assert!(matches!(read(word), Err(OptionError::Refused { .. })), "{word}");
        }
        assert!(matches!(read("no_such_thing"), Err(OptionError::Unknown { .. })));
        assert!(matches!(read("relaxed_privileges"), Err(OptionError::Unknown { .. })), "not without debug commands");
    }

    #[test]
    fn a_value_that_is_no_number_is_refused() {
        for word in ["idle_timeout", "idle_timeout=", "idle_timeout=x", "idle_timeout=-1", "slab_chunk_max=0"] {
            assert!(matches!(read(word), Err(OptionError::Number { .. })), "{word}");
        }
    }
}
