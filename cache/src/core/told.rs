//! What connections are told part by part, for as long as they read: walks, and the lines of watchers.

use super::walk::{Next, Over, Reached, StepInput, Walk};
use super::watching::WatchText;
use super::{ConnId, Core};
use crate::mesh::message::{Request, Token};
use crate::replies::Owed;
use crate::shard::STEP_BYTES;

/// How far a walk's text has got.
pub(crate) enum WalkGiven {
    /// To its end.
    Whole(usize),
    /// As far as the room goes.
    Part(usize),
    /// As far as it is known.
    Starved(usize),
}

impl Core {
    /// Takes the right to dump; `None` when another walk has it and its client is reading.
    pub(crate) fn begin_dump(&self) -> Option<u32> {
        self.shared.control.dumping.take(self.now.secs, self.config.grace_secs)
    }

    /// Gives up what a walk holds.
    pub(crate) fn end_walk(&self, walk: &Walk) {
        if let Some(ticket) = walk.right() {
            self.shared.control.dumping.give_up(ticket);
        }
    }

    /// Tells the next part of what this core has; see [`Walks::step`](super::walk::Walks::step).
    pub(super) fn walk_step(&mut self, over: Over, place: Reached, room: usize) -> (&[u8], Reached) {
        let input =
            StepInput { shard: &self.shard, conns: &self.conns, counters: &self.shared.counters, now: self.now };
        self.walks.step(over, place, room, &input)
    }

    /// Lets the walk of `token` write into `out` what has been told, and tells more, at most a step.
    pub(crate) fn give_walk(&mut self, token: Token, out: &mut [u8]) -> WalkGiven {
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        let Owed::Walk(mut walk) = std::mem::replace(&mut entry.owed, Owed::Nothing) else {
            return WalkGiven::Whole(0);
        };
        let given = self.give_some(&mut walk, conn, token, out);
        self.replies.entry_mut(token).owed = Owed::Walk(walk);
        given
    }

    fn give_some(&mut self, walk: &mut Walk, conn: ConnId, token: Token, out: &mut [u8]) -> WalkGiven {
        let mut written = 0;
        loop {
            written += walk.write(&mut out[written..]);
            let next = walk.next(self.config.cores);
            if let (Next::Step { .. } | Next::Conclude, Some(ticket)) = (next, walk.right()) {
                self.shared.control.dumping.renew(ticket, self.now.secs);
            }
            match next {
                Next::Write if written == out.len() => return WalkGiven::Part(written),
                Next::Write => {}
                Next::Nothing => return WalkGiven::Whole(written),
                Next::Wait => return WalkGiven::Starved(written),
                Next::Conclude => walk.conclude(&self.config, self.now),
                Next::Step { core: Some(core), over, place } if core != self.id => {
                    walk.note_asked();
                    self.owe(core, token, Request::Walk { over, place });
                    return WalkGiven::Starved(written);
                }
                Next::Step { over, place, .. } => {
                    let (text, next) = self.walk_step(over, place, STEP_BYTES);
                    walk.land(text, next);
                    // Nothing but a turn whose step is taken leaves the place as it is: here there is room for any bucket.
                    if next == place {
                        self.walks.wait(&mut self.conns, conn);
                        return WalkGiven::Starved(written);
                    }
                }
            }
        }
    }

    /// Makes `conn` a watcher of `kinds`; `None` when there are too many.
    pub(crate) fn begin_watch(&mut self, conn: ConnId, kinds: u32) -> Option<WatchText> {
        self.watching.begin(&self.shared.watchers, &mut self.conns, (self.id, conn), kinds)
    }

    /// The watcher at `place` is gone.
    pub(crate) fn end_watch(&mut self, conn: ConnId, place: usize) {
        self.watching.end(&self.shared.watchers, &mut self.conns, conn, place);
    }

    /// Lets the watcher of `token` write its lines into `out`. Returns the bytes written, and whether what is left did
    /// not fit.
    pub(crate) fn give_watch(&mut self, token: Token, out: &mut [u8]) -> (usize, bool) {
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        let Owed::Watch(watch) = &mut entry.owed else { return (0, false) };
        let (written, more) = watch.give(&self.shared.watchers, out);
        self.conns[conn].full = more;
        self.counters().watch_bytes_sent.add(written as u64);
        (written, more)
    }
}
