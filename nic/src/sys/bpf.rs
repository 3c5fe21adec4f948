//! BPF links of XDP programs, by `bpf(2)`: aya keeps the descriptor of a link to itself, and another process is to have it
//! too. Control side only.
//!
//! Read first: kernel `include/uapi/linux/bpf.h`, `union bpf_attr`, "BPF_LINK_CREATE" and "BPF_LINK_UPDATE".

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;
/// The kind of attachment (`enum bpf_attach_type`).
const BPF_XDP: u32 = 37;

/// Where an XDP program is attached (`linux/if_link.h`): the common receive path, or the driver.
pub(crate) const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// Likewise.
pub(crate) const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// Attaches `program` to interface `index` until the last descriptor of the link is closed.
///
/// # Errors
/// The kernel refused; `EINVAL` before Linux 5.9.
pub(crate) fn create_link(program: BorrowedFd<'_>, index: u32, flags: u32) -> io::Result<OwnedFd> {
    let link = bpf(BPF_LINK_CREATE, [number(program), index, BPF_XDP, flags])?;
    // SAFETY: S3 — the kernel has just made this descriptor for this call, and nobody else has its number.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Puts `program` in the place of the one that `link` attaches, in one step.
///
/// # Errors
/// `ENOLINK`: somebody has detached it; or the kernel refused.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(BPF_LINK_UPDATE, [number(link), number(program), 0, 0]).map(drop)
}

/// A descriptor as the kernel takes it; one that is open is not negative.
fn number(descriptor: BorrowedFd<'_>) -> u32 {
    descriptor.as_raw_fd().unsigned_abs()
}

fn bpf(command: libc::c_int, attributes: [u32; 4]) -> io::Result<RawFd> {
    let length = size_of_val(&attributes);
    // SAFETY: S1 — the attributes are a local of the length given, and are only read by these two commands.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), length) };
    // A descriptor fits.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as RawFd) }
}
