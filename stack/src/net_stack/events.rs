//! What is true of the flows on the ready list, for [`Poll`](crate::Poll): epoll's algorithm.
//!
//! A flow leaves the list and is looked at once; what of its interest is met is told. Edge-triggered it is listed again by
//! what happens next, level-triggered at once, behind all others. So a look costs the same however many flows there are,
//! and there are as many looks as there was news. Read first: `ready.rs`; epoll(7).

use smoltcp::socket::tcp::State;

use super::NetStack;
use crate::block::FlowBlock;
use crate::close_reason::CloseReason;
use crate::event::{Event, Token, Told};
use crate::flow_id::FlowId;
use crate::phase::{Marks, Phase};
use crate::ready::{Interest, News};

/// What came of looking at a listed flow.
pub(crate) enum Look {
    /// A peer has opened it. Nothing is told of it until it is registered.
    New(FlowId),
    Event(Event),
    /// Nothing that its application wants to hear of.
    Nothing,
}

impl NetStack {
    /// Flows that have news, or are to be looked at.
    pub(crate) fn listed(&self) -> usize {
        self.ready.len()
    }

    /// Flows that a peer has opened and that no look has found yet; for who looks from the first flow on.
    pub(crate) fn unfound(&self) -> usize {
        (self.stats.opened - self.stats.connected - self.listener.found()) as usize
    }

    /// Takes the next flow off the ready list and looks what is true of it. What a peer has opened is registered as `each` says.
    #[inline]
    pub(crate) fn look_at_next(&mut self, each: Option<(Token, Interest)>) -> Look {
        let Some(index) = self.ready.pop() else { return Look::Nothing };
        let block = &mut *self.blocks[index as usize];
        let news = std::mem::replace(&mut block.news, News::empty());
        // Of most flows, most of the time: bytes have arrived, of which who wants to hear is told as it happens.
        let plain = block.interest == Interest::READABLE
            && block.phase == Phase::Open
            && !news.intersects(News::OPENED | News::LOOK);
        if !plain {
            return self.look_closely(index, news, each);
        }
        let mut told = Told::from_bits_truncate(news.bits()) & (Told::READABLE | Told::WOKEN);
        if told.is_empty() {
            return Look::Nothing;
        }
        told.set(Told::READABLE, block.socket().recv_queue() > 0);
        if block.marks.contains(Marks::FIN_RECEIVED) {
            if block.socket().state() == State::TimeWait {
                return self.look_closely(index, news, each);
            }
            told |= Told::READABLE | Told::READ_CLOSED;
        }
        if told.is_empty() {
            return Look::Nothing;
        }
        let flow = FlowId { index, generation: block.generation };
        Look::Event(Event { flow, token: Token(block.token as usize), told, closed: None })
    }

    /// The same of any flow, of which `news` was taken.
    #[inline(never)]
    fn look_closely(&mut self, index: u32, news: News, each: Option<(Token, Interest)>) -> Look {
        if let Some((token, Interest::READABLE)) = each
            && let Some(event) = self.open_plain(index, news, token)
        {
            return Look::Event(event);
        }
        self.end_if_over(index);
        let block = &mut *self.blocks[index as usize];
        let flow = FlowId { index, generation: block.generation };
        if block.phase == Phase::Ended {
            return self.tell_end(flow, news);
        }
        if !block.phase.is_open() {
            return Look::Nothing;
        }
        let mut told = Told::from_bits_truncate(news.bits()) & (Told::NEW | Told::WOKEN);
        if told.contains(Told::NEW) && !block.marks.contains(Marks::ACTIVE) {
            self.listener.note_found(true);
            let Some((token, interest)) = each else {
                block.interest = Interest::empty();
                return Look::New(flow);
            };
            (block.token, block.interest) = (token.0 as u64, interest);
        }
        let wanted = block.interest;
        if !wanted.intersects(Interest::EDGE) || !concerns(news, wanted) {
            return Look::Nothing;
        }
        told |= Told::from_bits_truncate(met(block, wanted).bits());
        if told.is_empty() {
            return Look::Nothing;
        }
        let hears_end = wanted.contains(Interest::READABLE);
        told.set(Told::READ_CLOSED, hears_end && block.marks.contains(Marks::FIN_RECEIVED));
        let token = Token(block.token as usize);
        if wanted.contains(Interest::ONESHOT) {
            block.interest = Interest::ONESHOT;
        } else if wanted.contains(Interest::LEVEL) {
            self.report(index, News::LOOK);
        }
        Look::Event(Event { flow, token, told, closed: None })
    }

    /// Registers a flow with `token` for what most are registered for, if a peer has just opened it and has not closed it since.
    fn open_plain(&mut self, index: u32, news: News, token: Token) -> Option<Event> {
        let block = &mut *self.blocks[index as usize];
        let plain = block.phase == Phase::Open && !block.marks.intersects(Marks::ACTIVE | Marks::FIN_RECEIVED);
        if !plain || !news.contains(News::OPENED) {
            return None;
        }
        (block.token, block.interest) = (token.0 as u64, Interest::READABLE);
        let mut told = Told::from_bits_truncate(news.bits()) & (Told::NEW | Told::WOKEN);
        told.set(Told::READABLE, block.socket().recv_queue() > 0);
        let flow = FlowId { index, generation: block.generation };
        self.listener.note_found(true);
        Some(Event { flow, token, told, closed: None })
    }

    /// Tells of the end of a flow, of which `news` was taken, and frees its block.
    fn tell_end(&mut self, flow: FlowId, news: News) -> Look {
        let block = &*self.blocks[flow.index()];
        let (wanted, token, closed) = (block.interest, Token(block.token as usize), Some(block.close_reason));
        self.free(flow.index);
        if wanted.is_empty() {
            return Look::Nothing;
        }
        // One of ours may have ended as soon as it was open.
        let mut told = Told::from_bits_truncate(news.bits()) & Told::NEW;
        told |= Told::from_bits_truncate((wanted & Interest::EDGE).bits());
        told.set(Told::READ_CLOSED, wanted.contains(Interest::READABLE));
        Look::Event(Event { flow, token, told, closed })
    }

    /// Ends a flow of which both ends have closed, and of which nothing is unread, though its application has not let go of it:
    /// there is nothing more that it could do with it. The peer's FIN is acknowledged first, by the flush before the next look.
    fn end_if_over(&mut self, index: u32) {
        let block = &*self.blocks[index as usize];
        if block.phase != Phase::Open || block.socket().state() != State::TimeWait || block.socket().recv_queue() > 0 {
            return;
        }
        if block.last_ack == block.rcv_nxt() {
            self.begin_time_wait(self.now, index);
            self.end(index, CloseReason::Finished);
        } else {
            self.report(index, News::LOOK);
        }
    }

    /// Has `interest` in the flow told from now on, with `token`; what is true already is told too. Returns whether there is
    /// such a flow.
    pub(crate) fn register(&mut self, id: FlowId, token: Token, interest: Interest) -> bool {
        let open = self.is_open(id);
        if open {
            let block = &mut *self.blocks[id.index()];
            block.token = token.0 as u64;
            block.interest = interest;
            self.report(id.index, News::LOOK);
        }
        open
    }

    /// Has what is true of the flow looked at in the next turn, behind others.
    pub(crate) fn look_again(&mut self, id: FlowId) {
        if self.is_open(id) {
            self.report(id.index, News::LOOK);
        }
    }

    /// Whether the flow is there, to be visited.
    pub(crate) fn has_flow(&mut self, id: FlowId) -> bool {
        self.is_open(id)
    }
}

/// Whether the news are such that who has this interest is to be told what is true. Of the peer's end, as of all that
/// changes the state of a connection, everybody is who wants to hear of the flow at all.
fn concerns(news: News, wanted: Interest) -> bool {
    let whatever = News::OPENED | News::WOKEN | News::PEER_CLOSED | News::LOOK;
    news.intersects(whatever)
        || wanted.contains(Interest::READABLE) && news.contains(News::READABLE)
        || wanted.contains(Interest::WRITABLE) && news.contains(News::WRITABLE)
}

/// What of the interest in a flow is met. Where it is room that is wanted, and there is not enough, its coming will be news.
fn met(block: &mut FlowBlock, wanted: Interest) -> Interest {
    let mut met = Interest::empty();
    if block.phase == Phase::Connecting {
        return met;
    }
    let socket = block.socket();
    let readable = socket.recv_queue() > 0 || block.marks.contains(Marks::FIN_RECEIVED);
    met.set(Interest::READABLE, readable && wanted.contains(Interest::READABLE));
    if wanted.contains(Interest::WRITABLE) {
        let (capacity, queued) = (socket.send_capacity(), socket.send_queue());
        let may_send = socket.may_send();
        if block.want_room == 0 {
            block.want_room = capacity as u32 / 2;
        }
        if !may_send || capacity - queued >= block.want_room as usize {
            block.want_room = 0;
            met |= Interest::WRITABLE;
        }
    }
    met
}
