//! What the Linux kernel is behind as a host: a veth over IPv4, a TAP over IPv6.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use nic::packet::PacketSocket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tap::Tap;
use crate::veth::KERNEL;

/// What the kernel is behind.
pub enum Wire<'a> {
    /// A veth, and the station of the kernel's end.
    Veth(&'a PacketSocket, [u8; 6]),
    Tap(&'a mut Tap),
}

impl Wire<'_> {
    pub fn host(&self) -> IpAddr {
        match self {
            Self::Veth(..) => KERNEL.into(),
            Self::Tap(tap) => tap.host().into(),
        }
    }

    pub fn mac(&self) -> [u8; 6] {
        match self {
            Self::Veth(_, mac) => *mac,
            Self::Tap(tap) => tap.mac.0,
        }
    }

    pub fn send(&mut self, frame: &[u8]) {
        match self {
            Self::Veth(socket, _) => {
                assert!(socket.send(frame).expect("the link is up"), "the link has room for one frame");
            }
            Self::Tap(tap) => tap.send(frame),
        }
    }

    /// The next frame of the kernel's, if there is one by then.
    pub fn receive(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let socket = match self {
            Self::Veth(socket, _) => socket,
            Self::Tap(tap) => return tap.receive(patience),
        };
        let mut buffer = [0; 2048];
        let len = match socket.receive(&mut buffer).expect("the link is up") {
            Some(len) => len,
            None => {
                let mut fds = [PollFd::new(&**socket, PollFlags::IN)];
                let patience = Timespec::try_from(patience).expect("no year");
                poll(&mut fds, Some(&patience)).expect("a descriptor");
                socket.receive(&mut buffer).expect("the link is up")?
            }
        };
        Some(buffer[..len].to_vec())
    }

    /// From whom and to whom of IPv4 the end marker goes.
    pub fn marker_ends(&self, peer: IpAddr) -> (Ipv4Addr, Ipv4Addr) {
        match (self, peer) {
            (Self::Tap(tap), _) => (tap.ipv4(77), tap.ipv4(3)),
            (Self::Veth(..), IpAddr::V4(peer)) => (peer, KERNEL),
            (Self::Veth(..), IpAddr::V6(_)) => panic!("IPv6 is played over a TAP"),
        }
    }
}
