//! `Peer`: one client that asks over UDP, a request in a datagram, and compares the answer byte by byte.
//!
//! Invariant: a peer has at most one request unanswered; nothing is lost here, so each is answered once, by one
//! datagram. Read first: memcached `protocol.txt`, "UDP protocol".

use std::net::Ipv4Addr;

use crate::frame::Datagram;
use crate::items::{Ask, Items};

/// The address of all peers, and the first port.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);
const FIRST_PORT: u16 = 20_000;

/// What a server did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wrong answer: peer {number}, request {id}: {what}")]
pub struct WrongDatagram {
    number: u16,
    id: u16,
    what: &'static str,
}

/// One peer.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Which of all peers: gives the port.
    number: u16,
    /// The id of the last request.
    id: u16,
    /// What was asked for and has not been answered.
    waiting: Option<u32>,
}

impl Peer {
    /// Peer `number`, which has asked for nothing.
    pub fn new(number: u16) -> Self {
        Self { number, id: 0, waiting: None }
    }

    /// The number of the peer to which `datagram` was sent.
    pub fn number_of(datagram: &Datagram<'_>) -> Option<usize> {
        (datagram.peer == ADDRESS).then(|| usize::from(datagram.port.wrapping_sub(FIRST_PORT)))
    }

    /// Writes a request about `item`.
    pub fn ask(&mut self, items: &Items, ask: Ask, item: u32, payload: &mut Vec<u8>, frame: &mut Vec<u8>) {
        self.id = self.id.wrapping_add(1);
        self.waiting = Some(item);
        payload.clear();
        payload.extend(self.header());
        payload.extend_from_slice(items.request(ask, item));
        Datagram { peer: ADDRESS, port: FIRST_PORT + self.number, payload }.write(frame);
    }

    /// Takes the answer in.
    ///
    /// # Errors
    /// [`WrongDatagram`]: it is not the one answer that is right.
    pub fn absorb(&mut self, datagram: &Datagram<'_>, items: &Items, ask: Ask) -> Result<(), WrongDatagram> {
        let wrong = |what| Err(WrongDatagram { number: self.number, id: self.id, what });
        let Some(item) = self.waiting else { return wrong("an answer to nothing, or twice") };
        match datagram.payload.split_first_chunk::<8>() {
            Some((header, _)) if *header != self.header() => wrong("the header is not that of the only datagram"),
            Some((_, reply)) if reply == items.reply(ask, item) => {
                self.waiting = None;
                Ok(())
            }
            _ => wrong("a wrong answer"),
        }
    }

    /// The header of the request and of its answer: the id, then the first of one datagrams.
    fn header(&self) -> [u8; 8] {
        let [high, low] = self.id.to_be_bytes();
        [high, low, 0, 0, 0, 1, 0, 0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_answer_is_taken_and_only_once() {
        let items = Items::new();
        let mut peer = Peer::new(3);
        let (mut payload, mut frame) = (Vec::new(), Vec::new());
        peer.ask(&items, Ask::Get, 5, &mut payload, &mut frame);
        let right = [&[0, 1, 0, 0, 0, 1, 0, 0], items.reply(Ask::Get, 5)].concat();
        let reply = |payload: &[u8], peer: &mut Peer| {
            let datagram = Datagram { peer: ADDRESS, port: FIRST_PORT + 3, payload };
            assert_eq!(Peer::number_of(&datagram), Some(3));
            peer.absorb(&datagram, &items, Ask::Get)
        };
        for at in 0..right.len() {
            let mut bytes = right.clone();
            bytes[at] ^= 1;
            assert!(reply(&bytes, &mut peer).is_err(), "byte {at}");
            assert!(reply(&right[..at], &mut peer).is_err(), "{at} bytes");
        }
        assert_eq!(reply(&right, &mut peer), Ok(()));
        assert!(reply(&right, &mut peer).is_err());
    }
}
