//! Requests to other cores.

use super::{ConnId, Core, Debt, Need};
use crate::key::Key;
use crate::operation::Operation;
use crate::replies::Owed;
use crate::route::link::Link;
use crate::route::message::{Envelope, NOBODY, Request, Span, Token};

impl Core {
    /// Makes room for a request to `owner`; `false` when it must be waited for.
    pub(crate) fn make_room(&mut self, conn: ConnId, owner: usize, bytes: usize) -> bool {
        self.admits(conn, Need::Block(owner)) && self.links[owner].as_mut().is_some_and(|link| link.make_room(bytes))
    }

    /// Adds a request for `owner` after [`Core::make_room`]. `parts` are the key and the value it names.
    pub(crate) fn ask(
        &mut self,
        owner: usize,
        token: Token,
        parts: [&[u8]; 2],
        build: impl FnOnce([Span; 2]) -> Request,
    ) {
        let Some(requests) = self.links[owner].as_mut().and_then(Link::requests) else { return };
        let spans = parts.map(|part| requests.put(part));
        requests.push(Envelope { token, speaker: self.observer.speaker, request: build(spans) });
        self.expect(token);
        self.counters().messages_sent.add(1);
    }

    /// Adds an operation for `owner` after [`Core::make_room`]. `value` is that of a store; `room`: so much of the value of
    /// a hit is to come with the answer.
    pub(crate) fn ask_to_operate(
        &mut self,
        owner: usize,
        token: Token,
        key: Key<'_>,
        operation: &Operation,
        value: &[u8],
        room: Option<u16>,
    ) {
        let (hash, operation) = (key.hash, *operation);
        self.ask(owner, token, [key.bytes, value], |[key, value]| Request::Operate {
            key,
            hash,
            operation,
            value,
            room,
        });
    }

    /// One more answer will come for `token`.
    pub(super) fn expect(&mut self, token: Token) {
        if token != NOBODY {
            let entry = self.replies.entry_mut(token);
            entry.expected += 1;
            if !matches!(entry.owed, Owed::Orphan { .. }) {
                self.conns[entry.conn.index()].in_flight += 1;
            }
        }
    }

    /// Sends a request without key or value, now or as soon as there is a block. At most one of an entry is waiting.
    pub(crate) fn owe(&mut self, peer: usize, token: Token, request: Request) {
        self.expect(token);
        let first = self.debts.is_empty();
        self.debts.push_back(Debt { peer, token, speaker: self.observer.speaker, request });
        if first {
            self.pay_debts();
        }
    }

    /// Sends what is owed to other cores, as far as there are blocks. What is owed goes before new requests.
    pub(super) fn pay_debts(&mut self) {
        for _ in 0..self.debts.len() {
            let Some(debt) = self.debts.pop_front() else { break };
            let Some(link) = &mut self.links[debt.peer] else { continue };
            if link.make_room(0)
                && let Some(requests) = link.requests()
            {
                requests.push(Envelope { token: debt.token, speaker: debt.speaker, request: debt.request });
                self.counters().messages_sent.add(1);
            } else {
                self.debts.push_back(debt);
            }
        }
    }
}
