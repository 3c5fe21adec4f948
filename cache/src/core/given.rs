//! `GivenText`: a text that leaves as far as there is room.

/// A text, of which the beginning has been given.
#[derive(Debug, Default)]
pub(super) struct GivenText {
    pub(super) text: Vec<u8>,
    given: usize,
}

impl GivenText {
    /// An empty text with room for `bytes` bytes.
    pub(super) fn with_capacity(bytes: usize) -> GivenText {
        GivenText { text: Vec::with_capacity(bytes), given: 0 }
    }

    /// Whether all of it has been given.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Writes what has not been given into `out`. Returns the bytes written. Once all has been given the text is empty.
    pub(super) fn write(&mut self, out: &mut [u8]) -> usize {
        let rest = self.text.get(self.given..).unwrap_or_default();
        let bytes = rest.len().min(out.len());
        out[..bytes].copy_from_slice(&rest[..bytes]);
        self.given += bytes;
        if self.given == self.text.len() {
            self.text.clear();
            self.given = 0;
        }
        bytes
    }
}
