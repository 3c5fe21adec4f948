//! What rustix does not offer of packet sockets: binding one to a link, and some of its options. Control side only.
//!
//! Read first: `packet(7)`.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `PACKET_VNET_HDR` (`linux/if_packet.h`).
const PACKET_VNET_HDR: libc::c_int = 15;

/// All protocols: `ETH_P_ALL` in network byte order.
const ALL_PROTOCOLS: u16 = (libc::ETH_P_ALL as u16).to_be();

/// Binds a packet socket to all frames of the link with this index.
///
/// # Errors
/// The link is gone or down.
pub(crate) fn bind(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    bind_for(socket, index, ALL_PROTOCOLS)
}

/// Binds a packet socket to the link with this index, to send alone.
///
/// # Errors
/// The link is gone or down.
pub(crate) fn bind_to_send(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    bind_for(socket, index, 0)
}

fn bind_for(socket: BorrowedFd<'_>, index: u32, protocol: u16) -> io::Result<()> {
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as libc::c_ushort,
        sll_protocol: protocol,
        sll_ifindex: index.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: S1 — the address is a local of the length given, and is only read.
    let result = unsafe { libc::bind(socket.as_raw_fd(), std::ptr::from_ref(&address).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the link take in frames for other stations too, for as long as the socket is open.
///
/// # Errors
/// The link is gone, or the process may not.
pub(crate) fn hear_all_stations(socket: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    hear(socket, index, libc::PACKET_MR_PROMISC, &[])
}

/// Makes the link take in frames to the group `mac`, for as long as the socket is open.
///
/// # Errors
/// The link is gone.
pub(crate) fn hear_group(socket: BorrowedFd<'_>, index: u32, mac: [u8; 6]) -> io::Result<()> {
    hear(socket, index, libc::PACKET_MR_MULTICAST, &mac)
}

fn hear(socket: BorrowedFd<'_>, index: u32, kind: libc::c_int, mac: &[u8]) -> io::Result<()> {
    let mut request = libc::packet_mreq {
        mr_ifindex: index.cast_signed(),
        mr_type: kind as libc::c_ushort,
        mr_alen: mac.len() as libc::c_ushort,
        mr_address: [0; 8],
    };
    for (place, byte) in request.mr_address.iter_mut().zip(mac) {
        *place = *byte;
    }
    set(socket, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Keeps the frames that this host itself sends over the link out of the socket.
///
/// # Errors
/// The kernel is older than Linux 4.20.
pub(crate) fn ignore_outgoing(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)
}

/// Sets the space for frames received and not yet read, in bytes, beyond `net.core.rmem_max`.
///
/// # Errors
/// The process may not (`CAP_NET_ADMIN`).
pub(crate) fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &bytes)
}

/// Sets the space for frames sent and not yet on their way, in bytes, beyond `net.core.wmem_max`.
///
/// # Errors
/// The process may not (`CAP_NET_ADMIN`).
pub(crate) fn set_send_buffer(socket: BorrowedFd<'_>, bytes: i32) -> io::Result<()> {
    set(socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &bytes)
}

/// Has each frame that is sent begin with a `struct virtio_net_hdr`, which says what the kernel is to do to it.
///
/// # Errors
/// The kernel does not know the option.
pub(crate) fn take_vnet_headers(socket: BorrowedFd<'_>) -> io::Result<()> {
    set(socket, libc::SOL_PACKET, PACKET_VNET_HDR, &1_i32)
}

/// Sets an option whose value is plain memory.
fn set<T: Copy>(socket: BorrowedFd<'_>, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: S1 — the value is borrowed, of the length given, and is only read.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
