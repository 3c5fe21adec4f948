//! Reaching whoever listens at a path, without waiting longer than is wanted.
//!
//! The kernel has who connects wait while as many others as may ([`listen(2)`]) wait to be accepted, by a process that is
//! stopped for one: without a time limit, for ever (`unix_stream_connect` in kernel `net/unix/af_unix.c`).
//!
//! [`listen(2)`]: https://man7.org/linux/man-pages/man2/listen.2.html

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// A connection to whoever listens at `path`. Neither it nor anything that is written to it waits for longer than `patience`.
///
/// # Errors
/// `WouldBlock`: the time is over. Else what the kernel says of the path.
pub(crate) fn reach(path: &Path, patience: Duration) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Send, Some(patience))?;
    loop {
        match connect(&socket, &address) {
            // A process that is stopped and goes on is told so.
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(()) => return Ok(socket.into()),
        }
    }
}

/// Whether a process listens at `path`, be it one that accepts nobody. Waits for nothing.
///
/// # Errors
/// The kernel does not say, as of a path that this user may not look at.
pub fn is_heard(path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
