//! `Frame`: a message on a socket: its length, its number, its body.
//!
//! ```text
//!  0        4        8
//!  | length | number | body: JSON, `length` bytes |      both numbers little endian
//! ```
//!
//! Descriptors travel beside the bytes (`unix(7)`, SCM_RIGHTS), with the first of a message's. The highest bit of the length says
//! that one comes with a request; the kernel may hand it over together with bytes of the message before. The peer chooses the
//! numbers of its requests; a reply carries that of its request. Number 0 is what is said unasked: the hello, and why a
//! connection ends.

use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes before the body.
const HEAD_BYTES: usize = 8;

/// The longest body of a request, in bytes.
pub const REQUEST_MAX_BYTES: usize = 64 << 10;

/// The longest body of a reply, in bytes.
pub const REPLY_MAX_BYTES: usize = 256 << 10;

/// The most descriptors that come with a message.
pub const DESCRIPTORS_MAX: usize = 8;

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which request it is, or answers.
    pub number: u32,
    /// What it says, in JSON.
    pub body: Vec<u8>,
    /// A descriptor comes with it.
    pub carries: bool,
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

/// The bit of the length that says that a descriptor comes with it.
const CARRIES: u32 = 1 << 31;

impl Frame {
    /// With nothing but bytes.
    pub fn new(number: u32, body: Vec<u8>) -> Frame {
        Frame { number, body, carries: false }
    }

    /// Of something said.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn of(number: u32, said: &impl Serialize) -> io::Result<Frame> {
        Ok(Frame::new(number, serde_json::to_vec(said)?))
    }

    /// What it says.
    ///
    /// # Errors
    /// `InvalidData`: something else.
    pub fn parse<T: DeserializeOwned>(&self) -> io::Result<T> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Sends it whole, and `descriptors`, at most [`DESCRIPTORS_MAX`], with its first byte. Without any it takes no call but
    /// `write`.
    ///
    /// # Errors
    /// The socket failed, or its time is over.
    pub fn send(&self, to: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = self.encode();
        let sent = if descriptors.is_empty() { 0 } else { send_with(to, &bytes, descriptors)? };
        (&mut &*to).write_all(&bytes[sent..])
    }

    /// Receives the next one whole, of at most `most` bytes, and the descriptors that come with it, at most
    /// [`DESCRIPTORS_MAX`].
    ///
    /// # Errors
    /// `UnexpectedEof` once the other end is closed, `InvalidData` for what is more than that; or the socket failed.
    pub fn receive(from: &UnixStream, most: usize) -> io::Result<(Frame, Vec<OwnedFd>)> {
        let (mut head, mut descriptors) = ([0; HEAD_BYTES], Vec::new());
        fill(from, &mut head, &mut descriptors)?;
        let (length, number, carries) = read_head(&head);
        if length > most {
            return Err(io::Error::new(io::ErrorKind::InvalidData, FrameError { length, most }));
        }
        let mut body = vec![0; length];
        fill(from, &mut body, &mut descriptors)?;
        Ok((Frame { number, body, carries }, descriptors))
    }

    /// Its bytes on a socket. A body is never longer than 32 bits can say: whoever makes one keeps to the limits.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + self.body.len());
        let flag = if self.carries { CARRIES } else { 0 };
        bytes.extend_from_slice(&(self.body.len() as u32 | flag).to_le_bytes());
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
        let (length, number, carries) = read_head(head);
        if length > self.most {
            return Err(FrameError { length, most: self.most });
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { number, body: body.to_vec(), carries };
        self.bytes.drain(..HEAD_BYTES + length);
        Ok(Some(frame))
    }
}

/// Length, number, and whether a descriptor comes along.
fn read_head(head: &[u8; HEAD_BYTES]) -> (usize, u32, bool) {
    let [a, b, c, d, e, f, g, h] = *head;
    let length = u32::from_le_bytes([a, b, c, d]);
    ((length & !CARRIES) as usize, u32::from_le_bytes([e, f, g, h]), length & CARRIES != 0)
}

/// Sends what there is room for, one byte at least, and `descriptors` with it. Returns how many bytes that was.
///
/// # Errors
/// The socket failed, or its time is over; nothing was sent.
pub(crate) fn send_with(to: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // `push` says no only beyond the space, which is rounded up.
    let few = descriptors.len() <= DESCRIPTORS_MAX;
    if !(few && control.push(SendAncillaryMessage::ScmRights(descriptors))) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "too many descriptors with one message"));
    }
    Ok(sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// Takes what has come, as far as `buffer` goes, and appends the descriptors that came with it; 0 at the end.
///
/// # Errors
/// The socket failed, or its time is over.
pub(crate) fn receive_with(from: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(from, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(handed) = message {
            descriptors.extend(handed);
        }
    }
    Ok(got.bytes)
}

fn fill(from: &UnixStream, mut buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    while !buffer.is_empty() {
        match receive_with(from, buffer, descriptors) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if descriptors.len() > DESCRIPTORS_MAX => {
                let why = "more descriptors than may come with one message";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            Ok(got) => buffer = &mut buffer[got..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn descriptors_come_with_their_own_message_and_who_has_ended_sends_none() {
        let (ours, theirs) = UnixStream::pair().expect("a pair can be had");
        let (mut left, right) = UnixStream::pair().expect("a pair can be had");
        let said = |number| Frame::of(number, &("x".repeat(100), number)).expect("it is JSON");
        said(1).send(&ours, &[]).expect("it is open");
        said(2).send(&ours, &[right.as_fd(), left.as_fd()]).expect("it is open");
        said(3).send(&ours, &[]).expect("it is open");
        drop(right);
        let mut handed = Vec::new();
        for (number, count) in [(1, 0), (2, 2), (3, 0)] {
            let (frame, descriptors) = Frame::receive(&theirs, 1000).expect("it was sent");
            assert_eq!((frame.number, frame.parse::<(String, u32)>().expect("it is JSON").1), (number, number));
            assert_eq!(descriptors.len(), count);
            handed.extend(descriptors);
        }
        left.write_all(b"x").expect("it is open");
        UnixStream::from(handed.remove(0)).read_exact(&mut [0]).expect("it is the same socket");
        said(4).send(&ours, &[]).expect("it is open");
        assert_eq!(Frame::receive(&theirs, 10).expect_err("too long").kind(), io::ErrorKind::InvalidData);
        drop(ours);
        let (_, theirs) = UnixStream::pair().expect("a pair can be had");
        assert_eq!(Frame::receive(&theirs, 10).expect_err("closed").kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn more_descriptors_than_allowed_are_no_message_however_they_come() {
        let (ours, theirs) = UnixStream::pair().expect("a pair can be had");
        let bytes = Frame::of(1, &"x".repeat(100)).expect("it is JSON").encode();
        let handed = [ours.as_fd(); DESCRIPTORS_MAX];
        for part in [&bytes[..20], &bytes[20..]] {
            assert_eq!(send_with(&ours, part, &handed).expect("there is room"), part.len());
        }
        assert_eq!(Frame::receive(&theirs, 1000).expect_err("too many").kind(), io::ErrorKind::InvalidData);
        assert!(send_with(&ours, b"x", &[ours.as_fd(); DESCRIPTORS_MAX + 1]).is_err());
    }

    #[test]
    fn frames_come_out_as_they_went_in_however_they_are_cut() {
        let carries = Frame { carries: true, ..Frame::new(9, b"[]".to_vec()) };
        let frames = [Frame::new(7, b"{}".to_vec()), carries, Frame::new(u32::MAX, Vec::new())];
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
