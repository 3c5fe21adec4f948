//! `without_files`: something done on a thread that finds no file, so that a library which reads one whenever it is there does not.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{chroot, fchdir};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// A folder that every Linux has, and below which there is none of the paths of others.
const ELSEWHERE: &str = "/proc";

/// Does `act` on the calling thread, which finds none of the usual files by their paths meanwhile; other threads do. To be called
/// on a thread that nobody else uses: from then on it has a working folder of its own, which is the root.
///
/// Where the thread may not do so (`CAP_SYS_CHROOT`) it finds all files.
///
/// # Errors
/// The thread could not be given its files back, and is not to go on.
pub(crate) fn without_files<T>(act: impl FnOnce() -> T) -> io::Result<T> {
    let root = hide();
    let done = act();
    if let Ok(root) = root {
        fchdir(&root)?;
        chroot(".")?;
    }
    Ok(done)
}

/// Hides the files of this thread. Returns the folder that was its root.
fn hide() -> io::Result<OwnedFd> {
    let root = open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: S4 — root and working folder alone become this thread's own; descriptors stay those of all threads.
    unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    chroot(ELSEWHERE)?;
    Ok(root)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Barrier;

    use rustix::thread::{CapabilitySet, capabilities};

    use super::*;

    #[test]
    fn a_thread_without_files_has_them_back_and_other_threads_have_them_all_the_time() {
        let there = || Path::new("/proc/self/stat").exists();
        let may = capabilities(None).expect("whoever asks is told").effective.contains(CapabilitySet::SYS_CHROOT);
        let both = Barrier::new(2);
        std::thread::scope(|scope| {
            let elsewhere = scope.spawn(|| {
                let meanwhile = without_files(|| {
                    both.wait();
                    let found = there();
                    both.wait();
                    found
                });
                (meanwhile.expect("it has its files back"), there())
            });
            both.wait();
            assert!(there(), "the other thread alone has none");
            both.wait();
            // Who may not change its root finds them as ever.
            assert_eq!(elsewhere.join().expect("it does not panic"), (!may, true));
        });
    }
}
