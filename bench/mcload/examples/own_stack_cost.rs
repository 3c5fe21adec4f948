//! What the generator costs on this project's own stack: engine, transport and stack together, a request, against a server
//! that answers from replies made beforehand, on a wire in memory.
//! `cargo run --release -p sidestep-mcload --example own_stack_cost [REQUESTS]` asks for so many and prints how many there
//! were; to count instructions, run it under
//! `valgrind --tool=callgrind --toggle-collect='own_stack_cost::client_turn*'` and divide by them.
//!
//! What the server does, and the wire, which moves frames when either end turns, is outside of `client_turn` but for its
//! two ends.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcload::codec::Codec;
use mcload::engine::phase::Pace;
use mcload::engine::{Engine, Settings};
use mcload::keyspace::Keyspace;
use mcload::popularity::Popularity;
use mcload::sizes::Size;
use mcload::transport::own_stack::{OwnStack, Route};
use mcload::transport::{Close, Slot, Transport};
use mcload::workload::{Mix, Workload};
use nic::{PortConfig, QueueId, Wire, WireQueue};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use stack::{Interest, Mac, NetStack, Poll, Secrets, StackConfig, Time, Token};

const KEYS: u64 = 10_000;
const CONNECTIONS: Slot = 32;
const CLIENT: (Ipv4Addr, Mac) = (Ipv4Addr::new(10, 77, 0, 1), Mac([2, 0, 0, 0, 0, 1]));
const SERVER: (Ipv4Addr, Mac) = (Ipv4Addr::new(10, 77, 0, 2), Mac([2, 0, 0, 0, 0, 2]));
const PORT: u16 = 11_211;
/// Time between two turns.
const TURN: Duration = Duration::from_micros(20);
/// Why a call cannot fail.
const WIRE: &str = "a wire is never gone";

fn stack((address, mac): (Ipv4Addr, Mac), ports: &[u16]) -> NetStack {
    let mut config = StackConfig::new(address, 24, mac);
    config.ports = ports.to_vec();
    NetStack::new(config, Secrets::from_bytes([7; 32])).expect("a good configuration")
}

/// Answers gets of which one comes at a time on each connection.
struct Server {
    poll: Poll<WireQueue>,
    replies: Vec<Vec<u8>>,
}

impl Server {
    fn turn(&mut self, now: Time) {
        self.poll.take_in(now);
        while let Some(event) = self.poll.next_event() {
            let Some(mut flow) = self.poll.flow(event.flow()) else { continue };
            let mut line = [0; 64];
            let length = flow.recv_slice(&mut line);
            if length == 0 {
                continue;
            }
            let digits = line[..length].iter().filter(|byte| byte.is_ascii_digit());
            let key = digits.fold(0, |key, digit| key * 10 + usize::from(digit - b'0'));
            assert_eq!(flow.send_slice(&self.replies[key]), self.replies[key].len());
        }
        self.poll.send(now).expect(WIRE);
    }
}

fn replies(codec: &Codec) -> Vec<Vec<u8>> {
    let reply = |key| {
        let mut reply = Vec::new();
        codec.put_value_line(key, &mut reply);
        reply.extend(codec.keyspace().value(key).copy(0, usize::MAX));
        reply.extend(b"\r\nEND\r\n");
        reply
    };
    (0..KEYS).map(reply).collect()
}

#[inline(never)]
fn client_turn(engine: &mut Engine, transport: &mut OwnStack<WireQueue>) {
    let now = transport.now();
    transport.wait(now).expect(WIRE);
    engine.turn(transport).expect("the server is right");
    transport.flush().expect(WIRE);
}

fn main() {
    let requests: u64 = std::env::args().nth(1).map_or(1_000_000, |count| count.parse().expect("a number of requests"));
    let popularity = Popularity::Uniform(KEYS);
    let codec = Codec::new(Keyspace::new(KEYS, Size::Fixed(30), Size::Fixed(100), 1), popularity, 1);
    let (wire, near, far) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a good configuration");
    let queue = |port: &nic::WirePort| port.take_queue(QueueId(0)).expect("opened once");
    let mut server = Server { poll: Poll::new(stack(SERVER, &[PORT]), [queue(&far)]), replies: replies(&codec) };
    server.poll.accept_each(Token(0), Interest::READABLE);
    let address = SocketAddr::new(SERVER.0.into(), PORT);
    let route = Route { server: address, mac: Some(SERVER.1), worker: (0, 1) };
    let nanos = Arc::new(AtomicU64::new(0));
    let read = nanos.clone();
    let clock = Box::new(move || Duration::from_nanos(read.load(Ordering::Relaxed)));
    let slots = CONNECTIONS as usize;
    let mut transport = OwnStack::new(route, slots, stack(CLIENT, &[]), queue(&near), None, clock);
    let settings = Settings { server: address, slots, timeout: 10_000_000_000, close: Close::Reset };
    let mut engine = Engine::new(settings, codec);
    let mut turn = |engine: &mut Engine, transport: &mut OwnStack<WireQueue>| {
        client_turn(engine, transport);
        server.turn(Time::from_duration(wire.clock().now()));
        wire.clock().advance(TURN);
        nanos.store(wire.clock().now().as_nanos() as u64, Ordering::Relaxed);
    };
    engine.start_opening(0..CONNECTIONS, &mut transport).expect("there is room");
    while !engine.is_done() {
        turn(&mut engine, &mut transport);
    }
    engine.take_tally();
    let workload = Workload::draw(1, 0, Mix { get: 1, set: 0 }, popularity, false, requests);
    let assign = Xoshiro256PlusPlus::seed_from_u64(1);
    engine.start_steady((CONNECTIONS, 1), workload, Pace::Closed { end: None }, assign, true, &mut transport);
    while !engine.is_done() {
        turn(&mut engine, &mut transport);
    }
    let tally = engine.tally();
    assert_eq!((tally.wrong, tally.misses, tally.hits), (0, 0, requests));
    println!("{} requests over {CONNECTIONS} connections", tally.requests());
    // Nobody moves time any more, and a transport that is dropped waits for its peer.
    std::mem::forget(transport);
}
