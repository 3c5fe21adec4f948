//! Where the bytes of a reply go: to memory, or only into a count.

use crate::number;

/// Takes the bytes of a reply, one piece after the other.
pub(crate) trait Sink {
    /// Takes `bytes`.
    fn put(&mut self, bytes: &[u8]);

    /// Takes `value` in decimal.
    fn number(&mut self, value: u64);
}

/// Counts bytes and keeps none.
#[derive(Debug, Default)]
pub(crate) struct Measure(usize);

impl Measure {
    /// Bytes counted.
    pub(crate) fn bytes(&self) -> usize {
        self.0
    }
}

impl Sink for Measure {
    fn put(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    fn number(&mut self, value: u64) {
        self.0 += number::digits(value);
    }
}

/// Appends. Allocates: administrative commands only.
impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn number(&mut self, value: u64) {
        self.extend_from_slice(value.to_string().as_bytes());
    }
}

/// Writes to memory. Whoever writes has made sure that there is room.
#[derive(Debug)]
pub(crate) struct Writer<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// Writes to `bytes`, from the front.
    #[inline]
    pub(crate) fn new(bytes: &'a mut [u8]) -> Writer<'a> {
        Writer { bytes, len: 0 }
    }

    /// Bytes written.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes that can still be written.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.bytes.len() - self.len
    }

    /// Writes with `write`, which takes no more than there is room for, to the place after what was written.
    ///
    /// What it writes with is a writer of its own, which the compiler keeps in registers.
    #[inline(always)]
    pub(crate) fn put_with(&mut self, write: impl FnOnce(&mut Writer<'_>)) {
        let mut out = Writer { bytes: &mut self.bytes[self.len..], len: 0 };
        write(&mut out);
        self.len += out.len;
    }

    /// Forgets what was written.
    pub(crate) fn forget(&mut self) {
        self.len = 0;
    }

    /// What was written.
    pub(crate) fn into_written(self) -> &'a [u8] {
        &self.bytes[..self.len]
    }
}

impl Sink for Writer<'_> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        let end = self.len + bytes.len();
        self.bytes[self.len..end].copy_from_slice(bytes);
        self.len = end;
    }

    #[inline(always)]
    fn number(&mut self, value: u64) {
        self.len += number::write(&mut self.bytes[self.len..], value);
    }
}
