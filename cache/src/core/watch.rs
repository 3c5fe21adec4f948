//! Events of connections, and the lines of this core's watchers.

use std::net::SocketAddrV4;

use super::{Conn, ConnId, Core};
use crate::proto::reply::Line;
use crate::replies::Owed;
use crate::route::message::Token;
use crate::watch::{CONNEVENTS, CloseReason, LINE_MAX_BYTES, What};

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
            self.observer.tell(CONNEVENTS, b"", What::Open { peer, cfd: number }, self.now);
        }
    }

    /// Says why a connection will end; its session is ended next.
    pub fn note_close(&mut self, conn: ConnId, reason: CloseReason) {
        let state = self.conns[conn.index()];
        if state.number != 0 && self.shared.watchers.want(CONNEVENTS) {
            let what = What::Close { peer: state.peer, cfd: state.number, reason };
            self.observer.tell(CONNEVENTS, b"", what, self.now);
        }
    }

    /// Seconds since the connection's last command, as far as one has come.
    pub fn idle_secs(&self, conn: ConnId) -> u32 {
        self.now.secs.saturating_sub(self.conns[conn.index()].last_secs)
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
