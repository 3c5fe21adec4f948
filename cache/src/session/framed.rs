//! Framed replies into the transmit ring: a head made of what the request gave, then perhaps a value.

use super::render::{Rendered, copy_parts, render_landed};
use crate::core::Core;
use crate::core::entries::Owed;
use crate::proto::meta_reply;
use crate::route::message::Token;

/// Writes what follows the first `sent` bytes of the framed reply of entry `token`.
pub(super) fn render(core: &mut Core, token: Token, sent: usize, out: &mut [u8]) -> Rendered {
    let held = match &core.entries.entry(token).owed {
        Owed::Framed => None,
        Owed::FramedValue { held } => Some(held),
        &Owed::Landed { slot, .. } => {
            let head = meta_reply::head(&core.frames.view(token));
            return render_landed(core, token, slot, [&head, b"\r\n"], sent, out);
        }
        Owed::Line(line) => return whole_or_part([line.bytes(), b"", b""], sent, out),
        Owed::Nothing | Owed::Orphan { .. } => return Rendered::Whole(0),
        _ => return Rendered::Starved(0),
    };
    let head = meta_reply::head(&core.frames.view(token));
    match held {
        None => whole_or_part([&head, b"", b""], sent, out),
        Some(held) => whole_or_part([&head, held.value(&core.shard), b"\r\n"], sent, out),
    }
}

fn whole_or_part(parts: [&[u8]; 3], sent: usize, out: &mut [u8]) -> Rendered {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let written = copy_parts(parts, sent, out);
    if sent + written == total { Rendered::Whole(written) } else { Rendered::Part(written) }
}
