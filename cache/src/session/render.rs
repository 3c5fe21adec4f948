//! Replies into the transmit ring, cut wherever the room ends.

use super::{Given, Session, framed};
use crate::core::Core;
use crate::core::entries::{NO_ENTRY, Owed};
use crate::core::walk::WalkGiven;
use crate::proto::reply::{number_line, value_header, value_tail};
use crate::route::message::Token;

/// How far a reply has got.
pub(super) enum Rendered {
    /// To its end.
    Whole(usize),
    /// As far as the room goes.
    Part(usize),
    /// As far as it is known; the rest comes from another core.
    Starved(usize),
    /// The rest will never come: others needed its room.
    Lost,
}

impl Session {
    /// Writes the replies owed, in order, as far as `out` goes. Any size will do.
    pub fn give(&mut self, core: &mut Core, out: &mut [u8]) -> Given {
        let mut written = 0;
        let mut more = false;
        let mut dropped = false;
        while self.head != NO_ENTRY {
            match render(core, self.head, self.sent, &mut out[written..]) {
                Rendered::Whole(bytes) => {
                    written += bytes;
                    self.drop_first(core);
                    dropped = true;
                }
                Rendered::Part(bytes) => {
                    written += bytes;
                    // Wraps only where it is not read: a dump and a watch know themselves what they have given.
                    self.sent = self.sent.wrapping_add(bytes as u32);
                    more = true;
                    break;
                }
                Rendered::Starved(bytes) => {
                    written += bytes;
                    self.sent = self.sent.wrapping_add(bytes as u32);
                    break;
                }
                Rendered::Lost => {
                    core.lose(self.conn);
                    break;
                }
            }
        }
        // A miss inside a multi-get makes room without writing a byte: nothing else would say so.
        if dropped && written == 0 {
            core.make_ready(self.conn);
        }
        core.counters().bytes_written.add(written as u64);
        Given { written, more }
    }

    /// Takes the first entry out of the list.
    fn unlink_first(&mut self, core: &Core) {
        self.head = core.entries.entry(self.head).next;
        if self.head == NO_ENTRY {
            self.tail = NO_ENTRY;
        }
        self.pending -= 1;
        self.sent = 0;
    }

    /// Gives up the first reply owed.
    pub(crate) fn skip_first(&mut self, core: &mut Core) {
        let token = self.head;
        if token != NO_ENTRY {
            self.unlink_first(core);
            core.orphan(token, self.pending as usize);
        }
    }

    /// Gives back the first entry and what it holds.
    pub(super) fn drop_first(&mut self, core: &mut Core) {
        let token = self.head;
        self.unlink_first(core);
        let left = self.pending as usize;
        let entry = core.entries.entry_mut(token);
        let expected = entry.expected;
        match std::mem::replace(&mut entry.owed, Owed::Nothing) {
            Owed::Value { hold, .. } | Owed::FramedValue { hold } => core.let_go(hold),
            Owed::Landed { slot, .. } => core.return_slot(self.conn, slot),
            Owed::Walk(walk) => core.end_walk(&walk),
            _ => {}
        }
        // Answers that no reply depends on may still come: a piece's receipt after a bad data chunk.
        if expected > 0 {
            core.orphan(token, left);
        } else {
            core.entries.share.give_back(left);
            core.entries.put_back(token);
        }
    }
}

/// Writes what follows the first `sent` bytes of a reply.
pub(super) fn render(core: &mut Core, token: Token, sent: u32, out: &mut [u8]) -> Rendered {
    let sent = sent as usize;
    if core.entries.entry(token).framed {
        return framed::render(core, token, sent, out);
    }
    let parts = |parts: [&[u8]; 3], out: &mut [u8]| {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let written = copy_parts(parts, sent, out);
        if sent + written == total { Rendered::Whole(written) } else { Rendered::Part(written) }
    };
    match &core.entries.entry(token).owed {
        Owed::Walk(_) => match core.give_walk(token, out) {
            WalkGiven::Whole(bytes) => Rendered::Whole(bytes),
            WalkGiven::Part(bytes) => Rendered::Part(bytes),
            WalkGiven::Starved(bytes) => Rendered::Starved(bytes),
        },
        Owed::Watch(_) => {
            let (bytes, more) = core.give_watch(token, out);
            if more { Rendered::Part(bytes) } else { Rendered::Starved(bytes) }
        }
        Owed::Nothing | Owed::Orphan { .. } => Rendered::Whole(0),
        Owed::Line(line) => parts([line.bytes(), b"", b""], out),
        Owed::Number(value) => parts([&number_line(*value), b"", b""], out),
        Owed::Text(text) => parts([text, b"", b""], out),
        &Owed::Value { hold, cas, end } => {
            let Some(item) = core.held(hold) else { return Rendered::Lost };
            let header = value_header(item.key, item.flags, item.value.len(), cas.then_some(item.cas));
            let rendered = parts([&header, item.value, value_tail(end)], out);
            note_read(core, hold, &rendered);
            rendered
        }
        &Owed::Landed { slot, cas, end } => {
            let landed = core.landing.slot(slot);
            let (len, unique) = (landed.len as usize, cas.then_some(landed.cas));
            let header = value_header(core.landing.key(slot), landed.flags, len, unique);
            render_landed(core, token, slot, [&header, value_tail(end)], sent, out)
        }
        Owed::Framed | Owed::FramedValue { .. } => {
            debug_assert!(false, "a framed reply in an entry that is not");
            Rendered::Whole(0)
        }
        Owed::Answer { .. } | Owed::Unheard | Owed::Fetch { .. } | Owed::Upload(_) | Owed::Barrier { .. } => {
            Rendered::Starved(0)
        }
    }
}

/// Notes how far an item that is held has got.
pub(super) fn note_read(core: &mut Core, hold: u32, rendered: &Rendered) {
    if let Rendered::Part(bytes) = *rendered {
        core.note_read(hold, bytes);
    }
}

/// Writes of a value from another core what has landed, and asks for more when that is all.
pub(super) fn render_landed(
    core: &mut Core,
    token: Token,
    slot: u32,
    [header, tail]: [&[u8]; 2],
    sent: usize,
    out: &mut [u8],
) -> Rendered {
    let landed = core.landing.slot(slot);
    let (from, len) = (landed.from as usize, landed.len as usize);
    let window = core.landing.window(slot);
    let head = header.len();
    let known = from + window.len();
    let mut written = 0;
    if sent < head {
        written = copy_parts([header, b"", b""], sent, out);
    }
    let at = sent + written;
    if at >= head && at - head < known {
        written += copy_parts([window, b"", b""], (at - head).saturating_sub(from), &mut out[written..]);
    }
    let at = sent + written;
    if at < head + known {
        return Rendered::Part(written);
    }
    if known < len {
        core.pull_more(token, slot);
        return Rendered::Starved(written);
    }
    written += copy_parts([tail, b"", b""], at - head - len, &mut out[written..]);
    if sent + written == head + len + tail.len() { Rendered::Whole(written) } else { Rendered::Part(written) }
}

/// Copies what follows the first `skip` bytes of `parts` into `out`; returns the bytes copied.
pub(super) fn copy_parts(parts: [&[u8]; 3], mut skip: usize, out: &mut [u8]) -> usize {
    let mut written = 0;
    for part in parts {
        if skip >= part.len() {
            skip -= part.len();
            continue;
        }
        let rest = &part[skip..];
        skip = 0;
        let bytes = rest.len().min(out.len() - written);
        out[written..written + bytes].copy_from_slice(&rest[..bytes]);
        written += bytes;
        if bytes < rest.len() {
            break;
        }
    }
    written
}
