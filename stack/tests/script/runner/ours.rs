//! Our stack as a host: on an in-memory wire, with a virtual clock that jumps from event to event.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use nic::{PortConfig, QueueId, Rss, Wire};
use sidestep_stack::{
    CloseReason, Connect, ConnectError, Ends as FlowEnds, FlowId, Interest, RecordedIsns, Rings, StackConfig, Time,
    Token,
};

use super::host::{Host, Outcome, Tolerance};
use super::packet::{Ends, pattern};
use super::parse::Script;
use super::syntax::{Call, Reason, State, What};
use super::v6::build;
use crate::lab::arp::{REPLY, arp, asked};
use crate::lab::station::Station;
use crate::lab::udp::Echo;
use crate::lab::{App, OWN, PEER, PORT, Server, THEM, US, config};

/// Turns at one moment that no real work takes.
const TURNS_MAX: usize = 1_000;

/// The least step of time.
const STEP: Duration = Duration::from_micros(100);

/// The port at which datagrams are taken, and sent back.
const UDP_PORT: u16 = 7;

/// The port that connections of ours come from.
const SOURCE_PORT: u16 = 40_000;

/// A connection, as its application sees it.
#[derive(Debug, Clone, Copy, Default)]
struct Connection {
    id: Option<FlowId>,
    active: bool,
    opened: bool,
    accepted: bool,
    readable: bool,
    writable: bool,
    closed: Option<CloseReason>,
    /// It was told that the peer has closed its direction, while the flow was there.
    read_closed: bool,
    sent: usize,
    received: usize,
}

impl Connection {
    /// Whether it was told that the peer has closed its direction, and then that all is over.
    fn is_over(&self) -> bool {
        self.read_closed && self.closed == Some(CloseReason::Finished)
    }
}

/// Our stack, and the application of the script.
pub struct Ours {
    wire: Wire,
    server: Server,
    station: Station,
    frames: VecDeque<(Duration, Vec<u8>)>,
    /// By the peer's port.
    connections: HashMap<u16, Connection>,
    connects: bool,
    /// The peer and this host.
    ends: Ends,
    shows_neighbors: bool,
    /// When the script begins, by the wire's clock.
    begins: Duration,
}

/// What a stack takes to test its address of IPv6 (RFC 4862 §5.4) and to say that it has it; a script begins behind that.
const ADDRESS_TAKES: Duration = Duration::from_secs(5);

/// The peer's address and ours over IPv6.
const THEM_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const US_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

impl Ours {
    /// A host as the script wants it.
    ///
    /// # Errors
    /// A setting that there is not.
    pub fn new(script: &Script) -> Result<Self, String> {
        let (them, us): (IpAddr, IpAddr) = match (script.settings.v6, script.settings.peer) {
            (true, peer) => (peer.unwrap_or(THEM_V6).into(), US_V6.into()),
            (false, _) => (THEM.into(), US.into()),
        };
        let mut settings = if us.is_ipv4() { config() } else { StackConfig::new(us, 64, OWN) };
        (settings.ports, settings.udp_ports) = (vec![PORT], vec![UDP_PORT]);
        (settings.max_flows, settings.flows_at_start) = (8, 8);
        (settings.time_wait_records, settings.neighbors) = (16, 16);
        if !script.listens() {
            settings.ports.clear();
        }
        for (name, value) in &script.settings.stack {
            set(&mut settings, name, value).map_err(|error| format!("{}: --{name}={value}: {error}", script.path))?;
        }
        let (wire, ours, theirs) = Wire::pair(small_port(), small_port(), 1).expect("a wire");
        let queue = ours.take_queue(QueueId(0)).expect("opened once");
        let mut server = Server::new(settings, vec![queue], App::Record);
        // Of room it hears when it has found none.
        server.poll.accept_each(Token(0), Interest::READABLE);
        let station = Station::new(theirs.take_queue(QueueId(0)).expect("opened once"));
        let connects = script.connects();
        let ends = Ends { peer_mac: PEER.0, host_mac: OWN.0, peer: them, host: us };
        if let Some(isn) = script.settings.isn {
            server.poll.stack_mut().use_recorded_isns(recorded(
                &ends,
                isn,
                script.settings.peer_isn.unwrap_or(100_000),
            ));
        }
        let (frames, connections) = (VecDeque::new(), HashMap::new());
        let shows_neighbors = script.settings.shows_neighbors || script.comes_up();
        let mut ours = Self {
            wire,
            server,
            station,
            frames,
            connections,
            connects,
            ends,
            shows_neighbors,
            begins: Duration::ZERO,
        };
        if us.is_ipv6() && !script.comes_up() {
            ours.wait_for_the_address();
        }
        Ok(ours)
    }

    /// Lets the time pass after which the stack has its address.
    fn wait_for_the_address(&mut self) {
        while self.now() < ADDRESS_TAKES {
            self.wait(ADDRESS_TAKES);
            self.frames.clear();
        }
        self.begins = ADDRESS_TAKES;
    }

    /// The time by the wire's clock, which the stack knows.
    fn time(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    /// Turns at the present moment until nothing is left to do.
    fn settle(&mut self) {
        for _ in 0..TURNS_MAX {
            let now = self.time();
            self.server.turn_with_datagrams(now, &mut Echo);
            self.note_events();
            let asked = self.look();
            let due = self.wire.next_due().is_some_and(|due| due <= self.wire.clock().now());
            if !asked && !due && !self.server.poll.stack().has_work() {
                return;
            }
        }
        panic!("no rest after {TURNS_MAX} turns: {:?}", self.server.poll.stack().census());
    }

    /// Takes what the stack has sent, and answers ARP and solicitations as any peer would, where the script does not itself;
    /// whether there was anything to answer.
    fn look(&mut self) -> bool {
        let now = self.now();
        let mut frames = Vec::new();
        self.station.receive(|frame| frames.push(frame.to_vec()));
        let mut answered = false;
        for question in asked(&frames).iter().filter(|question| question.target == THEM) {
            answered = true;
            let mut answer = arp(REPLY, (question.target, PEER), US);
            answer[..6].copy_from_slice(&OWN.0);
            self.station.send(&answer);
        }
        if let (IpAddr::V6(peer), false) = (self.ends.peer, self.shows_neighbors) {
            for answer in frames.iter().filter_map(|frame| build::answer(frame, peer, PEER.0)) {
                answered = true;
                self.station.send(&answer);
            }
        }
        let is_kept = |frame: &Vec<u8>| match frame[12..14] {
            [8, 0] => true,
            [0x86, 0xdd] => !build::is_said_whenever(frame) && (self.shows_neighbors || !build::is_ndp(frame)),
            _ => false,
        };
        self.frames.extend(frames.into_iter().filter(is_kept).map(|frame| (now, frame)));
        answered
    }

    fn note_events(&mut self) {
        for event in std::mem::take(&mut self.server.events) {
            let id = event.flow();
            let known =
                self.connections.iter().find(|(_, connection)| connection.id == Some(id)).map(|(&port, _)| port);
            let port = known.or_else(|| self.server.poll.flow(id).map(|flow| flow.peer().port()));
            // One that was reset before its application could look.
            let Some(port) = port else { continue };
            let connection = self.connections.entry(port).or_default();
            if connection.id != Some(id) {
                *connection = Connection { id: Some(id), ..Connection::default() };
            }
            connection.opened |= event.is_new();
            connection.readable |= event.is_readable();
            connection.writable |= event.is_writable();
            connection.closed = connection.closed.or(event.closed());
            connection.read_closed |= event.is_read_closed() && event.closed().is_none();
            if event.is_writable()
                && let Some(mut flow) = self.server.poll.flow(id)
            {
                flow.set_interest(Interest::READABLE);
            }
        }
    }

    fn connect(&mut self, port: u16) -> Outcome {
        let mut connect = Connect::to(SocketAddr::new(self.ends.peer, port));
        connect.source_port = Some(SOURCE_PORT);
        connect.mac = (!self.shows_neighbors).then_some(PEER);
        connect.interest = Interest::READABLE;
        let now = self.time();
        match self.server.poll.connect(now, &connect, |_| true) {
            Ok(id) => {
                let connection = Connection { id: Some(id), active: true, ..Connection::default() };
                self.connections.insert(port, connection);
                Outcome::Done
            }
            Err(ConnectError::NoRoute { .. }) => Outcome::None,
            Err(error) => Outcome::Failed(error.to_string()),
        }
    }

    /// Where the only connection is.
    fn state(&self) -> Outcome {
        let census = self.server.poll.stack().census();
        let counts = [
            (census.connecting, State::Connecting),
            (census.half_open, State::HalfOpen),
            (census.open, State::Open),
            (census.closing, State::Closing),
            (census.time_wait, State::TimeWait),
        ];
        match counts.iter().filter(|(count, _)| *count > 0).collect::<Vec<_>>()[..] {
            [] => Outcome::State(State::None),
            [&(1, state)] => Outcome::State(state),
            ref several => Outcome::Failed(format!("several connections: {several:?}")),
        }
    }

    fn seen(&mut self, port: u16, what: &What) -> Outcome {
        let connects = self.connects;
        let Some(connection) = self.connections.get_mut(&port) else { return Outcome::None };
        let said = |yes: bool| if yes { Outcome::Done } else { Outcome::None };
        match what {
            What::Accept(_) => {
                let first = connection.opened && !connection.accepted && !connects;
                connection.accepted |= first;
                said(first)
            }
            What::Opened => said(connection.opened && connection.active && connection.closed.is_none()),
            What::Readable(_) => said(std::mem::take(&mut connection.readable)),
            What::Writable(_) => said(std::mem::take(&mut connection.writable)),
            _ => match connection.closed {
                Some(CloseReason::Finished) => Outcome::Ended(Reason::Finished),
                Some(CloseReason::Reset) => Outcome::Ended(Reason::Reset),
                Some(CloseReason::TimedOut) => Outcome::Ended(Reason::TimedOut),
                Some(CloseReason::Refused) => Outcome::Ended(Reason::Refused),
                Some(CloseReason::Unreachable) => Outcome::Ended(Reason::Unreachable),
                Some(other) => Outcome::Failed(format!("{other:?}")),
                None => Outcome::None,
            },
        }
    }

    /// What the application does with the flow itself.
    fn act(&mut self, port: u16, what: &What) -> Outcome {
        let Some(connection) = self.connections.get_mut(&port) else {
            return Outcome::Failed("there is no such connection".to_owned());
        };
        let Some(mut flow) = connection.id.and_then(|id| self.server.poll.flow(id)) else {
            return after_end(connection, what);
        };
        match *what {
            What::Send(bytes, _) => {
                let data: Vec<u8> = (connection.sent..connection.sent + bytes).map(pattern).collect();
                let sent = flow.send_slice(&data);
                // Full or not, it wants to know when there is room again, if there is less than half of the ring.
                if flow.send_room() < flow.send_capacity() / 2 {
                    flow.set_interest(Interest::EDGE);
                }
                connection.sent += sent;
                Outcome::Bytes(sent)
            }
            What::Recv(limit, _) => {
                let mut taken = 0;
                let mut wrong = None;
                while taken < limit && flow.recv_queue() > 0 {
                    let from = connection.received;
                    let count = flow.recv(|bytes| {
                        let count = bytes.len().min(limit - taken);
                        let right = |(at, &byte): (usize, &u8)| byte == pattern(from + at);
                        if !bytes[..count].iter().enumerate().all(right) {
                            wrong = Some(from);
                        }
                        (count, count)
                    });
                    taken += count;
                    connection.received += count;
                }
                match wrong {
                    Some(from) => Outcome::Failed(format!("bytes from {from} on are not those that were sent")),
                    None if taken > 0 => Outcome::Bytes(taken),
                    None if flow.peer_closed() => Outcome::End,
                    None => Outcome::None,
                }
            }
            What::Shutdown => {
                if let Some(id) = connection.id {
                    self.server.poll.shutdown(id);
                }
                Outcome::Done
            }
            What::Close => {
                flow.close();
                Outcome::Done
            }
            _ => {
                flow.abort();
                Outcome::Done
            }
        }
    }

    /// Ends the script: all connections are thrown away, the peer says nothing more, and nothing may be left.
    pub fn end(mut self) {
        let ids: Vec<_> = self.connections.values().filter_map(|connection| connection.id).collect();
        for id in ids {
            if let Some(flow) = self.server.poll.flow(id) {
                flow.abort();
            }
        }
        let end = self.now() + Duration::from_secs(200);
        while self.now() < end {
            self.wait(end);
            self.frames.clear();
        }
        self.server.events.clear();
        self.server.assert_nothing_open();
        assert_eq!(self.server.poll.stack().stats().contained, 0, "a flow was thrown away because of a panic");
        assert_eq!(self.server.poll.stack().census().time_wait, 0);
    }
}

impl Host for Ours {
    fn ends(&self) -> Ends {
        self.ends
    }

    fn ports(&self, peer: u8) -> (u16, u16) {
        (5_000 + u16::from(peer), if self.connects { SOURCE_PORT } else { PORT })
    }

    fn now(&self) -> Duration {
        self.wire.clock().now() - self.begins
    }

    fn take(&mut self, frame: &[u8]) {
        self.station.send(frame);
        self.settle();
    }

    fn call(&mut self, call: &Call) -> Outcome {
        let port = self.ports(call.peer).0;
        let outcome = match &call.what {
            // The stack does so in its first turn.
            What::Up => Outcome::Done,
            What::Listen => Outcome::Done,
            What::Connect(_) => self.connect(port),
            What::State(_) => self.state(),
            What::Accept(_) | What::Opened | What::Readable(_) | What::Writable(_) | What::Closed(_) => {
                self.seen(port, &call.what)
            }
            what => self.act(port, what),
        };
        self.settle();
        outcome
    }

    fn sent(&mut self) -> Option<(Duration, Vec<u8>)> {
        self.frames.pop_front()
    }

    fn wait(&mut self, until: Duration) {
        while self.now() < until && self.frames.is_empty() {
            let now = self.now();
            let timer = self.server.poll.stack().next_deadline(self.time()).map(|span| now + span);
            let due = self.wire.next_due().map(|due| due - self.begins);
            let next = [timer, due].into_iter().flatten().min().unwrap_or(until);
            self.wire.clock().set(self.begins + next.clamp(now + STEP.min(until - now), until));
            self.settle();
        }
    }

    fn tolerance(&self) -> Tolerance {
        // A tick of the timer wheel is a millisecond.
        Tolerance { early: Duration::ZERO, late: Duration::from_millis(2), ever: Duration::from_secs(3_600) }
    }
}

/// A port with as few frames as a script needs: there are hundreds of scripts, each with a wire of its own.
fn small_port() -> PortConfig {
    // Its tables take longer to make than a script to play.
    static RSS: LazyLock<Rss> = LazyLock::new(|| Rss::new(1));
    let rss = Some(RSS.clone());
    PortConfig { rx_ring: 128, tx_ring: 128, frames: 384, in_flight_frames: 384, rss, ..PortConfig::default() }
}

/// What is left to do once the flow is gone: where both ends have closed, and all is read, `Poll` lets go of it by itself, and
/// its end was told.
fn after_end(connection: &Connection, what: &What) -> Outcome {
    match what {
        What::Recv(..) if connection.is_over() => Outcome::End,
        What::Close if connection.is_over() => Outcome::Done,
        _ => Outcome::Failed(format!("it is closed: {:?}", connection.closed)),
    }
}

/// Our first sequence number will be `isn`, for whichever port of the peer's whose SYN has the number `syn`.
fn recorded(ends: &Ends, isn: u32, syn: u32) -> RecordedIsns {
    let mut recorded = RecordedIsns::default();
    for peer in 1..=9 {
        let ends = FlowEnds { remote: ends.peer, local: ends.host, remote_port: 5_000 + peer, local_port: PORT };
        recorded.insert(ends, syn, isn);
    }
    recorded
}

fn set(settings: &mut StackConfig, name: &str, value: &str) -> Result<(), String> {
    let count = || value.parse::<usize>().map_err(|error| error.to_string());
    let span = || value.parse::<f64>().map(Duration::from_secs_f64).map_err(|error| error.to_string());
    match name {
        "rings" => {
            let (rx, tx) = value.split_once('+').ok_or("receive+transmit")?;
            let bytes = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
            settings.rings = Rings { rx: bytes(rx)?, tx: bytes(tx)? };
        }
        "mtu" => settings.ip_mtu = count()?,
        "syn_queue" => settings.syn_queue = count()?,
        "max_flows" => (settings.max_flows, settings.flows_at_start) = (count()?, count()?),
        "time_wait_records" => settings.time_wait_records = count()?,
        "time_wait" => settings.time_wait = span()?,
        "handshake_timeout" => settings.handshake_timeout = span()?,
        "connect_timeout" => settings.connect_timeout = span()?,
        "give_up_timeout" => settings.give_up_timeout = span()?,
        "fin_wait_2_timeout" => settings.fin_wait_2_timeout = span()?,
        "linger_timeout" => settings.linger_timeout = span()?,
        "idle_timeout" => settings.idle_timeout = Some(span()?),
        // 0: none.
        "keep_alive" => settings.keep_alive = Some(span()?).filter(|span| !span.is_zero()),
        _ => return Err("there is no such setting".to_owned()),
    }
    Ok(())
}
