//! Framed replies into the transmit ring: a head made of what the request gave, then perhaps a value.

use super::render::{Rendered, copy_parts, note_read, render_landed};
use crate::core::Core;
use crate::core::entries::Owed;
use crate::proto::framed::{HeadBytes, Kind, View};
use crate::proto::{binary, meta_reply};
use crate::route::message::Token;

/// Writes what follows the first `sent` bytes of the framed reply of entry `token`.
pub(super) fn render(core: &mut Core, token: Token, sent: usize, out: &mut [u8]) -> Rendered {
    let hold = match core.entries.entry(token).owed {
        Owed::Framed => None,
        Owed::FramedValue { hold } => Some(hold),
        Owed::Landed { slot, .. } => {
            let (head, tail) = head_and_tail(&core.frames.view(token));
            return render_landed(core, token, slot, [&head, tail], sent, out);
        }
        Owed::Line(line) => return whole_or_part([line.bytes(), b"", b""], sent, out),
        Owed::Nothing | Owed::Orphan { .. } => return Rendered::Whole(0),
        _ => return Rendered::Starved(0),
    };
    let (head, tail) = head_and_tail(&core.frames.view(token));
    let Some(hold) = hold else { return whole_or_part([&head, b"", b""], sent, out) };
    let Some(item) = core.held(hold) else { return Rendered::Lost };
    let rendered = whole_or_part([&head, item.value, tail], sent, out);
    note_read(core, hold, &rendered);
    rendered
}

/// What stands before a value and what follows it; alone, the head is a reply without one.
pub(super) fn head_and_tail(view: &View<'_>) -> (HeadBytes, &'static [u8]) {
    match view.head.kind {
        Kind::Packet(opcode) => (binary::head(view, opcode), b""),
        _ => (meta_reply::head(view), b"\r\n"),
    }
}

fn whole_or_part(parts: [&[u8]; 3], sent: usize, out: &mut [u8]) -> Rendered {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let written = copy_parts(parts, sent, out);
    if sent + written == total { Rendered::Whole(written) } else { Rendered::Part(written) }
}
