//! `PacketSocket`: all frames of a link by a kernel packet socket, in and out. Slow, and it works on every link.
//!
//! For tools that stand on a link without owning it, such as the fault relay; no `Queue`, since the kernel copies every
//! frame anyway. The link's own kernel sees the same frames. VLAN tags that the driver takes off are not put back, and
//! a frame that GRO has merged is as long as it is: switch GRO and the transmit offloads of a veth's far end off.
//! Read first: `packet(7)`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::link::Link;
use crate::sys::packet;

/// Space for frames that wait to be read: 16 MiB hold a burst of 10,000 full frames.
const RECEIVE_BUFFER_BYTES: i32 = 16 << 20;

/// A packet socket on one link, which hears all stations' frames while it is open. Any thread may use it.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on the link. Needs CAP_NET_RAW and CAP_NET_ADMIN.
    ///
    /// # Errors
    /// The link is gone, or the process may not.
    pub fn open(link: &Link) -> io::Result<Self> {
        // Protocol 0: nothing arrives before the socket is bound to its link.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        packet::ignore_outgoing(socket.as_fd())?;
        packet::set_receive_buffer(socket.as_fd(), RECEIVE_BUFFER_BYTES)?;
        packet::hear_all_stations(socket.as_fd(), link.index)?;
        packet::bind(socket.as_fd(), link.index)?;
        Ok(Self { socket })
    }

    /// Reads the next frame into `buffer` and returns its length; `None` when none waits. A frame longer than `buffer`
    /// is cut.
    ///
    /// # Errors
    /// The link is gone or down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match rustix::net::recv(&self.socket, buffer, RecvFlags::empty()) {
            Ok((bytes, _)) => Ok(Some(bytes)),
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a frame; `false` when the link has no room for it.
    ///
    /// # Errors
    /// The link is gone or down, or the frame is too long for it.
    pub fn send(&self, frame: &[u8]) -> io::Result<bool> {
        match rustix::net::send(&self.socket, frame, SendFlags::empty()) {
            Ok(_) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
