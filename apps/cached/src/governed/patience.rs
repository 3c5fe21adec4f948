//! `Patience`: how long one request waits, for cores and for a file, all its waits together.
//!
//! The front answers in place of a plane that does not ([`control::ANSWER_LIMIT`]). A request that waited anew in each of its
//! steps could outlast that, and its client would hear of a time-out instead of what went wrong.

use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

/// How long cores may take for all orders of one request.
pub(super) const ORDER_LIMIT: Duration = Duration::from_secs(2);

/// How long the end of a capture waits for its file, after the cores.
pub(super) const FILE_LIMIT: Duration = Duration::from_millis(500);

// What went wrong is told before the front answers for the plane, with half a second for the way.
const _: () = assert!(ORDER_LIMIT.as_millis() + FILE_LIMIT.as_millis() + 500 <= control::ANSWER_LIMIT.as_millis());

/// What one request may still wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    left: Duration,
}

impl Patience {
    /// For a request that begins.
    pub(super) fn new(whole: Duration) -> Patience {
        Patience { left: whole }
    }

    /// The next of `answers`; `None` once nothing more is waited for, or nobody is left to send any.
    pub(super) fn wait<T>(&mut self, answers: &Receiver<T>) -> Option<T> {
        let begun = Instant::now();
        let answer = answers.recv_timeout(self.left).ok();
        self.left = self.left.saturating_sub(begun.elapsed());
        answer
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_wait_in_vain_leaves_nothing_for_the_next() {
        let (_sender, nobody) = mpsc::channel::<()>();
        let mut patience = Patience::new(Duration::from_millis(1));
        assert_eq!(patience.wait(&nobody), None);
        assert_eq!(patience.left, Duration::ZERO);
        // It returns: what is there is taken all the same.
        let (sender, answered) = mpsc::channel();
        sender.send(7).expect("it is open");
        assert_eq!((patience.wait(&answered), patience.wait(&answered)), (Some(7), None));
    }
}
