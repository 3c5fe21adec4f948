//! Passes connections on to another server, both ways, on one core: it accepts and connects, and each half of a pair slows
//! the other down as the kernel's sockets would.
//!
//! `proxy LINK ADDRESS PORT SERVER:PORT`, as root.

#[path = "on_link/on_link.rs"]
mod on_link;

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddrV4;

use nic::{Queue, QueueError};
use sidestep_stack::{CloseReason, Connect, FlowId, Interest, Poll, Time, Token};

const LISTENER: Token = Token(0);
const HALF: Token = Token(1);

/// The pairs: of each half, which the other is.
#[derive(Debug)]
pub struct Proxy {
    server: SocketAddrV4,
    other: HashMap<FlowId, FlowId>,
    buffer: Box<[u8; 16 << 10]>,
}

impl Proxy {
    /// Passes on to `server` from now on.
    pub fn begin<Q: Queue>(poll: &mut Poll<Q>, server: SocketAddrV4) -> Self {
        poll.listen(LISTENER, Interest::READABLE);
        Self { server, other: HashMap::new(), buffer: Box::new([0; 16 << 10]) }
    }

    /// One turn. Returns whether anything came or left.
    ///
    /// # Errors
    /// A queue failed.
    pub fn turn<Q: Queue>(&mut self, poll: &mut Poll<Q>, now: Time) -> Result<bool, QueueError> {
        let moved = poll.poll(now)?;
        while let Some(event) = poll.next_event() {
            let half = event.flow();
            if event.token() == LISTENER {
                while let Some(client) = poll.accept() {
                    self.pair(poll, now, client);
                }
            } else if let Some(reason) = event.closed() {
                self.end(poll, half, reason);
            } else if let Some(&other) = self.other.get(&half) {
                // Room in one half is news for what waits in the other.
                self.pass(poll, half, other);
                self.pass(poll, other, half);
            }
        }
        Ok(moved)
    }

    /// Connects for a client. What it sends meanwhile waits in its ring, and closes its window.
    fn pair<Q: Queue>(&mut self, poll: &mut Poll<Q>, now: Time, client: FlowId) {
        let mut connect = Connect::to(self.server);
        connect.token = HALF;
        match poll.connect(now, &connect, |_| true) {
            Ok(server) => {
                self.other.insert(client, server);
                self.other.insert(server, client);
                poll.register(client, HALF, Interest::EDGE);
            }
            Err(_) => {
                if let Some(flow) = poll.flow(client) {
                    flow.abort();
                }
            }
        }
    }

    /// Passes on what has come by `from`, as far as `to` has room, and then its end.
    fn pass<Q: Queue>(&mut self, poll: &mut Poll<Q>, from: FlowId, to: FlowId) {
        loop {
            let Some(mut flow) = poll.flow(to) else { return };
            let (sends, room) = (flow.may_send(), flow.send_room().min(self.buffer.len()));
            let Some(mut flow) = poll.flow(from) else { return };
            let taken = flow.recv_slice(&mut self.buffer[..room]);
            if taken == 0 {
                if sends && flow.peer_closed() && flow.recv_queue() == 0 {
                    poll.shutdown(to);
                }
                return;
            }
            if let Some(mut flow) = poll.flow(to) {
                flow.send_slice(&self.buffer[..taken]);
            }
        }
    }

    /// One half has ended: in order, then the other does by itself, or not.
    fn end<Q: Queue>(&mut self, poll: &mut Poll<Q>, half: FlowId, reason: CloseReason) {
        let Some(other) = self.other.remove(&half) else { return };
        if reason != CloseReason::Finished
            && let Some(flow) = poll.flow(other)
        {
            self.other.remove(&other);
            flow.abort();
        }
    }

    /// Halves that are open.
    pub fn halves(&self) -> usize {
        self.other.len()
    }
}

#[allow(dead_code, reason = "the tests bring a wire of their own")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, address, port, server] = &arguments[..] else {
        return Err("proxy LINK ADDRESS PORT SERVER:PORT".into());
    };
    let (port, server) = (port.parse()?, server.parse()?);
    on_link::run(
        link,
        address.parse()?,
        |config| config.ports = vec![port],
        |poll| Proxy::begin(poll, server),
        |proxy, poll, now| Ok(proxy.turn(poll, now)?),
    )
}
