//! `Streams`: every byte that either end has written, known by a number that the first eight bytes carry.

use std::net::SocketAddr;

/// Bytes that say which stream it is, at its beginning.
pub const HEADER: u64 = 8;

/// One direction of one connection.
#[derive(Debug)]
struct Stream {
    /// Address and port of the end that writes it, and of the other.
    from: SocketAddr,
    to: SocketAddr,
    written: u64,
    /// The writer has said that this is all.
    ended: bool,
    /// Somebody reads it.
    read: bool,
}

/// All streams of a simulation, from the first.
#[derive(Debug)]
pub struct Streams {
    all: Vec<Stream>,
    /// Whether a connection may be opened a second time, by what was said of it the first time.
    twice: bool,
    /// Bytes that were read and right.
    pub exact: u64,
    /// Streams read to their end.
    pub whole: u64,
}

/// What a reader has of its stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reader {
    header: u64,
    read: u64,
}

impl Reader {
    /// The number of the stream, once its header is there.
    pub fn stream(&self) -> Option<u64> {
        (self.read >= HEADER).then_some(self.header)
    }
}

/// The byte at `offset` of a stream.
pub fn byte(stream: u64, offset: u64) -> u8 {
    if offset < HEADER {
        return (stream >> (8 * offset)) as u8;
    }
    // SplitMix64's mix of both numbers, a word for eight bytes: no two stretches are alike.
    let mut word = ((stream << 32) ^ (offset / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((word >> (8 * (offset % 8))) ^ (word >> 7)) as u8
}

impl Streams {
    /// No stream yet.
    pub fn new(twice: bool) -> Self {
        Self { all: Vec::new(), twice, exact: 0, whole: 0 }
    }

    /// A new stream.
    pub fn begin(&mut self, from: SocketAddr, to: SocketAddr) -> u64 {
        self.all.push(Stream { from, to, written: 0, ended: false, read: false });
        self.all.len() as u64 - 1
    }

    /// Fills `room` with the next bytes of the stream; they count as written.
    pub fn write(&mut self, stream: u64, room: &mut [u8]) {
        let at = &mut self.all[stream as usize];
        assert!(!at.ended, "stream {stream} is written to after its end");
        for (i, into) in room.iter_mut().enumerate() {
            *into = byte(stream, at.written + i as u64);
        }
        at.written += room.len() as u64;
    }

    /// The writer says that this was all.
    pub fn end(&mut self, stream: u64) {
        self.all[stream as usize].ended = true;
    }

    /// Checks what the flow at `own` has read of `peer`.
    pub fn read(&mut self, reader: &mut Reader, (own, peer): (SocketAddr, SocketAddr), mut bytes: &[u8]) {
        while reader.read < HEADER {
            let [first, rest @ ..] = bytes else { return };
            reader.header |= u64::from(*first) << (8 * reader.read);
            reader.read += 1;
            bytes = rest;
            if reader.read == HEADER {
                let number = reader.header;
                let Some(stream) = self.all.get_mut(number as usize) else { panic!("there is no stream {number}") };
                assert_eq!((stream.from, stream.to), (peer, own), "stream {number} has come elsewhere");
                let read = std::mem::replace(&mut stream.read, true);
                assert!(self.twice || !read, "stream {number} is read twice");
                self.exact += HEADER;
            }
        }
        let stream = &self.all[reader.header as usize];
        assert!(reader.read + bytes.len() as u64 <= stream.written, "more of {stream:?} has come than was written");
        let wrong = (reader.read..).zip(bytes).find(|&(offset, &got)| got != byte(reader.header, offset));
        assert!(wrong.is_none(), "byte {wrong:?} of stream {} is wrong", reader.header);
        reader.read += bytes.len() as u64;
        self.exact += bytes.len() as u64;
    }

    /// Checks that a reader that has come to the end has all.
    pub fn at_end(&mut self, reader: &Reader) {
        let Some(number) = reader.stream() else {
            assert_eq!(reader.read, 0, "a stream ends within its header");
            return;
        };
        let stream = &self.all[number as usize];
        assert!(stream.ended && stream.written == reader.read, "{} bytes are not all of {stream:?}", reader.read);
        self.whole += 1;
    }
}
