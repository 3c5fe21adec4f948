//! Requests as bytes, and the lines of the replies that they must get.

use crate::keyspace::{KeyNumber, Keyspace};
use crate::popularity::Popularity;
use crate::workload::{MultiGet, Operation, Request};

/// Longest line of a reply but the last: `VALUE`, a key, flags and a length.
pub const MAX_LINE_BYTES: usize = 5 + 1 + 250 + 1 + 10 + 1 + 20 + 2;

/// Knows what the bytes of any request and its reply are. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Codec {
    keyspace: Keyspace,
    popularity: Popularity,
    multiget: u32,
}

/// What of a request was not written with it: the end of a long value, to be sent from where it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongValue {
    /// Whose value.
    pub key: KeyNumber,
}

/// The keys that a get is still owed, in order.
#[derive(Debug, Clone)]
pub enum OwedKeys {
    /// One key, or none.
    One(Option<KeyNumber>),
    /// Those of a multi-get.
    Many(MultiGet),
}

impl Iterator for OwedKeys {
    type Item = KeyNumber;

    #[inline]
    fn next(&mut self) -> Option<KeyNumber> {
        match self {
            OwedKeys::One(key) => key.take(),
            OwedKeys::Many(keys) => keys.next(),
        }
    }
}

impl Codec {
    /// Values longer than this are not copied behind their request.
    pub const LONG_VALUE_BYTES: usize = 4 * 1024;

    /// Requests for the keys of `keyspace`; a multi-get asks for `multiget` keys drawn by `popularity`.
    pub fn new(keyspace: Keyspace, popularity: Popularity, multiget: u32) -> Self {
        Self { keyspace, popularity, multiget }
    }

    /// The keys and their values.
    pub fn keyspace(&self) -> &Keyspace {
        &self.keyspace
    }

    /// How often each key is drawn.
    pub fn popularity(&self) -> Popularity {
        self.popularity
    }

    /// Keys of one multi-get.
    pub fn multiget(&self) -> u32 {
        self.multiget
    }

    /// Appends `request`. A value above [`Self::LONG_VALUE_BYTES`] is left out from behind its mark on and returned.
    #[inline]
    pub fn put_request(&self, request: Request, out: &mut Vec<u8>) -> Option<LongValue> {
        match request.operation {
            Operation::Get => {
                out.extend_from_slice(b"get ");
                self.keyspace.put_key(request.key, out);
            }
            Operation::MultiGet => {
                out.extend_from_slice(b"get");
                for key in self.owed(request) {
                    out.push(b' ');
                    self.keyspace.put_key(key, out);
                }
            }
            Operation::Set => {
                let value = self.keyspace.value(request.key);
                out.extend_from_slice(b"set ");
                self.keyspace.put_key(request.key, out);
                out.push(b' ');
                put_decimal(self.keyspace.flags(request.key).into(), out);
                out.extend_from_slice(b" 0 ");
                put_decimal(value.len() as u64, out);
                out.extend_from_slice(b"\r\n");
                out.extend_from_slice(value.mark());
                if value.len() > Self::LONG_VALUE_BYTES {
                    return Some(LongValue { key: request.key });
                }
                out.extend_from_slice(value.rest());
            }
        }
        out.extend_from_slice(b"\r\n");
        None
    }

    /// The keys that the reply to `request` may hold; none for a set.
    #[inline]
    pub fn owed(&self, request: Request) -> OwedKeys {
        match request.operation {
            Operation::Get => OwedKeys::One(Some(request.key)),
            Operation::MultiGet => OwedKeys::Many(MultiGet::new(self.popularity, request.key, self.multiget)),
            Operation::Set => OwedKeys::One(None),
        }
    }

    /// Appends the line before the value of `key` in a reply.
    #[inline]
    pub fn put_value_line(&self, key: KeyNumber, out: &mut Vec<u8>) {
        out.extend_from_slice(b"VALUE ");
        self.keyspace.put_key(key, out);
        out.push(b' ');
        put_decimal(self.keyspace.flags(key).into(), out);
        out.push(b' ');
        put_decimal(self.keyspace.value(key).len() as u64, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends `number` in decimal.
#[inline]
fn put_decimal(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sizes::Size;

    fn codec(value_bytes: usize) -> Codec {
        let keyspace = Keyspace::new(100, Size::Fixed(5), Size::Fixed(value_bytes), 1);
        Codec::new(keyspace, Popularity::Uniform(100), 3)
    }

    fn request(operation: Operation, key: u64) -> (Vec<u8>, Option<LongValue>) {
        let mut out = Vec::new();
        let long = codec(10).put_request(Request { operation, key }, &mut out);
        (out, long)
    }

    #[test]
    fn requests_are_the_protocols() {
        assert_eq!(request(Operation::Get, 7).0, b"get kkkk7\r\n");
        let (set, long) = request(Operation::Set, 7);
        let codec = codec(10);
        let mut wanted = format!("set kkkk7 {} 0 10\r\n", codec.keyspace().flags(7)).into_bytes();
        wanted.extend_from_slice(&codec.keyspace().value(7).copy(0, usize::MAX));
        wanted.extend_from_slice(b"\r\n");
        assert_eq!((set, long), (wanted, None));
        let many = request(Operation::MultiGet, 7).0;
        assert_eq!(many.iter().filter(|&&byte| byte == b' ').count(), 3);
    }

    #[test]
    fn a_long_value_is_left_to_be_sent_from_where_it_lies() {
        let codec = codec(1_000_000);
        let mut out = Vec::new();
        let long = codec.put_request(Request { operation: Operation::Set, key: 9 }, &mut out);
        assert_eq!(long, Some(LongValue { key: 9 }));
        assert!(out.ends_with(codec.keyspace().value(9).mark()));
        assert!(out.len() < MAX_LINE_BYTES);
    }
}
