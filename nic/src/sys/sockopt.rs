//! Socket options of AF_XDP that xsk-rs does not offer. Control side only.

use std::io;
use std::os::fd::RawFd;

/// `XDP_MAX_TX_SKB_BUDGET` (`linux/if_xdp.h`, since Linux 6.17).
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// Sets the space for frames that are being sent, in bytes, beyond the limit of `net.core.wmem_max` where the process
/// may (`CAP_NET_ADMIN`).
///
/// # Errors
/// The kernel refused.
pub(crate) fn set_send_buffer(fd: RawFd, bytes: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, bytes)
        .or_else(|_| set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes))
}

/// Sets how many frames one wake-up sends at most in copy mode, 32 by default.
///
/// # Errors
/// `ENOPROTOOPT` before Linux 6.17.
pub(crate) fn set_tx_budget(fd: RawFd, frames: u32) -> io::Result<()> {
    set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, frames)
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: S1 — the value is a local of the length given, and is only read.
    let result = unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(&value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
