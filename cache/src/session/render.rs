//! Replies into the transmit ring, cut wherever the room ends.

use crate::core::WalkGiven;
use crate::core::clients::Clients;
use crate::core::here::Here;
use crate::mesh::message::Token;
use crate::operation::Outcome;
use crate::proto::form::{Form, Said};
use crate::proto::sink::Writer;
use crate::proto::write::HEAD_MAX_BYTES;
use crate::replies::{Owed, ValueAt};

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

/// Writes what follows the first `sent` bytes of a reply.
pub(super) fn render(here: &mut Here, clients: &mut Clients, token: Token, sent: u32, out: &mut [u8]) -> Rendered {
    let sent = sent as usize;
    let form = clients.replies.form(token);
    match &clients.replies.entry(token).owed {
        Owed::Nothing | Owed::Orphan { .. } => Rendered::Whole(0),
        Owed::Ready(said) => with_value(&form, said, b"", sent, out),
        Owed::Text(text) => parts([text, b"", b""], sent, out),
        &Owed::Body { view, value: ValueAt::Held(hold) } => {
            let Some(item) = here.item(hold) else { return Rendered::Lost };
            let rendered = with_value(&form.of_item(item.key), &Outcome::Hit(view).into(), item.value, sent, out);
            if let Rendered::Part(bytes) = rendered {
                here.note_read(hold, bytes);
            }
            rendered
        }
        &Owed::Body { view, value: ValueAt::Landed(slot) } => {
            let (landed, form) = (clients.landing.slot(slot), form.of_item(clients.landing.key(slot)));
            let window = clients.landing.window(slot);
            let (from, said) = (landed.from as usize, Outcome::Hit(view).into());
            if from == 0 && window.len() == landed.len as usize {
                return with_value(&form, &said, window, sent, out);
            }
            let rendered = with_window(&form, &said, window, (from, landed.len as usize), sent, out);
            if let Rendered::Starved(_) = rendered {
                clients.pull_more(token, slot);
            }
            rendered
        }
        Owed::Waiting(_) => Rendered::Starved(0),
        Owed::Walk(_) => match clients.give_walk(here, token, out) {
            WalkGiven::Whole(bytes) => Rendered::Whole(bytes),
            WalkGiven::Part(bytes) => Rendered::Part(bytes),
            WalkGiven::Starved(bytes) => Rendered::Starved(bytes),
        },
        Owed::Watch(_) => {
            let (bytes, more) = clients.give_watch(token, out);
            if more { Rendered::Part(bytes) } else { Rendered::Starved(bytes) }
        }
    }
}

/// Writes what follows the first `sent` bytes of a reply whose whole value is `value`.
fn with_value(form: &Form<'_>, said: &Said, value: &[u8], sent: usize, out: &mut [u8]) -> Rendered {
    let mut whole = Writer::new(out);
    if sent == 0 && form.fits(value.len(), &whole) {
        form.write(said, value, &mut whole);
        return Rendered::Whole(whole.len());
    }
    let mut head = [0; HEAD_MAX_BYTES];
    parts([head_of(form, said, &mut head), value, form.tail(said)], sent, out)
}

/// What stands before the value, written to `buffer`.
fn head_of<'a>(form: &Form<'_>, said: &Said, buffer: &'a mut [u8; HEAD_MAX_BYTES]) -> &'a [u8] {
    let mut head = Writer::new(buffer);
    form.head(said, &mut head);
    head.into_written()
}

/// Writes what follows the first `sent` bytes of a reply whose value has `len` bytes, of which only `window` is here: it
/// begins at byte `from` of the value. Returns [`Rendered::Starved`] when the next bytes must be asked for.
fn with_window(
    form: &Form<'_>,
    said: &Said,
    window: &[u8],
    (from, len): (usize, usize),
    sent: usize,
    out: &mut [u8],
) -> Rendered {
    let mut head = [0; HEAD_MAX_BYTES];
    let (head, tail) = (head_of(form, said, &mut head), form.tail(said));
    let known = from + window.len();
    let mut written = 0;
    if sent < head.len() {
        written = copy_parts([head, b"", b""], sent, out);
    }
    let at = sent + written;
    if at >= head.len() && at - head.len() < known {
        written += copy_parts([window, b"", b""], (at - head.len()).saturating_sub(from), &mut out[written..]);
    }
    let at = sent + written;
    if at < head.len() + known {
        return Rendered::Part(written);
    }
    if known < len {
        return Rendered::Starved(written);
    }
    written += copy_parts([tail, b"", b""], at - head.len() - len, &mut out[written..]);
    if sent + written == head.len() + len + tail.len() { Rendered::Whole(written) } else { Rendered::Part(written) }
}

/// Writes what follows the first `sent` bytes of `parts`.
fn parts(parts: [&[u8]; 3], sent: usize, out: &mut [u8]) -> Rendered {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let written = copy_parts(parts, sent, out);
    if sent + written == total { Rendered::Whole(written) } else { Rendered::Part(written) }
}

/// Copies what follows the first `skip` bytes of `parts` into `out`; returns the bytes copied.
fn copy_parts(parts: [&[u8]; 3], mut skip: usize, out: &mut [u8]) -> usize {
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
