//! The generator on this project's own TCP/IP, over an in-memory wire, against a server on the same TCP/IP whose faults
//! are known: every byte goes through two stacks, and the clock is the wire's.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mcload::transport::own_stack::{OwnStack, Route};
use mcload::transport::{Close, Nanos, News, Slot, Transport, TransportError};
use nic::{Faults as WireFaults, PortConfig, QueueId, Wire, WireQueue};
use stack::{Flow, FlowId, Interest, Mac, NetStack, Poll, Secrets, StackConfig, Time, Token};

use super::*;

const CLIENT: (Ipv4Addr, Mac) = (Ipv4Addr::new(10, 77, 0, 1), Mac([2, 0, 0, 0, 0, 1]));
const SERVER: (Ipv4Addr, Mac) = (Ipv4Addr::new(10, 77, 0, 2), Mac([2, 0, 0, 0, 0, 2]));
const PORT: u16 = 11_211;
/// Time that a frame takes, each way.
const ONE_WAY: Nanos = 20 * MICRO;

fn stack((address, mac): (Ipv4Addr, Mac), ports: Vec<u16>, seed: u8) -> NetStack {
    let mut config = StackConfig::new(address, 24, mac);
    config.ports = ports;
    config.flows_at_start = 1_024;
    NetStack::new(config, Secrets::from_bytes(std::array::from_fn(|i| seed.wrapping_mul(29) ^ i as u8))).unwrap()
}

#[derive(Default)]
struct Conversation {
    request: Vec<u8>,
    last_reply: Nanos,
    /// Replies that have left the server and find no room yet.
    unsent: Vec<u8>,
}

impl Conversation {
    fn send(&mut self, flow: &mut Flow<'_>) {
        let sent = flow.send_slice(&self.unsent);
        self.unsent.drain(..sent);
    }
}

/// When a reply is due, which one it is, for whom, and its bytes.
type Due = (Nanos, u64, FlowId, Vec<u8>);

/// The server on its stack.
struct Far {
    server: Server,
    poll: Poll<WireQueue>,
    conversations: HashMap<FlowId, Conversation>,
    replies: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
}

impl Far {
    fn turn(&mut self, now: Nanos) {
        let time = Time::from_micros(now / 1_000);
        self.poll.take_in(time);
        while let Some(event) = self.poll.next_event() {
            let id = event.flow();
            if event.closed().is_some() {
                self.conversations.remove(&id);
                continue;
            }
            let Some(mut flow) = self.poll.flow(id) else { continue };
            let conversation = self.conversations.entry(id).or_default();
            while flow.recv_queue() > 0 {
                flow.recv(|bytes| {
                    conversation.request.extend_from_slice(bytes);
                    (bytes.len(), ())
                });
            }
            if flow.peer_closed() {
                flow.close();
                self.conversations.remove(&id);
                continue;
            }
            conversation.send(&mut flow);
            let Conversation { request, last_reply, .. } = conversation;
            while let Some(served) = self.server.serve(now, request, last_reply) {
                if let Some((at, reply)) = served.reply {
                    self.scheduled += 1;
                    self.replies.push(Reverse((at, self.scheduled, id, reply)));
                }
            }
        }
        while self.replies.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            let Some(Reverse((_, _, id, reply))) = self.replies.pop() else { break };
            if let (Some(mut flow), Some(conversation)) = (self.poll.flow(id), self.conversations.get_mut(&id)) {
                conversation.unsent.extend_from_slice(&reply);
                conversation.send(&mut flow);
            }
        }
        self.poll.send(time).unwrap();
    }
}

/// Both ends and what is between them, driven by the generator's waits.
struct OverStack {
    wire: Wire,
    near: OwnStack<WireQueue>,
    far: Far,
    news: VecDeque<(Slot, News)>,
    over: Arc<AtomicBool>,
}

impl OverStack {
    fn new(slots: usize, server: Server, loss: f64) -> Self {
        let inbound = WireFaults { delay: Duration::from_nanos(ONE_WAY), loss, ..WireFaults::default() };
        let port = || PortConfig { inbound: inbound.clone(), ..PortConfig::default() };
        let (wire, near, far) = Wire::pair(port(), port(), SEED).unwrap();
        let mut poll = Poll::new(stack(SERVER, vec![PORT], 2), [far.take_queue(QueueId(0)).unwrap()]);
        poll.accept_each(Token(0), Interest::EDGE);
        let far = Far { server, poll, conversations: HashMap::new(), replies: BinaryHeap::new(), scheduled: 0 };
        let route = Route { server: SocketAddr::new(SERVER.0.into(), PORT), mac: None, worker: (0, 1) };
        let over = Arc::new(AtomicBool::new(false));
        let (time, ended) = (wire.clock().clone(), over.clone());
        let clock = Box::new(move || {
            if ended.load(Ordering::Relaxed) {
                // Nobody moves time any more, and the transport waits a while for the peer when it is dropped.
                time.advance(Duration::from_millis(10));
            }
            time.now()
        });
        let queue = near.take_queue(QueueId(0)).unwrap();
        let near = OwnStack::new(route, slots, stack(CLIENT, Vec::new(), 1), queue, None, clock);
        Self { wire, near, far, news: VecDeque::new(), over }
    }
}

impl Drop for OverStack {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

impl Transport for OverStack {
    fn now(&mut self) -> Nanos {
        self.wire.clock().now().as_nanos() as Nanos
    }

    fn wait(&mut self, until: Nanos) -> Result<(), TransportError> {
        loop {
            let now = self.now();
            self.far.turn(now);
            self.near.wait(now)?;
            while let Some(news) = self.near.news() {
                self.news.push_back(news);
            }
            self.near.flush()?;
            if !self.news.is_empty() || now >= until {
                return Ok(());
            }
            let after = |stack: &NetStack| {
                stack.next_deadline(Time::from_micros(now / 1_000)).map(|wait| now + wait.as_nanos() as Nanos)
            };
            let next = [
                self.wire.next_due().map(|due| due.as_nanos() as Nanos),
                after(self.far.poll.stack()),
                after(self.near.stack()),
                self.far.replies.peek().map(|Reverse((at, ..))| *at),
            ];
            // A stack counts microseconds: what it wants within one it gets with the next.
            let next = next.into_iter().flatten().min().unwrap_or(until).min(until).max(now);
            if next > now {
                self.wire.clock().set(Duration::from_nanos(next));
            } else if !self.far.poll.stack().has_work() && !self.near.stack().has_work() {
                let due = self.wire.next_due().is_some_and(|due| due.as_nanos() as Nanos <= now);
                if !due {
                    self.wire.clock().advance(Duration::from_micros(1));
                }
            }
        }
    }

    fn news(&mut self) -> Option<(Slot, News)> {
        self.news.pop_front()
    }

    fn open(&mut self, slot: Slot) -> Result<(), TransportError> {
        self.near.open(slot)
    }

    fn recv(&mut self, slot: Slot, take: &mut impl FnMut(&[u8], Nanos)) {
        self.near.recv(slot, take);
    }

    fn send(&mut self, slot: Slot, bytes: &[u8]) -> usize {
        self.near.send(slot, bytes)
    }

    fn close(&mut self, slot: Slot, how: Close) {
        self.news.retain(|&(told, _)| told != slot);
        self.near.close(slot, how);
    }

    fn flush(&mut self) -> Result<(), TransportError> {
        self.near.flush()
    }
}

fn simulate_over_stack(plan: &Plan, faults: Faults, loss: f64) -> (Outcome, Arc<Truth>) {
    let truth = Arc::new(Truth::default());
    let keys = plan.codec.keyspace().keys();
    let make = |share: mcload::run::Share| {
        let server = Server::new(faults, 2 * keys, SEED, truth.clone());
        Ok(OverStack::new(share.slots(), server, loss))
    };
    let outcome = run(plan, &Progress::new(1, false), make).unwrap();
    assert!(outcome.all_right());
    assert_eq!(outcome.sample.hits, keys);
    (outcome, truth)
}

#[test]
fn delays_and_losses_are_reported_as_they_are_through_two_stacks() {
    let mut plan = plan("--connections 64 --requests 400000");
    plan.timeout = Duration::from_millis(200);
    let delay = Delay::Exponential { least: 100 * MICRO, mean: 500 * MICRO };
    let (outcome, truth) = simulate_over_stack(&plan, Faults { drop: 0.05, ..Faults::none(delay) }, 0.0);
    let measured = &outcome.measured;
    assert_eq!(measured.timed_out, truth.dropped.load(Ordering::Relaxed));
    assert_eq!(measured.ended(), 400_000);
    near("share of lost replies", measured.timed_out as f64 / measured.ended() as f64, 0.05);
    let least = (100 * MICRO + 2 * ONE_WAY) as f64;
    quantiles(&measured.latency_ns, |quantile| least - (1.0 - quantile).ln() * 500e3);
}

#[test]
fn a_stall_shows_in_the_open_loop_and_not_in_the_closed_through_two_stacks() {
    let stall = |line, at| {
        let faults = Faults { stall: Some((at, 200 * MILLI)), ..Faults::none(Delay::Constant(100 * MICRO)) };
        simulate_over_stack(&plan(line), faults, 0.0).0.measured.latency_ns.value_at_quantile(0.999) as f64
    };
    near("open p99.9", stall("--connections 200 --depth 64 --rate 10000 --seconds 10", 50_000), 190.14e6);
    near("closed p99.9", stall("--connections 16 --seconds 10", 50_000), 140e3);
}

#[test]
fn every_reply_is_right_over_a_wire_that_loses_frames() {
    let mut mixed = plan("--connections 32 --requests 20000 --depth 4 --value-bytes 3000");
    mixed.mix = "get=1,set=1".parse().unwrap();
    for plan in [mixed, plan("--connections 32 --requests 2000 --workload connect")] {
        let (outcome, truth) = simulate_over_stack(&plan, Faults::none(Delay::Constant(10 * MICRO)), 0.01);
        let measured = &outcome.measured;
        assert_eq!((measured.ended(), measured.wrong), (measured.requests(), 0));
        assert_eq!(truth.requests.load(Ordering::Relaxed), 2 * 200 + measured.requests());
        // Nothing but a loss keeps a reply for so long: a lost one is sent again after 5 ms, if none follows it.
        assert!(measured.latency_ns.max() > 4 * MILLI, "some frame was sent again");
    }
}
