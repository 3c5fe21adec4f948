//! `Stream`: the bytes that one end sent, put together from segments that come in any order and more than once.

use std::collections::BTreeMap;

/// Farthest ahead of what is known that a segment may lie: four times the largest unscaled window; what lies farther is
/// no part of the stream.
const FARTHEST: i32 = 1 << 30;

/// One direction of a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stream {
    /// Sequence number of the first byte.
    first: u32,
    bytes: Vec<u8>,
    /// What came beyond a gap, by its place.
    ahead: BTreeMap<usize, Vec<u8>>,
}

impl Stream {
    /// A stream whose first byte has the sequence number `first`.
    pub fn new(first: u32) -> Self {
        Self { first, ..Self::default() }
    }

    /// The bytes from the beginning to the first gap.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Sequence number after the last byte before the first gap.
    pub fn next(&self) -> u32 {
        self.first.wrapping_add(self.bytes.len() as u32)
    }

    /// Whether bytes are known beyond a gap.
    pub fn has_gap(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Adds the payload of a segment that begins at `seq`. Bytes that are known already stay as they are.
    pub fn add(&mut self, seq: u32, payload: &[u8]) {
        let offset = seq.wrapping_sub(self.next()) as i32;
        if payload.is_empty() || offset > FARTHEST {
            return;
        }
        if offset > 0 {
            let place = self.bytes.len() + offset as usize;
            let known = self.ahead.get(&place).map_or(0, Vec::len);
            if payload.len() > known {
                self.ahead.insert(place, payload.to_vec());
            }
            return;
        }
        if let Some(news) = payload.get(offset.unsigned_abs() as usize..) {
            self.bytes.extend_from_slice(news);
        }
        while let Some(entry) = self.ahead.first_entry() {
            let known = self.bytes.len();
            if *entry.key() > known {
                return;
            }
            let (place, piece) = entry.remove_entry();
            if let Some(news) = piece.get(known - place..) {
                self.bytes.extend_from_slice(news);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_in_any_order_and_twice_give_the_stream() {
        let text: Vec<u8> = (0..200u8).collect();
        // 7 and 200 have no common factor, so every place is visited.
        let mut stream = Stream::new(u32::MAX - 50);
        for step in 0..200usize {
            let at = step * 7 % 200;
            let end = (at + 1 + step % 30).min(200);
            stream.add((u32::MAX - 50).wrapping_add(at as u32), &text[at..end]);
        }
        assert_eq!((stream.bytes(), stream.has_gap()), (&text[..], false));
        assert_eq!(stream.next(), 149);
    }

    #[test]
    fn bytes_beyond_a_gap_wait() {
        let mut stream = Stream::new(100);
        stream.add(103, b"def");
        assert_eq!((stream.bytes(), stream.has_gap()), (&b""[..], true));
        stream.add(100, b"abcd");
        assert_eq!((stream.bytes(), stream.has_gap()), (&b"abcdef"[..], false));
        stream.add(90, b"0123456789");
        assert_eq!(stream.bytes(), b"abcdef");
    }
}
