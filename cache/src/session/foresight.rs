//! `Foreseen`: a command whose key has been found and hashed before its turn, so that memory can be asked for what its
//! execution will read.
//!
//! Invariant: good for the very bytes that it was read from, as long as they are where they were; it knows them by
//! their address. [`Session::take`](super::Session::take) forgets it when it returns.

use memchr::memchr;

use crate::key::{KEY_MAX_BYTES, KeyHash, KeyHasher};
use crate::proto::text::{PLAIN_GET, plain_get, printable_len};

/// Bytes within which the end of a command's name is looked for: `prepend` and a blank.
const NAME_MAX_BYTES: usize = 8;

/// A key that was read ahead.
#[derive(Debug, Clone, Copy)]
pub(super) struct Foreseen {
    /// The address of the key.
    at: usize,
    len: u32,
    /// Length of the line with its end, if it is a plain get.
    get_bytes: Option<u32>,
    pub(super) hash: KeyHash,
}

impl Foreseen {
    /// The first key of the line at the start of `input`, as far as a glance can tell.
    #[inline]
    pub(super) fn read(hasher: &KeyHasher, input: &[u8]) -> Option<Foreseen> {
        Foreseen::plain(hasher, input).or_else(|| {
            // The key is the second word of every command but gat and gats, and is short.
            let word = match input {
                [_, _, _, b' ', word @ ..] => word,
                _ => input.get(memchr(b' ', input.get(..NAME_MAX_BYTES).unwrap_or(input))? + 1..)?,
            };
            let word = word.get(..KEY_MAX_BYTES + 1).unwrap_or(word);
            let key = word.get(..printable_len(word)).filter(|key| key.len() < word.len())?;
            Some(Foreseen::of(hasher, key, None))
        })
    }

    /// The key of the line at the start of `input`, if it is a plain get.
    #[inline]
    pub(super) fn plain(hasher: &KeyHasher, input: &[u8]) -> Option<Foreseen> {
        let (key, line_bytes) = plain_get(input)?;
        Some(Foreseen::of(hasher, key, Some(line_bytes as u32)))
    }

    #[inline]
    fn of(hasher: &KeyHasher, key: &[u8], get_bytes: Option<u32>) -> Foreseen {
        Foreseen { at: key.as_ptr().addr(), len: key.len() as u32, get_bytes, hash: hasher.hash(key) }
    }

    /// The hash of `key`, if it is this key.
    #[inline]
    pub(super) fn hash_of(self, key: &[u8]) -> Option<KeyHash> {
        (key.as_ptr().addr() == self.at && key.len() == self.len as usize).then_some(self.hash)
    }

    /// The key, and the length of the line with its end, if this is the plain get at the start of `input`.
    #[inline]
    pub(super) fn get_of(self, input: &[u8]) -> Option<(&[u8], usize)> {
        let line_bytes = self.get_bytes? as usize;
        let text = input.get(..line_bytes)?.get(PLAIN_GET.len()..)?;
        (text.as_ptr().addr() == self.at).then_some(())?;
        Some((text.get(..self.len as usize)?, line_bytes))
    }
}
