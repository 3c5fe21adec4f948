//! `Player`: one worker on a wire, fed the frames of recorded clients at the times at which they were recorded.
//!
//! The frames are played as they are. Two things a recorded client cannot do, so the player does them:
//! - It cannot wait. A frame that acknowledges more than our stack has sent, or that has more than our stack has room
//!   for, is held back, and with it all that follow, until our stack has caught up.
//! - It cannot acknowledge what our stack cut otherwise. While a frame is held back, what our stack has sent is
//!   acknowledged, so that it may send the rest; the recorded client had that and more.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufWriter;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cache::{CacheConfig, Core, Now, ServerFacts, ShardConfig};
use nic::{Doorbell, PcapRecorder, PortConfig, Queue, QueueId, RxBurst, TxBurst, Wire, WireQueue};
use sidestep_cached::{Admission, Connections, Losses, StrayRing, Worker};
use stack::{Mac, NetStack, Rings, Secrets, StackConfig, Time};

use super::error::ReplayError;
use super::recording::{ClientFrame, Recording};
use super::segment::{ACK, FIN, RST, SYN, Segment, Sum};
use super::stream::Stream;

/// The worker's station.
const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// The station of clients whose own is none, as on some virtual links.
const CLIENT: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// Tries to play a frame that is held back, before it is played all the same.
const TRIES: usize = 10_000;

/// How long a frame is held back at most, in the session's time.
const HOLD: Duration = Duration::from_secs(1);

/// Turns at one moment that no real work takes.
const TURNS: usize = 100_000;

/// One connection as it is played.
#[derive(Debug, Default)]
struct PlayedConnection {
    begun: bool,
    /// What our stack has sent.
    said: Stream,
    /// End of the highest segment that our stack has sent.
    sent: u32,
    /// Acknowledgement number and window of its last segment.
    told: Option<(u32, u16)>,
    /// The highest acknowledgement that was played.
    acknowledged: u32,
    /// Either end has reset the connection.
    reset: bool,
    /// The client's last frame with an acknowledgement.
    last: Option<Vec<u8>>,
}

/// One worker on a wire, and the connections to it.
#[derive(Debug)]
pub struct Player {
    wire: Wire,
    worker: Worker<WireQueue>,
    far: WireQueue,
    rx: RxBurst,
    tx: TxBurst,
    /// By dialogue.
    connections: Vec<PlayedConnection>,
    current: HashMap<SocketAddr, usize>,
    /// The whole second in which the recording begins.
    epoch: Duration,
    /// The wire's time by then, which begins at 0.
    lead: Duration,
    recorder: Option<PcapRecorder<BufWriter<File>>>,
}

/// What our stack takes to test its address of IPv6 before it uses it (RFC 4862 §5.4), and more.
const ADDRESS_TAKES: Duration = Duration::from_secs(5);

/// Whether `a` is after `b`, as sequence numbers go.
fn after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

impl Player {
    /// A worker at `server` with an empty cache of `memory_bytes`, ready to play `recording`. Its frames go to
    /// `recorder`.
    ///
    /// # Errors
    /// The worker cannot be made: an address no host can have, too little memory.
    pub fn new(
        recording: &Recording,
        server: SocketAddr,
        memory_bytes: u64,
        recorder: Option<PcapRecorder<BufWriter<File>>>,
    ) -> Result<Self, ReplayError> {
        let flows = recording.dialogues.len().max(64);
        let shard = ShardConfig { memory_bytes: memory_bytes as usize, ..ShardConfig::default() };
        let facts = ServerFacts { tcp_port: server.port(), ..ServerFacts::default() };
        let config = CacheConfig { shard, connections_per_core: flows, server: facts, ..CacheConfig::default() };
        // Nobody else reads what is played, so the keys need not be secret.
        let cache = Core::mesh(&config, [0; 16])?.into_iter().next();
        let mut config = StackConfig::new(server.ip(), if server.is_ipv4() { 8 } else { 64 }, Mac(OWN));
        config.ports = vec![server.port()];
        config.max_flows = flows;
        // The largest, so that frames are held back as rarely as can be.
        config.rings = Rings { rx: 65_535, tx: 65_535 };
        let mut stack = NetStack::new(config, Secrets::from_bytes([0; 32]))?;
        stack.use_recorded_isns(recording.isns(server));
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 0)?;
        let doorbell = Doorbell::new();
        let doorbell = doorbell.map_err(|source| ReplayError::System { what: "make a doorbell".to_owned(), source })?;
        let doorbells = vec![Arc::new(doorbell)];
        let strays = StrayRing::of(&doorbells, 2048)?.into_iter().next();
        let (Some(cache), Some(strays)) = (cache, strays) else {
            unreachable!("a mesh and a ring of one core have one place")
        };
        let connections = Connections::new(flows, Arc::new(Admission::new(flows)));
        let (queues, losses) = (vec![ours.take_queue(QueueId(0))?], Arc::new(Losses::new(1)));
        let worker = Worker::new(queues, stack, cache, connections, strays, &doorbells, &losses);
        let begin = recording.frames.first().map_or(Duration::ZERO, |frame| frame.at);
        Ok(Self {
            wire,
            worker,
            far: theirs.take_queue(QueueId(0))?,
            rx: RxBurst::default(),
            tx: TxBurst::default(),
            connections: recording.dialogues.iter().map(|_| PlayedConnection::default()).collect(),
            current: HashMap::new(),
            epoch: Duration::from_secs(begin.as_secs()),
            lead: if server.is_ipv6() { ADDRESS_TAKES } else { Duration::ZERO },
            recorder,
        })
    }

    /// Plays the whole recording. `show` gets a line of text for each frame, in and out.
    ///
    /// # Errors
    /// The worker could not go on.
    pub fn play(&mut self, recording: &Recording, mut show: impl FnMut(&str)) -> Result<(), ReplayError> {
        for frame in &recording.frames {
            let dialogue = &recording.dialogues[frame.dialogue];
            let Some(isn) = dialogue.isn else { continue };
            let connection = &mut self.connections[frame.dialogue];
            if !connection.begun {
                let first = isn.wrapping_add(1);
                *connection = PlayedConnection {
                    begun: true,
                    said: Stream::new(first),
                    sent: isn,
                    acknowledged: isn,
                    ..PlayedConnection::default()
                };
                self.current.insert(dialogue.client, frame.dialogue);
            }
            self.pass_time(frame.at.saturating_sub(self.epoch) + self.lead, &mut show)?;
            self.deliver(frame, &mut show)?;
        }
        self.settle(recording, &mut show)
    }

    /// What our stack has said on each connection, and the recorder of its frames.
    pub fn finish(self) -> (Vec<Stream>, Option<PcapRecorder<BufWriter<File>>>) {
        (self.connections.into_iter().map(|connection| connection.said).collect(), self.recorder)
    }

    /// Lets time pass until `to`, with the worker's timers.
    fn pass_time(&mut self, to: Duration, show: &mut impl FnMut(&str)) -> Result<(), ReplayError> {
        loop {
            let here = self.wire.clock().now();
            let wait = self.worker.poll.stack().next_deadline(Time::from_duration(here));
            match wait.map(|wait| here + wait.max(Duration::from_micros(1))).filter(|at| *at < to) {
                Some(at) => {
                    self.wire.clock().set(at);
                    self.turns(show)?;
                }
                None => {
                    self.wire.clock().set(to);
                    return Ok(());
                }
            }
        }
    }

    /// Plays a frame once our stack is where it may come.
    fn deliver(&mut self, frame: &ClientFrame, show: &mut impl FnMut(&str)) -> Result<(), ReplayError> {
        let Some(segment) = Segment::of(&frame.bytes) else { return Ok(()) };
        let begin = self.wire.clock().now();
        for _ in 0..TRIES {
            let connection = &self.connections[frame.dialogue];
            if is_due(connection, &segment) || self.wire.clock().now() > begin + HOLD {
                break;
            }
            self.catch_up(frame.dialogue, &segment, &frame.bytes, show)?;
        }
        let connection = &mut self.connections[frame.dialogue];
        if segment.sum != Sum::Wrong {
            if segment.has(ACK) {
                if after(segment.ack, connection.acknowledged) {
                    connection.acknowledged = segment.ack;
                }
                connection.last = Some(frame.bytes.clone());
            }
            connection.reset |= segment.has(RST);
        }
        self.feed(frame.dialogue, &frame.bytes, "", show)
    }

    /// Acknowledges what our stack has sent on a connection, or lets its next timer fire.
    fn catch_up(
        &mut self,
        dialogue: usize,
        segment: &Segment,
        frame: &[u8],
        show: &mut impl FnMut(&str),
    ) -> Result<(), ReplayError> {
        let connection = &mut self.connections[dialogue];
        if after(connection.sent, connection.acknowledged) && !after(connection.sent, segment.ack) {
            connection.acknowledged = connection.sent;
            let ack = segment.acknowledging(frame, connection.sent);
            return self.feed(dialogue, &ack, " (the player's)", show);
        }
        let here = self.wire.clock().now();
        let wait = self.worker.poll.stack().next_deadline(Time::from_duration(here)).unwrap_or(HOLD);
        self.wire.clock().advance(wait.clamp(Duration::from_micros(1), HOLD));
        self.turns(show)
    }

    /// Ends the session: acknowledges what our stack sends as long as the recorded server has said more.
    fn settle(&mut self, recording: &Recording, show: &mut impl FnMut(&str)) -> Result<(), ReplayError> {
        self.turns(show)?;
        for (number, dialogue) in recording.dialogues.iter().enumerate() {
            for _ in 0..TRIES {
                let connection = &mut self.connections[number];
                let wanting = connection.begun
                    && !connection.reset
                    && connection.said.bytes().len() < dialogue.said.bytes().len();
                let Some(last) =
                    connection.last.clone().filter(|_| wanting && after(connection.sent, connection.acknowledged))
                else {
                    break;
                };
                let Some(mut segment) = Segment::of(&last) else { break };
                connection.acknowledged = connection.sent;
                segment.seq = segment.end();
                let ack = segment.acknowledging(&last, connection.sent);
                self.feed(number, &ack, " (the player's)", show)?;
            }
        }
        Ok(())
    }

    /// Sends a frame to the worker and lets it work.
    fn feed(
        &mut self,
        dialogue: usize,
        bytes: &[u8],
        note: &str,
        show: &mut impl FnMut(&str),
    ) -> Result<(), ReplayError> {
        if let Some(segment) = Segment::of(bytes) {
            show(&self.shown(dialogue, &segment, true, note));
        }
        let Some(mut frame) = self.far.tx_alloc() else { unreachable!("every frame sent before has left") };
        if frame.resize(bytes.len()).is_err() {
            // Longer than any link's: `Segment::as_sent` has cut all but what was damaged.
            self.far.free(frame);
            return Ok(());
        }
        let place = frame.bytes_mut();
        place.copy_from_slice(bytes);
        place[..6].copy_from_slice(&OWN);
        if place[6..12] == [0; 6] || place[6] & 1 == 1 {
            place[6..12].copy_from_slice(&CLIENT);
        }
        if let Err(frame) = self.tx.push(frame) {
            self.far.free(frame);
        }
        self.far.tx_burst(&mut self.tx);
        self.far.flush()?;
        self.turns(show)
    }

    /// Turns until the worker has nothing to do; takes what it sends.
    fn turns(&mut self, show: &mut impl FnMut(&str)) -> Result<(), ReplayError> {
        let here = self.wire.clock().now();
        let epoch = self.epoch.saturating_sub(self.lead).as_secs().saturating_sub(2);
        // The cache's clock begins at 2, so that 0 can mean never and 1 long ago.
        let now = Now { secs: 2 + here.as_secs() as u32, unix_epoch: epoch };
        for _ in 0..TURNS {
            let moved = self.worker.turn(Time::from_duration(here), now)?;
            self.take_frames(show)?;
            if !moved && !self.worker.poll.stack().has_work() && !self.worker.cache.has_work() {
                break;
            }
        }
        Ok(())
    }

    fn take_frames(&mut self, show: &mut impl FnMut(&str)) -> Result<(), ReplayError> {
        loop {
            // Returns the frames of the last round to the fill ring.
            self.far.flush()?;
            if self.far.rx_burst(&mut self.rx) == 0 {
                return Ok(());
            }
            while let Some(frame) = self.rx.pop() {
                self.take_frame(frame.bytes(), show);
                self.far.free(frame);
            }
        }
    }

    fn take_frame(&mut self, bytes: &[u8], show: &mut impl FnMut(&str)) {
        let now = self.now();
        if let Some(recorder) = &mut self.recorder {
            recorder.set_time(now);
            recorder.record(bytes);
        }
        let Some(segment) = Segment::of(bytes) else { return };
        let Some(&dialogue) = self.current.get(&segment.destination) else { return };
        show(&self.shown(dialogue, &segment, false, ""));
        let connection = &mut self.connections[dialogue];
        if after(segment.end(), connection.sent) {
            connection.sent = segment.end();
        }
        if segment.has(ACK) {
            connection.told = Some((segment.ack, segment.window));
        }
        connection.reset |= segment.has(RST);
        if !segment.has(SYN) {
            connection.said.add(segment.seq, &bytes[segment.payload.clone()]);
        }
    }

    /// The time as the recording has it.
    fn now(&self) -> Duration {
        (self.epoch + self.wire.clock().now()).saturating_sub(self.lead)
    }

    /// A frame in one line.
    fn shown(&self, dialogue: usize, segment: &Segment, to_us: bool, note: &str) -> String {
        let (at, arrow) = (self.now(), if to_us { '>' } else { '<' });
        let client = if to_us { segment.source } else { segment.destination };
        let flags: String = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (ACK, '.')]
            .into_iter()
            .filter_map(|(flag, letter)| segment.has(flag).then_some(letter))
            .collect();
        let damaged = if segment.sum == Sum::Wrong { " damaged" } else { "" };
        format!(
            "{}.{:06} {arrow} {:>3} {client} {flags:<2} seq {} ack {} win {} len {}{damaged}{note}",
            at.as_secs(),
            at.subsec_micros(),
            dialogue + 1,
            segment.seq,
            segment.ack,
            segment.window,
            segment.payload.len(),
        )
    }
}

/// Whether our stack is where a recorded frame may come.
fn is_due(connection: &PlayedConnection, segment: &Segment) -> bool {
    if connection.reset || segment.sum == Sum::Wrong || segment.flags & (SYN | RST) != 0 {
        return true;
    }
    let acknowledges_too_much = segment.has(ACK) && after(segment.ack, connection.sent);
    let too_long = connection.told.is_some_and(|(ack, window)| {
        !segment.payload.is_empty() && after(segment.end(), ack.wrapping_add(u32::from(window)).wrapping_add(1))
    });
    !acknowledges_too_much && !too_long
}
