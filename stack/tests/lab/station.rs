//! `Station`: the other end of the wire, by which a test throws frames at the stack and sees what it sends.

use nic::{Queue, RxBurst, TxBurst, WireQueue};

use super::family::{self, FAMILY, Family};

/// A queue that belongs to the test. Over IPv4 it allocates nothing.
pub struct Station {
    queue: WireQueue,
    tx: TxBurst,
    rx: RxBurst,
}

impl Station {
    pub fn new(queue: WireQueue) -> Self {
        Self { queue, tx: TxBurst::default(), rx: RxBurst::default() }
    }

    /// Sends a frame.
    pub fn send(&mut self, bytes: &[u8]) {
        if FAMILY == Family::Ipv6 {
            return self.send_on_wire(&family::to_wire(bytes));
        }
        self.send_on_wire(bytes);
    }

    fn send_on_wire(&mut self, bytes: &[u8]) {
        let mut frame = self.queue.tx_alloc().expect("a frame is free");
        frame.resize(bytes.len()).expect("it fits");
        frame.bytes_mut().copy_from_slice(bytes);
        self.tx.push(frame).expect("room for one");
        assert_eq!(self.queue.tx_burst(&mut self.tx), 1);
        self.queue.flush().expect("a wire is never gone");
    }

    /// Shows `look` every frame that has come.
    pub fn receive(&mut self, mut look: impl FnMut(&[u8])) {
        self.queue.flush().expect("a wire is never gone");
        while self.queue.rx_burst(&mut self.rx) > 0 {
            while let Some(frame) = self.rx.pop() {
                if FAMILY == Family::Ipv6 {
                    look(&family::from_wire(frame.bytes()));
                } else {
                    look(frame.bytes());
                }
                self.queue.free(frame);
            }
            self.queue.flush().expect("a wire is never gone");
        }
    }
}

/// Checks that a stack holds no frame of the queues of its ports.
pub fn assert_no_frame_is_held(queues: Vec<WireQueue>) {
    for mut queue in queues {
        queue.flush().expect("a wire is never gone");
        let frames = queue.census();
        assert_eq!(frames.held, 0, "{frames:?}");
        assert_eq!(frames.free + frames.fill + frames.tx, frames.total, "{frames:?}");
    }
}
