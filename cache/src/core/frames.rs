//! What the requests of framed replies gave them, beside the pool of entries: number i belongs to entry i.
//!
//! Their memory is touched when an entry is first used for such a reply, so that a server of classic clients alone never
//! makes it resident.

use crate::key::KEY_MAX_BYTES;
use crate::proto::framed::{Head, Template, View};
use crate::proto::meta::{FLAGS_MAX, OPAQUE_MAX_BYTES};
use crate::route::message::Token;

/// The framed replies of one core.
#[derive(Debug)]
pub(crate) struct Frames {
    heads: Vec<Head>,
    bytes: Vec<u8>,
}

impl Frames {
    /// Room for `count` replies.
    pub(crate) fn new(count: usize) -> Frames {
        Frames { heads: Vec::with_capacity(count), bytes: vec![0; count * Template::BYTES_MAX] }
    }

    /// Notes what the request of entry `token` gives its reply.
    pub(crate) fn set(&mut self, token: Token, template: &Template<'_>) {
        let &Template { kind, quiet, value, base64, letters, opaque, key } = template;
        let start = token as usize * Template::BYTES_MAX;
        let bytes = &mut self.bytes[start..start + Template::BYTES_MAX];
        let mut lengths = [0; 3];
        let parts = [(letters, FLAGS_MAX), (opaque, OPAQUE_MAX_BYTES), (key, KEY_MAX_BYTES)];
        let mut at = 0;
        for ((part, most), length) in parts.into_iter().zip(&mut lengths) {
            let part = part.get(..most).unwrap_or(part);
            bytes[at..at + part.len()].copy_from_slice(part);
            *length = part.len() as u8;
            at += part.len();
        }
        let [letters, opaque, key] = lengths;
        if self.heads.len() <= token as usize {
            self.heads.resize(token as usize + 1, Head::EMPTY);
        }
        self.heads[token as usize] = Head { kind, quiet, value, base64, letters, opaque, key, ..Head::EMPTY };
    }

    /// The head of entry `token`.
    pub(crate) fn head_mut(&mut self, token: Token) -> &mut Head {
        &mut self.heads[token as usize]
    }

    /// All that is known of the reply of entry `token`.
    pub(crate) fn view(&self, token: Token) -> View<'_> {
        let head = &self.heads[token as usize];
        let start = token as usize * Template::BYTES_MAX;
        let bytes = &self.bytes[start..start + Template::BYTES_MAX];
        let (letters, rest) = bytes.split_at(usize::from(head.letters));
        let (opaque, rest) = rest.split_at(usize::from(head.opaque));
        View { head, letters, opaque, key: &rest[..usize::from(head.key)] }
    }
}
