//! Either end of long conversations between the stack over AF_XDP and a kernel's TCP: one connection that carries a stream
//! each way at once, then several that carry messages of random sizes, each sent back. Every byte is checked.
//!
//! ```text
//! kernel_peer stack|kernel listen|connect ADDRESS PEER BYTES MESSAGES CONNECTIONS SEED [LINK]
//! ```
//!
//! The stack needs the LINK. Both ends are told the same numbers. Nothing but silence ends a run early: when no byte has
//! moved on any connection for two minutes it hangs, and the program at the stack's end says so and ends
//! with 1. Used by `scripts/matrix`.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use nic::xdp::{XdpConfig, XdpDevice, XdpQueue};
use nic::{Doorbell, Sleeper};
use sidestep_stack::{
    Connect, ConnectError, Flow, FlowId, Interest, Mac, NetStack, Poll, Secrets, StackConfig, Time, Token,
};

/// Where streams and messages are listened for.
const STREAM_PORT: u16 = 7_001;
const MESSAGE_PORT: u16 = 7_002;
/// Messages of a connection that wait for their answers at a time.
const WINDOW: usize = 16;
/// Silence of all connections after which a run hangs.
const SILENCE: Duration = Duration::from_secs(120);
/// How long either end waits for one connection, while others move: time-outs of a TCP back off to two minutes each, and
/// of four hundred connections that lose a fifth of their frames some lose nine in a row.
const PATIENCE: Duration = Duration::from_secs(900);
/// Bytes that one read or write moves at most.
const CHUNK: usize = 64 << 10;

fn main() -> ExitCode {
    match run() {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("FAILED: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What both ends are told.
#[derive(Debug, Clone)]
struct Plan {
    own: IpAddr,
    peer: IpAddr,
    bytes: u64,
    messages: u64,
    connections: u64,
    seed: u64,
}

fn run() -> Result<String, Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let [end, role, own, peer, bytes, messages, connections, seed, ref link @ ..] = words[..] else {
        return Err(
            "usage: kernel_peer stack|kernel listen|connect ADDRESS PEER BYTES MESSAGES CONNECTIONS SEED [LINK]".into(),
        );
    };
    let plan = Plan {
        own: own.parse()?,
        peer: peer.parse()?,
        bytes: bytes.parse()?,
        messages: messages.parse()?,
        connections: connections.parse()?,
        seed: seed.parse()?,
    };
    match (end, role, link) {
        ("stack", "listen" | "connect", [link]) => Ours::new(plan, link, role == "connect")?.run(),
        ("kernel", "listen", []) => kernel_listens(&plan),
        ("kernel", "connect", []) => kernel_connects(&plan),
        _ => Err("the end is stack or kernel, the role listen or connect, and the stack has a link".into()),
    }
}

/// The byte at `offset` of a stream: SplitMix64's mix of both numbers, a word for eight bytes.
fn byte(stream: u64, offset: u64) -> u8 {
    let mut word = ((stream << 40) ^ (offset / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((word >> (8 * (offset % 8))) ^ (word >> 7)) as u8
}

fn fill(stream: u64, offset: u64, room: &mut [u8]) {
    room.iter_mut().zip(offset..).for_each(|(into, offset)| *into = byte(stream, offset));
}

fn check(stream: u64, offset: u64, bytes: &[u8]) -> Result<(), String> {
    match (offset..).zip(bytes).find(|&(offset, &got)| got != byte(stream, offset)) {
        Some((offset, got)) => {
            Err(format!("byte {offset} of stream {stream} is {got} and not {}", byte(stream, offset)))
        }
        None => Ok(()),
    }
}

impl Plan {
    /// The stream that the connecting end sends, and the one that the listening end does.
    fn streams(&self) -> [u64; 2] {
        [self.seed * 1_000 + 1, self.seed * 1_000 + 2]
    }

    /// Of connection `number`: the stream that its messages are cut from, and where each ends.
    fn messages(&self, number: u64) -> (u64, Vec<u64>) {
        let stream = self.seed * 1_000 + 10 + number;
        let count = self.messages / self.connections + u64::from(number < self.messages % self.connections);
        let mut end = 0;
        let ends = (0..count).map(|message| {
            let draw = u64::from(byte(stream, 2 * message)) << 8 | u64::from(byte(stream, 2 * message + 1));
            // Mostly small, some of a few segments, a few of many.
            end += 1 + match draw % 100 {
                0 => draw % 20_000,
                1..10 => draw % 4_000,
                _ => draw % 500,
            };
            end
        });
        (stream, ends.collect())
    }

    fn verdict(&self, end: &str, times: [Duration; 2], longest: Duration, more: &str) -> String {
        let moved = self.messages(0).1.len();
        format!(
            "{end} stream_s={:.1} messages_s={:.1} longest_silence_s={:.1} messages_of_first={moved}{more}",
            times[0].as_secs_f64(),
            times[1].as_secs_f64(),
            longest.as_secs_f64(),
        )
    }
}

// The kernel's end.

/// When a byte last moved, and the longest that none did.
#[derive(Debug, Clone)]
struct Progress {
    start: Instant,
    last: Arc<AtomicU64>,
    longest: Arc<AtomicU64>,
}

impl Progress {
    fn new() -> Self {
        Self { start: Instant::now(), last: Arc::default(), longest: Arc::default() }
    }

    fn moved(&self) {
        let now = self.start.elapsed().as_micros() as u64;
        let silence = now.saturating_sub(self.last.swap(now, Ordering::Relaxed));
        self.longest.fetch_max(silence, Ordering::Relaxed);
    }

    fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.load(Ordering::Relaxed))
    }
}

/// A socket whose every wait is bounded, with Linux's own congestion control.
fn patient(socket: TcpStream) -> std::io::Result<TcpStream> {
    // A namespace has the machine's, and may not be given one that the machine does not allow to all.
    rustix::net::sockopt::set_tcp_congestion(&socket, "cubic")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.set_write_timeout(Some(PATIENCE))?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

fn send_stream(mut socket: &TcpStream, stream: u64, bytes: u64, progress: &Progress) -> Result<(), String> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    while at < bytes {
        let len = chunk.len().min((bytes - at) as usize);
        fill(stream, at, &mut chunk[..len]);
        socket.write_all(&chunk[..len]).map_err(|error| format!("stream {stream}, byte {at}, sending: {error}"))?;
        progress.moved();
        at += len as u64;
    }
    socket.shutdown(Shutdown::Write).map_err(|error| format!("stream {stream}, its end: {error}"))
}

fn read_stream(mut socket: &TcpStream, stream: u64, bytes: u64, progress: &Progress) -> Result<(), String> {
    let mut chunk = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let len = socket.read(&mut chunk).map_err(|error| format!("stream {stream}, byte {at}, reading: {error}"))?;
        progress.moved();
        check(stream, at, &chunk[..len])?;
        at += len as u64;
        if len == 0 {
            return if at == bytes { Ok(()) } else { Err(format!("stream {stream} ends after {at} of {bytes} bytes")) };
        }
    }
}

/// Both directions of the connection that carries a stream each way.
fn both_ways(socket: &TcpStream, [out, incoming]: [u64; 2], bytes: u64, progress: &Progress) -> Result<(), String> {
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send_stream(socket, out, bytes, progress));
        read_stream(socket, incoming, bytes, progress)?;
        sender.join().map_err(|_| "the sender panicked".to_owned())?
    })
}

fn kernel_listens(plan: &Plan) -> Result<String, Box<dyn Error>> {
    let streams = TcpListener::bind((plan.own, STREAM_PORT))?;
    let messages = TcpListener::bind((plan.own, MESSAGE_PORT))?;
    println!("listening");
    let progress = Progress::new();
    let start = Instant::now();
    let socket = patient(streams.accept()?.0)?;
    let [theirs, ours] = plan.streams();
    both_ways(&socket, [ours, theirs], plan.bytes, &progress)?;
    let first = start.elapsed();
    let answering: Vec<_> = (0..plan.connections)
        .map(|_| {
            let socket = patient(messages.accept()?.0)?;
            let progress = progress.clone();
            Ok(std::thread::spawn(move || answer(socket, &progress)))
        })
        .collect::<Result<_, std::io::Error>>()?;
    for thread in answering {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(plan.verdict("kernel", [first, start.elapsed() - first], progress.longest(), ""))
}

/// Sends back what comes.
fn answer(mut socket: TcpStream, progress: &Progress) -> Result<(), String> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let len = socket.read(&mut chunk).map_err(|error| format!("a message, reading: {error}"))?;
        if len == 0 {
            return Ok(());
        }
        socket.write_all(&chunk[..len]).map_err(|error| format!("a message, answering: {error}"))?;
        progress.moved();
    }
}

fn kernel_connects(plan: &Plan) -> Result<String, Box<dyn Error>> {
    let progress = Progress::new();
    let start = Instant::now();
    let socket = patient(TcpStream::connect((plan.peer, STREAM_PORT))?)?;
    let [ours, theirs] = plan.streams();
    both_ways(&socket, [ours, theirs], plan.bytes, &progress)?;
    drop(socket);
    let first = start.elapsed();
    let asking: Vec<_> = (0..plan.connections)
        .map(|number| {
            let (plan, progress) = (plan.clone(), progress.clone());
            std::thread::spawn(move || ask(&plan, number, &progress))
        })
        .collect();
    for thread in asking {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(plan.verdict("kernel", [first, start.elapsed() - first], progress.longest(), ""))
}

/// Sends the messages of a connection, a window of them at a time, and reads them back.
fn ask(plan: &Plan, number: u64, progress: &Progress) -> Result<(), String> {
    let text = |error: std::io::Error| format!("connection {number}: {error}");
    let socket = patient(TcpStream::connect((plan.peer, MESSAGE_PORT)).map_err(text)?).map_err(text)?;
    let (stream, ends) = plan.messages(number);
    let (answered, answers) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let (socket, ends) = (&socket, &ends);
        let sender = scope.spawn(move || {
            let mut at = 0;
            for (message, &end) in ends.iter().enumerate() {
                if message >= WINDOW {
                    // Whoever reads has ended: it says why.
                    let Ok(()) = answers.recv() else { return Ok(()) };
                }
                let mut bytes = vec![0; (end - at) as usize];
                fill(stream, at, &mut bytes);
                (&mut &*socket).write_all(&bytes).map_err(text)?;
                progress.moved();
                at = end;
            }
            socket.shutdown(Shutdown::Write).map_err(text)
        });
        let mut chunk = vec![0; CHUNK];
        let (mut at, mut message) = (0, 0);
        let total = ends.last().copied().unwrap_or(0);
        let outcome = loop {
            let len = match (&mut &*socket).read(&mut chunk) {
                Ok(len) => len,
                Err(error) => break Err(format!("connection {number}, byte {at} of {total}: {error}")),
            };
            progress.moved();
            if let Err(why) = check(stream, at, &chunk[..len]) {
                break Err(why);
            }
            at += len as u64;
            while ends.get(message).is_some_and(|&end| end <= at) {
                message += 1;
                let _ = answered.send(());
            }
            if len == 0 {
                let whole = at == total;
                break if whole {
                    Ok(())
                } else {
                    Err(format!("connection {number} ends after {at} of {total} bytes"))
                };
            }
        };
        drop(answered);
        outcome?;
        sender.join().map_err(|_| "the sender panicked".to_owned())?
    })
}

// The stack's end.

/// What a flow is for.
#[derive(Debug)]
enum Task {
    /// Sends the first stream and reads the second.
    Stream([u64; 2]),
    /// Sends messages cut from `stream` and reads them back.
    Ask { stream: u64, ends: Vec<u64>, answered: usize },
    /// Sends back what comes.
    Answer,
}

#[derive(Debug)]
struct Talk {
    task: Task,
    read: u64,
    sent: u64,
    shut: bool,
}

/// What a visit to a flow did.
struct Exchange {
    /// Bytes were read or written.
    moved: bool,
    /// Bytes that there was no room for.
    more: usize,
    /// All was sent.
    shuts: bool,
}

impl Talk {
    /// Reads what has come and writes what there is room for. A stream has so many `bytes` either way.
    fn exchange(&mut self, flow: &mut Flow<'_>, bytes: u64) -> Result<Exchange, Box<dyn Error>> {
        let (read, end, stream) = match &mut self.task {
            &mut Task::Stream([out, incoming]) => (self.read_all(flow, incoming)?, bytes, out),
            &mut Task::Ask { stream, .. } => (self.read_all(flow, stream)?, self.allowed(), stream),
            Task::Answer => {
                let moved = self.answer(flow)?;
                return Ok(Exchange { moved, more: flow.recv_queue(), shuts: false });
            }
        };
        let moved = self.write_up_to(flow, stream, end) || read;
        Ok(Exchange { moved, more: (end - self.sent) as usize, shuts: self.sent == self.last(bytes) })
    }

    /// Reads and checks all that has come of `stream`. Returns whether there was anything.
    fn read_all(&mut self, flow: &mut Flow<'_>, stream: u64) -> Result<bool, Box<dyn Error>> {
        let before = self.read;
        while flow.recv_queue() > 0 {
            let at = self.read;
            self.read += flow.recv(|bytes| (bytes.len(), check(stream, at, bytes).map(|()| bytes.len())))? as u64;
        }
        Ok(self.read > before)
    }

    /// Writes `stream` up to `end`, as there is room. Returns whether there was any.
    fn write_up_to(&mut self, flow: &mut Flow<'_>, stream: u64, end: u64) -> bool {
        let before = self.sent;
        while self.sent < end && flow.send_room() > 0 {
            let (at, left) = (self.sent, (end - self.sent) as usize);
            self.sent += flow.send(|room| {
                let len = room.len().min(left);
                fill(stream, at, &mut room[..len]);
                (len, len as u64)
            });
        }
        self.sent > before
    }

    /// Up to where messages may be sent: few are under way at a time.
    fn allowed(&mut self) -> u64 {
        let Task::Ask { ends, answered, .. } = &mut self.task else { return 0 };
        while ends.get(*answered).is_some_and(|&end| end <= self.read) {
            *answered += 1;
        }
        ends.get(*answered + WINDOW - 1).or(ends.last()).copied().unwrap_or(0)
    }

    /// Sends back what has come. Returns whether anything had.
    fn answer(&mut self, flow: &mut Flow<'_>) -> Result<bool, Box<dyn Error>> {
        let before = self.read;
        let mut scratch = [0; 4_096];
        while flow.recv_queue() > 0 && flow.send_room() > 0 {
            let room = flow.send_room().min(scratch.len());
            let got = flow.recv(|bytes| {
                let got = bytes.len().min(room);
                scratch[..got].copy_from_slice(&bytes[..got]);
                (got, got)
            });
            if flow.send_slice(&scratch[..got]) != got {
                return Err("the room that was told is not there".into());
            }
            self.read += got as u64;
        }
        Ok(self.read > before)
    }

    /// How many bytes are sent, and come, in all.
    fn last(&self, bytes: u64) -> u64 {
        match &self.task {
            Task::Stream(_) => bytes,
            Task::Ask { ends, .. } => ends.last().copied().unwrap_or(0),
            Task::Answer => self.read,
        }
    }
}

struct Ours {
    plan: Plan,
    poll: Poll<XdpQueue>,
    sleeper: Sleeper,
    connects: bool,
    talks: HashMap<FlowId, Talk>,
    start: Instant,
    moved: Duration,
    longest: Duration,
    streamed: Option<Duration>,
    /// Conversations begun and whole, the stream among them.
    begun: u64,
    whole: u64,
    _device: XdpDevice,
}

impl Ours {
    fn new(plan: Plan, link: &str, connects: bool) -> Result<Self, Box<dyn Error>> {
        let mut device = XdpDevice::open(&XdpConfig::new(link, plan.own))?;
        let queue = device.queue_ids().first().copied().ok_or("the link has no queue")?;
        let queue = device.take_queue(queue).ok_or("the queue is taken")?;
        let prefix_len = if plan.own.is_ipv6() { 64 } else { 24 };
        let mut config = StackConfig::new(plan.own, prefix_len, Mac(device.link().mac.0));
        config.ports = vec![STREAM_PORT, MESSAGE_PORT];
        // Larger rings for every connection: where they are short, who takes less than 16 KiB/s for three seconds is reset, and
        // over a bad wire all are so slow.
        config.conn_memory = (64 << 20).max((usize::try_from(plan.connections)? + 8) * (512 << 10));
        (config.give_up_timeout, config.linger_timeout) = (PATIENCE, PATIENCE);
        config.ip_mtu = usize::try_from(device.link().mtu)?;
        let secrets = Secrets::from_bytes(std::array::from_fn(|i| plan.seed.wrapping_mul(i as u64 + 3) as u8));
        let mut poll = Poll::new(NetStack::new(config, secrets)?, [queue]);
        poll.accept_each(Token(0), Interest::EDGE);
        println!("listening");
        Ok(Self {
            sleeper: poll.sleeper(Arc::new(Doorbell::new()?)),
            poll,
            connects,
            talks: HashMap::new(),
            start: Instant::now(),
            moved: Duration::ZERO,
            longest: Duration::ZERO,
            streamed: None,
            begun: 0,
            whole: 0,
            plan,
            _device: device,
        })
    }

    fn run(mut self) -> Result<String, Box<dyn Error>> {
        let all = 1 + self.plan.connections;
        loop {
            let here = self.start.elapsed();
            let now = Time::from_duration(here);
            let received = self.poll.take_in(now);
            self.begin(now)?;
            while let Some(event) = self.poll.next_event() {
                if let Some(reason) = event.closed() {
                    let talk = self.talks.remove(&event.flow());
                    return Err(format!("a connection ended: {reason:?}, {:?}", talk.map(|t| (t.read, t.sent))).into());
                }
                self.visit(event.flow())?;
            }
            let sent = self.poll.send(now)?;
            if self.whole == all && self.poll.flows() == 0 {
                break;
            }
            if here.saturating_sub(self.moved) > SILENCE && (self.begun > 0 || self.connects) {
                let talks = self.talks.values().map(|talk| (talk.read, talk.sent)).collect::<Vec<_>>();
                return Err(format!(
                    "hangs: {} of {all} whole, {talks:?}, {:?}",
                    self.whole,
                    self.poll.stack().census()
                )
                .into());
            }
            if received == 0 && sent == 0 && !self.poll.has_work() {
                let wait = self.poll.idle(now).unwrap_or(SILENCE).min(Duration::from_secs(1));
                self.sleeper.sleep(Some(wait), || false)?;
            }
        }
        let stats = self.poll.stack().stats();
        let more = format!(
            " sent_again={} timeouts={} tail_probes={} needless={} enlarged={} challenge_acks={} drops={:?}",
            stats.sent_again,
            stats.retransmission_timeouts,
            stats.tail_probes,
            stats.probes_needless,
            stats.rings_enlarged,
            stats.challenge_acks,
            stats.drops.iter().collect::<Vec<_>>()
        );
        let streamed = self.streamed.unwrap_or_default();
        Ok(self.plan.verdict("stack", [streamed, self.start.elapsed() - streamed], self.longest, &more))
    }

    /// Asks for the connections that are to be there by now.
    fn begin(&mut self, now: Time) -> Result<(), Box<dyn Error>> {
        let due = if self.streamed.is_some() { 1 + self.plan.connections } else { 1 };
        while self.connects && self.begun < due {
            let (port, task) = match self.begun {
                0 => (STREAM_PORT, Task::Stream(self.plan.streams())),
                number => {
                    let (stream, ends) = self.plan.messages(number - 1);
                    (MESSAGE_PORT, Task::Ask { stream, ends, answered: 0 })
                }
            };
            let wanted = Connect::to(SocketAddr::new(self.plan.peer, port));
            let id = match self.poll.connect(now, &wanted, |_| true) {
                Ok(id) => id,
                // An IPv6 address is asked for before it is used (RFC 4862, 5.4).
                Err(ConnectError::NoBlockYet | ConnectError::NoRoute { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            self.talks.insert(id, Talk { task, read: 0, sent: 0, shut: false });
            self.begun += 1;
        }
        Ok(())
    }

    fn visit(&mut self, id: FlowId) -> Result<(), Box<dyn Error>> {
        let Some(mut flow) = self.poll.flow(id) else { return Ok(()) };
        let plan = &self.plan;
        let begun = &mut self.begun;
        let talk = self.talks.entry(id).or_insert_with(|| {
            *begun += 1;
            let [theirs, ours] = plan.streams();
            let task = if flow.local().port() == STREAM_PORT { Task::Stream([ours, theirs]) } else { Task::Answer };
            Talk { task, read: 0, sent: 0, shut: false }
        });
        let Exchange { moved, more, shuts } = talk.exchange(&mut flow, plan.bytes)?;
        let is_stream = matches!(talk.task, Task::Stream(_));
        if shuts && !std::mem::replace(&mut talk.shut, true) {
            self.poll.shutdown(id);
            flow = self.poll.flow(id).ok_or("a flow ended that was shut")?;
        }
        let ended = flow.peer_closed() && flow.recv_queue() == 0;
        let wanted = talk.last(plan.bytes);
        if ended && talk.read != wanted {
            return Err(format!("a stream ends after {} of {wanted} bytes", talk.read).into());
        }
        let answers = matches!(talk.task, Task::Answer);
        if ended && more == 0 && (talk.shut || answers) {
            flow.close();
            self.talks.remove(&id);
            self.whole += 1;
            if is_stream {
                self.streamed = Some(self.start.elapsed());
            }
        } else if more > 0 {
            flow.want_send_room(1_460);
            if flow.send_room() == 0 {
                self.poll.enlarge(id);
            }
        }
        if moved {
            let here = self.start.elapsed();
            self.longest = self.longest.max(here - self.moved);
            self.moved = here;
        }
        Ok(())
    }
}
