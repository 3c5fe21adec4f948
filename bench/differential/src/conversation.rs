//! One case played against one target: flush, then leg after leg, each on a connection of its own.

use std::io;

use crate::case::{Case, Split};
use crate::normalize::Uniques;
use crate::target::Target;

/// How the bytes of a leg reach the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// All at once; for the oracle, whose answers must not depend on timing.
    Whole,
    /// As the case says.
    AsSplit,
}

/// What a play begins with. The store takes the unique that a refused ms of a connection before has left behind: memcached
/// keeps it with the descriptor, and gives it to the first value that the next connection of this descriptor stores.
pub const BEGIN: &[u8] = b"set _ 0 0 0 noreply\r\n\r\nflush_all\r\n";

/// The normalised replies of each leg.
///
/// # Errors
/// The target failed or hung, or could not be flushed.
pub fn play(case: &Case, target: &mut dyn Target, delivery: Delivery) -> io::Result<Vec<Vec<u8>>> {
    let flushed = target.exchange(&[BEGIN])?;
    if flushed != b"OK\r\n" {
        let said = format!("{} answers flush_all with \"{}\"", target.name(), flushed.escape_ascii());
        return Err(io::Error::other(said));
    }
    let mut uniques = Uniques::default();
    let mut replies = Vec::with_capacity(case.legs.len());
    for leg in &case.legs {
        if leg.udp {
            let requests = case.datagrams(leg, &uniques, target.forgets_incomplete());
            let answers = target.datagrams(&requests)?;
            replies.push(normalize_messages(&answers, &mut uniques, case));
            continue;
        }
        let mut bytes = Vec::new();
        for operation in &leg.operations {
            case.render(operation, &uniques, &mut bytes);
        }
        let split = if delivery == Delivery::Whole { Split::Whole } else { leg.split };
        let said = target.exchange(&split.cut(&bytes))?;
        replies.push(match bytes.first() {
            Some(0x80) => uniques.normalize_packets(&said, |id| case.known_key(id)),
            _ => uniques.normalize(&said),
        });
    }
    Ok(replies)
}

/// The messages that answer each datagram, with the datagram's number in front of each. A header without a message is
/// left out: see `cache/tests/differences.md`.
fn normalize_messages(answers: &[Vec<Vec<u8>>], uniques: &mut Uniques, case: &Case) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, messages) in answers.iter().enumerate() {
        for message in messages.iter().filter(|message| !message.is_empty()) {
            out.extend_from_slice(format!("[datagram {number}]\n").as_bytes());
            out.extend(match message.first() {
                Some(0x81) => uniques.normalize_packets(message, |id| case.known_key(id)),
                _ => uniques.normalize(message),
            });
        }
    }
    out
}

/// Where two targets' replies part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// Which leg.
    pub leg: usize,
    /// How many bytes of this leg's replies are the same.
    pub same: usize,
    /// The line of the oracle's reply that differs; empty when it sent no more.
    pub oracle: Vec<u8>,
    /// The line of the other's.
    pub tested: Vec<u8>,
}

/// The first line that differs, or `None` when all replies are the same.
pub fn compare(oracle: &[Vec<u8>], tested: &[Vec<u8>]) -> Option<Parting> {
    let leg = (0..oracle.len().max(tested.len())).find(|&leg| oracle.get(leg) != tested.get(leg))?;
    let empty = Vec::new();
    let (oracle, tested) = (oracle.get(leg).unwrap_or(&empty), tested.get(leg).unwrap_or(&empty));
    let same = oracle.iter().zip(tested).take_while(|(a, b)| a == b).count();
    Some(Parting { leg, same, oracle: line_at(oracle, same), tested: line_at(tested, same) })
}

fn line_at(bytes: &[u8], at: usize) -> Vec<u8> {
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |place| place + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |place| at + place + 1);
    bytes[start..end].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parting_is_the_whole_line_that_differs() {
        let legs = |text: &[&str]| text.iter().map(|leg| leg.as_bytes().to_vec()).collect::<Vec<_>>();
        assert_eq!(compare(&legs(&["a\r\n", "b\r\n"]), &legs(&["a\r\n", "b\r\n"])), None);
        let parting = compare(&legs(&["a\r\n", "ok\r\nfour 1\r\nx"]), &legs(&["a\r\n", "ok\r\nfour 2\r\nx"])).unwrap();
        let expected = Parting { leg: 1, same: 9, oracle: b"four 1\r\n".to_vec(), tested: b"four 2\r\n".to_vec() };
        assert_eq!(parting, expected);
        let parting = compare(&legs(&["a\r\n"]), &legs(&["a\r\nb\r\n"])).unwrap();
        assert_eq!(parting, Parting { leg: 0, same: 3, oracle: Vec::new(), tested: b"b\r\n".to_vec() });
    }
}
