//! The ready list: which flows have news for the application, each at most once, and what the news is.
//!
//! What happened is kept in the flow's block, so that a flow that waits on the list gathers further news without
//! growing it. Bounded by the number of flows; taken in the order in which flows first had news.

use std::collections::VecDeque;

use crate::block::{
    FLAG_EVENT_OPENED, FLAG_EVENT_READABLE, FLAG_EVENT_WOKEN, FLAG_EVENT_WRITABLE, FLAG_READY, FlowBlock,
};
use crate::close_reason::CloseReason;

const EVENTS: u32 = FLAG_EVENT_OPENED | FLAG_EVENT_READABLE | FLAG_EVENT_WRITABLE | FLAG_EVENT_WOKEN;

/// What has happened to a flow since it was last on the ready list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Readiness {
    /// The flow is new: the handshake has just been completed. The first thing reported of a flow, but for one that
    /// was asked for by [`NetStack::connect`](crate::NetStack::connect) and never opened.
    pub opened: bool,
    /// Bytes have arrived, or the peer has closed its direction.
    pub readable: bool,
    /// The room that was wanted in the transmit ring is there.
    pub writable: bool,
    /// Someone called [`NetStack::wake`](crate::NetStack::wake).
    pub woken: bool,
    /// The flow is gone, and why. The last thing ever reported of it; its id is dead already.
    pub closed: Option<CloseReason>,
    /// The number set by [`Flow::set_token`](crate::Flow::set_token); 0 before.
    pub token: u64,
}

/// When a flow is put on the ready list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interest {
    /// When something new happens (the default): after each report, take what there is or remember to come back.
    #[default]
    Edge,
    /// Each turn in which there is anything to read, or room to write if that is asked for too.
    Level {
        /// Report while bytes wait, or the end of them.
        read: bool,
        /// Report while there is room in the transmit ring.
        write: bool,
    },
}

/// Flows with news, oldest first.
#[derive(Debug)]
pub(crate) struct ReadyList {
    flows: VecDeque<u32>,
}

impl ReadyList {
    /// A list for at most `flows` flows.
    pub(crate) fn new(flows: usize) -> Self {
        Self { flows: VecDeque::with_capacity(flows) }
    }

    /// Adds `events` (`FLAG_EVENT_*`) to the news of the flow `index`, and the flow to the list unless it is on it.
    #[inline]
    pub(crate) fn push(&mut self, block: &mut FlowBlock, index: u32, events: u32) {
        let listed = block.flags & FLAG_READY != 0;
        block.flags |= events | FLAG_READY;
        if !listed {
            self.flows.push_back(index);
        }
    }

    /// The oldest flow on the list; [`take_news`](Self::take_news) must follow.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<u32> {
        self.flows.pop_front()
    }

    /// Takes the news of a flow that was popped.
    #[inline]
    pub(crate) fn take_news(block: &mut FlowBlock) -> Readiness {
        let flags = block.flags;
        block.flags &= !(FLAG_READY | EVENTS);
        Readiness {
            opened: flags & FLAG_EVENT_OPENED != 0,
            readable: flags & FLAG_EVENT_READABLE != 0,
            writable: flags & FLAG_EVENT_WRITABLE != 0,
            woken: flags & FLAG_EVENT_WOKEN != 0,
            closed: block.close_reason,
            token: block.token,
        }
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
    use crate::block::maker;
    use crate::rings::Rings;

    #[test]
    fn a_flow_is_listed_once_and_its_news_gather() {
        let mut blocks = Vec::new();
        maker(Rings::DEFAULT).expect("the default")(2, &mut blocks);
        let mut list = ReadyList::new(2);
        list.push(blocks[1], 1, FLAG_EVENT_READABLE);
        list.push(blocks[0], 0, FLAG_EVENT_OPENED);
        list.push(blocks[1], 1, FLAG_EVENT_WRITABLE);
        assert_eq!((list.len(), list.pop()), (2, Some(1)));
        let news = ReadyList::take_news(blocks[1]);
        assert!(news.readable && news.writable && !news.opened && !news.woken);
        list.push(blocks[1], 1, FLAG_EVENT_WOKEN);
        assert_eq!((list.pop(), list.pop(), list.pop()), (Some(0), Some(1), None));
        assert!(ReadyList::take_news(blocks[1]).woken && list.is_empty());
    }
}
