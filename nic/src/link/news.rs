//! `LinkNews`: the kernel's word that something has become of an interface, as it happens.
//!
//! Interfaces have a multicast group of rtnetlink, in which the kernel tells of their making, their end, and any change of
//! name, address, MTU, state or carrier. It tells of no change of channels or hash, and of a carrier that has gone it may take
//! a second to, so that who watches looks as well: this says when a look is due at once. Control side only; sees the network
//! namespace of the calling thread. Read first: `rtnetlink(7)`, "RTM_NEWLINK".

use std::io;

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// `RTNLGRP_LINK` (`linux/rtnetlink.h`).
const LINKS: u32 = 1;
/// `RTM_NEWLINK`, of one that is new and of one that has changed, and `RTM_DELLINK`.
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
/// Where `struct ifinfomsg` has the index.
const INDEX_AT: usize = 4;

/// What the kernel tells of all interfaces.
#[derive(Debug)]
pub struct LinkNews {
    socket: Socket,
}

impl LinkNews {
    /// All that it tells from now on.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn listen() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(LINKS)?;
        Ok(Self { socket })
    }

    /// Waits until it tells of an interface, and returns which, by its index; 0 where it has told more than could be kept, so
    /// that it may be any.
    ///
    /// # Errors
    /// Nothing more will be told.
    pub fn wait(&mut self) -> io::Result<u32> {
        loop {
            match self.socket.recv_from_full() {
                Ok((told, _)) => {
                    if let Some(index) = index_in(&told) {
                        return Ok(index);
                    }
                }
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => return Ok(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The interface that a message is about; of the group, each is in a datagram of its own.
fn index_in(told: &[u8]) -> Option<u32> {
    let message = NetlinkBuffer::new_checked(told).ok()?;
    let index = message.payload().get(INDEX_AT..)?.first_chunk::<4>()?;
    matches!(message.message_type(), NEWLINK | DELLINK).then(|| u32::from_ne_bytes(*index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_about_one_interface_and_what_is_none_is_passed_over() {
        let message = |kind: u16, payload: &[u8]| {
            let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
            bytes.extend(kind.to_ne_bytes());
            bytes.extend([0; 10]);
            bytes.extend(payload);
            bytes
        };
        let about = [&[0, 0, 1, 0][..], &7_u32.to_ne_bytes(), &[0; 8]].concat();
        assert_eq!(index_in(&message(NEWLINK, &about)), Some(7));
        assert_eq!(index_in(&message(DELLINK, &about)), Some(7));
        assert_eq!(index_in(&message(24, &about)), None, "a route");
        assert_eq!(index_in(&message(NEWLINK, &about[..7])), None, "cut short");
        assert_eq!(index_in(&[1, 2, 3]), None);
    }
}
