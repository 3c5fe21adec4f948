//! Asks a server one line over each of several connections, and prints what it answers.
//!
//! `client LINK ADDRESS SERVER:PORT LINE COUNT`, as root, ADDRESS being one that no kernel has.

#[path = "on_link/on_link.rs"]
mod on_link;

use std::collections::HashMap;
use std::error::Error;
use std::net::SocketAddrV4;

use nic::Queue;
use sidestep_stack::{CloseReason, Connect, ConnectError, FlowId, Poll, Time};

/// What is asked and what came of it.
#[derive(Debug)]
pub struct Client {
    line: Vec<u8>,
    /// What has been answered, and the connections that are open.
    answers: HashMap<FlowId, Vec<u8>>,
    /// How each connection ended, and all that it was answered.
    pub done: Vec<(CloseReason, Vec<u8>)>,
}

impl Client {
    /// Opens `count` connections to `server`, for `line`.
    ///
    /// # Errors
    /// One of them could not even be tried.
    pub fn begin<Q: Queue>(
        poll: &mut Poll<Q>,
        now: Time,
        server: SocketAddrV4,
        line: &str,
        count: usize,
    ) -> Result<Self, ConnectError> {
        let mut client = Self { line: format!("{line}\n").into(), answers: HashMap::new(), done: Vec::new() };
        for _ in 0..count {
            // One core: every source port leads here.
            let id = poll.connect(now, &Connect::to(server), |_| true)?;
            client.answers.insert(id, Vec::new());
        }
        Ok(client)
    }

    /// One turn, of which it returns whether anything came or left. A connection is writable once it is open, and told as closed if it does not come to that.
    ///
    /// # Errors
    /// A queue failed.
    pub fn turn<Q: Queue>(&mut self, poll: &mut Poll<Q>, now: Time) -> Result<bool, nic::QueueError> {
        let moved = poll.poll(now)?;
        while let Some(event) = poll.next_event() {
            let id = event.flow();
            let Some(answer) = self.answers.get_mut(&id) else { continue };
            if let Some(reason) = event.closed() {
                self.done.push((reason, std::mem::take(answer)));
                self.answers.remove(&id);
                continue;
            }
            let Some(mut flow) = poll.flow(id) else { continue };
            if event.is_writable() && flow.may_send() {
                flow.send_slice(&self.line);
                // There is nothing more to ask; the server closes when it has answered.
                poll.shutdown(id);
            }
            let Some(mut flow) = poll.flow(id) else { continue };
            while flow.recv_queue() > 0 {
                flow.recv(|bytes| (bytes.len(), answer.extend_from_slice(bytes)));
            }
        }
        Ok(moved)
    }

    /// Whether every connection has ended.
    pub fn is_done(&self) -> bool {
        self.answers.is_empty()
    }
}

#[allow(dead_code, reason = "the tests bring a wire of their own")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, address, server, line, count] = &arguments[..] else {
        return Err("client LINK ADDRESS SERVER:PORT LINE COUNT".into());
    };
    let (server, count) = (server.parse()?, count.parse()?);
    on_link::run(
        link,
        address.parse()?,
        |_| (),
        |poll| Client::begin(poll, Time::ZERO, server, line, count),
        |client, poll, now| {
            let client = client.as_mut().map_err(|error| *error)?;
            let moved = client.turn(poll, now)?;
            if client.is_done() {
                for (reason, answer) in &client.done {
                    println!("{reason:?} {}", String::from_utf8_lossy(answer));
                }
                std::process::exit(0);
            }
            Ok(moved)
        },
    )
}
