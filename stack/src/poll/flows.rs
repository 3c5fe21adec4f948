//! What an application does with flows: has them come, hears of them, reads and writes, and lets go of them.

use nic::Queue;

use super::Poll;
use crate::clock::Time;
use crate::connect::{Connect, ConnectError};
use crate::datagram::{DatagramPeer, NoFrame};
use crate::event::Token;
use crate::flow::{Flow, FlowLook};
use crate::flow_id::{Ends, FlowId};
use crate::ready::Interest;
use crate::send_to::{SendTo, SendToError};

impl<Q: Queue> Poll<Q> {
    /// Tells with `token` of connections that wait to be accepted, from now on; [`Interest::READABLE`], in which way. What
    /// waits already is told too. With an empty interest nobody listens any more: connections that come are handed over to
    /// the other cores, of which the first that listens has them, or dropped, and tried again by their clients.
    pub fn listen(&mut self, token: Token, interest: Interest) {
        self.stack.set_worker(!interest.is_empty());
        self.listener.each = None;
        self.listener.register(token, interest);
        self.admit_as_told();
    }

    /// Accepts each connection as it opens, from now on, and registers it with `token` for `interest`: its first event says that
    /// it [is new](crate::Event::is_new), with what is true of it by then. Nothing waits in a queue, nor for a turn (io_uring
    /// calls it a multishot accept). With an empty interest as [`listen`](Self::listen).
    pub fn accept_each(&mut self, token: Token, interest: Interest) {
        self.listen(token, Interest::empty());
        if interest.intersects(Interest::EDGE) {
            self.stack.set_worker(true);
            self.listener.each = Some((token, interest));
        }
        self.admit_as_told();
    }

    /// Takes the connection that has waited longest. Nothing is told of it until it is registered.
    pub fn accept(&mut self) -> Option<FlowId> {
        while let Some(id) = self.listener.pop() {
            if self.listener.is_full() {
                self.pause_or_resume();
            }
            // Others have ended meanwhile.
            if self.stack.has_flow(id) {
                return Some(id);
            }
        }
        None
    }

    /// Whether connections are let in, as from the start. While they are not, SYNs are dropped, and counted, as by a full
    /// backlog: who wants to connect tries again.
    pub fn set_accepting(&mut self, accepting: bool) {
        self.listener.is_paused = !accepting;
        self.admit_as_told();
    }

    /// Lets no connection in any more, for good: who wants to connect is told so, by RST. Flows and handshakes go on.
    pub fn stop_listening(&mut self) {
        self.stack.stop_listening();
    }

    /// Lets no more connections in while as many as there may be wait to be accepted, those among them that no look has found
    /// yet; lets them in again when half have been taken, or have ended.
    pub(super) fn pause_or_resume(&mut self) {
        if self.listener.measure(self.stack.unfound()) {
            self.admit_as_told();
        }
    }

    fn admit_as_told(&mut self) {
        let full = self.listener.each.is_none() && self.listener.is_full();
        self.stack.set_accepting(!full && !self.listener.is_paused);
    }

    /// Tells with `token` of what the flow is from now on, as far as `interest` goes; what is true already is told too.
    /// Registered again, a flow has the new token and interest alone. Returns whether there is such a flow.
    pub fn register(&mut self, id: FlowId, token: Token, interest: Interest) -> bool {
        self.stack.register(id, token, interest)
    }

    /// Tells nothing more of the flow, not even its end.
    pub fn deregister(&mut self, id: FlowId) {
        self.stack.register(id, Token(0), Interest::empty());
    }

    /// As [`NetStack::connect`](crate::NetStack::connect). The flow is registered with [`Connect::token`] for
    /// [`Connect::interest`]: it is new once it is open, and closed if it does not come to that.
    ///
    /// # Errors
    /// As [`NetStack::connect`](crate::NetStack::connect).
    pub fn connect(
        &mut self,
        now: Time,
        connect: &Connect,
        comes_home: impl FnMut(&Ends) -> bool,
    ) -> Result<FlowId, ConnectError> {
        self.stack.connect(now, connect, comes_home)
    }

    /// The flow `id`, to read and write, or `None` when it has ended or was closed. What is written leaves with the next
    /// [`poll`](Self::poll).
    #[inline]
    pub fn flow(&mut self, id: FlowId) -> Option<Flow<'_>> {
        self.stack.flow(id)
    }

    /// The open flow whose [`FlowId::index`] is `index`, if there is one: for who keeps something of each flow by its index.
    #[inline]
    pub fn open_at(&self, index: usize) -> Option<FlowId> {
        self.stack.open_at(index)
    }

    /// What there is to see of a flow, without touching it; `None` when it has ended.
    pub fn look(&self, id: FlowId) -> Option<FlowLook> {
        self.stack.look(id)
    }

    /// Flows at present, half-open and closing ones included.
    pub fn flows(&self) -> usize {
        self.stack.flows()
    }

    /// Closes our direction of the flow after what was written; the peer may go on sending. The flow is told of, as of all
    /// that changes its state.
    pub fn shutdown(&mut self, id: FlowId) {
        let sends = self.stack.flow(id).is_some_and(|flow| flow.may_send());
        self.stack.shutdown(id);
        if sends {
            self.stack.look_again(id);
        }
    }

    /// Has the flow looked at again in the next turn, behind others: for one of which the application has not taken
    /// everything. It is told of if something of its interest is met.
    pub fn again(&mut self, id: FlowId) {
        self.stack.look_again(id);
    }

    /// Has the flow told of in the next turn, behind others, whatever is true of it, if it is registered for anything: for one
    /// that can go on because of something else, such as an answer of another core.
    #[inline]
    pub fn wake(&mut self, id: FlowId) {
        self.stack.wake(id);
    }

    /// Gives the flow larger rings, if there are any, because there is more to send than has room. Returns whether it has them;
    /// there is room then.
    #[inline]
    pub fn enlarge(&mut self, id: FlowId) -> bool {
        self.stack.enlarge(id)
    }

    /// Whether the flow sleeps ([`awake_flows`](crate::StackConfig::awake_flows)). It wakes when it is visited.
    pub fn is_asleep(&self, id: FlowId) -> bool {
        self.stack.is_asleep(id)
    }

    /// Whether a visit of the flow needs no memory beyond [`awake_flows`](crate::StackConfig::awake_flows): for who visits many
    /// at once.
    pub fn may_visit(&self, id: FlowId) -> bool {
        self.stack.may_visit(id)
    }

    /// Throws a flow away that sleeps, without waking it; RST leaves with the next [`transmit`](Self::transmit). Returns false
    /// where there is no frame for it just now: the flow is still there.
    pub fn abort_asleep(&mut self, now: Time, id: FlowId) -> bool {
        self.stack.abort_asleep(now, id, &mut self.ports)
    }

    /// As [`NetStack::send_datagram`](crate::NetStack::send_datagram).
    ///
    /// # Errors
    /// As [`NetStack::send_datagram`](crate::NetStack::send_datagram).
    #[inline]
    pub fn send_datagram(
        &mut self,
        to: &DatagramPeer,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), NoFrame> {
        self.stack.send_datagram(&mut self.ports, to, len, write)
    }

    /// As [`NetStack::send_to`](crate::NetStack::send_to): to a peer that has not written first.
    ///
    /// # Errors
    /// As [`NetStack::send_to`](crate::NetStack::send_to).
    pub fn send_to(
        &mut self,
        now: Time,
        to: &SendTo,
        len: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> Result<(), SendToError> {
        self.stack.send_to(now, &mut self.ports, to, len, write)
    }
}
