//! What an exchange costs the stack: 40 bytes in, 80 bytes out, over many flows hit at random, frames in memory.
//!
//! `cargo run --release -p sidestep-stack --example echo_cost -- FLOWS REQUESTS` prints the time spent in turns, without the
//! making of requests. For a machine that others use too, count instructions of `turn` under callgrind
//! (`--toggle-collect='*turn*'`). A working figure, not a published one.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::RawFd;
use std::time::Instant;

use nic::{Frame, FrameCensus, FramePool, PoolConfig, Queue, QueueError, QueueStats, RxBurst, TxBurst};
use sidestep_stack::{Flow, Interest, Mac, NetStack, Poll, Rings, Secrets, StackConfig, Time, Token};

const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
const US: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const BATCH: usize = 32;

/// A client with many connections behind a queue of frames in memory.
struct Clients {
    pool: FramePool,
    arrived: VecDeque<Frame>,
    /// Sequence and ACK number of each client.
    state: Vec<(u32, u32)>,
}

impl Clients {
    fn segment(&mut self, client: usize, flags: u8, len: usize) {
        let (seq, ack) = self.state[client];
        let source = Ipv4Addr::new(10, 77, 1 + (client >> 14) as u8, 1);
        let mut bytes = Vec::with_capacity(128);
        let mut tcp = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 2], OWN)
            .ipv4(source.octets(), US.octets(), 64)
            .tcp(1_024 + (client & 0x3fff) as u16, 80, seq, 60_000);
        if flags & 16 != 0 {
            tcp = tcp.ack(ack);
        }
        if flags & 2 != 0 {
            tcp = tcp.syn().options(&[etherparse::TcpOptionElement::MaximumSegmentSize(1_460)]).expect("it fits");
        }
        tcp.write(&mut bytes, &[7; 40][..len]).expect("written to memory");
        let mut frame = self.pool.alloc().expect("a frame is free");
        frame.resize(bytes.len()).expect("it fits");
        frame.bytes_mut().copy_from_slice(&bytes);
        self.arrived.push_back(frame);
        self.state[client].0 = seq.wrapping_add(len as u32 + u32::from(flags >> 1 & 1));
    }
}

impl Queue for Clients {
    fn rx_burst(&mut self, out: &mut RxBurst) -> usize {
        let mut count = 0;
        while out.room() > 0
            && let Some(frame) = self.arrived.pop_front()
        {
            out.push(frame).expect("there is room");
            count += 1;
        }
        count
    }
    fn tx_alloc(&mut self) -> Option<Frame> {
        let mut frame = self.pool.alloc()?;
        frame.resize(0).expect("shorter always fits");
        Some(frame)
    }
    fn tx_burst(&mut self, frames: &mut TxBurst) -> usize {
        let mut count = 0;
        while let Some(frame) = frames.pop() {
            let bytes = frame.bytes();
            let port = u16::from_be_bytes([bytes[36], bytes[37]]);
            let client = usize::from(bytes[32] - 1) << 14 | usize::from(port - 1_024);
            let seq = u32::from_be_bytes([bytes[38], bytes[39], bytes[40], bytes[41]]);
            let data = u32::from(u16::from_be_bytes([bytes[16], bytes[17]])) - 20 - u32::from(bytes[46] >> 4) * 4;
            self.state[client].1 = seq.wrapping_add(data + u32::from(bytes[47] >> 1 & 1));
            self.pool.free(frame).expect("of this pool");
            count += 1;
        }
        count
    }
    fn free(&mut self, frame: Frame) {
        self.pool.free(frame).expect("of this pool");
    }
    fn flush(&mut self) -> Result<(), QueueError> {
        Ok(())
    }
    fn max_frame_bytes(&self) -> usize {
        1_518
    }
    fn raw_fd(&self) -> Option<RawFd> {
        None
    }
    fn census(&self) -> FrameCensus {
        FrameCensus::default()
    }
    fn stats(&self) -> QueueStats {
        QueueStats::default()
    }
}

/// Takes the question, and answers it. Returns whether there was one.
fn answer(mut flow: Flow<'_>) -> bool {
    let asked = flow.recv(|bytes| (bytes.len(), bytes.len()));
    if asked > 0 {
        flow.send(|room| {
            room[..80].fill(9);
            (80, ())
        });
    }
    asked > 0
}

#[inline(never)]
fn turn(poll: &mut Poll<Clients>, now: Time) -> usize {
    poll.take_in(now);
    let mut served = 0;
    while let Some(event) = poll.next_event() {
        if let Some(flow) = poll.flow(event.flow()).filter(|_| event.is_readable()) {
            served += usize::from(answer(flow));
        }
    }
    poll.send(now).expect("memory is never gone");
    served
}

fn clients_of(poll: &mut Poll<Clients>) -> &mut Clients {
    poll.ports_mut()[0].queue_mut()
}

fn main() {
    let flows: usize = std::env::args().nth(1).map_or(1_000, |n| n.parse().expect("a number of flows"));
    let mut config = StackConfig::new(US, 16, Mac(OWN));
    config.ports = vec![80];
    config.max_flows = flows;
    config.flows_at_start = flows;
    config.syn_queue = flows;
    config.rings = Rings { rx: 512, tx: 512 };
    let stack = NetStack::new(config, Secrets::from_bytes([7; 32])).expect("a good configuration");
    let pool = FramePool::new(PoolConfig { frames: 1_024, ..PoolConfig::default() }).expect("there is memory");
    let clients = Clients { pool, arrived: VecDeque::with_capacity(256), state: vec![(1, 0); flows] };
    let mut poll = Poll::new(stack, [clients]);
    poll.accept_each(Token(0), Interest::READABLE);
    let mut micros = 0;
    let mut step = |poll: &mut Poll<Clients>| {
        micros += 30;
        turn(poll, Time::from_micros(micros))
    };
    for first in (0..flows).step_by(BATCH) {
        let last = (first + BATCH).min(flows);
        for flags in [2, 16] {
            (first..last).for_each(|client| clients_of(&mut poll).segment(client, flags, 0));
            step(&mut poll);
        }
    }
    assert_eq!(poll.stack().stats().opened, flows as u64);
    let mut random = 88_172_645_463_325_252u64;
    let mut pick = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % flows
    };
    let (mut served, mut in_stack) = (0, 0u128);
    let requests: usize = std::env::args().nth(2).map_or(2_000_000, |n| n.parse().expect("a number of requests"));
    let rounds = requests / BATCH;
    for _ in 0..rounds {
        for _ in 0..BATCH {
            clients_of(&mut poll).segment(pick(), 16 | 8, 40);
        }
        let start = Instant::now();
        served += step(&mut poll);
        in_stack += start.elapsed().as_nanos();
    }
    println!(
        "{flows} flows: {served} requests served in {} segments, {:.0} ns a segment in the stack and its queue",
        rounds * BATCH,
        in_stack as f64 / (rounds * BATCH) as f64
    );
}
