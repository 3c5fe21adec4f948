//! The store's memory, made by the kernel ahead of use on a thread of its own, so that no core waits for a page.
//!
//! Before the server says `ready`, as much is there as the first requests need ([`AHEAD_OF_READY_BYTES`], whatever `-m`
//! is); the rest follows while requests are served, at the lowest priority, so that it takes nothing from cores that have
//! to share their CPU. Shards take turns, a huge page each.
//!
//! Invariant: the thread makes nothing at the lowest priority before the server has started. While it makes pages it holds the
//! lock of the process's memory map, for which every thread waits that maps memory, as a start does all the time; one that has
//! to wait for a CPU meanwhile would hold it for long (seen: half a second, beside others that wanted both CPUs).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cache::Toucher;

use crate::confine::{Role, drop_capabilities, restrict};

/// Bytes of all shards together that are there before the server is ready: the first buckets of the index and the first
/// segments. A page of a virtual machine may take 2 us a KiB, so this takes 35 ms there and 2 ms elsewhere.
const AHEAD_OF_READY_BYTES: usize = 16 << 20;

/// How long the server waits for that at most. The link has been opened meanwhile, which takes about as long.
const FIRST_LIMIT: Duration = Duration::from_millis(50);

/// The lowest priority (`setpriority(2)`).
const LOWEST_PRIORITY: i32 = 19;

/// How often the thread looks whether more memory is wanted once all is there: after `cache_memlimit`.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The thread. Ends when dropped, within the time of a page.
#[derive(Debug)]
pub(crate) struct MemoryThread {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
    first: Receiver<()>,
    /// Closed once it has no rights.
    rightless: Receiver<()>,
}

/// What the thread is told.
#[derive(Debug, Default)]
struct Told {
    /// To end.
    stop: AtomicBool,
    /// That all threads have become another user, or could not: it gives up its own rights now.
    give_up: AtomicBool,
    /// That the server has started: the rest of the memory is made from now on.
    go_on: AtomicBool,
}

impl MemoryThread {
    /// Begins to make the pages of all shards.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(crate) fn start(shards: Vec<Toucher>) -> io::Result<MemoryThread> {
        let told = Arc::new(Told::default());
        let (ready, first) = mpsc::channel();
        let (rights, rightless) = mpsc::channel();
        let listens = told.clone();
        let shards = Shards { shards, next: 0, rights: Some(rights) };
        let body = move || {
            // In a test it is not confined; where it is to be, the data plane has begun with that.
            if rustix::thread::no_new_privs().unwrap_or(false) && !confine_self() {
                return;
            }
            if let Err(error) = shards.make_all(&listens, ready) {
                tracing::warn!(%error, "memory is not made ahead of use; requests will wait for it");
            }
        };
        let thread = thread::Builder::new().name("memory".to_owned()).spawn(body)?;
        Ok(MemoryThread { told, thread: Some(thread), first, rightless })
    }

    /// Has it give up every right, and waits until it has: it is there before its process gives up root's, and a process that
    /// is refused to become another user leaves its threads what they have.
    pub(crate) fn give_up(&self) {
        self.told.give_up.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
        // Closed, also by its end: nothing is ever sent.
        let _ = self.rightless.recv();
    }

    /// Has it make the rest, now that the server has started.
    pub(crate) fn go_on(&self) {
        self.told.go_on.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// Waits until what the first requests need is there, cannot be had ahead of use, or takes longer than a server may
    /// need to start: on a machine whose CPUs are all taken.
    pub(crate) fn wait_for_first(&self) {
        // An error says that it is late, or that the thread has ended, which has logged why. Either way the server starts.
        let _ = self.first.recv_timeout(FIRST_LIMIT);
    }
}

impl Drop for MemoryThread {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// Leaves this thread what it needs. What is root's becomes another's with all threads; the rights of any other user
/// this thread gives up itself.
fn confine_self() -> bool {
    let gives_up = if rustix::process::geteuid().is_root() { Ok(()) } else { drop_capabilities() };
    let confined = gives_up.and_then(|()| restrict(Role::Memory));
    if let Err(error) = &confined {
        tracing::error!(%error, "memory is not made ahead of use, since its thread cannot be confined");
    }
    confined.is_ok()
}

/// The shards whose memory is made.
#[derive(Debug)]
struct Shards {
    shards: Vec<Toucher>,
    next: usize,
    /// Dropped with the thread's rights.
    rights: Option<Sender<()>>,
}

impl Shards {
    /// Makes what is there before the server is `ready`, then the rest once it is told to go on, until it is told to end.
    /// Returns how many bytes were made.
    fn make_all(mut self, told: &Told, ready: Sender<()>) -> io::Result<usize> {
        let begun = Instant::now();
        let mut made = self.make(AHEAD_OF_READY_BYTES, told)?;
        tracing::debug!(bytes = made, took = ?begun.elapsed(), "the first memory is there");
        drop(ready);
        while !told.go_on.load(Ordering::Relaxed) && !told.stop.load(Ordering::Relaxed) {
            self.give_up_if(told)?;
            thread::park_timeout(LOOK_INTERVAL);
        }
        // Refused only where it is the lowest already.
        let _ = rustix::process::setpriority_process(None, LOWEST_PRIORITY);
        while !told.stop.load(Ordering::Relaxed) {
            made += self.make(usize::MAX, told)?;
            self.give_up_if(told)?;
            thread::park_timeout(LOOK_INTERVAL);
        }
        Ok(made)
    }

    fn give_up_if(&mut self, told: &Told) -> io::Result<()> {
        if told.give_up.load(Ordering::Relaxed)
            && let Some(rights) = self.rights.take()
        {
            drop_capabilities()?;
            drop(rights);
        }
        Ok(())
    }

    /// Makes pages in turn until `bytes` are made, all that is wanted is there, or it is told to end. Returns how many
    /// bytes were made.
    fn make(&mut self, bytes: usize, told: &Told) -> io::Result<usize> {
        let (mut made, mut satisfied) = (0, 0);
        while made < bytes && satisfied < self.shards.len() && !told.stop.load(Ordering::Relaxed) {
            self.give_up_if(told)?;
            let at = self.next % self.shards.len();
            let step = self.shards[at].step()?;
            self.next = at + 1;
            made += step;
            satisfied = if step == 0 { satisfied + 1 } else { 0 };
        }
        Ok(made)
    }
}

#[cfg(test)]
mod tests {
    use cache::{KeyHasher, Shard, ShardConfig};

    use super::*;

    /// Two shards of so much memory together.
    fn shards(memory_bytes: usize) -> (Vec<Shard>, Shards) {
        let config = ShardConfig { memory_bytes: memory_bytes / 2, ..ShardConfig::default() };
        let shard = |_| Shard::new(&config, KeyHasher::new([0; 16])).expect("address space is there");
        let cores: Vec<Shard> = (0..2).map(shard).collect();
        let touchers = cores.iter().map(Shard::toucher).collect();
        (cores, Shards { shards: touchers, next: 0, rights: None })
    }

    #[test]
    fn what_is_made_before_ready_does_not_grow_with_the_store() {
        for gigabytes in [1, 8, 256] {
            let (_cores, mut shards) = shards(gigabytes << 30);
            let made = shards.make(AHEAD_OF_READY_BYTES, &Told::default()).expect("Linux 5.14 or later");
            assert!((AHEAD_OF_READY_BYTES..AHEAD_OF_READY_BYTES + (2 << 20)).contains(&made), "{made}");
        }
    }

    #[test]
    fn all_that_is_wanted_is_made_and_then_nothing() {
        let (_cores, mut shards) = shards(8 << 20);
        let go_on = Told::default();
        let made = shards.make(usize::MAX, &go_on).expect("Linux 5.14 or later");
        assert!(made >= 8 << 20, "{made}");
        assert_eq!(shards.make(usize::MAX, &go_on).expect("nothing is asked of the kernel"), 0);
    }

    #[test]
    fn the_thread_ends_when_dropped_whatever_is_left() {
        for goes_on in [false, true] {
            let (_cores, shards) = shards(256 << 30);
            let thread = MemoryThread::start(shards.shards).expect("a thread can be had");
            thread.wait_for_first();
            thread.give_up();
            if goes_on {
                thread.go_on();
            }
            drop(thread);
        }
    }

    #[test]
    fn the_rest_waits_until_the_server_has_started() {
        let (_cores, mut shards) = shards(256 << 30);
        let ((ready, first), (rights, rightless)) = (mpsc::channel(), mpsc::channel());
        shards.rights = Some(rights);
        let told = Told::default();
        let made = thread::scope(|scope| {
            let making = scope.spawn(|| shards.make_all(&told, ready));
            // Both are closed, and nothing is ever sent.
            let _ = first.recv();
            told.give_up.store(true, Ordering::Relaxed);
            making.thread().unpark();
            let _ = rightless.recv();
            told.stop.store(true, Ordering::Relaxed);
            making.thread().unpark();
            making.join().expect("it does not panic").expect("Linux 5.14 or later")
        });
        assert!((AHEAD_OF_READY_BYTES..AHEAD_OF_READY_BYTES + (2 << 20)).contains(&made), "{made}");
    }
}
