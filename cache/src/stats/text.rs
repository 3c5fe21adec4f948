//! The text of a `STAT` list. Allocates: administrative commands only.

use std::fmt::Display;

/// Lines `STAT <name> <value>`, then END.
#[derive(Debug, Default)]
pub(crate) struct StatText(String);

impl StatText {
    /// Adds a line.
    pub(crate) fn stat(&mut self, name: impl Display, value: impl Display) {
        use std::fmt::Write;
        // Writing to a String does not fail.
        let _ = write!(self.0, "STAT {name} {value}\r\n");
    }

    /// Adds several lines.
    pub(crate) fn stats(&mut self, lines: &[(&str, &str)]) {
        lines.iter().for_each(|(name, value)| self.stat(name, value));
    }

    /// Adds END and gives the bytes.
    pub(crate) fn end(mut self) -> Box<[u8]> {
        self.0.push_str("END\r\n");
        self.0.into_bytes().into_boxed_slice()
    }
}
