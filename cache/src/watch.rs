//! `watch`: what happens to items and connections, told line by line to whoever asked.
//!
//! ```text
//!  core that acts ──push, or lose and count──► queue of that core and watcher ──pop, as lines──► core of the watcher
//! ```
//!
//! A watcher has a bounded queue from each core, made when its place is first used and used again by later watchers.
//! Invariant W1: a core that acts never waits for a watcher and allocates nothing for it: what finds the queue full is
//! lost and counted, and the watcher is told how much (`skipped=`). Without watchers the cost is one relaxed load.
//! Read first: memcached `protocol.txt`, "Watchers"; the lines are those of memcached's `logger.c`.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use arrayvec::ArrayVec;

use crate::key::KEY_MAX_BYTES;
use crate::proto::word::append_uri;
use seats::Seats;

/// Who watches what, and what waits for whom.
mod seats;

/// Bytes that one line of a watcher's queue takes.
pub const WATCH_LINE_BYTES: usize = size_of::<Event>();

/// Watchers at a time (memcached's `WATCHER_LIMIT`).
pub const WATCHERS_MAX: usize = 20;

/// Gets.
pub(crate) const FETCHERS: u32 = 1;
/// Stores.
pub(crate) const MUTATIONS: u32 = 1 << 1;
/// Items that made room.
pub(crate) const EVICTIONS: u32 = 1 << 2;
/// Connections opened and closed.
pub(crate) const CONNEVENTS: u32 = 1 << 3;
/// Deletes that found an item.
pub(crate) const DELETIONS: u32 = 1 << 4;
/// What may be watched but never happens here: raw commands (memcached has dropped them), its own threads, its proxy.
pub(crate) const SILENT: u32 = 1 << 31;

/// The words of `watch`, and what each asks for.
const WORDS: &[(&[u8], u32)] = &[
    (b"fetchers", FETCHERS),
    (b"mutations", MUTATIONS),
    (b"evictions", EVICTIONS),
    (b"connevents", CONNEVENTS),
    (b"deletions", DELETIONS),
    (b"rawcmds", SILENT),
    (b"sysevents", SILENT),
    (b"proxyreqs", SILENT),
    (b"proxyevents", SILENT),
    (b"proxyuser", SILENT),
];

/// What a word of `watch` asks for.
pub(crate) fn wanted_by(word: &[u8]) -> Option<u32> {
    WORDS.iter().find(|(known, _)| *known == word).map(|&(_, wanted)| wanted)
}

/// Why a connection was closed, as the lines of connevents say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// It broke the protocol, or the network failed.
    Error,
    /// The client left or said quit.
    Normal,
    /// `-o idle_timeout`.
    IdleTimeout,
    /// The server ends.
    Shutdown,
}

/// What happened.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What {
    /// An item was looked up.
    Get { status: &'static str, class: u8, cfd: u32, bytes: u32 },
    /// An item was stored, or not.
    Store { status: &'static str, command: &'static str, ttl: u32, class: u8, cfd: u32, bytes: u32 },
    /// An item was deleted.
    Delete { command: &'static str, class: u8, bytes: u32 },
    /// An item made room for another; `ttl` in seconds, -1 never.
    Evict { fetched: bool, ttl: i64, idle_secs: u32, class: u8, bytes: u32 },
    /// A connection was opened.
    Open { peer: SocketAddr, cfd: u32 },
    /// A connection was closed.
    Close { peer: SocketAddr, cfd: u32, reason: CloseReason },
}

/// What happened, when, and to which key.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) unix_secs: u64,
    pub(crate) gid: u64,
    pub(crate) what: What,
    pub(crate) key: ArrayVec<u8, KEY_MAX_BYTES>,
}

/// All watchers of a cache.
#[derive(Debug)]
pub(crate) struct Watchers {
    seats: Seats<Event, WATCHERS_MAX>,
    gid: AtomicU64,
}

impl Watchers {
    /// No watchers, of a cache of `cores` cores; each may be `lines` lines behind each core.
    pub(crate) fn new(cores: usize, lines: usize) -> Watchers {
        Watchers { seats: Seats::new(cores, lines), gid: AtomicU64::new(1) }
    }

    /// Whether anybody wants any of `kinds`.
    #[inline]
    pub(crate) fn want(&self, kinds: u32) -> bool {
        self.seats.want(kinds)
    }

    /// Watchers now.
    pub(crate) fn count(&self) -> u64 {
        self.seats.taken() as u64
    }

    /// Takes a place for a watcher on `core`. Allocates its queues when the place has never been used.
    pub(crate) fn enter(&self, core: usize, wanted: u32) -> Option<usize> {
        self.seats.enter(core, wanted)
    }

    /// Gives a place back.
    pub(crate) fn leave(&self, at: usize) {
        self.seats.leave(at);
    }

    /// Tells those who want any of `kinds` what happened on `core` at `unix_secs`; calls `woken` with the cores of
    /// those who were told. Returns how many were, and how many lost the line since their queue is full.
    pub(crate) fn tell(
        &self,
        core: usize,
        kinds: u32,
        unix_secs: u64,
        key: &[u8],
        what: What,
        woken: impl FnMut(usize),
    ) -> (u64, u64) {
        let key: ArrayVec<u8, KEY_MAX_BYTES> = key.iter().copied().take(KEY_MAX_BYTES).collect();
        let event = Event { unix_secs, gid: self.gid.fetch_add(1, Ordering::Relaxed), what, key };
        self.seats.offer(core, kinds, &event, woken)
    }

    /// Whether anything waits for the watcher at `at`.
    pub(crate) fn has_news(&self, at: usize) -> bool {
        self.seats.has_any(at)
    }

    /// Appends up to `most` lines for the watcher at `at` to `text`. Its core only.
    pub(crate) fn lines(&self, at: usize, most: usize, text: &mut Vec<u8>) {
        let lost = self.seats.take_lost(at);
        if lost > 0 {
            text.extend_from_slice(format!("skipped={lost}\n").as_bytes());
        }
        self.seats.take(at, most, |event| event.write(text));
    }
}

/// Longest line of an event, in bytes: a key of which every byte is escaped, and the rest.
pub(crate) const LINE_MAX_BYTES: usize = 3 * KEY_MAX_BYTES + 250;

impl Event {
    /// Appends the line, as memcached's `logger.c` writes it.
    fn write(&self, text: &mut Vec<u8>) {
        // The cache's clock shows seconds. Writing to a Vec cannot fail.
        let _ = write!(text, "ts={}.0 gid={} ", self.unix_secs, self.gid);
        let _ = match self.what {
            What::Get { status, class, cfd, bytes } => {
                append_key(text, "item_get", &self.key);
                writeln!(text, "status={status} clsid={class} cfd={cfd} size={bytes}")
            }
            What::Store { status, command, ttl, class, cfd, bytes } => {
                append_key(text, "item_store", &self.key);
                writeln!(text, "status={status} cmd={command} ttl={ttl} clsid={class} cfd={cfd} size={bytes}")
            }
            What::Delete { command, class, bytes } => {
                append_key(text, "deleted", &self.key);
                writeln!(text, "cmd={command} clsid={class} size={bytes}")
            }
            What::Evict { fetched, ttl, idle_secs, class, bytes } => {
                append_key(text, "eviction", &self.key);
                let fetched = if fetched { "yes" } else { "no" };
                writeln!(text, "fetch={fetched} ttl={ttl} la={idle_secs} clsid={class} size={bytes}")
            }
            What::Open { peer, cfd } => {
                writeln!(text, "type=conn_new rip={} rport={} transport=tcp cfd={cfd}", peer.ip(), peer.port())
            }
            What::Close { peer, cfd, reason } => {
                let reason = match reason {
                    CloseReason::Error => "error",
                    CloseReason::Normal => "normal",
                    CloseReason::IdleTimeout => "idle_timeout",
                    CloseReason::Shutdown => "shutdown",
                };
                let (rip, rport) = (peer.ip(), peer.port());
                writeln!(text, "type=conn_close rip={rip} rport={rport} transport=tcp reason={reason} cfd={cfd}")
            }
        };
    }
}

/// Appends what happened, and to which key.
fn append_key(text: &mut Vec<u8>, kind: &str, key: &[u8]) {
    let _ = write!(text, "type={kind} key=");
    append_uri(text, key);
    text.push(b' ');
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: What = What::Get { status: "found", class: 1, cfd: 7, bytes: 3 };

    fn lines_of(watchers: &Watchers, at: usize) -> String {
        let mut text = Vec::new();
        watchers.lines(at, 100, &mut text);
        String::from_utf8(text).expect("lines are text")
    }

    #[test]
    fn a_watcher_is_told_what_it_wants_in_order() {
        let watchers = Watchers::new(2, 8);
        let at = watchers.enter(1, FETCHERS).expect("the first");
        assert!(watchers.want(FETCHERS) && !watchers.want(MUTATIONS));
        let mut woken = Vec::new();
        watchers.tell(0, FETCHERS, 1_700_000_000, b"a b", GET, |core| woken.push(core));
        watchers.tell(0, EVICTIONS, 1_700_000_000, b"no", GET, |core| woken.push(core));
        assert_eq!(woken, [1]);
        assert!(watchers.has_news(at));
        let line = "ts=1700000000.0 gid=1 type=item_get key=a%20b status=found clsid=1 cfd=7 size=3\n";
        assert_eq!(lines_of(&watchers, at), line);
        watchers.leave(at);
        assert_eq!((watchers.count(), watchers.want(u32::MAX)), (0, false));
    }

    #[test]
    fn a_slow_watcher_loses_lines_and_is_told_how_many() {
        let watchers = Watchers::new(1, 4);
        let at = watchers.enter(0, FETCHERS).expect("the first");
        let told = (0..10).map(|_| watchers.tell(0, FETCHERS, 1, b"k", GET, |_| ()));
        let (written, skipped) = told.fold((0, 0), |sum, told| (sum.0 + told.0, sum.1 + told.1));
        let text = lines_of(&watchers, at);
        assert!(text.starts_with("skipped=6\n"), "{text}");
        assert_eq!(text.lines().count(), 5);
        assert_eq!((written, skipped), (4, 6));
        assert_eq!(lines_of(&watchers, at), "", "it is told once");
    }

    #[test]
    fn there_are_no_more_than_twenty_and_a_place_is_used_again_empty() {
        let watchers = Watchers::new(1, 4);
        let all: Vec<_> = (0..WATCHERS_MAX).map(|_| watchers.enter(0, FETCHERS).expect("room")).collect();
        assert_eq!(watchers.enter(0, FETCHERS), None);
        watchers.tell(0, FETCHERS, 1, b"k", GET, |_| ());
        watchers.leave(all[3]);
        assert_eq!(watchers.enter(0, FETCHERS), Some(3));
        assert!(!watchers.has_news(3), "what the one before did not read is gone");
    }

    #[test]
    fn watchers_that_enter_and_leave_at_once_on_two_cores_are_all_told() {
        use std::sync::atomic::AtomicUsize;

        const ROUNDS: usize = 20_000;
        let watchers = Watchers::new(2, 8);
        let (gate, untold) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let meet = |met: &mut usize| {
            *met += 2;
            gate.fetch_add(1, Ordering::SeqCst);
            // Both are to leave the gate in the same moment; but on a busy machine the other may not be running.
            let mut spins = 0u32;
            while gate.load(Ordering::SeqCst) < *met {
                std::hint::spin_loop();
                spins += 1;
                if spins.is_multiple_of(4096) {
                    std::thread::yield_now();
                }
            }
        };
        std::thread::scope(|scope| {
            for core in 0..2usize {
                let (watchers, meet, untold) = (&watchers, &meet, &untold);
                scope.spawn(move || {
                    let mut met = 0;
                    let kinds = 1 << core;
                    for round in 0..ROUNDS {
                        meet(&mut met);
                        // Not always in step.
                        for _ in 0..(round * (core + 3)) % 29 {
                            std::hint::spin_loop();
                        }
                        let at = watchers.enter(core, kinds).expect("two of twenty");
                        meet(&mut met);
                        untold.fetch_add(usize::from(!watchers.want(kinds)), Ordering::Relaxed);
                        meet(&mut met);
                        watchers.leave(at);
                    }
                });
            }
        });
        assert_eq!(untold.into_inner(), 0, "of {ROUNDS} rounds so many left a watcher that is told nothing");
        assert!(!watchers.want(u32::MAX), "nobody watches, and somebody is still told");
    }

    #[test]
    fn as_many_watchers_as_may_be_of_every_kind_are_counted_kind_by_kind() {
        let watchers = Watchers::new(1, 1);
        let kinds = [FETCHERS, MUTATIONS, EVICTIONS, CONNEVENTS, DELETIONS];
        for gone in kinds {
            let all = kinds.iter().fold(SILENT, |sum, kind| sum | kind);
            let seats: Vec<_> = (0..WATCHERS_MAX - 1).map(|_| watchers.enter(0, all & !gone).expect("room")).collect();
            let last = watchers.enter(0, all).expect("room for one more");
            assert!(kinds.iter().all(|&kind| watchers.want(kind)));
            watchers.leave(last);
            assert!(kinds.iter().all(|&kind| watchers.want(kind) == (kind != gone)), "{gone}");
            seats.into_iter().for_each(|at| watchers.leave(at));
            assert!(!watchers.want(u32::MAX));
        }
    }

    #[test]
    fn the_longest_line_is_within_its_bound() {
        let mut text = Vec::new();
        let key = [0xffu8; KEY_MAX_BYTES].into_iter().collect();
        let what = What::Store {
            status: "not_stored",
            command: "prepend",
            ttl: u32::MAX,
            class: u8::MAX,
            cfd: u32::MAX,
            bytes: u32::MAX,
        };
        Event { unix_secs: u64::MAX, gid: u64::MAX, what, key }.write(&mut text);
        assert!(text.len() <= LINE_MAX_BYTES, "{}", text.len());
    }
}
