//! What this core tells watchers, and its own watchers' lines.

use std::net::SocketAddrV4;

use arrayvec::ArrayVec;

use super::{Conn, ConnId, Core};
use crate::clock::Expiry;
use crate::key::{KEY_MAX_BYTES, KeyHash};
use crate::proto::reply::Line;
use crate::replies::Owed;
use crate::route::message::Token;
use crate::shard::Evicted;
use crate::store::{Item, Reservation, StoreMode, StoreOutcome, Stored};
use crate::watch::{CONNEVENTS, CloseReason, DELETIONS, EVICTIONS, FETCHERS, LINE_MAX_BYTES, MUTATIONS, What};

/// Lines that a watcher's text holds at most.
const LINES_PER_TEXT: usize = 16;

/// A watcher's text on its way out.
#[derive(Debug)]
pub(crate) struct WatchText {
    /// Its place among the watchers.
    pub(crate) place: usize,
    text: Vec<u8>,
    given: usize,
}

impl WatchText {
    pub(crate) fn new(place: usize) -> WatchText {
        let mut text = Vec::with_capacity((LINES_PER_TEXT + 1) * LINE_MAX_BYTES);
        text.extend_from_slice(Line::Ok.bytes());
        WatchText { place, text, given: 0 }
    }
}

impl Core {
    /// Registers a connection, so that `stats conns` and the lines of watchers name it, and tells those who watch
    /// connections. Called before its session's first `take`; without it the connection has no number.
    pub fn open(&mut self, conn: ConnId, peer: SocketAddrV4) {
        let number = self.shared.counters.next_connection();
        let secs = self.now.secs;
        let state = &mut self.conns[conn.index()];
        (state.number, state.peer, state.last_secs) = (number, peer, secs);
        if self.shared.watchers.want(CONNEVENTS) {
            self.tell(CONNEVENTS, b"", What::Open { peer, cfd: number });
        }
    }

    /// Says why a connection will end; its session is ended next.
    pub fn note_close(&mut self, conn: ConnId, reason: CloseReason) {
        let state = self.conns[conn.index()];
        if state.number != 0 && self.shared.watchers.want(CONNEVENTS) {
            self.tell(CONNEVENTS, b"", What::Close { peer: state.peer, cfd: state.number, reason });
        }
    }

    /// Seconds since the connection's last command, as far as one has come.
    pub fn idle_secs(&self, conn: ConnId) -> u32 {
        self.now.secs.saturating_sub(self.conns[conn.index()].last_secs)
    }

    fn tell(&mut self, kinds: u32, key: &[u8], what: What) {
        let unix_secs = self.now.unix_epoch + u64::from(self.now.secs);
        let (id, served) = (self.id, &mut self.served);
        let (written, skipped) = self.shared.watchers.tell(id, kinds, unix_secs, key, what, |core| {
            if core != id {
                served.insert(core);
            }
        });
        let counters = self.counters();
        counters.watch_lines_written.add(written);
        counters.watch_lines_skipped.add(skipped);
    }

    /// Whether stores or lookups are watched.
    #[inline]
    pub(crate) fn watches_stores(&self) -> bool {
        self.shared.watchers.want(FETCHERS | MUTATIONS)
    }

    /// Whether lookups are watched.
    #[inline]
    pub(crate) fn watches_fetches(&self) -> bool {
        self.shared.watchers.want(FETCHERS)
    }

    /// Tells of a lookup that is not a fetch: memcached looks a key up before it changes it.
    #[inline]
    pub(crate) fn tell_lookup(&mut self, hash: KeyHash, key: &[u8]) {
        if self.watches_fetches() {
            let before = self.lost_lookups();
            let found = self.shard.peek(hash, key, self.now);
            self.tell_get(key, found.map(|at| self.sizes_of(&self.shard.item(at))), before);
        }
    }

    /// Lookups that met an expired and a flushed item so far.
    pub(crate) fn lost_lookups(&self) -> (u64, u64) {
        let stats = self.shard.stats();
        (stats.get_expired.value(), stats.get_flushed.value())
    }

    pub(crate) fn sizes_of(&self, item: &Item<'_>) -> (u8, u32) {
        (self.shard.class_of(item.key.len(), item.value.len(), item.flags), item.value.len() as u32)
    }

    /// Tells of a lookup: class and bytes of what it `found`; `before`: [`Core::lost_lookups`] then.
    pub(crate) fn tell_get(&mut self, key: &[u8], found: Option<(u8, u32)>, before: (u64, u64)) {
        let after = self.lost_lookups();
        let status = match found {
            Some(_) => "found",
            None if after.1 > before.1 => "flushed",
            None if after.0 > before.0 => "expired",
            None => "not_found",
        };
        let (class, bytes) = found.unwrap_or((0, 0));
        self.tell(FETCHERS, key, What::Get { status, class, cfd: self.speaker, bytes });
    }

    /// Tells of a store.
    pub(crate) fn tell_store(
        &mut self,
        key: &[u8],
        mode: StoreMode,
        outcome: StoreOutcome,
        expiry: Expiry,
        flags: u32,
        bytes: usize,
    ) {
        if !self.shared.watchers.want(MUTATIONS) {
            return;
        }
        let status = match outcome {
            StoreOutcome::Stored => "stored",
            StoreOutcome::NotStored => "not_stored",
            StoreOutcome::Exists => "exists",
            StoreOutcome::NotFound => "not_found",
            StoreOutcome::TooLarge => "too_large",
            StoreOutcome::OutOfMemory => "no_memory",
        };
        let command = match mode {
            StoreMode::Set => "set",
            StoreMode::Add => "add",
            StoreMode::Replace => "replace",
            StoreMode::Append | StoreMode::AppendIf(_) => "append",
            StoreMode::Prepend | StoreMode::PrependIf(_) => "prepend",
            StoreMode::Cas(_) | StoreMode::CasOrStale(_) => "cas",
        };
        let class = self.shard.class_of(key.len(), bytes, flags);
        let ttl = expiry.remaining_secs(self.now).unwrap_or(0);
        let (cfd, bytes) = (self.speaker, bytes as u32);
        self.tell(MUTATIONS, key, What::Store { status, command, ttl, class, cfd, bytes });
    }

    /// Commits a reservation and tells of it.
    pub(crate) fn commit_watched(&mut self, reservation: Reservation, mode: StoreMode) -> Stored {
        let item = self.shard.item(reservation.at);
        let (flags, expiry, bytes) = (item.flags, item.expiry, item.value.len());
        let key: ArrayVec<u8, KEY_MAX_BYTES> = item.key.iter().copied().take(KEY_MAX_BYTES).collect();
        let (hash, _) = self.locate(&key);
        self.tell_lookup(hash, &key);
        let stored = self.shard.commit(reservation, mode, self.now);
        self.tell_store(&key, mode, stored.outcome, expiry, flags, bytes);
        stored
    }

    /// Class and bytes of the item that a delete will find, if anybody watches deletions.
    pub(crate) fn about_to_delete(&mut self, hash: KeyHash, key: &[u8]) -> Option<(u8, u32)> {
        if !self.shared.watchers.want(DELETIONS) {
            return None;
        }
        let at = self.shard.peek(hash, key, self.now)?;
        Some(self.sizes_of(&self.shard.item(at)))
    }

    /// Tells of a delete that found an item of that class and size.
    pub(crate) fn tell_delete(&mut self, key: &[u8], (class, bytes): (u8, u32)) {
        self.tell(DELETIONS, key, What::Delete { class, cfd: self.speaker, bytes });
    }

    /// Has the shard note what it evicts from now on if anybody watches that. Before each store: a watcher that has been
    /// answered sees the evictions of the very next one, also on a core that has slept until it came.
    #[inline]
    pub(crate) fn heed_eviction_watchers(&mut self) {
        if self.shared.watchers.want(EVICTIONS) {
            self.shard.note_evictions(true);
        }
    }

    /// Tells of the items that made room since it was last asked, and whether the shard is to note them.
    pub(crate) fn tell_evictions(&mut self) {
        let wanted = self.shared.watchers.want(EVICTIONS);
        self.shard.note_evictions(wanted);
        while let Some(Evicted { key, fetched, expiry, last_access_secs, class, bytes }) = self.shard.next_evicted() {
            if expiry.has_passed(self.now) {
                continue;
            }
            let idle_secs = self.now.secs.wrapping_sub(last_access_secs) & 0xff_ffff;
            let ttl = expiry.remaining_secs(self.now).map_or(-1, i64::from);
            self.tell(EVICTIONS, &key, What::Evict { fetched, ttl, idle_secs, class, bytes });
        }
    }

    /// Makes `conn` a watcher of `kinds`; `None` when there are too many.
    pub(crate) fn begin_watch(&mut self, conn: ConnId, kinds: u32) -> Option<WatchText> {
        let place = self.shared.watchers.enter(self.id, kinds)?;
        self.conns[conn.index()].watches = Some(place as u8);
        self.watching.push(conn);
        Some(WatchText::new(place))
    }

    /// The watcher is gone.
    pub(crate) fn end_watch(&mut self, conn: ConnId, place: usize) {
        self.conns[conn.index()].watches = None;
        self.watching.retain(|other| *other != conn);
        self.shared.watchers.leave(place);
    }

    /// Names the watchers of this core for whom there are lines, unless they have not read the last ones.
    pub(crate) fn wake_watchers(&mut self) {
        for index in 0..self.watching.len() {
            let Some(&conn) = self.watching.get(index) else { break };
            if self.has_lines(conn) {
                self.make_ready(conn);
            }
        }
    }

    /// Whether a watcher can be given lines.
    pub(crate) fn has_lines(&self, conn: ConnId) -> bool {
        let Conn { watches, full, .. } = self.conns[conn.index()];
        !full && watches.is_some_and(|at| self.shared.watchers.has_news(at.into()))
    }

    /// Lets the watcher of `token` write its lines into `out`. Returns the bytes written, and whether what is left did
    /// not fit.
    pub(crate) fn give_watch(&mut self, token: Token, out: &mut [u8]) -> (usize, bool) {
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        let Owed::Watch(mut watch) = std::mem::replace(&mut entry.owed, Owed::Nothing) else {
            return (0, false);
        };
        let given = self.give_lines(&mut watch, out);
        self.conns[conn.index()].full = given.1;
        self.replies.entry_mut(token).owed = Owed::Watch(watch);
        given
    }

    /// Writes a watcher's lines into `out`. Returns the bytes written, and whether what is left did not fit.
    fn give_lines(&self, watch: &mut WatchText, out: &mut [u8]) -> (usize, bool) {
        let mut written = 0;
        loop {
            let rest = watch.text.get(watch.given..).unwrap_or_default();
            let bytes = rest.len().min(out.len() - written);
            out[written..written + bytes].copy_from_slice(&rest[..bytes]);
            (written, watch.given) = (written + bytes, watch.given + bytes);
            if watch.given < watch.text.len() {
                break;
            }
            watch.text.clear();
            watch.given = 0;
            self.shared.watchers.lines(watch.place, LINES_PER_TEXT, &mut watch.text);
            if watch.text.is_empty() {
                break;
            }
        }
        self.counters().watch_bytes_sent.add(written as u64);
        (written, watch.given < watch.text.len())
    }
}
