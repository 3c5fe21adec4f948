//! Sends back whatever comes, over any number of connections on one core.
//!
//! `echo_server LINK ADDRESS PORT`, as root; then `nc ADDRESS PORT` from a machine on that link.

#[path = "on_link/on_link.rs"]
mod on_link;

use std::error::Error;

use nic::{Queue, QueueError};
use sidestep_stack::{Flow, Interest, Poll, Time, Token};

/// The listener's number; connections need none, since nothing is kept of them.
const LISTENER: Token = Token(0);
const CONNECTION: Token = Token(1);

/// Asks to hear of connections.
pub fn begin<Q: Queue>(poll: &mut Poll<Q>) {
    poll.listen(LISTENER, Interest::READABLE);
}

/// One turn. Returns whether anything came or left.
///
/// # Errors
/// A queue failed.
pub fn turn<Q: Queue>(poll: &mut Poll<Q>, now: Time) -> Result<bool, QueueError> {
    let moved = poll.poll(now)?;
    while let Some(event) = poll.next_event() {
        if event.token() == LISTENER {
            while let Some(id) = poll.accept() {
                poll.register(id, CONNECTION, Interest::EDGE);
            }
        } else if let Some(mut flow) = poll.flow(event.flow()) {
            echo(&mut flow);
            // Half-closed: what it asked for before is answered first.
            if flow.peer_closed() && flow.recv_queue() == 0 {
                flow.close();
            }
        }
    }
    Ok(moved)
}

/// Takes no more than there is room to send back: what is left closes the peer's window, and the flow is told of again when
/// there is room.
fn echo(flow: &mut Flow<'_>) {
    let mut buffer = [0; 4_096];
    loop {
        let room = flow.send_room().min(buffer.len());
        let taken = flow.recv_slice(&mut buffer[..room]);
        if taken == 0 {
            return;
        }
        flow.send_slice(&buffer[..taken]);
    }
}

#[allow(dead_code, reason = "the tests bring a wire of their own")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, address, port] = &arguments[..] else { return Err("echo_server LINK ADDRESS PORT".into()) };
    let port = port.parse()?;
    on_link::run(
        link,
        address.parse()?,
        |config| config.ports = vec![port],
        begin,
        |(), poll, now| Ok(turn(poll, now)?),
    )
}
