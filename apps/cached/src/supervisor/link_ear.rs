//! `LinkEar`: passes on that the kernel tells of the interface, so that it is looked at then, and not when a look is due.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::Sender;

use nic::link::LinkNews;

use super::life::Event;

/// A thread that listens as long as there is a supervisor.
#[derive(Debug)]
pub(super) struct LinkEar {
    /// The interface that is listened for; 0 for none yet.
    index: Arc<AtomicU32>,
}

impl LinkEar {
    /// Begins to listen. Events come once it [listens for](Self::listen_for) an interface.
    ///
    /// # Errors
    /// The kernel tells nothing, or there is no thread.
    pub(super) fn start(events: &Sender<Event>) -> io::Result<LinkEar> {
        let mut news = LinkNews::listen()?;
        let index = Arc::new(AtomicU32::new(0));
        let (wanted, events) = (index.clone(), events.clone());
        let body = move || {
            while let Ok(told) = news.wait() {
                let concerns = told == 0 || told == wanted.load(Ordering::Relaxed);
                // Fails when the supervisor is ending and has dropped the receiver.
                if concerns && events.send(Event::LinkTold).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("link".to_owned()).spawn(body)?;
        Ok(LinkEar { index })
    }

    /// From now on that interface is meant.
    pub(super) fn listen_for(&self, index: u32) {
        self.index.store(index, Ordering::Relaxed);
    }
}
