//! What the data plane gives up before the first frame: files, rights, and all system calls but a few.
//!
//! ```text
//!  first of all     no new rights by exec (NoNewPrivs), killed with its supervisor
//!  all is open      root folder is an empty one  ─►  another user, no groups  ─►  no capability
//!  each thread      its own list of system calls (Seccomp 2); what is not on it is refused with EPERM
//! ```
//!
//! Invariant: a thread makes no call beyond its list once [`restrict`] has returned, and neither do threads that it
//! starts. A call that is refused does no harm to those that go on, which a killed process would. Read first:
//! `seccomp(2)`, `capabilities(7)`, `prctl(2)`.
//!
//! [`restrict`]: crate::confine::restrict

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use nix::unistd::{Gid, Uid, User, setgroups, setresgid, setresuid};
use rustix::process::Signal;
use rustix::thread::{CapabilitySet, CapabilitySets};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use crate::say::say;

/// User and group of a data plane that is not told which: nobody's, under Linux (`kernel/uid16.c`, "overflowuid").
const NOBODY: u32 = 65_534;

/// What a thread of the data plane is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes turns at its queues, its stack and its shard.
    Core,
    /// The same, where the kernel polls the drivers of its queues before the thread sleeps (`--wait irq`).
    PollingCore,
    /// Waits for the supervisor and the cores.
    Main,
    /// Passes on what the supervisor says.
    Ear,
    /// Makes pages of the store.
    Memory,
    /// Answers what `sidestep ctl` asks.
    Control,
    /// Writes what is captured.
    Capture,
}

/// What every thread needs: memory, locks, the time, its own end and the process's, and to say why it panics.
const ALL: [i64; 16] = [
    libc::SYS_futex,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_write,
    libc::SYS_close,
    libc::SYS_clock_gettime,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_getpid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

impl Role {
    /// The system calls beyond [`ALL`].
    fn calls(self) -> &'static [i64] {
        match self {
            // Frames: wake-ups of a socket (sendto, poll, recvfrom), its counts (getsockopt), segments in a row (sendmsg), the
            // doorbell (read).
            Role::Core => &[
                libc::SYS_read,
                libc::SYS_sendto,
                libc::SYS_sendmsg,
                libc::SYS_recvfrom,
                libc::SYS_ppoll,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_poll,
                libc::SYS_getsockopt,
                libc::SYS_sched_yield,
                libc::SYS_getrandom,
            ],
            // It sleeps in another call (epoll_pwait2 in place of ppoll).
            Role::PollingCore => &[
                libc::SYS_read,
                libc::SYS_sendto,
                libc::SYS_sendmsg,
                libc::SYS_recvfrom,
                libc::SYS_epoll_pwait2,
                #[cfg(target_arch = "x86_64")]
                libc::SYS_poll,
                libc::SYS_getsockopt,
                libc::SYS_sched_yield,
                libc::SYS_getrandom,
            ],
            // The time of the processor (pread64), words to the supervisor, the end of what was opened, and that of a
            // daemon's standard output and error (dup).
            Role::Main => &[
                #[cfg(target_arch = "x86_64")]
                libc::SYS_dup2,
                #[cfg(not(target_arch = "x86_64"))]
                libc::SYS_dup3,
                libc::SYS_read,
                libc::SYS_pread64,
                libc::SYS_sendto,
                libc::SYS_shutdown,
                libc::SYS_sched_yield,
                libc::SYS_gettid,
                libc::SYS_tgkill,
                libc::SYS_restart_syscall,
            ],
            Role::Ear => &[libc::SYS_recvmsg],
            // A level of the log is read into a table of its own, which asks for a secret. What comes while cores obey is waited
            // for by ppoll.
            Role::Control => &[libc::SYS_recvmsg, libc::SYS_sendto, libc::SYS_ppoll, libc::SYS_getrandom],
            Role::Capture => &[],
            // It is there before rights are given up, for which the C library stops every thread (`nptl(7)`).
            Role::Memory => &[
                libc::SYS_setpriority,
                libc::SYS_setgroups,
                libc::SYS_setresgid,
                libc::SYS_setresuid,
                libc::SYS_capset,
                libc::SYS_clock_nanosleep,
            ],
        }
    }

    fn program(self) -> io::Result<BpfProgram> {
        let rules: BTreeMap<_, _> = ALL.iter().chain(self.calls()).map(|&call| (call, Vec::new())).collect();
        let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
        let refused = SeccompAction::Errno(libc::EPERM as u32);
        let filter = SeccompFilter::new(rules, refused, SeccompAction::Allow, arch);
        filter.and_then(TryInto::try_into).map_err(io::Error::other)
    }
}

/// Leaves the calling thread, and those that it starts, the system calls of its role; for ever.
///
/// # Errors
/// The kernel has no seccomp filters, or this machine's calls are not known to the list.
pub fn restrict(role: Role) -> io::Result<()> {
    seccompiler::apply_filter(&role.program()?).map_err(io::Error::other)
}

/// First of all: no program that this process starts has rights that it has not.
///
/// # Errors
/// The kernel refused.
pub(crate) fn begin() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    end_with_parent()
}

/// Has the kernel kill this process once the thread that started it has ended.
fn end_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}

/// Gives up every right and all files, of all threads. The folder `empty` is made, becomes the root folder, and is removed.
///
/// # Errors
/// The kernel refused what it must not refuse to root.
pub(crate) fn give_up(user: Option<&User>, empty: &Path) -> io::Result<()> {
    let uid = user.map_or(Uid::from_raw(NOBODY), |user| user.uid);
    let gid = user.map_or(Gid::from_raw(NOBODY), |user| user.gid);
    if Uid::effective().is_root() {
        if let Err(error) = leave_files(empty) {
            say(format_args!(
                "note: the data plane keeps its root folder, and has no call to open a file with: {} is not to be had as one: {error}",
                empty.display()
            ));
        }
        let became = setgroups(&[gid]).and_then(|()| setresgid(gid, gid, gid)).and_then(|()| setresuid(uid, uid, uid));
        if let Err(error) = became {
            say(format_args!(
                "note: the data plane stays root's, without root's rights: the kernel does not let it become user {uid}: {error}"
            ));
        }
    }
    drop_capabilities()?;
    // Becoming another user has undone it (`prctl(2)`, PR_SET_PDEATHSIG).
    end_with_parent()
}

/// Takes every capability from the calling thread.
///
/// # Errors
/// The kernel refused.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

/// Nothing can be put into a folder that is removed, not even by root.
fn leave_files(empty: &Path) -> io::Result<()> {
    fs::create_dir_all(empty)?;
    std::env::set_current_dir(empty)?;
    fs::remove_dir(empty)?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_role_has_a_call_that_opens_something_or_more_than_it_needs() {
        let opens = [
            libc::SYS_openat,
            libc::SYS_open,
            libc::SYS_socket,
            libc::SYS_connect,
            libc::SYS_execve,
            libc::SYS_clone,
            libc::SYS_clone3,
            libc::SYS_bpf,
            libc::SYS_ioctl,
            libc::SYS_ptrace,
        ];
        for role in [Role::Core, Role::PollingCore, Role::Main, Role::Ear, Role::Memory, Role::Control, Role::Capture] {
            let calls: Vec<_> = ALL.iter().chain(role.calls()).collect();
            assert!(calls.len() <= 25, "{role:?}: {}", calls.len());
            assert!(!calls.iter().any(|call| opens.contains(call)), "{role:?}");
        }
    }
}
