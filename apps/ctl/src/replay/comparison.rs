//! `Comparison`: what the recorded server said on each connection, and what ours did.

use std::fmt;
use std::net::SocketAddr;

use super::recording::{Dialogue, Recording};
use super::stream::Stream;

/// Bytes shown before and after a difference.
const CONTEXT_BYTES: usize = 60;

/// Differences shown in full.
const SHOWN: usize = 10;

/// What came of one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compared {
    /// The same bytes.
    Same,
    /// The first difference.
    Differs {
        /// Place of the first byte that differs, or that only one of the two has.
        at: usize,
        /// What the recorded server said around it.
        recorded: String,
        /// What ours said around it.
        ours: String,
        /// What may have led to it.
        hint: Option<&'static str>,
    },
    /// The recording has no SYN and SYN-ACK of it: nothing was played.
    NotPlayed,
}

/// One connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The client.
    pub client: SocketAddr,
    /// Bytes that the client sent.
    pub asked: usize,
    /// Bytes that the recorded server sent.
    pub recorded: usize,
    /// Bytes that ours sent.
    pub ours: usize,
    /// Whether they are the same.
    pub compared: Compared,
    /// The recording lacks bytes of the client, or of the server.
    pub gaps: (bool, bool),
}

/// All connections of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// Connections, in the order in which they began; those that had begun before come last.
    pub rows: Vec<Row>,
}

impl Comparison {
    /// Compares a recording with what our stack has said on its connections.
    pub fn new(recording: &Recording, streams: &[Stream]) -> Self {
        let row = |(dialogue, ours): (&Dialogue, &Stream)| Row {
            client: dialogue.client,
            asked: dialogue.asked.bytes().len(),
            recorded: dialogue.said.bytes().len(),
            ours: ours.bytes().len(),
            compared: match dialogue.isn {
                Some(_) => compare(dialogue.said.bytes(), ours.bytes()),
                None => Compared::NotPlayed,
            },
            gaps: (dialogue.asked.has_gap(), dialogue.said.has_gap()),
        };
        let headless = |&client: &SocketAddr| Row {
            client,
            asked: 0,
            recorded: 0,
            ours: 0,
            compared: Compared::NotPlayed,
            gaps: (false, false),
        };
        let rows = recording.dialogues.iter().zip(streams).map(row);
        Self { rows: rows.chain(recording.headless.iter().map(headless)).collect() }
    }

    /// Whether every connection was the same.
    pub fn all_same(&self) -> bool {
        self.rows.iter().all(|row| row.compared == Compared::Same)
    }
}

fn compare(recorded: &[u8], ours: &[u8]) -> Compared {
    if recorded == ours {
        return Compared::Same;
    }
    let at = recorded.iter().zip(ours).position(|(a, b)| a != b).unwrap_or(recorded.len().min(ours.len()));
    Compared::Differs { at, recorded: around(recorded, at), ours: around(ours, at), hint: hint(recorded, ours, at) }
}

/// The bytes around a place, as text.
fn around(bytes: &[u8], at: usize) -> String {
    let (from, to) = (at.saturating_sub(CONTEXT_BYTES), (at + CONTEXT_BYTES).min(bytes.len()));
    let (before, behind) = (if from > 0 { "..." } else { "" }, if to < bytes.len() { "..." } else { "" });
    let at = at.min(bytes.len());
    format!("{before}{}[here]{}{behind}", bytes[from.min(at)..at].escape_ascii(), bytes[at..to].escape_ascii())
}

/// The line that a place is in.
fn line_at(bytes: &[u8], at: usize) -> &[u8] {
    let at = at.min(bytes.len());
    let from = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let to = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| at + end);
    &bytes[from..to]
}

/// Differences that a right server may show, by the reply they are in.
fn hint(recorded: &[u8], ours: &[u8], at: usize) -> Option<&'static str> {
    let (line, our_line) = (line_at(recorded, at), line_at(ours, at));
    let words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).count();
    if line.starts_with(b"VERSION") {
        Some("the recorded server was of another version")
    } else if line.starts_with(b"STAT") {
        Some("statistics are of the server's own life")
    } else if line.starts_with(b"VALUE") && our_line.starts_with(b"VALUE") && words == 5 {
        Some("cas uniques are the server's own, and those of several cores differ from those of one")
    } else if line.starts_with(b"EXISTS") || our_line.starts_with(b"EXISTS") {
        Some("a cas unique that the client had from the recorded server means nothing to ours")
    } else if line.starts_with(b"VALUE") || our_line.starts_with(b"VALUE") {
        Some(
            "one has an item that the other has not: it was stored before the recording began, evicted, or set over \
             another connection at nearly the same time",
        )
    } else if ours.len() == at {
        Some("ours has stopped: does the recording lack frames of the client?")
    } else if recorded.len() == at {
        Some("ours has said more: does the recording end too early?")
    } else {
        None
    }
}

impl fmt::Display for Comparison {
    /// A table of all connections, the differences, and a summary.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>4} {:<21} {:>10} {:>10} {:>10}  result", "", "client", "bytes in", "recorded", "ours")?;
        for (number, row) in self.rows.iter().enumerate() {
            let number = number + 1;
            write!(f, "{number:>4} {:<21} {:>10} {:>10} {:>10}  ", row.client, row.asked, row.recorded, row.ours)?;
            match &row.compared {
                Compared::Same => write!(f, "same")?,
                Compared::Differs { at, .. } => write!(f, "differs at byte {at}")?,
                Compared::NotPlayed => write!(f, "not played: no SYN and SYN-ACK in the capture")?,
            }
            match row.gaps {
                (false, false) => writeln!(f)?,
                (true, _) => writeln!(f, "; the capture lacks bytes of the client")?,
                (false, true) => writeln!(f, "; the capture lacks bytes of the server")?,
            }
        }
        let mut differences = 0;
        for (number, row) in self.rows.iter().enumerate() {
            let Compared::Differs { at, recorded, ours, hint } = &row.compared else { continue };
            differences += 1;
            if differences > SHOWN {
                continue;
            }
            writeln!(f, "connection {} of {} at byte {at}:", number + 1, row.client)?;
            writeln!(f, "  recorded: {recorded}")?;
            writeln!(f, "  ours:     {ours}")?;
            if let Some(hint) = hint {
                writeln!(f, "  note:     {hint}")?;
            }
        }
        if differences > SHOWN {
            writeln!(f, "and {} more", differences - SHOWN)?;
        }
        let count = |compared: fn(&Compared) -> bool| self.rows.iter().filter(|row| compared(&row.compared)).count();
        let (same, not_played) = (count(|v| *v == Compared::Same), count(|v| *v == Compared::NotPlayed));
        let connections = self.rows.len();
        writeln!(f, "connections={connections} same={same} different={differences} not_played={not_played}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_shown_with_what_is_around_it() {
        let compared = compare(b"STORED\r\nVERSION 1.6.18\r\n", b"STORED\r\nVERSION 1.6.19\r\n");
        let Compared::Differs { at, recorded, ours, hint } = compared else { panic!("{compared:?}") };
        assert_eq!((at, &*recorded), (21, "STORED\\r\\nVERSION 1.6.1[here]8\\r\\n"));
        assert_eq!(ours, "STORED\\r\\nVERSION 1.6.1[here]9\\r\\n");
        assert_eq!(hint, Some("the recorded server was of another version"));
    }

    #[test]
    fn one_who_says_more_or_less_differs_where_the_other_ends() {
        let at = |recorded: &[u8], ours: &[u8]| match compare(recorded, ours) {
            Compared::Differs { at, .. } => Some(at),
            _ => None,
        };
        assert_eq!(at(b"END\r\n", b"END\r\nEND\r\n"), Some(5));
        assert_eq!(at(b"END\r\n", b""), Some(0));
        assert_eq!(at(b"END\r\n", b"END\r\n"), None);
    }
}
