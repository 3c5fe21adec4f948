//! What a core is told by others than its clients, done between two turns.

use cache::ConnId;

use super::Worker;
use crate::orders::{ConnectionLook, Order, Orders};
use crate::sharing::AnyQueue;

/// Orders obeyed between two turns.
const OBEYED_AT_ONCE: usize = 16;

impl Worker<AnyQueue> {
    /// Does what it was told, a bounded part of it, and keeps the rest for after the next turn.
    #[cold]
    pub fn obey(&mut self, orders: &Orders) {
        let core = self.cache.id();
        for _ in 0..OBEYED_AT_ONCE {
            // One list after the other.
            if self.listing.is_some() {
                break;
            }
            let Some(order) = orders.take(core) else { break };
            match order {
                Order::StopListening { done } => {
                    self.drains = true;
                    self.poll.stop_listening();
                    self.cache.counters().not_accepting.set(1);
                    // Whoever has asked may have given up.
                    let _ = done.send(());
                }
                Order::MemoryLimit { bytes, obeyed } => {
                    let _ = obeyed.send(self.cache.shard_mut().set_memory_limit(bytes).is_ok());
                }
                Order::CloseIdle(idle) => self.connections.close_idle_of(idle.map(|idle| *idle)),
                Order::Connections(listing) => self.listing = Some(listing),
                Order::Capture { capture, done } => {
                    self.capture.set_live(&mut self.poll, capture);
                    let _ = done.send(());
                }
            }
        }
        let listing = self.listing.take();
        self.listing = listing.and_then(|listing| {
            let all = self.poll.stack().config().max_flows as u32;
            listing.go_on(all, |place| self.seen(place))
        });
        if self.listing.is_some() || orders.waiting(core) > 0 {
            orders.look_again(core);
        }
    }

    /// The connection at a place, if there is one.
    fn seen(&self, place: u32) -> Option<ConnectionLook> {
        let conn = ConnId(place);
        let look = self.poll.look(self.connections.flow_of(conn, &self.poll)?)?;
        Some(ConnectionLook { look, idle_secs: self.cache.idle_secs(conn) })
    }
}
