//! Answers every datagram with its length and its bytes the other way round.
//!
//! `udp_responder LINK ADDRESS PORT`, as root; then `nc -u ADDRESS PORT` from a machine on that link.

#[path = "on_link/on_link.rs"]
mod on_link;

use std::error::Error;

use nic::{Queue, QueueError};
use sidestep_stack::{DatagramHandler, DatagramPeer, DatagramReplies, Poll, Time};

/// What it has done.
#[derive(Debug, Default)]
pub struct Responder {
    /// Datagrams that could not be answered, since no frame was free. Their senders ask again.
    pub unanswered: u64,
}

impl DatagramHandler for Responder {
    /// Called while frames are taken in: the payload lies in the frame that it came in, the answer is written into the one that
    /// it leaves in.
    fn datagram(&mut self, _peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
        let length = payload.len().to_string();
        let bytes = (length.len() + 1 + payload.len()).min(replies.max_payload());
        let sent = replies.send(bytes, |room| {
            let answer = length.bytes().chain([b' ']).chain(payload.iter().rev().copied());
            room.iter_mut().zip(answer).for_each(|(place, byte)| *place = byte);
            bytes
        });
        self.unanswered += u64::from(sent.is_err());
    }
}

/// One turn. Connections, if there are any, are told of by [`Poll::next_event`] beside. Returns whether anything came or left.
///
/// # Errors
/// A queue failed.
pub fn turn<Q: Queue>(responder: &mut Responder, poll: &mut Poll<Q>, now: Time) -> Result<bool, QueueError> {
    poll.poll_with(now, responder)
}

#[allow(dead_code, reason = "the tests bring a wire of their own")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, address, port] = &arguments[..] else { return Err("udp_responder LINK ADDRESS PORT".into()) };
    let port = port.parse()?;
    on_link::run(
        link,
        address.parse()?,
        |config| config.udp_ports = vec![port],
        |_| Responder::default(),
        |responder, poll, now| Ok(turn(responder, poll, now)?),
    )
}
