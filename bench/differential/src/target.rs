//! What a case is played against: bytes in on a fresh connection, bytes out until the server ends it.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use crate::datagram_peer::DatagramPeer;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::time::Timespec;

/// A server of the classic text protocol.
pub trait Target {
    /// Name for reports.
    fn name(&self) -> &str;

    /// Opens a connection, sends `pieces` in order, ends the sending side, and returns every byte of the replies.
    ///
    /// A server that closes early is no error: what it sent until then is the answer.
    ///
    /// # Errors
    /// The target cannot be reached, or does not end the connection in time.
    fn exchange(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<u8>>;

    /// Sends each request in a datagram of its own, one after the other, and returns the messages that answer each, put
    /// together. A message of no bytes is a header that says so.
    ///
    /// # Errors
    /// The target has no UDP, or does not answer in time, or not as the frame header says.
    fn datagrams(&mut self, _requests: &[Vec<u8>]) -> io::Result<Vec<Vec<Vec<u8>>>> {
        Err(io::Error::other(format!("{} is not asked over UDP", self.name())))
    }

    /// The second that its clock shows; 0 where it stands still. memcached goes by whole seconds, so that its answer may change
    /// when the next begins, and only then.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange), or it does not say.
    fn second(&mut self) -> io::Result<u64> {
        Ok(0)
    }

    /// Whether it can be asked over UDP.
    fn takes_datagrams(&self) -> bool {
        false
    }

    /// Whether a value that is not whole ends with its datagram. memcached waits for the rest of it, which the next
    /// datagrams then are.
    fn forgets_incomplete(&self) -> bool {
        true
    }
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Longest time without a byte moving before a target counts as hung.
const STALL: Duration = Duration::from_secs(20);

/// A server reached over a kernel socket.
#[derive(Debug)]
pub struct SocketTarget {
    name: String,
    address: Address,
    buffer: Vec<u8>,
    datagrams: Option<SocketAddr>,
    peer: Option<DatagramPeer>,
    forgets_incomplete: bool,
    in_order: bool,
}

impl SocketTarget {
    /// The server at `address`, called `name` in reports.
    pub fn new(name: &str, address: Address) -> Self {
        let (name, buffer) = (name.to_owned(), vec![0; 256 * 1024]);
        Self { name, address, buffer, datagrams: None, peer: None, forgets_incomplete: true, in_order: true }
    }

    /// It takes datagrams at `address` too.
    pub fn with_udp(self, address: SocketAddr) -> Self {
        Self { datagrams: Some(address), ..self }
    }

    /// It answers datagrams as it has done with them, not in the order in which they came.
    pub fn out_of_order(self) -> Self {
        Self { in_order: false, ..self }
    }

    /// It takes the next datagrams for the rest of a value that is not whole.
    pub fn that_waits(self) -> Self {
        Self { forgets_incomplete: false, ..self }
    }
}

impl Target for SocketTarget {
    fn name(&self) -> &str {
        &self.name
    }

    fn takes_datagrams(&self) -> bool {
        self.datagrams.is_some()
    }

    fn forgets_incomplete(&self) -> bool {
        self.forgets_incomplete
    }

    fn second(&mut self) -> io::Result<u64> {
        let stats = self.exchange(&[b"stats\r\n"])?;
        let shown = stats
            .split(|&byte| byte == b'\n')
            .find_map(|line| std::str::from_utf8(line.strip_prefix(b"STAT time ")?).ok()?.trim_end().parse().ok());
        shown.ok_or_else(|| io::Error::other(format!("the stats of {} show no time", self.name)))
    }

    fn datagrams(&mut self, requests: &[Vec<u8>]) -> io::Result<Vec<Vec<Vec<u8>>>> {
        let Some(address) = self.datagrams else {
            return Err(io::Error::other(format!("{} is not asked over UDP", self.name)));
        };
        let peer = match &mut self.peer {
            Some(peer) => peer,
            none => none.insert(DatagramPeer::connect(address, self.in_order)?),
        };
        peer.ask(requests)
    }

    fn exchange(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        match &self.address {
            Address::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, STALL)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                converse(&stream, &stream, pieces, || stream.shutdown(Shutdown::Write), &mut self.buffer)
            }
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_nonblocking(true)?;
                converse(&stream, &stream, pieces, || stream.shutdown(Shutdown::Write), &mut self.buffer)
            }
        }
    }
}

/// The server went away: no error here, its replies up to that point count.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::NotConnected)
}

/// Sends and receives at once, so that neither side's full buffer stops the other.
fn converse<S: std::os::fd::AsFd>(
    mut reader: impl Read,
    socket: &S,
    pieces: &[&[u8]],
    end_sending: impl Fn() -> io::Result<()>,
    buffer: &mut [u8],
) -> io::Result<Vec<u8>>
where
    for<'a> &'a S: Write,
{
    let mut writer = socket;
    let (mut replies, mut piece, mut offset, mut sending) = (Vec::new(), 0, 0, true);
    let stall = Timespec::try_from(STALL).map_err(io::Error::other)?;
    loop {
        while sending {
            let Some(rest) = pieces.get(piece).map(|bytes| &bytes[offset..]) else {
                sending = false;
                end_sending().or_else(|error| if is_end(&error) { Ok(()) } else { Err(error) })?;
                break;
            };
            if rest.is_empty() {
                (piece, offset) = (piece + 1, 0);
                continue;
            }
            match writer.write(rest) {
                Ok(length) => offset += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_end(&error) => sending = false,
                Err(error) => return Err(error),
            }
        }
        match reader.read(buffer) {
            Ok(0) => return Ok(replies),
            Ok(length) => replies.extend_from_slice(&buffer[..length]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let flags = if sending { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                let mut fds = [PollFd::new(socket, flags)];
                match poll(&mut fds, Some(&stall)) {
                    Ok(0) => {
                        let (secs, bytes) = (STALL.as_secs(), replies.len());
                        let said = format!("nothing moved for {secs} s after {bytes} reply bytes");
                        return Err(io::Error::new(ErrorKind::TimedOut, said));
                    }
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if is_end(&error) => return Ok(replies),
            Err(error) => return Err(error),
        }
    }
}
