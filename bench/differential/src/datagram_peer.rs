//! `DatagramPeer`: a client of memcached's UDP protocol on a kernel socket, which puts messages together.
//!
//! What a server owes for a datagram shows only when it has answered a later one: a few requests, each of an id of its
//! own, are followed by a fence, a datagram of another id whose answer must be the last. A server that has taken the
//! fence for the rest of a value is sent another; one that obeys as it can, and not in the order in which datagrams came, is asked
//! one at a time, and several fences. Else requests go out together: two processes that wait at every one do little else.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

/// Bytes of datagrams that the socket should hold.
const BUFFER_BYTES: usize = 16 << 20;

/// How long the answer to a fence may take before it is sent again, and how often.
const FENCE_WAIT: Duration = Duration::from_millis(250);
const FENCES: usize = 40;

/// Requests that go out before a fence: with what the kernel adds to each they fit the smallest usual receive buffer.
const TOGETHER: usize = 16;

/// Bytes of a request that a server which resumes long ones turn by turn has done with in a turn at least: a `sidestep-cached`
/// answers 64 keys in one, each of two bytes or more with the blank before it.
const TURN_BYTES: usize = 128;

/// What the fence asks, and its answer.
const FENCE: (&[u8], &[u8]) = (b"mn\r\n", b"MN\r\n");

/// A client of one server.
#[derive(Debug)]
pub struct DatagramPeer {
    socket: UdpSocket,
    in_order: bool,
    next: u16,
    buffer: Vec<u8>,
}

/// The messages of one id, as far as they have come.
#[derive(Debug, Default)]
pub struct Assembly {
    whole: Vec<Vec<u8>>,
    /// Of the one that is begun: its datagrams by number, and how many there are to be.
    parts: BTreeMap<u16, Vec<u8>>,
    total: u16,
}

impl Assembly {
    /// Takes a datagram in.
    ///
    /// # Errors
    /// What its header must not be.
    pub fn take(&mut self, datagram: &[u8]) -> Result<(), &'static str> {
        let Some((header, body)) = datagram.split_first_chunk::<8>() else { return Err("no frame header") };
        let field = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let (sequence, total) = (field(2), field(4));
        if datagram.len() > 1400 || field(6) != 0 {
            return Err("too long, or reserved bytes are not 0");
        }
        if total == 0 && body.is_empty() && self.parts.is_empty() {
            self.whole.push(Vec::new());
            return Ok(());
        }
        if sequence >= total || !self.parts.is_empty() && total != self.total {
            return Err("a number that is not of this message");
        }
        self.total = total;
        if self.parts.insert(sequence, body.to_vec()).is_some() {
            return Err("a number twice");
        }
        if self.parts.len() == usize::from(total) {
            self.whole.push(std::mem::take(&mut self.parts).into_values().flatten().collect());
        }
        Ok(())
    }
}

impl Assembly {
    /// The messages, in the order in which they were whole.
    ///
    /// # Errors
    /// One is not.
    pub fn whole(self) -> Result<Vec<Vec<u8>>, &'static str> {
        if self.parts.is_empty() { Ok(self.whole) } else { Err("a message is not whole") }
    }
}

impl DatagramPeer {
    /// A client of the server at `address`. One that is `in_order` answers datagrams in the order in which they came; another
    /// may obey and answer a short one before it has done with a long one, and is asked the next when that is done.
    ///
    /// # Errors
    /// The system gives no socket.
    pub fn connect(address: SocketAddr, in_order: bool) -> io::Result<Self> {
        let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(address)?;
        socket.set_read_timeout(Some(FENCE_WAIT))?;
        // Beyond the system's limit with the right to it, and as far as that goes without.
        set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)
            .or_else(|_| set_socket_recv_buffer_size(&socket, BUFFER_BYTES))?;
        Ok(Self { socket, in_order, next: 0, buffer: vec![0; 65_536] })
    }

    /// The messages that answer each of `requests`, in the order in which they were whole. An empty request is not sent.
    ///
    /// # Errors
    /// The server does not answer a fence, or its datagrams make no messages.
    pub fn ask(&mut self, requests: &[Vec<u8>]) -> io::Result<Vec<Vec<Vec<u8>>>> {
        let mut answers = Vec::with_capacity(requests.len());
        for together in requests.chunks(if self.in_order { TOGETHER } else { 1 }) {
            answers.extend(self.ask_together(together)?);
        }
        Ok(answers)
    }

    fn ask_together(&mut self, requests: &[Vec<u8>]) -> io::Result<Vec<Vec<Vec<u8>>>> {
        let (first, mut fence) = (self.next, self.next.wrapping_add(requests.len() as u16));
        // Each round trip of a fence is a turn at least.
        let longest = requests.iter().map(Vec::len).max().unwrap_or(0);
        let fences = if self.in_order { 1 } else { 2 + longest / TURN_BYTES };
        self.next = fence.wrapping_add(fences as u16);
        let mut assemblies: Vec<Assembly> = requests.iter().map(|_| Assembly::default()).collect();
        for (number, request) in requests.iter().enumerate().filter(|(_, request)| !request.is_empty()) {
            self.send(first.wrapping_add(number as u16), request)?;
        }
        let mut sent = 0;
        while sent < FENCES {
            self.send(fence, FENCE.0)?;
            sent += 1;
            loop {
                let length = match self.socket.recv(&mut self.buffer) {
                    Ok(length) => length,
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                    // A wait that has a limit ends so when the process was stopped meanwhile (`signal(7)`).
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => return Err(error),
                };
                let datagram = &self.buffer[..length];
                let id = datagram.first_chunk().map_or(fence.wrapping_add(1), |id| u16::from_be_bytes(*id));
                let number = usize::from(id.wrapping_sub(first));
                if let Some(assembly) = assemblies.get_mut(number) {
                    assembly.take(datagram).map_err(|what| {
                        let request = requests[number].escape_ascii();
                        io::Error::other(format!("{what}: {} to {request}", datagram.escape_ascii()))
                    })?;
                } else if id == fence && datagram.ends_with(FENCE.1) {
                    fence = fence.wrapping_add(1);
                    if fence != self.next {
                        sent = 0;
                        break;
                    }
                    let whole = |(assembly, request): (Assembly, &Vec<u8>)| {
                        assembly
                            .whole()
                            .map_err(|what| io::Error::other(format!("{what}, to {}", request.escape_ascii())))
                    };
                    return assemblies.into_iter().zip(requests).map(whole).collect();
                }
                // Else the answer to an earlier fence that was sent twice.
            }
        }
        let last = requests.last().map_or_else(String::new, |request| request.escape_ascii().to_string());
        Err(io::Error::new(ErrorKind::TimedOut, format!("no answer after {last}")))
    }

    fn send(&self, id: u16, request: &[u8]) -> io::Result<()> {
        let [high, low] = id.to_be_bytes();
        self.socket.send(&[&[high, low, 0, 0, 0, 1, 0, 0][..], request].concat()).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_put_together_and_wrong_numbers_refused() {
        let datagram =
            |sequence: u8, total: u8, body: &str| [&[0, 1, 0, sequence, 0, total, 0, 0], body.as_bytes()].concat();
        let mut assembly = Assembly::default();
        for (sequence, total, body) in [(1, 2, "b"), (0, 2, "a"), (0, 0, ""), (0, 1, "c")] {
            assembly.take(&datagram(sequence, total, body)).expect("in its place");
        }
        assert_eq!(assembly.whole.concat(), b"abc");
        assembly.take(&datagram(0, 3, "a")).expect("the first of three");
        for (sequence, total) in [(0, 3), (1, 2), (3, 3), (0, 0)] {
            assert!(assembly.take(&datagram(sequence, total, "")).is_err(), "{sequence} of {total}");
        }
    }
}
