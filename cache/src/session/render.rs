//! Replies into the transmit ring, cut wherever the room ends.

use crate::core::clients::Clients;
use crate::core::here::Here;
use crate::mesh::message::Token;
use crate::operation::Outcome;
use crate::proto::form::{Form, Said};
use crate::proto::sink::Writer;
use crate::proto::write::HEAD_MAX_BYTES;
use crate::replies::{Owed, Rendered, ValueAt};

/// What a reply that is owed is made of, as far as that is here.
pub(super) enum Made<'a> {
    /// Nothing, whatever was given before it was known that there is no more.
    Nothing,
    /// A text.
    Text(&'a [u8]),
    /// What is said in a form. Of the value `value` is here, which begins at its byte `from`.
    Said { form: Form<'a>, said: Said, value: &'a [u8], from: usize },
    /// A list that is told part by part.
    Walk,
    /// What a watcher is told.
    Watch,
    /// It is not known yet.
    Waiting,
    /// It was a value whose bytes are gone: others needed their room.
    Lost,
}

impl<'a> Made<'a> {
    /// What the reply of entry `token` is made of.
    pub(super) fn of(here: &'a Here, clients: &'a Clients, token: Token) -> Made<'a> {
        let form = clients.replies.form(token);
        match &clients.replies.entry(token).owed {
            Owed::Nothing | Owed::Orphan { .. } => Made::Nothing,
            Owed::Text(text) => Made::Text(text),
            &Owed::Ready(said) => Made::Said { form, said, value: b"", from: 0 },
            &Owed::Body { view, value } => {
                let (key, value, from) = match value {
                    ValueAt::Held(hold) => match here.item(hold) {
                        Some(item) => (item.key, item.value, 0),
                        None => return Made::Lost,
                    },
                    ValueAt::Landed(slot) => {
                        let landing = &clients.landing;
                        (landing.key(slot), landing.window(slot), landing.slot(slot).from as usize)
                    }
                };
                Made::Said { form: form.of_item(key), said: Outcome::Hit(view).into(), value, from }
            }
            Owed::Walk(_) => Made::Walk,
            Owed::Watch(_) => Made::Watch,
            Owed::Waiting(_) => Made::Waiting,
        }
    }
}

/// Writes what follows the first `sent` bytes of a reply.
pub(super) fn render(here: &mut Here, clients: &mut Clients, token: Token, sent: u32, out: &mut [u8]) -> Rendered {
    let sent = sent as usize;
    let rendered = match Made::of(here, clients, token) {
        Made::Nothing => Rendered::Whole(0),
        Made::Text(text) => parts([text, b"", b""], sent, out),
        Made::Said { form, said, value, from } => with_window(&form, &said, value, from, sent, out),
        Made::Walk => clients.give_walk(here, token, out),
        Made::Watch => clients.give_watch(token, out),
        Made::Waiting => Rendered::Starved(0),
        Made::Lost => Rendered::Lost,
    };
    if let Owed::Body { value, .. } = clients.replies.entry(token).owed {
        match (value, rendered) {
            (ValueAt::Held(hold), Rendered::Part(bytes)) => here.note_read(hold, bytes),
            (ValueAt::Landed(slot), Rendered::Starved(_)) => clients.pull_more(token, slot),
            _ => {}
        }
    }
    rendered
}

/// Writes what follows the first `sent` bytes of a reply, of whose value `window` is here, which begins at its byte
/// `from`. Returns [`Rendered::Starved`] when the next bytes must be asked for.
fn with_window(form: &Form<'_>, said: &Said, window: &[u8], from: usize, sent: usize, out: &mut [u8]) -> Rendered {
    let (len, known) = (form.value_len(said), from + window.len());
    let mut whole = Writer::new(out);
    if sent == 0 && window.len() == len && form.fits(len, &whole) {
        form.write(said, window, &mut whole);
        return Rendered::Whole(whole.len());
    }
    let mut buffer = [0; HEAD_MAX_BYTES];
    let mut head = Writer::new(&mut buffer);
    form.head(said, &mut head);
    let (head, tail) = (head.into_written(), form.tail(said));
    debug_assert!(from == 0 || sent >= head.len() + from, "what comes before the window was sent");
    let sent = sent.saturating_sub(from);
    if known == len {
        return parts([head, window, tail], sent, out);
    }
    match parts([head, window, b""], sent, out) {
        Rendered::Whole(bytes) => Rendered::Starved(bytes),
        rendered => rendered,
    }
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
