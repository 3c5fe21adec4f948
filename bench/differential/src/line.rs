//! `Line`: a command line of the text protocol, before it is bytes.

use crate::case::{Operation, Piece};

/// One request line before it is joined, and the body behind it.
#[derive(Debug, Clone)]
pub struct Line {
    /// Command and arguments.
    pub words: Vec<Piece>,
    /// Between the words.
    pub gap: Vec<u8>,
    /// What ends the line.
    pub ending: Vec<u8>,
    /// The value, with what ends it.
    pub body: Option<(Vec<u8>, Vec<u8>)>,
}

impl Line {
    pub(crate) fn new(words: Vec<Piece>) -> Self {
        Self { words, gap: b" ".to_vec(), ending: b"\r\n".to_vec(), body: None }
    }

    /// Whether its command is `name`.
    pub fn is(&self, name: &[u8]) -> bool {
        matches!(self.words.first(), Some(Piece::Bytes(first)) if first == name)
    }

    /// Joins the words.
    pub fn operation(self) -> Operation {
        let mut pieces = Vec::new();
        for (number, word) in self.words.into_iter().enumerate() {
            if number > 0 {
                pieces.push(Piece::Bytes(self.gap.clone()));
            }
            pieces.push(word);
        }
        pieces.push(Piece::Bytes(self.ending));
        if let Some((value, ending)) = self.body {
            pieces.extend([Piece::Bytes(value), Piece::Bytes(ending)]);
        }
        let fenced =
            matches!(pieces.first(), Some(Piece::Bytes(name)) if name == b"incr" || name == b"decr" || name == b"ma");
        Operation { fenced, ..Operation::new(pieces) }
    }
}

/// A word that stands as it is.
pub fn word(text: impl AsRef<[u8]>) -> Piece {
    Piece::Bytes(text.as_ref().to_vec())
}
