//! `End`: a stack, its port and an application that opens, writes, reads, closes and aborts as it is told.

use std::net::{Ipv4Addr, SocketAddr};

use nic::{Queue, WireQueue};
use sidestep_stack::{
    CloseReason, Connect, DatagramHandler, DatagramPeer, DatagramReplies, Event, FlowId, Interest, Mac, NetStack, Poll,
    StackConfig, Time, Token, UnderWay, Woken,
};

use super::lab::family::{FAMILY, Family, in_ipv6};
use super::lab::{PORT, secrets};
use super::streams::{Reader, Streams};

/// Frames that a port may hold between turns: its reserve for answers.
const RESERVE_FRAMES: usize = 64;

/// The token of a connection from the other end, until it has a slot.
const NEW: Token = Token(usize::MAX);

/// Most flows that an application opens at a time; it takes as many as are opened by the other.
const MOST_OPEN: usize = 40;

/// What may be under way when a flow is told to sleep: of all but the last, it does not.
pub const MOMENTS: [&str; 11] = [
    "data in flight",
    "data unread",
    "data behind a hole",
    "a retransmission pending",
    "a closed window",
    "our FIN in flight",
    "the peer's FIN come",
    "an ACK owed",
    "a keep-alive unanswered",
    "larger rings",
    "asleep in FIN-WAIT-2",
];

/// What wakes a flow.
pub const WOKEN_BY: [&str; 10] = [
    "data",
    "a FIN",
    "what came before",
    "a keep-alive",
    "another window",
    "an ACK",
    "an RST",
    "a SYN",
    "its timer",
    "its application",
];

/// What an application does once it has written all that it wants to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Stay,
    Shutdown,
    Close,
}

/// One flow, as its application knows it.
#[derive(Debug)]
pub struct Talk {
    pub id: FlowId,
    key: Option<(SocketAddr, SocketAddr)>,
    out: Option<u64>,
    /// Bytes still to be written.
    pub left: usize,
    pub then: Then,
    /// Reads nothing.
    pub deaf: bool,
    reader: Reader,
    at_end: bool,
    shut: bool,
}

/// What was reported as closed, and must be looked into.
#[derive(Debug)]
pub struct Loss {
    pub reason: CloseReason,
    key: (SocketAddr, SocketAddr),
    out: Option<u64>,
    incoming: Option<u64>,
}

/// Sends back what it gets, or as much of it as one datagram holds.
#[derive(Debug, Default)]
struct Echo {
    datagrams: u64,
    /// Of those, the ones for whose answer no frame was left.
    refused: u64,
}

impl DatagramHandler for Echo {
    fn datagram(&mut self, _peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
        self.datagrams += 1;
        let payload = &payload[..payload.len().min(replies.max_payload())];
        let sent = replies.send(payload.len(), |room| {
            room.copy_from_slice(payload);
            payload.len()
        });
        self.refused += u64::from(sent.is_err());
    }
}

/// A stack with its application.
pub struct End {
    /// One core polls all queues.
    pub poll: Poll<WireQueue>,
    talks: Vec<Option<Talk>>,
    free: Vec<usize>,
    pub live: usize,
    /// Flows that ended otherwise than in order since [`End::lost`] was last emptied.
    pub lost: Vec<Loss>,
    /// By port: frames that wait for room to answer in.
    waiting: Vec<usize>,
    echo: Echo,
    pub events: u64,
    pub reasons: [u64; 7],
    /// How often flows were told to sleep while something of [`MOMENTS`] was under way.
    pub moments: [u64; MOMENTS.len()],
    peer: (Ipv4Addr, Mac),
    winds_up: bool,
}

impl End {
    pub fn new(config: StackConfig, seed: u8, queues: Vec<WireQueue>, peer: (Ipv4Addr, Mac)) -> Self {
        let flows = config.max_flows;
        let waiting = vec![0; queues.len()];
        let stack = NetStack::new(config, secrets(seed)).expect("a good configuration");
        let mut poll = Poll::new(stack, queues);
        poll.accept_each(NEW, Interest::EDGE);
        Self {
            poll,
            waiting,
            talks: (0..flows).map(|_| None).collect(),
            free: (0..flows).rev().collect(),
            live: 0,
            lost: Vec::new(),
            echo: Echo::default(),
            events: 0,
            reasons: [0; 7],
            moments: [0; MOMENTS.len()],
            peer,
            winds_up: false,
        }
    }

    /// One turn. Returns whether there was anything to do.
    pub fn turn(&mut self, now: Time, streams: &mut Streams) -> bool {
        let mut busy = false;
        let (stack, ports) = self.poll.parts_mut();
        for (index, port) in ports.iter_mut().enumerate() {
            let received = port.receive();
            self.waiting[index] = received - stack.ingest_datagrams(now, port, index, Some(&mut self.echo));
            busy |= received > 0;
        }
        self.poll.expire(now);
        while let Some(event) = self.poll.next_event() {
            self.events += 1;
            busy = true;
            self.hear(&event, streams);
        }
        busy |= self.poll.send(now).expect("a wire is never gone") > 0 || self.poll.unsent() > 0;
        busy || self.poll.stack().has_work()
    }

    fn hear(&mut self, event: &Event, streams: &mut Streams) {
        let id = event.flow();
        let slot = match event.token() {
            NEW => {
                assert!(event.is_new() && event.closed().is_none(), "{event:?} of a flow that is not known");
                let slot = self.begin(id);
                assert!(self.poll.register(id, Token(slot), Interest::EDGE), "it was just told of");
                slot
            }
            Token(slot) => slot,
        };
        let talk = self.talks[slot].as_ref().expect("nothing is told of a flow that was let go");
        assert_eq!(talk.id, id, "the event of another flow");
        if let Some(reason) = event.closed() {
            assert!(self.poll.flow(id).is_none(), "a closed flow's id is dead");
            return self.closed(slot, reason, streams);
        }
        self.visit(slot, streams);
    }

    /// A slot for a new flow.
    fn begin(&mut self, id: FlowId) -> usize {
        let slot = self.free.pop().expect("there are no more flows than the stack may have");
        self.live += 1;
        let reader = Reader::default();
        let (key, out, then) = (None, None, Then::Stay);
        self.talks[slot] = Some(Talk { id, key, out, left: 0, then, deaf: false, reader, at_end: false, shut: false });
        slot
    }

    fn closed(&mut self, slot: usize, reason: CloseReason, streams: &mut Streams) {
        let talk = self.let_go(slot);
        self.reasons[reason as usize] += 1;
        let failed = self.poll.stack().stats().rings_failed;
        assert_ne!(
            reason,
            CloseReason::Contained,
            "the protocol code has panicked over {talk:?}, or {failed} moves failed"
        );
        if reason == CloseReason::Finished {
            // What came last was read before the end was reported, unless the application did not want it.
            if !talk.deaf && talk.shut && !talk.at_end {
                streams.at_end(&talk.reader);
            }
        } else if let Some(key) = talk.key {
            self.lost.push(Loss { reason, key, out: talk.out, incoming: talk.reader.stream() });
        }
    }

    fn let_go(&mut self, slot: usize) -> Talk {
        self.free.push(slot);
        self.live -= 1;
        self.talks[slot].take().expect("it was live")
    }

    /// Reads and writes what can be, and goes on to what follows.
    pub fn visit(&mut self, slot: usize, streams: &mut Streams) {
        let Some(talk) = &mut self.talks[slot] else { return };
        if self.winds_up {
            talk.deaf = false;
            if talk.then == Then::Stay {
                talk.then = Then::Shutdown;
            }
        }
        // Its end may be known to the stack and not yet reported.
        let Some(mut flow) = self.poll.flow(talk.id) else { return };
        let key = *talk.key.get_or_insert_with(|| (flow.local(), flow.peer()));
        while !talk.deaf && flow.recv_queue() > 0 {
            flow.recv(|bytes| {
                streams.read(&mut talk.reader, key, bytes);
                (bytes.len(), ())
            });
        }
        if flow.peer_closed() && flow.recv_queue() == 0 && !talk.at_end {
            talk.at_end = true;
            streams.at_end(&talk.reader);
        }
        while talk.left > 0 && flow.send_room() > 0 {
            let out = *talk.out.get_or_insert_with(|| streams.begin(key.0, key.1));
            let left = talk.left;
            talk.left -= flow.send(|room| {
                let count = room.len().min(left);
                streams.write(out, &mut room[..count]);
                (count, count)
            });
        }
        if talk.left > 0 || talk.then == Then::Stay {
            return;
        }
        if let Some(out) = talk.out {
            streams.end(out);
        }
        if !std::mem::replace(&mut talk.shut, true) {
            self.poll.shutdown(talk.id);
        }
        if talk.then == Then::Close || talk.at_end {
            if let Some(flow) = self.poll.flow(talk.id) {
                flow.close();
            }
            self.let_go(slot);
        }
    }

    /// The live flow at or behind `from`, if there is one.
    pub fn pick(&self, from: u64) -> Option<usize> {
        // The lowest are taken first.
        let count = self.talks.len().min(2 * MOST_OPEN);
        let from = from as usize % count;
        (from..count).chain(0..from).find(|&slot| self.talks[slot].is_some())
    }

    pub fn talk(&mut self, slot: usize) -> &mut Talk {
        self.talks[slot].as_mut().expect("it is live")
    }

    /// Asks for a connection to the other end. Returns whether there is one to come.
    pub fn open(&mut self, now: Time, known: bool, bytes: usize) -> bool {
        // Where there are both families, each second connection is of IPv6, once addresses are in use.
        let of_ipv6 = FAMILY == Family::Mixed && self.free.len() % 2 == 1;
        let address = if of_ipv6 { in_ipv6(self.peer.0).into() } else { self.peer.0.into() };
        let mut wanted = Connect::to(SocketAddr::new(address, PORT));
        wanted.mac = known.then_some(self.peer.1);
        if self.live >= MOST_OPEN {
            return false;
        }
        let Some(&slot) = self.free.last() else { return false };
        wanted.token = Token(slot);
        // No free port, no free flow: an application hears of both.
        let Ok(id) = self.poll.connect(now, &wanted, |_| true) else { return false };
        assert_eq!(self.begin(id), slot);
        self.talk(slot).left = bytes;
        true
    }

    /// Has every flow sleep that rests, whatever is under way.
    pub fn lay_down(&mut self) {
        self.poll.stack_mut().lay_all_down();
        let UnderWay { sent, unread, hole, sent_again, closed_window, fin_sent, fin_received, ack_owed, .. } =
            self.poll.stack().under_way();
        let UnderWay { asked, enlarged, asleep_closed, .. } = self.poll.stack().under_way();
        let found = [
            sent,
            unread,
            hole,
            sent_again,
            closed_window,
            fin_sent,
            fin_received,
            ack_owed,
            asked,
            enlarged,
            asleep_closed,
        ];
        self.moments.iter_mut().zip(found).for_each(|(moment, found)| *moment += found);
    }

    /// By what flows that slept were woken.
    pub fn woken(&self) -> [u64; WOKEN_BY.len()] {
        let Woken { data, fin, repeated, keep_alive, window, bare, reset, syn, timer, application } =
            self.poll.stack().stats().woken_by;
        [data, fin, repeated, keep_alive, window, bare, reset, syn, timer, application]
    }

    /// Throws a flow away.
    pub fn abort(&mut self, slot: usize) {
        let id = self.let_go(slot).id;
        if let Some(flow) = self.poll.flow(id) {
            flow.abort();
        }
    }

    /// From now on everybody reads, and closes once all is written; or does as is said again.
    pub fn wind_up(&mut self, winds_up: bool, streams: &mut Streams) {
        self.winds_up = winds_up;
        // Each is visited once: what happens then is reported, or does not happen.
        (0..self.talks.len()).for_each(|slot| self.visit(slot, streams));
    }

    /// Whether a flow that has ended at the other end is alive and well at this one.
    pub fn is_alive(&mut self, loss: &Loss) -> bool {
        let (own, peer) = (loss.key.1, loss.key.0);
        let same = |talk: &&Talk| {
            let sent_to_it = loss.incoming.is_some() && talk.out == loss.incoming;
            let heard_it = loss.out.is_some() && talk.reader.stream() == loss.out;
            talk.key == Some((own, peer)) && (sent_to_it || heard_it)
        };
        let Some(id) = self.talks.iter().flatten().find(same).map(|talk| talk.id) else { return false };
        self.poll.flow(id).is_some()
    }

    /// Checks what must hold between any two turns.
    pub fn check(&mut self, now: Time) {
        let census = self.poll.stack().census();
        let alive = census.half_open + census.connecting + census.open + census.closing;
        assert_eq!(census.table, alive, "the table and the flows: {census:?}");
        let without = census.half_open + census.asleep;
        assert_eq!(census.free + alive + census.dead - without, census.blocks, "blocks: {census:?}");
        assert!(census.timers <= alive, "timers of no flow: {census:?}");
        assert_eq!(self.poll.stack_mut().lost_timers(now), 0, "a timer is lost: {census:?}");
        for (port, waiting) in self.poll.ports().iter().zip(&self.waiting) {
            let frames = port.queue().census();
            let most = RESERVE_FRAMES + port.unsent() + waiting;
            assert!(frames.held <= most, "{frames:?}, {} unsent", port.unsent());
            assert_eq!(frames.free + frames.fill + frames.tx + frames.held, frames.total, "{frames:?}");
        }
        let (taken, all) = self.poll.stack().ring_bytes();
        assert!(taken <= all, "{taken} of {all} bytes of rings");
        assert!(self.poll.flows() <= self.poll.stack().config().max_flows);
        let stats = self.poll.stack().stats();
        let echo = (stats.datagrams, stats.datagrams_sent, stats.datagrams_refused);
        assert_eq!(echo, (self.echo.datagrams, self.echo.datagrams - self.echo.refused, self.echo.refused));
    }

    /// Checks what must hold when neither has anything to do.
    pub fn check_at_rest(&self) {
        let census = self.poll.stack().census();
        assert_eq!((census.ready, census.touched, census.dead), (0, 0, 0), "{census:?}");
        assert_eq!(census.open + census.connecting, self.live, "flows that nobody knows: {census:?}");
        assert_eq!(self.poll.stack().stats().rings_failed, 0);
    }

    /// What the application knows, where something is wrong.
    pub fn talks(&mut self) -> String {
        let mut lines = String::new();
        for talk in self.talks.iter().flatten() {
            let flow = self.poll.flow(talk.id).map(|mut flow| {
                let (queued, room) = (flow.recv_queue(), flow.send_room());
                format!("{queued} to read, {} to send, room {room}, {}", flow.send_queue(), flow.peer_closed())
            });
            lines += &format!("{talk:?}: {flow:?}\n");
        }
        lines
    }

    /// Checks that nothing is left.
    pub fn check_nothing_left(&self) {
        let census = self.poll.stack().census();
        assert_eq!(census.free, census.blocks, "{census:?}");
        assert_eq!((census.table, census.timers, census.time_wait, self.live), (0, 0, 0, 0), "{census:?}");
        assert_eq!((census.resolving, census.waiting, census.strays), (0, 0, 0), "{census:?}");
        assert_eq!(self.poll.stack().ring_bytes().0, 0, "rings");
        assert_eq!(self.poll.unsent(), 0);
        // Each connection that was opened has ended in one way, which was counted once.
        let stats = self.poll.stack().stats();
        let unhappy = stats.resets + stats.timed_out + stats.gave_way + stats.contained;
        assert_eq!(stats.opened, stats.finished + stats.aborted + unhappy, "{stats:?}");
    }
}
