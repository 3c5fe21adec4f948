//! `Client`: one TCP connection from the far side, advanced by hand over a wire that loses nothing.
//!
//! Invariant: a client has at most one burst of requests unanswered, and every byte of the answer is compared with the
//! only right one. Anything else than the next bytes in order is an error of the stack or the cache: nothing is lost
//! here, so nothing may come twice.

use std::net::Ipv4Addr;

use crate::frame::{ACK, FIN, PSH, RST, SYN, Segment};
use crate::items::{Ask, Items};

/// Ports of one client address: 1,024 to 61,023.
const PORTS: u32 = 60_000;
/// The first port.
const FIRST_PORT: u32 = 1_024;
/// The first client address.
const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// There is none.
    Closed,
    /// SYN was sent.
    SynSent,
    /// The handshake is done, its last ACK not yet sent.
    Connected,
    /// Established; nothing is owed.
    Idle,
    /// Requests were sent.
    Waiting,
    /// FIN was sent.
    Closing,
    /// The server's FIN has come; its ACK is to be sent.
    Finished,
}

/// What a server did wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("wrong answer: connection {number}, {state:?}: {what}; sequence {seq}, expected {expected}")]
pub struct Wrong {
    number: u32,
    state: Stage,
    what: &'static str,
    seq: u32,
    expected: u32,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct Client {
    /// Which of all possible connections: gives address and port.
    number: u32,
    state: Stage,
    /// SND.NXT.
    seq: u32,
    /// RCV.NXT.
    ack: u32,
    /// The first item asked for, and how many were.
    item: u32,
    count: u32,
    /// Answers that are whole, and bytes of the next one.
    answered: u32,
    offset: u32,
}

impl Client {
    /// Connection `number`, closed.
    pub fn new(number: u32) -> Self {
        let seq = number.wrapping_mul(0x9e37_79b9);
        Self { number, state: Stage::Closed, seq, ack: 0, item: 0, count: 0, answered: 0, offset: 0 }
    }

    /// How far it is.
    pub fn state(&self) -> Stage {
        self.state
    }

    /// Answers to the present requests that are whole.
    pub fn answers(&self) -> u32 {
        self.answered
    }

    /// Which connection it is.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The number of the connection that `segment` belongs to.
    pub fn number_of(segment: &Segment<'_>) -> u32 {
        let address = segment.client.to_bits().wrapping_sub(FIRST_ADDRESS.to_bits());
        address.wrapping_mul(PORTS).wrapping_add(u32::from(segment.port).wrapping_sub(FIRST_PORT))
    }

    /// Writes the first segment of the connection.
    pub fn connect(&mut self, frame: &mut Vec<u8>) {
        self.state = Stage::SynSent;
        self.write(SYN, &[], frame);
        self.seq = self.seq.wrapping_add(1);
    }

    /// Writes the last segment of the handshake.
    pub fn establish(&mut self, frame: &mut Vec<u8>) {
        self.state = Stage::Idle;
        self.write(ACK, &[], frame);
    }

    /// Writes `count` requests about the items from `item` on, in one segment.
    pub fn ask(&mut self, items: &Items, ask: Ask, item: u32, count: u32, data: &mut Vec<u8>, frame: &mut Vec<u8>) {
        data.clear();
        for next in 0..count {
            data.extend_from_slice(items.request(ask, item.wrapping_add(next)));
        }
        (self.item, self.count, self.answered, self.offset) = (item, count, 0, 0);
        self.state = Stage::Waiting;
        self.write(PSH | ACK, data, frame);
        self.seq = self.seq.wrapping_add(data.len() as u32);
    }

    /// Writes an ACK of all that has come.
    pub fn acknowledge(&self, frame: &mut Vec<u8>) {
        self.write(ACK, &[], frame);
    }

    /// Writes FIN.
    pub fn close(&mut self, frame: &mut Vec<u8>) {
        self.state = Stage::Closing;
        self.write(FIN | ACK, &[], frame);
        self.seq = self.seq.wrapping_add(1);
    }

    /// Writes the last ACK.
    pub fn finish(&mut self, frame: &mut Vec<u8>) {
        self.state = Stage::Closed;
        self.write(ACK, &[], frame);
    }

    /// Takes a segment of the server in.
    ///
    /// # Errors
    /// [`Wrong`]: it is not the one segment that is right now.
    pub fn absorb(&mut self, segment: &Segment<'_>, items: &Items, ask: Ask) -> Result<(), Wrong> {
        let wrong = |client: &Self, what| {
            Err(Wrong { number: client.number, state: client.state, what, seq: segment.seq, expected: client.ack })
        };
        if segment.flags & RST != 0 {
            return wrong(self, "the server reset it");
        }
        if segment.ack != self.seq {
            return wrong(self, "not everything was acknowledged");
        }
        if self.state == Stage::SynSent {
            if segment.flags & (SYN | ACK) != SYN | ACK {
                return wrong(self, "SYN was not answered by SYN-ACK");
            }
            self.ack = segment.seq.wrapping_add(1);
            self.state = Stage::Connected;
            return Ok(());
        }
        if segment.seq != self.ack {
            return wrong(self, "a segment out of order, or twice");
        }
        if !segment.data.is_empty() {
            if self.state != Stage::Waiting {
                return wrong(self, "an answer to nothing");
            }
            if !self.compare(segment.data, items, ask) {
                return wrong(self, "a wrong answer");
            }
            self.ack = self.ack.wrapping_add(segment.data.len() as u32);
            if self.answered == self.count {
                self.state = Stage::Idle;
            }
        }
        if segment.flags & FIN != 0 {
            if self.state != Stage::Closing {
                return wrong(self, "the server closed it");
            }
            self.ack = self.ack.wrapping_add(1);
            self.state = Stage::Finished;
        }
        Ok(())
    }

    /// Whether `data` are the next bytes of the answers.
    fn compare(&mut self, mut data: &[u8], items: &Items, ask: Ask) -> bool {
        while !data.is_empty() {
            if self.answered == self.count {
                return false;
            }
            let reply = &items.reply(ask, self.item.wrapping_add(self.answered))[self.offset as usize..];
            let (now, later) = data.split_at(reply.len().min(data.len()));
            if now != &reply[..now.len()] {
                return false;
            }
            if now.len() == reply.len() {
                (self.answered, self.offset) = (self.answered + 1, 0);
            } else {
                self.offset += now.len() as u32;
            }
            data = later;
        }
        true
    }

    fn write(&self, flags: u8, data: &[u8], frame: &mut Vec<u8>) {
        let client = Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + self.number / PORTS);
        // Below 65,536: both parts are.
        let port = (FIRST_PORT + self.number % PORTS) as u16;
        let ack = if flags & ACK != 0 { self.ack } else { 0 };
        Segment { client, port, seq: self.seq, ack, flags, data }.write(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(items: &Items, count: u32) -> Client {
        let mut client = Client::new(61_000);
        let (mut frame, mut data) = (Vec::new(), Vec::new());
        client.connect(&mut frame);
        let syn_ack = segment(&client, 99, SYN | ACK, &[]);
        client.absorb(&syn_ack, items, Ask::Get).unwrap();
        client.establish(&mut frame);
        client.ask(items, Ask::Get, 5, count, &mut data, &mut frame);
        client
    }

    fn segment<'a>(client: &Client, seq: u32, flags: u8, data: &'a [u8]) -> Segment<'a> {
        Segment { client: Ipv4Addr::new(10, 1, 0, 2), port: 2_024, seq, ack: client.seq, flags, data }
    }

    #[test]
    fn an_answer_in_pieces_is_compared_across_them() {
        let items = Items::new();
        let mut client = waiting(&items, 2);
        let both = [items.reply(Ask::Get, 5), items.reply(Ask::Get, 6)].concat();
        let (first, second) = both.split_at(100);
        client.absorb(&segment(&client, 100, ACK, first), &items, Ask::Get).unwrap();
        assert_eq!(client.state(), Stage::Waiting);
        client.absorb(&segment(&client, 200, ACK, second), &items, Ask::Get).unwrap();
        assert_eq!(client.state(), Stage::Idle);
    }

    #[test]
    fn a_wrong_byte_and_a_repeated_segment_are_found() {
        let items = Items::new();
        let right = items.reply(Ask::Get, 5);
        for at in 0..right.len() {
            let mut client = waiting(&items, 1);
            let mut bytes = right.to_vec();
            bytes[at] ^= 1;
            let error = client.absorb(&segment(&client, 100, ACK, &bytes), &items, Ask::Get).unwrap_err();
            assert_eq!(error.what, "a wrong answer");
        }
        let mut client = waiting(&items, 1);
        client.absorb(&segment(&client, 100, ACK, right), &items, Ask::Get).unwrap();
        let error = client.absorb(&segment(&client, 100, ACK, right), &items, Ask::Get).unwrap_err();
        assert_eq!(error.what, "a segment out of order, or twice");
    }

    #[test]
    fn a_segment_finds_its_connection() {
        let client = Client::new(61_000);
        assert_eq!(Client::number_of(&segment(&client, 0, ACK, &[])), 61_000);
    }
}
