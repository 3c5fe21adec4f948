//! Scripts on the stack's `Poll`, with smoltcp's ordinary interface as the peers.

use std::collections::HashMap;
use std::time::Duration;

use nic::{PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{CloseReason, Event, FlowId, NetStack, Poll, Time, Token};
use smoltcp::iface::SocketHandle;

use super::script::{LISTENER, Op, Told, words};
use crate::lab::{Peer, config, secrets};

/// Bytes of the rings of a peer's socket.
const PEER_RING: usize = 4_096;

pub struct Ours {
    wire: Wire,
    poll: Poll<WireQueue>,
    peer: Peer,
    sockets: HashMap<usize, SocketHandle>,
    flows: HashMap<usize, FlowId>,
    /// Bytes that each peer has yet to read.
    to_peer: HashMap<usize, usize>,
    /// Every flow that rests is laid down, again and again.
    drowsy: bool,
}

impl Ours {
    pub fn new() -> Self {
        Self::with(false)
    }

    /// One whose flows sleep whenever they may.
    pub fn drowsy() -> Self {
        Self::with(true)
    }

    fn with(drowsy: bool) -> Self {
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let mut config = config();
        if drowsy {
            config.awake_flows = config.max_flows - 1;
        }
        let stack = NetStack::new(config, secrets(1)).expect("good");
        Self {
            wire,
            drowsy,
            poll: Poll::new(stack, [ours.take_queue(QueueId(0)).expect("opened once")]),
            peer: Peer::new(theirs.take_queue(QueueId(0)).expect("opened once"), 7),
            sockets: HashMap::new(),
            flows: HashMap::new(),
            to_peer: HashMap::new(),
        }
    }

    /// Does a step, and lets everything that comes of it happen. Returns what a poll tells.
    pub fn act(&mut self, op: Op) -> Option<Told> {
        match op {
            Op::Poll => return Some(self.tell()),
            Op::Listen(interest) => self.poll.listen(Token(LISTENER), interest),
            Op::Connect(connection) => {
                self.sockets.insert(connection, self.peer.connect(PEER_RING));
            }
            Op::Accept(connection) => {
                let id = self.poll.accept().or_else(|| {
                    // It waits once a poll has found it. There is nothing yet of which that would tell.
                    self.find_new();
                    self.poll.accept()
                });
                let id = id.expect("it waits");
                self.flows.insert(connection, id);
            }
            Op::Register(connection, interest) => {
                self.poll.register(self.flows[&connection], Token(connection), interest);
            }
            Op::Deregister(connection) => self.poll.deregister(self.flows[&connection]),
            Op::PeerWrites(connection, bytes) => {
                let socket = self.peer.socket(self.sockets[&connection]);
                assert_eq!(socket.send_slice(&vec![7; bytes]), Ok(bytes));
            }
            Op::Reads(connection, bytes) => self.read(connection, bytes),
            Op::Writes(connection, bytes) => {
                let mut flow = self.poll.flow(self.flows[&connection]).expect("it is open");
                assert_eq!(flow.send_slice(&vec![9; bytes]), bytes);
                *self.to_peer.entry(connection).or_default() += bytes;
            }
            Op::Fill(connection) => self.fill(connection),
            Op::PeerReads(connection) => self.peer_read(connection),
            Op::PeerShuts(connection) => self.peer.socket(self.sockets[&connection]).close(),
            Op::PeerResets(connection) => self.peer.socket(self.sockets[&connection]).abort(),
            Op::Shuts(connection) => self.poll.shutdown(self.flows[&connection]),
            Op::Closes(connection) => {
                if let Some(flow) = self.poll.flow(self.flows[&connection]) {
                    flow.abort();
                }
                self.peer.socket(self.sockets[&connection]).abort();
            }
        }
        self.settle();
        None
    }

    /// Lets time pass until nothing more comes of what was done: longer than ACKs are delayed.
    fn settle(&mut self) {
        for _ in 0..50 {
            loop {
                let now = self.now();
                self.poll.send(now).expect("a wire is never gone");
                let active = self.peer.poll(now);
                let due = self.wire.next_due().is_some_and(|due| due <= self.wire.clock().now());
                self.poll.take_in(now);
                if self.drowsy {
                    self.poll.stack_mut().lay_all_down();
                }
                if !active && !due {
                    break;
                }
            }
            self.wire.clock().advance(Duration::from_millis(1));
        }
    }

    fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    fn tell(&mut self) -> Told {
        // Two polls may follow each other with nothing between.
        self.poll.take_in(self.now());
        let events: Vec<Event> = std::iter::from_fn(|| self.poll.next_event()).collect();
        let told: Told = events.iter().map(|event| (event.token().0, shown(event))).collect();
        assert_eq!(told.len(), events.len(), "a flow is told once: {events:?}");
        told
    }

    fn find_new(&mut self) {
        assert_eq!(self.poll.next_event(), None);
    }

    fn read(&mut self, connection: usize, bytes: usize) {
        let mut flow = self.poll.flow(self.flows[&connection]).expect("it is open");
        let mut left = bytes;
        while left > 0 {
            let taken = flow.recv(|bytes| (bytes.len().min(left), bytes.len().min(left)));
            assert!(taken > 0, "{left} of {bytes} bytes are missing");
            left -= taken;
        }
    }

    fn fill(&mut self, connection: usize) {
        loop {
            let mut flow = self.poll.flow(self.flows[&connection]).expect("it is open");
            let written = flow.send_slice(&[9; 1_000]);
            *self.to_peer.entry(connection).or_default() += written;
            if written == 0 {
                return;
            }
            self.settle();
        }
    }

    /// The peer reads until it has all. It takes what comes in pieces, and its window may wait to be asked for.
    fn peer_read(&mut self, connection: usize) {
        let mut left = self.to_peer.remove(&connection).unwrap_or(0);
        for _ in 0..100 {
            let socket = self.peer.socket(self.sockets[&connection]);
            while socket.can_recv() {
                left -= socket.recv(|bytes| (bytes.len(), bytes.len())).expect("bytes wait");
            }
            self.settle();
            if left == 0 {
                return;
            }
        }
        panic!("{left} bytes did not come in five seconds");
    }

    /// Checks that nothing is left once everybody has let go.
    pub fn finish(mut self) {
        let open: Vec<usize> = self.sockets.keys().copied().collect();
        for connection in open {
            self.peer.socket(self.sockets[&connection]).abort();
        }
        self.settle();
        self.tell();
        assert_eq!(self.poll.stack().flows(), 0, "{:?}", self.poll.stack().census());
    }
}

fn shown(event: &Event) -> String {
    let closed = event.closed();
    let failed = closed.is_some_and(|reason| reason != CloseReason::Finished);
    words([event.is_readable(), event.is_writable(), event.is_read_closed(), failed, closed.is_some()])
}
