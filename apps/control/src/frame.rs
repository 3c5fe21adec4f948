//! `Frame`: a message on a socket: its length, its number, its body.
//!
//! ```text
//!  0        4        8
//!  | length | number | body: JSON, `length` bytes |      both numbers little endian
//! ```
//!
//! The peer chooses the numbers of its requests; a reply carries that of its request. Number 0 is what is said unasked:
//! the hello, and why a connection ends.

/// Bytes before the body.
const HEAD_BYTES: usize = 8;

/// The longest body of a request, in bytes.
pub const REQUEST_MAX_BYTES: usize = 64 << 10;

/// The longest body of a reply, in bytes.
pub const REPLY_MAX_BYTES: usize = 256 << 10;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which request it is, or answers.
    pub number: u32,
    /// What it says, in JSON.
    pub body: Vec<u8>,
}

/// What is no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of {length} bytes, where {most} are allowed")]
pub struct FrameError {
    /// The length that was said.
    pub length: usize,
    /// The most that is taken.
    pub most: usize,
}

impl Frame {
    /// Its bytes on a socket. A body is never longer than 32 bits can say: whoever makes one keeps to the limits.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.body.len());
        bytes.extend_from_slice(&(self.body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.number.to_le_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// Makes frames out of bytes as they come.
#[derive(Debug)]
pub struct Decoder {
    bytes: Vec<u8>,
    most: usize,
}

impl Decoder {
    /// Of frames whose bodies have at most `most` bytes.
    pub fn new(most: usize) -> Decoder {
        Decoder { bytes: Vec::new(), most }
    }

    /// Takes what has come.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Whether a part of a frame has come.
    pub fn is_midway(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// The next frame, once all of it has come.
    ///
    /// # Errors
    /// [`FrameError`]: it is longer than allowed; what follows cannot be read either.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, rest)) = self.bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
        let [a, b, c, d, e, f, g, h] = *head;
        let (length, number) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]));
        if length > self.most {
            return Err(FrameError { length, most: self.most });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { number, body: body.to_vec() };
        self.bytes.drain(..HEAD_BYTES + length);
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let frames = [Frame { number: 7, body: b"{}".to_vec() }, Frame { number: u32::MAX, body: Vec::new() }];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for cut in 1..bytes.len() {
            let mut decoder = Decoder::new(16);
            let mut got = Vec::new();
            for part in bytes.chunks(cut) {
                decoder.push(part);
                while let Some(frame) = decoder.next_frame().expect("short enough") {
                    got.push(frame);
                }
            }
            assert_eq!(got, frames, "cut every {cut} bytes");
            assert!(!decoder.is_midway());
        }
    }

    #[test]
    fn a_length_above_the_limit_is_refused_before_its_bytes_come() {
        let mut decoder = Decoder::new(16);
        decoder.push(&[17, 0, 0, 0, 1, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(FrameError { length: 17, most: 16 }));
    }
}
