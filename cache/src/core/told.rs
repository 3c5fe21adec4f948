//! What connections are told part by part, for as long as they read: walks, and the lines of watchers.

use super::clients::Clients;
use super::conns::ConnId;
use super::here::Here;
use super::walk::{Next, Walk};
use super::watching::WatchText;
use crate::mesh::message::{Request, Token};
use crate::replies::{Owed, Rendered};
use crate::shard::STEP_BYTES;

impl Clients {
    /// Gives up what a walk holds.
    pub(crate) fn end_walk(&self, walk: &Walk) {
        if let Some(ticket) = walk.right() {
            self.shared.control.dumping.give_up(ticket);
        }
    }

    /// Lets the walk of `token` write into `out` what has been told, and tells more, at most a step.
    pub(crate) fn give_walk(&mut self, here: &mut Here, token: Token, out: &mut [u8]) -> Rendered {
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        let Owed::Walk(mut walk) = std::mem::replace(&mut entry.owed, Owed::Nothing) else {
            return Rendered::Whole(0);
        };
        let given = self.give_some(here, &mut walk, (conn, token), out);
        self.replies.entry_mut(token).owed = Owed::Walk(walk);
        given
    }

    fn give_some(
        &mut self,
        here: &mut Here,
        walk: &mut Walk,
        (conn, token): (ConnId, Token),
        out: &mut [u8],
    ) -> Rendered {
        let mut written = 0;
        loop {
            written += walk.write(&mut out[written..]);
            let next = walk.next(self.config.cores);
            if let (Next::Step { .. } | Next::Conclude, Some(ticket)) = (next, walk.right()) {
                self.shared.control.dumping.renew(ticket, here.now.secs);
            }
            match next {
                Next::Write if written == out.len() => return Rendered::Part(written),
                Next::Write => {}
                Next::Nothing => return Rendered::Whole(written),
                Next::Wait => return Rendered::Starved(written),
                Next::Conclude => walk.conclude(&self.config, here.now),
                Next::Step { core: Some(core), over, place } if core != here.id => {
                    walk.note_asked();
                    self.owe(core, token, Request::Walk { over, place });
                    return Rendered::Starved(written);
                }
                Next::Step { over, place, .. } => {
                    let (text, next) = here.walk_step(over, place, STEP_BYTES, &self.conns);
                    walk.land(text, next);
                    // Nothing but a turn whose step is taken leaves the place as it is: here there is room for any
                    // bucket.
                    if next == place {
                        here.walks.wait(&mut self.conns, conn);
                        return Rendered::Starved(written);
                    }
                }
            }
        }
    }

    /// Makes `conn` a watcher of `kinds`; `None` when there are too many.
    pub(crate) fn begin_watch(&mut self, core: usize, conn: ConnId, kinds: u32) -> Option<WatchText> {
        self.watching.begin(&self.shared.watchers, &mut self.conns, (core, conn), kinds)
    }

    /// The watcher at `place` is gone.
    pub(crate) fn end_watch(&mut self, conn: ConnId, place: usize) {
        self.watching.end(&self.shared.watchers, &mut self.conns, conn, place);
    }

    /// Lets the watcher of `token` write its lines into `out`.
    pub(crate) fn give_watch(&mut self, token: Token, out: &mut [u8]) -> Rendered {
        let entry = self.replies.entry_mut(token);
        let conn = entry.conn;
        let Owed::Watch(watch) = &mut entry.owed else { return Rendered::Starved(0) };
        let (written, more) = watch.give(&self.shared.watchers, out);
        self.conns[conn].set_full(more);
        self.counters.watch_bytes_sent.add(written as u64);
        if more { Rendered::Part(written) } else { Rendered::Starved(written) }
    }
}
