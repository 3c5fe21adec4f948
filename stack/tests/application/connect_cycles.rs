//! Connect, ask, close, over and over, between two stacks on a bad wire: every byte right, every connection ends, and
//! nothing is left or grown at the end. The same seed is the same run. `SIDESTEP_CYCLES` says how many on a wire that
//! loses little; millions take minutes.

use std::collections::HashMap;
use std::net::SocketAddrV4;
use std::time::Duration;

use nic::{Faults, PortConfig, QueueId, Reorder, Wire, WireQueue};
use sidestep_stack::{CloseReason, Connect, ConnectError, FlowId, NetStack, Poll, StackConfig, StackStats, Time};

use crate::lab::{App, PEER, PORT, Server, THEM, US, config, secrets};

/// Connections at a time.
const AT_A_TIME: usize = 64;

/// A client of this project's own stack.
struct Client {
    poll: Poll<WireQueue>,
    /// The request of each connection, and how much of its echo has come.
    flows: HashMap<FlowId, (Vec<u8>, usize)>,
    left: u64,
    state: u64,
    done: u64,
    given_up: u64,
    refused_ports: u64,
    most_flows: usize,
}

impl Client {
    fn begin(&mut self, now: Time) {
        while self.left > 0 && self.flows.len() < AT_A_TIME {
            match self.poll.connect(now, &Connect::to(SocketAddrV4::new(US, PORT)), |_| true) {
                Ok(id) => {
                    self.state = self.state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(0x2545);
                    let len = 1 + (self.state >> 40) as usize % 60;
                    let request = (0..len).map(|i| (self.state >> 32) as u8 ^ i as u8).collect();
                    assert!(self.flows.insert(id, (request, 0)).is_none());
                    self.left -= 1;
                }
                // All ports are in TIME-WAIT: a later turn has some.
                Err(ConnectError::NoFreePort { .. }) => {
                    self.refused_ports += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        self.most_flows = self.most_flows.max(self.poll.flows());
    }

    fn turn(&mut self, now: Time) {
        self.poll.take_in(now);
        while let Some(event) = self.poll.next_event() {
            let id = event.flow();
            let (request, got) = self.flows.get_mut(&id).expect("only what was asked for is told of");
            if let Some(reason) = event.closed() {
                assert!(matches!(reason, CloseReason::TimedOut | CloseReason::Reset), "{reason:?}");
                self.given_up += 1;
                self.flows.remove(&id);
                continue;
            }
            let Some(mut flow) = self.poll.flow(id) else { panic!("{id:?} was told of and is dead") };
            if event.is_new() {
                assert_eq!(flow.send_slice(request), request.len());
            }
            while flow.recv_queue() > 0 {
                flow.recv(|bytes| {
                    assert_eq!(request.get(*got..*got + bytes.len()), Some(&*bytes), "the echo is wrong");
                    *got += bytes.len();
                    (bytes.len(), ())
                });
            }
            if *got == request.len() {
                flow.close();
                self.flows.remove(&id);
                self.done += 1;
            }
        }
        self.begin(now);
        self.poll.send(now).expect("a wire is never gone");
    }
}

fn client_config() -> StackConfig {
    let mut config = StackConfig::new(THEM, 24, PEER);
    config.max_flows = 1_024;
    config.flows_at_start = 1_024;
    config.ephemeral_ports = (60_000, 63_999);
    config.time_wait_records = 4_000;
    config
}

fn now(wire: &Wire) -> Time {
    Time::from_duration(wire.clock().now())
}

/// Turns until the client has nothing left to do and neither side has a flow.
fn run_to_the_end(wire: &Wire, client: &mut Client, server: &mut Server) {
    loop {
        let at = now(wire);
        client.turn(at);
        server.turn(at);
        let over = client.left == 0 && client.flows.is_empty();
        if over && client.poll.flows() == 0 && server.poll.flows() == 0 {
            break;
        }
        assert!(
            at < Time::from_millis(100_000_000),
            "does not end: {:?} {:?}",
            client.poll.stack(),
            server.poll.stack()
        );
        let waits = [client.poll.stack().next_deadline(at), server.poll.stack().next_deadline(at)];
        let frames = wire.next_due().map(|due| due.saturating_sub(wire.clock().now()));
        let wait = waits.into_iter().flatten().chain(frames).min().unwrap_or(Duration::from_millis(1));
        // Where ports are short, the client looks again in a while.
        wire.clock().advance(wait.clamp(Duration::from_micros(1), Duration::from_millis(5)));
    }
}

/// Runs `cycles` connections to their end. Returns the client's counters, the server's, and the time it took.
fn run(seed: u64, cycles: u64, faults: Faults) -> (StackStats, StackStats, Duration) {
    println!("seed {seed}");
    let port = || PortConfig { inbound: faults.clone(), ..PortConfig::with_queues(1) };
    let (wire, ours, theirs) = Wire::pair(port(), port(), seed).expect("a good configuration");
    let queue = |port: &nic::WirePort| port.take_queue(QueueId(0)).expect("opened once");
    let mut server_config = config();
    server_config.max_flows = 4_096;
    server_config.flows_at_start = 4_096;
    let mut server = Server::new(server_config, vec![queue(&ours)], App::Echo);
    let stack = NetStack::new(client_config(), secrets(2)).expect("a good configuration");
    let mut client = Client {
        poll: Poll::new(stack, [queue(&theirs)]),
        flows: HashMap::new(),
        left: cycles,
        state: seed,
        done: 0,
        given_up: 0,
        refused_ports: 0,
        most_flows: 0,
    };
    run_to_the_end(&wire, &mut client, &mut server);
    let took = wire.clock().now();
    println!(
        "{} done, {} given up, {} without a port, {} flows at the most, {took:?}, {:?}",
        client.done,
        client.given_up,
        client.refused_ports,
        client.most_flows,
        client.poll.stack().stats()
    );
    let stats = (*client.poll.stack().stats(), *server.poll.stack().stats(), took);
    for _ in 0..500 {
        wire.clock().advance(Duration::from_millis(200));
        client.turn(now(&wire));
        server.turn(now(&wire));
    }
    assert_eq!(client.done + client.given_up, cycles);
    assert_eq!(stats.0.connects, cycles);
    assert_eq!(stats.0.contained + stats.1.contained, 0);
    assert_eq!(client.poll.stack().census().time_wait, 0);
    // No more blocks than are ever in use: those at work, and those whose FIN is on its way.
    let census = client.poll.stack().census();
    assert!(census.blocks <= 1_024 && client.most_flows <= census.blocks, "{census:?}");
    server.assert_nothing_left();
    let mut as_server = Server::new(config(), Vec::new(), App::Record);
    as_server.poll = client.poll;
    as_server.assert_nothing_left();
    stats
}

fn bad() -> Faults {
    Faults {
        loss: 0.02,
        duplicate: 0.02,
        reorder: Some(Reorder { probability: 0.05, depth: 4, hold: Duration::from_micros(300) }),
        delay: Duration::from_micros(50),
        jitter: Duration::from_micros(20),
        ..Faults::default()
    }
}

#[test]
fn cycles_on_a_bad_wire_end_and_leave_nothing_and_the_same_seed_is_the_same_run() {
    let cycles = 10_000;
    let first = run(7, cycles, bad());
    assert_eq!(run(7, cycles, bad()), first);
    assert_ne!(run(8, 1_000, bad()).2, first.2);
    let (client, ..) = first;
    // At 2 % loss each way no handshake needs ten seconds.
    assert!(client.connects_timed_out < cycles / 1_000, "{client:?}");
    assert!(client.time_waits_reused > 0, "ports are used again: {client:?}");
}

#[test]
fn cycles_without_number_leak_nothing() {
    let cycles = std::env::var("SIDESTEP_CYCLES").map_or(100_000, |count| count.parse().expect("a number of cycles"));
    let faults = Faults { loss: 0.000_5, delay: Duration::from_micros(50), ..Faults::default() };
    let (client, server, _) = run(9, cycles, faults);
    assert_eq!((client.connects_timed_out, client.connects_refused, client.time_waits_evicted), (0, 0, 0));
    // A lost FIN or ACK apart, a client that closes first leaves the server no TIME-WAIT.
    assert!(server.time_waits < cycles / 1_000, "{server:?}");
}
