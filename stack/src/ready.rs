//! The ready list: which flows have news for the application, each at most once, and what the news is.
//!
//! What happened is kept in the flow's block, so that a flow that waits on the list gathers further news without
//! growing it. Bounded by the number of flows; taken in the order in which flows first had news, by [`Poll`](crate::Poll), which
//! tells what is true of a flow that is listed (`net_stack/events.rs`).

use bitflags::bitflags;

use crate::flow_list::FlowList;

bitflags! {
    /// What has happened to a flow that the application has not been told of yet. The first two have the bits of their
    /// [`Interest`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct News: u8 {
        /// Bytes have arrived, or the end of them.
        const READABLE = Interest::READABLE.bits();
        /// The room that was wanted is there.
        const WRITABLE = Interest::WRITABLE.bits();
        /// The handshake is complete.
        const OPENED = 1 << 2;
        /// Another core, or the application itself, wants the flow to be visited.
        const WOKEN = 1 << 3;
        /// The peer has closed its direction; [`READABLE`](Self::READABLE) is told with it.
        const PEER_CLOSED = 1 << 4;
        /// What is true of the flow is to be looked at, whatever has happened.
        const LOOK = 1 << 5;
        /// The block is on the ready list. Stays until the list lets go of it, whatever flow uses the block by then.
        const LISTED = 1 << 6;
    }
}

bitflags! {
    /// What an application wants to hear of a flow, and when.
    ///
    /// Edge-triggered unless [`LEVEL`](Self::LEVEL) is set: told when something new happens, so after each report take
    /// what there is, or remember to come back. Empty: nothing is told.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Interest: u8 {
        /// Bytes wait, or the end of them.
        const READABLE = 1;
        /// There is room in the transmit ring.
        const WRITABLE = 1 << 1;
        /// Told in each turn in which it is so, not only when it becomes so.
        const LEVEL = 1 << 2;
        /// Told once; then nothing but the flow's end, until the flow is registered anew.
        const ONESHOT = 1 << 3;
    }
}

impl Interest {
    /// Everything, as it happens: what a flow begins with.
    pub const EDGE: Self = Self::READABLE.union(Self::WRITABLE);
}

/// Flows with news, oldest first.
#[derive(Debug)]
pub(crate) struct ReadyList {
    flows: FlowList,
}

impl ReadyList {
    /// A list for at most `flows` flows.
    pub(crate) fn new(flows: usize) -> Self {
        Self { flows: FlowList::new(flows) }
    }

    /// Adds `events` to the `news` of the flow `index`, and the flow to the list unless it is on it.
    #[inline]
    pub(crate) fn push(&mut self, news: &mut News, index: u32, events: News) {
        let listed = news.contains(News::LISTED);
        *news |= events | News::LISTED;
        if !listed {
            self.flows.push(index);
        }
    }

    /// Takes the oldest flow off the list; its news, [`News::LISTED`] among them, must be taken next.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.flows.pop()
    }

    /// Flows on the list.
    pub(crate) fn len(&self) -> usize {
        self.flows.len()
    }

    /// Whether no flow is on the list.
    pub(crate) fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_listed_once_and_its_news_gather() {
        let mut news = [News::empty(); 2];
        let mut list = ReadyList::new(2);
        list.push(&mut news[1], 1, News::READABLE);
        list.push(&mut news[0], 0, News::OPENED);
        list.push(&mut news[1], 1, News::WRITABLE);
        assert_eq!((list.len(), list.pop()), (2, Some(1)));
        assert_eq!(std::mem::replace(&mut news[1], News::empty()), News::LISTED | News::READABLE | News::WRITABLE);
        list.push(&mut news[1], 1, News::WOKEN);
        assert_eq!((list.pop(), list.pop(), list.pop()), (Some(0), Some(1), None));
        assert!(news[1].contains(News::WOKEN) && list.is_empty());
    }
}
