//! Two cores of one address, each with a stack, its place in the ring of strays, and a queue or a way to the other's: connections that are handed over to
//! the core that accepts, and connections of ours whose answers arrive where they were asked for.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use nic::{Doorbell, FlowOwner, PortConfig, Queue, QueueId, RelayConfig, Rss, SoftwareRss, Wire, WirePort, relay_pair};
use sidestep_stack::{
    Connect, FlowId, Interest, NetStack, Poll, Secrets, StackConfig, StackStats, StrayRing, Time, Token,
};
use smoltcp::socket::tcp::State;

use crate::lab::{self, OWN, PEER, PORT, Peer, THEM, US, config, pattern, secrets};

const LISTENER: Token = Token(0);

type AnyQueue = Box<dyn Queue>;

/// What a core of the echo does.
struct Core {
    poll: Poll<AnyQueue>,
    /// Connections that it has accepted.
    accepted: usize,
}

impl Core {
    fn turn(&mut self, now: Time) {
        self.poll.poll(now).expect("a wire is never gone");
        while let Some(event) = self.poll.next_event() {
            if event.token() == LISTENER {
                while let Some(id) = self.poll.accept() {
                    self.accepted += 1;
                    self.poll.register(id, Token(1), Interest::EDGE);
                }
            } else if let Some(mut flow) = self.poll.flow(event.flow()) {
                lab::echo(&mut flow);
                if flow.peer_closed() && flow.recv_queue() == 0 {
                    flow.close();
                }
            }
        }
    }

    fn stats(&self) -> StackStats {
        *self.poll.stack().stats()
    }
}

/// The stacks of two cores of `port`: with a queue each, or, where it has one alone, with that for the first, which hands the
/// other's frames over.
fn cores(port: &WirePort, config: &StackConfig, secrets: Secrets) -> Vec<Core> {
    let doorbells = [0; 2].map(|_| Arc::new(Doorbell::new().expect("a descriptor")));
    let rings = StrayRing::of(&doorbells, 2_048).expect("memory");
    let take = |number| port.take_queue(QueueId(number)).expect("opened once");
    let queues: [AnyQueue; 2] = if port.queues() == 2 {
        [Box::new(take(0)), Box::new(take(1))]
    } else {
        let (mut relay, port) = relay_pair(RelayConfig::default()).expect("memory");
        relay.set_doorbell(doorbells[0].clone());
        let owner = FlowOwner { core: QueueId(1), port, doorbell: doorbells[1].clone() };
        [Box::new(SoftwareRss::new(take(0), Rss::new(2), vec![owner])), Box::new(relay)]
    };
    let mut config = config.clone();
    config.peers = 1;
    config.max_flows = 8_192;
    let core = |(number, (queue, strays)): (usize, (AnyQueue, StrayRing))| {
        config.source_port_share = (number as u8, 2);
        let stack = NetStack::new(config.clone(), secrets).expect("a good configuration");
        Core { poll: Poll::new(stack, [queue]).with_strays(strays), accepted: 0 }
    };
    queues.into_iter().zip(rings).enumerate().map(core).collect()
}

/// One core alone.
fn core(port: &WirePort) -> Core {
    let queue: AnyQueue = Box::new(port.take_queue(QueueId(0)).expect("opened once"));
    let mut config = config();
    config.max_flows = 8_192;
    let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
    Core { poll: Poll::new(stack, [queue]), accepted: 0 }
}

/// Two servers' cores and a peer on a wire; `count` clients send `bytes` each and get them back. Returns the cores.
fn serve(queues: u16, listening: [bool; 2], count: usize, bytes: usize) -> Vec<Core> {
    let (wire, ours, theirs) = Wire::pair(PortConfig::with_queues(queues), PortConfig::default(), 1).expect("a wire");
    let mut cores = cores(&ours, &config(), secrets(1));
    let mut peer = Peer::new(theirs.take_queue(QueueId(0)).expect("opened once"), 7);
    for (core, listens) in cores.iter_mut().zip(listening) {
        if listens {
            core.poll.listen(LISTENER, Interest::READABLE);
        }
    }
    let data: Vec<u8> = (0..bytes).map(pattern).collect();
    let mut clients: Vec<_> = (0..count).map(|_| (peer.connect(4_096), 0, Vec::new())).collect();
    for _ in 0..2_000_000 {
        let now = Time::from_duration(wire.clock().now());
        cores.iter_mut().for_each(|core| core.turn(now));
        peer.poll(now);
        for (handle, sent, got) in &mut clients {
            let socket = peer.socket(*handle);
            if *sent < bytes && socket.can_send() {
                *sent += socket.send_slice(&data[*sent..]).expect("it is open");
            }
            while socket.can_recv() {
                socket.recv(|bytes| (bytes.len(), got.extend_from_slice(bytes))).expect("bytes wait");
            }
            if got.len() == bytes && socket.state() == State::Established {
                socket.close();
            }
        }
        let answered = clients.iter().all(|(_, _, got)| got.len() == bytes);
        if answered && cores.iter().all(|core| core.poll.stack().flows() == 0) {
            assert!(clients.iter().all(|(_, _, got)| *got == data));
            return cores;
        }
        wire.clock().advance(Duration::from_micros(100));
    }
    panic!("not done: {:?}", cores.iter().map(Core::stats).collect::<Vec<_>>());
}

#[test]
fn connections_that_arrive_where_nobody_accepts_are_served_by_the_core_that_does() {
    for worker in 0..2 {
        let cores = serve(2, [worker == 0, worker == 1], 100, 10_000);
        let (worker, other) = (&cores[worker], &cores[1 - worker]);
        assert_eq!((worker.accepted, other.accepted), (100, 0));
        // Each came to either queue, as the hash has it.
        let handed_over = other.stats().handed_over;
        assert!((30..=70).contains(&handed_over), "{handed_over}");
        assert_eq!((worker.stats().handed_over, other.stats().opened), (0, 0));
        assert!(worker.stats().segments_astray > 10 * handed_over);
    }
}

#[test]
fn with_a_worker_on_each_core_nothing_is_handed_over() {
    // With one queue for both, the frames of half of the flows come by a relay, and answers go back by it.
    for queues in [2, 1] {
        let cores = serve(queues, [true, true], 100, 10_000);
        assert_eq!(cores.iter().map(|core| core.accepted).sum::<usize>(), 100);
        assert!(cores.iter().all(|core| core.accepted >= 30 && core.stats().handed_over == 0));
        assert!(cores.iter().all(|core| core.stats().segments_astray == 0));
    }
}

#[test]
fn a_core_without_a_queue_serves_for_one_that_has_it_and_nobody_who_accepts() {
    let cores = serve(1, [false, true], 100, 10_000);
    assert_eq!((cores[0].accepted, cores[1].accepted), (0, 100));
    assert!((30..=70).contains(&cores[0].stats().handed_over));
}

/// Where nobody accepts anywhere a SYN goes round once, and is tried again: whoever begins to listen has it then.
#[test]
fn a_connection_that_nobody_accepts_yet_waits_with_its_client() {
    let (wire, ours, theirs) = Wire::pair(PortConfig::with_queues(2), PortConfig::default(), 1).expect("a wire");
    let mut cores = cores(&ours, &config(), secrets(1));
    let mut peer = Peer::new(theirs.take_queue(QueueId(0)).expect("opened once"), 7);
    let handle = peer.connect(4_096);
    for turn in 0..100_000 {
        let now = Time::from_duration(wire.clock().now());
        cores.iter_mut().for_each(|core| core.turn(now));
        peer.poll(now);
        if turn == 100 {
            assert_eq!(peer.socket(handle).state(), State::SynSent);
            assert_eq!(cores.iter().map(|core| core.stats().handed_over).sum::<u64>(), 1);
            cores[1].poll.listen(LISTENER, Interest::READABLE);
        }
        if peer.socket(handle).state() == State::Established {
            assert!(cores[1].poll.stack().flows() == 1 && turn > 100);
            return;
        }
        wire.clock().advance(Duration::from_micros(100));
    }
    panic!("it was never accepted");
}

/// Opens a thousand connections from core 0 of two, to a server whose answers come as the wire's hash has it. Returns what
/// each core has counted.
fn open_a_thousand(
    queues: u16,
    asking: usize,
    home: impl Fn(&Rss, &sidestep_stack::Ends) -> bool,
) -> (StackStats, StackStats) {
    let (wire, theirs, ours) = Wire::pair(PortConfig::default(), PortConfig::with_queues(queues), 1).expect("a wire");
    let mut server = core(&theirs);
    server.poll.listen(LISTENER, Interest::READABLE);
    let mut own = StackConfig::new(THEM, 24, PEER);
    own.time_wait_reuse = Duration::from_secs(30);
    let mut cores = cores(&ours, &own, secrets(2));
    let rss = Rss::new(2);
    let mut connect = Connect::to(SocketAddrV4::new(US, PORT));
    (connect.mac, connect.token) = (Some(OWN), Token(7));
    let (mut begun, mut answered) = (0, 0);
    let mut open: Vec<FlowId> = Vec::new();
    for _ in 0..200_000 {
        let now = Time::from_duration(wire.clock().now());
        server.turn(now);
        cores[1 - asking].turn(now);
        let core = &mut cores[asking];
        core.poll.poll(now).expect("a wire is never gone");
        while let Some(event) = core.poll.next_event() {
            assert_eq!((event.token(), event.closed()), (Token(7), None), "it is the flow that was asked for");
            let at = open.iter().position(|id| *id == event.flow()).expect("the id stays what it was");
            let mut flow = core.poll.flow(event.flow()).expect("it is open");
            let mut answer = [0; 16];
            if flow.recv_slice(&mut answer) == 5 {
                flow.close();
                open.swap_remove(at);
                answered += 1;
            } else if event.is_writable() && flow.send_queue() == 0 {
                flow.send_slice(b"knock");
            }
        }
        if answered == 1_000 && server.poll.stack().flows() == 0 {
            return (cores[asking].stats(), cores[1 - asking].stats());
        }
        if begun < 1_000 && open.len() < 50 {
            open.push(core.poll.connect(now, &connect, |key| home(&rss, key)).expect("it can be tried"));
            begun += 1;
        }
        wire.clock().advance(Duration::from_micros(100));
    }
    panic!("{answered} of {begun}: {:?}", cores.iter().map(Core::stats).collect::<Vec<_>>());
}

#[test]
fn a_thousand_opens_come_home_by_prediction() {
    // From a core without a queue too: its frames are handed over by the same hash.
    for (queues, asking) in [(2, 0), (2, 1), (1, 0), (1, 1)] {
        let home = QueueId(asking as u16);
        let (core, other) =
            open_a_thousand(queues, asking, |rss, key| rss.queue_for_flow(key.peer(), key.own()) == home);
        assert_eq!((core.connected, core.connects_elsewhere, other.strays), (1_000, 0, 0));
    }
}

#[test]
fn a_thousand_opens_come_home_where_nothing_is_known_by_what_arrives_where() {
    let (core, other) = open_a_thousand(2, 0, |_, _| true);
    assert_eq!((core.connects, core.connected, core.connects_kept_away), (1_000, 1_000, 0));
    // Half of all source ports lead to the other core: each was tried once, and its SYN-ACK is all that came there.
    assert!((800..1_200).contains(&core.connects_elsewhere), "{}", core.connects_elsewhere);
    assert_eq!((other.strays, core.segments_astray), (core.connects_elsewhere, core.connects_elsewhere));
}

/// Each core asks the same server for a thousand connections, and knows nothing of the other's ports.
#[test]
fn two_cores_that_ask_the_same_server_never_ask_from_the_same_port() {
    let (wire, theirs, ours) = Wire::pair(PortConfig::default(), PortConfig::with_queues(2), 1).expect("a wire");
    let mut server = core(&theirs);
    server.poll.listen(LISTENER, Interest::READABLE);
    let mut cores = cores(&ours, &StackConfig::new(THEM, 24, PEER), secrets(2));
    let mut connect = Connect::to(SocketAddrV4::new(US, PORT));
    connect.mac = Some(OWN);
    for turn in 0..2_000 {
        let now = Time::from_duration(wire.clock().now());
        server.turn(now);
        for core in &mut cores {
            core.turn(now);
            if turn % 2 == 0 {
                core.poll.connect(now, &connect, |_| true).expect("it can be tried");
            }
        }
        wire.clock().advance(Duration::from_micros(100));
    }
    for _ in 0..2_000 {
        let now = Time::from_duration(wire.clock().now());
        server.turn(now);
        cores.iter_mut().for_each(|core| core.turn(now));
        wire.clock().advance(Duration::from_micros(100));
    }
    let stats = [cores[0].stats(), cores[1].stats()];
    assert_eq!(stats.map(|core| (core.connected, core.connects_kept_away)), [(1_000, 0); 2]);
    assert_eq!((server.accepted, server.poll.stack().flows()), (2_000, 2_000), "each from a port of its own");
}

#[test]
fn a_prediction_that_is_wrong_is_found_out() {
    let (core, _) = open_a_thousand(2, 0, |rss, key| rss.queue_for_flow(key.peer(), key.own()) == QueueId(1));
    assert_eq!((core.connected, core.connects_kept_away), (1_000, 0));
    assert!(core.connects_elsewhere >= 1_000);
}

#[test]
fn a_source_port_of_the_applications_choice_is_kept() {
    let (wire, theirs, ours) = Wire::pair(PortConfig::default(), PortConfig::with_queues(2), 1).expect("a wire");
    let mut server = core(&theirs);
    server.poll.listen(LISTENER, Interest::READABLE);
    let mut cores = cores(&ours, &StackConfig::new(THEM, 24, PEER), secrets(2));
    let mut connect = Connect::to(SocketAddrV4::new(US, PORT));
    connect.mac = Some(OWN);
    for port in 2_000..2_020 {
        connect.source_port = Some(port);
        cores[0].poll.connect(Time::ZERO, &connect, |_| true).expect("it can be tried");
    }
    for _ in 0..1_000 {
        let now = Time::from_duration(wire.clock().now());
        server.turn(now);
        cores.iter_mut().for_each(|core| core.turn(now));
        wire.clock().advance(Duration::from_micros(100));
    }
    let stats = cores[0].stats();
    assert_eq!((stats.connected, server.accepted), (20, 20));
    assert!(stats.connects_elsewhere > 0 && stats.connects_kept_away == stats.connects_elsewhere);
}
