//! Descriptors of TAP interfaces, by `/dev/net/tun`. Control side only; reading and writing them is rustix's.
//!
//! Read first: kernel `Documentation/networking/tuntap.rst`.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

/// The device that hands out TAP interfaces.
pub(crate) const TUN_DEVICE: &str = "/dev/net/tun";

/// Opens one more queue of the TAP interface `name`, in the network namespace of the calling thread, and makes the
/// interface if there is none of that name. With `multi` the interface may have several queues; one that is there
/// already has to have been made the same way. Frames come as they are on the wire, and no offload is granted to the
/// kernel: it cuts packets and writes checksums itself. Returns also the interface's name.
///
/// # Errors
/// `ENOENT` without the device, `EPERM` for who may not, `EBUSY` when the interface has all the queues that it takes,
/// `EINVAL` for an interface of another kind.
pub(crate) fn open(name: &str, multi: bool) -> io::Result<(OwnedFd, String)> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags(multi) },
    };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (slot, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    let file = rustix::fs::open(TUN_DEVICE, OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: S1 — `request` is a whole ifreq of this function's own.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: S1 — TUNSETOFFLOAD takes a number, no pointer.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD as _, 0 as libc::c_ulong) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    let name = String::from_utf8(name).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok((file, name))
}

fn flags(multi: bool) -> libc::c_short {
    let multi = if multi { libc::IFF_MULTI_QUEUE } else { 0 };
    (libc::IFF_TAP | libc::IFF_NO_PI | multi) as libc::c_short
}
