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

/// Has system calls on the socket poll the driver of its queue, for `usecs` microseconds at most and `budget` frames; with
/// `prefer` that driver's interrupts are kept off meanwhile, where they are deferred, and with zero copy nobody is woken to
/// send (kernel `af_xdp.rst`, "SO_PREFER_BUSY_POLL").
///
/// # Errors
/// The kernel does not know the options (before Linux 5.11), or the process may not (`CAP_NET_ADMIN`).
pub(crate) fn set_busy_poll(fd: RawFd, prefer: bool, usecs: u32, budget: u32) -> io::Result<()> {
    set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, prefer.into())?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, usecs)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, budget)
}

/// Has the kernel poll the driver of a socket's queue, if [`set_busy_poll`] has asked for it. One system call; receives
/// nothing, and what it says is of no use.
#[inline]
pub(crate) fn poll_driver(fd: RawFd) {
    // SAFETY: S1 — no buffer of any length is given.
    let _ = unsafe {
        libc::recvfrom(fd, std::ptr::null_mut(), 0, libc::MSG_DONTWAIT, std::ptr::null_mut(), std::ptr::null_mut())
    };
}

fn set(fd: RawFd, level: libc::c_int, option: libc::c_int, value: u32) -> io::Result<()> {
    let length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: S1 — the value is a local of the length given, and is only read.
    let result = unsafe { libc::setsockopt(fd, level, option, std::ptr::from_ref(&value).cast(), length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
