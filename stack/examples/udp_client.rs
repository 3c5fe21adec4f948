//! Sends a line to a UDP service, once a second until it answers, and prints what it says.
//!
//! `udp_client LINK ADDRESS SERVER:PORT LINE`, as root, ADDRESS being one that no kernel has.

#[path = "on_link/on_link.rs"]
mod on_link;

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use nic::Queue;
use sidestep_stack::{DatagramHandler, DatagramPeer, DatagramReplies, Poll, SendTo, SendToError, StackConfig, Time};

/// Our port.
const OWN_PORT: u16 = 50_000;

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// What is asked and what came of it.
#[derive(Debug)]
pub struct UdpClient {
    to: SendTo,
    line: Vec<u8>,
    again_at: Time,
    /// Datagrams that have left.
    pub asked: usize,
    /// What was answered.
    pub answer: Option<Vec<u8>>,
}

impl DatagramHandler for UdpClient {
    fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], _replies: &mut DatagramReplies<'_>) {
        // Anybody can write to our port. And what comes from a service is not answered: it would answer that.
        if peer.peer() == self.to.remote {
            self.answer = Some(payload.to_vec());
        }
    }
}

impl UdpClient {
    /// Asks `server` for `line`.
    pub fn new(server: SocketAddr, line: &str) -> Self {
        let to = SendTo::new(server, OWN_PORT);
        Self { to, line: line.into(), again_at: Time::ZERO, asked: 0, answer: None }
    }

    /// What the stack must be told so that answers of `server` are handed over, whatever port it has.
    pub fn configure(config: &mut StackConfig, server: SocketAddr) {
        config.udp_ports = vec![OWN_PORT];
        config.udp_services = vec![server.port()];
    }

    /// One turn. Returns whether anything came or left.
    ///
    /// # Errors
    /// A queue failed, or there is no way to the server.
    pub fn turn<Q: Queue>(&mut self, poll: &mut Poll<Q>, now: Time) -> Result<bool, Box<dyn Error>> {
        let moved = poll.poll_with(now, self)?;
        if self.answer.is_none() && now >= self.again_at {
            let line = &self.line;
            let sent = poll.send_to(now, &self.to, line.len(), |room| {
                room.copy_from_slice(line);
                line.len()
            });
            match sent {
                Ok(()) => {
                    self.asked += 1;
                    self.again_at = now.after(PATIENCE);
                }
                // Where it is, is being asked, or every frame is in flight: in a later turn.
                Err(SendToError::Asking { .. } | SendToError::NoFrame(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(moved)
    }
}

#[allow(dead_code, reason = "the tests bring a wire of their own")]
fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [link, address, server, line] = &arguments[..] else {
        return Err("udp_client LINK ADDRESS SERVER:PORT LINE".into());
    };
    let server = server.parse()?;
    on_link::run(
        link,
        address.parse()?,
        |config| UdpClient::configure(config, server),
        |_| UdpClient::new(server, line),
        |client, poll, now| {
            let moved = client.turn(poll, now)?;
            if let Some(answer) = &client.answer {
                println!("{}", String::from_utf8_lossy(answer));
                std::process::exit(0);
            }
            Ok(moved)
        },
    )
}
