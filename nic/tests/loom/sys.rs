//! What stands in the place of `src/sys` while loom checks: an eventfd and a poll that wait on loom's locks.

/// As `src/sys/poll.rs`.
pub(crate) mod poll {
    use std::io;
    use std::os::fd::RawFd;
    use std::sync::Arc;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    /// How often an event was signalled since it was cleared, and whoever waits for that.
    type Signals = Arc<(Mutex<u32>, Condvar)>;

    #[derive(Debug)]
    pub(crate) struct Event(Signals);

    impl Event {
        pub(crate) fn new() -> io::Result<Self> {
            Ok(Self(Arc::new((Mutex::new(0), Condvar::new()))))
        }

        pub(crate) fn signal(&self) {
            let (signals, waiting) = &*self.0;
            *signals.lock().unwrap() += 1;
            waiting.notify_all();
        }

        pub(crate) fn clear(&self) {
            *self.0.0.lock().unwrap() = 0;
        }
    }

    #[derive(Debug)]
    pub(crate) struct PollSet {
        signals: Signals,
        is_signalled: bool,
    }

    impl PollSet {
        pub(crate) fn new(event: &Event, fds: impl IntoIterator<Item = RawFd>) -> Self {
            assert_eq!(fds.into_iter().count(), 0, "there are no descriptors here");
            Self { signals: event.0.clone(), is_signalled: false }
        }

        /// There is no driver here.
        pub(crate) fn polling(
            event: &Event,
            fds: impl IntoIterator<Item = RawFd>,
            _usecs: u32,
            _budget: u16,
        ) -> io::Result<Self> {
            Ok(Self::new(event, fds))
        }

        pub(crate) fn is_polling(&self) -> bool {
            false
        }

        /// Waits without limit: a wake-up that is lost is a deadlock, which loom reports.
        pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
            assert_eq!(timeout, None, "there is no time here");
            let (signals, waiting) = &*self.signals;
            let mut signals = signals.lock().unwrap();
            while *signals == 0 {
                signals = waiting.wait(signals).unwrap();
            }
            self.is_signalled = true;
            Ok(1)
        }

        pub(crate) fn is_signalled(&self) -> bool {
            self.is_signalled
        }
    }
}
