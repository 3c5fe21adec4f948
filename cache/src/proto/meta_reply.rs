//! What meta commands answer: a code of two letters, then what each flag asks for, in the order of the flags.
//!
//! Read first: `protocol.txt`, "Meta Commands"; the bytes are those of memcached 1.6.18's `proto_text.c`.

use super::base64;
use super::framed::{HeadBytes, Kind, View};
use super::reply::{Line, append, append_number};
use super::word::is_word;

/// The reply but for a value that follows; one that is empty is in it, with its line end.
pub(crate) fn head(view: &View<'_>) -> HeadBytes {
    let mut out = HeadBytes::new();
    let head = view.head;
    debug_assert!(!matches!(head.kind, Kind::Packet(_)), "a packet is no line");
    let code: &[u8] = match (head.kind, head.outcome) {
        (Kind::Debug, Line::Stored) => {
            debug_line(view, &mut out);
            return out;
        }
        (_, Line::Stored) if head.value => b"VA ",
        (_, Line::Stored) => b"HD",
        (Kind::Get | Kind::Debug, Line::NotFound) => b"EN",
        (_, Line::NotFound) => b"NF",
        (_, Line::NotStored) => b"NS",
        (_, Line::Exists) => b"EX",
        (_, line) => {
            append(&mut out, line.bytes());
            return out;
        }
    };
    append(&mut out, code);
    let hit = head.outcome == Line::Stored;
    let mut number = super::reply::Header::new();
    if hit && head.value {
        let length = match head.kind {
            Kind::Arith => {
                append_number(&mut number, head.seen.number());
                number.len() as u32
            }
            _ => head.seen.len,
        };
        append_number(&mut out, u64::from(length));
    }
    for &letter in view.letters {
        shown_flag(view, letter, hit, &mut out);
    }
    if hit && head.kind == Kind::Get {
        for (shown, mark) in [(head.seen.token_sent, b" Z"), (head.seen.stale, b" X"), (head.seen.won, b" W")] {
            append(&mut out, if shown { &mark[..] } else { b"" });
        }
    }
    append(&mut out, b"\r\n");
    if hit && head.value && (head.kind == Kind::Arith || head.seen.len == 0) {
        append(&mut out, &number);
        append(&mut out, b"\r\n");
    }
    out
}

/// What one flag asks for.
fn shown_flag(view: &View<'_>, letter: u8, hit: bool, out: &mut HeadBytes) {
    let (kind, seen) = (view.head.kind, &view.head.seen);
    let mut flag = |value: u64| {
        append(out, &[b' ', letter]);
        append_number(out, value);
    };
    match (letter, kind) {
        (b'O', _) => {
            append(out, b" ");
            append(out, view.opaque);
        }
        (b'k', _) => {
            append(out, b" k");
            // An item that is there tells how its own key was sent.
            let stored_so = hit && kind == Kind::Get;
            if if stored_so { seen.base64 || asked_by_bytes(view) } else { view.head.base64 } {
                base64::encode(view.key, out);
                append(out, b" b");
            } else {
                append(out, view.key);
            }
        }
        (b'c', Kind::Set) => flag(seen.cas),
        (b'c', Kind::Get | Kind::Arith) if hit => flag(seen.cas),
        (b't', Kind::Get | Kind::Arith) if hit && !seen.expires => append(out, b" t-1"),
        (b't', Kind::Get | Kind::Arith) if hit => flag(u64::from(seen.ttl)),
        (b's', Kind::Get) if hit => flag(u64::from(seen.len)),
        (b'f', Kind::Get) if hit => flag(u64::from(seen.flags)),
        (b'l', Kind::Get) if hit => flag(u64::from(seen.idle)),
        (b'h', Kind::Get) if hit => flag(u64::from(seen.hit)),
        _ => {}
    }
}

/// Whether the key was sent as base64 because a line cannot hold it. Deviates: 1.6.18 writes the key of an item that a
/// packet has stored as it is, line ends and all.
fn asked_by_bytes(view: &View<'_>) -> bool {
    view.head.base64 && !is_word(view.key)
}

/// `ME <key> exp=... la=... cas=... fetch=... cls=... size=...`.
fn debug_line(view: &View<'_>, out: &mut HeadBytes) {
    let seen = &view.head.seen;
    append(out, b"ME ");
    if seen.base64 || asked_by_bytes(view) {
        base64::encode(view.key, out);
    } else {
        append(out, view.key);
    }
    append(out, b" exp=");
    let expired_for = seen.ttl as i32;
    append(out, if expired_for < 0 { b"-" } else { b"" });
    append_number(out, u64::from(expired_for.unsigned_abs()));
    for (name, value) in [(&b" la="[..], u64::from(seen.idle)), (b" cas=", seen.cas)] {
        append(out, name);
        append_number(out, value);
    }
    append(out, if seen.hit { b" fetch=yes" } else { b" fetch=no" });
    for (name, value) in [(&b" cls="[..], seen.flags), (b" size=", seen.len)] {
        append(out, name);
        append_number(out, u64::from(value));
    }
    append(out, b"\r\n");
}
