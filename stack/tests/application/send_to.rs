//! Datagrams to who has not written first: where they go, who is asked for that, what comes back, and why one does not leave.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use nic::{Faults, PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{
    ConnectError, DatagramHandler, DatagramPeer, DatagramReplies, DropReason, Mac, NetStack, Poll, SendTo, SendToError,
    StackConfig, Time,
};

use crate::lab::arp::{Asked, REPLY, arp, asked};
use crate::lab::station::Station;
use crate::lab::udp::{Udp, udp_config};
use crate::lab::{OWN, PEER, PORT, THEM, US, secrets};

const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(THEM), 5_000);
const FAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// What has come, and from whom.
#[derive(Default)]
struct Heard(Vec<(SocketAddr, Vec<u8>)>);

impl DatagramHandler for Heard {
    fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], _replies: &mut DatagramReplies<'_>) {
        self.0.push((peer.peer(), payload.to_vec()));
    }
}

/// A core, and a queue by which the test sees what it sends.
struct Bench {
    wire: Wire,
    poll: Poll<WireQueue>,
    station: Station,
    heard: Heard,
}

impl Bench {
    fn new(config: StackConfig) -> Self {
        Self::on(config, PortConfig::default())
    }

    fn on(config: StackConfig, port: PortConfig) -> Self {
        let (wire, ours, theirs) = Wire::pair(port, PortConfig::default(), 1).expect("a wire");
        let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
        let poll = Poll::new(stack, [ours.take_queue(QueueId(0)).expect("opened once")]);
        let station = Station::new(theirs.take_queue(QueueId(0)).expect("opened once"));
        Self { wire, poll, station, heard: Heard::default() }
    }

    fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    fn send(&mut self, to: &SendTo, data: &[u8]) -> Result<(), SendToError> {
        let now = self.now();
        self.poll.send_to(now, to, data.len(), |room| {
            room.copy_from_slice(data);
            data.len()
        })
    }

    /// A turn. Returns what leaves in it.
    fn turn(&mut self) -> Vec<Vec<u8>> {
        let now = self.now();
        self.poll.poll_with(now, &mut self.heard).expect("a wire is never gone");
        let mut frames = Vec::new();
        self.station.receive(|frame| frames.push(frame.to_vec()));
        frames
    }

    fn drops(&self, reason: DropReason) -> u64 {
        self.poll.stack().stats().drops.of(reason)
    }
}

fn no_way(error: ConnectError) -> Result<(), SendToError> {
    Err(SendToError::NoWay(error))
}

#[test]
fn a_datagram_leaves_once_the_neighbour_that_was_asked_for_has_answered() {
    let mut bench = Bench::new(udp_config());
    let to = SendTo::new(SERVER, PORT);
    let asking = Err(SendToError::Asking { hop: THEM.into() });
    assert_eq!(bench.send(&to, b"anybody?"), asking);
    assert_eq!(bench.send(&to, b"anybody?"), asking);
    assert_eq!(bench.poll.idle(bench.now()), Some(Duration::ZERO), "there is somebody to be asked");
    assert_eq!(asked(&bench.turn()), [Asked { to: Mac::BROADCAST, target: THEM }]);
    assert_eq!((bench.turn().len(), bench.send(&to, b"anybody?")), (0, asking), "asked once a second");
    bench.station.send(&arp(REPLY, (THEM, PEER), US));
    bench.turn();
    assert_eq!(bench.send(&to, b"anybody?"), Ok(()));
    assert_eq!(bench.send(&to, b""), Ok(()));
    let frames = bench.turn();
    let sent = Udp { peer_port: 5_000, our_port: PORT, tag: None, data: b"anybody?".to_vec() };
    assert_eq!(frames.iter().map(|frame| Udp::read(frame)).collect::<Vec<_>>(), [sent], "and of nothing, nothing");
    assert_eq!(bench.poll.stack().stats().datagrams_sent, 1);
    // What it says comes as any datagram does.
    bench.station.send(&Udp::new(5_000, b"here").frame());
    bench.turn();
    assert_eq!(bench.heard.0, [(SERVER, b"here".to_vec())]);
}

#[test]
fn a_neighbour_that_is_silent_is_asked_for_three_times_and_again_by_the_next_datagram() {
    let mut bench = Bench::new(udp_config());
    let to = SendTo::new(SERVER, PORT);
    let asking = Err(SendToError::Asking { hop: THEM.into() });
    for _ in 0..2 {
        assert_eq!(bench.send(&to, b"anybody?"), asking);
        let mut questions = 0;
        for _ in 0..100 {
            questions += asked(&bench.turn()).len();
            bench.wire.clock().advance(Duration::from_millis(100));
        }
        assert_eq!(questions, 3);
    }
    assert_eq!(bench.poll.stack().stats().datagrams_refused, 0);
}

#[test]
fn a_datagram_for_a_far_host_goes_by_the_router() {
    let mut config = udp_config();
    config.gateway = Some(ROUTER);
    let mut bench = Bench::new(config);
    let to = SendTo::new(SocketAddrV4::new(FAR, 5_000), PORT);
    assert_eq!(bench.send(&to, b"far"), Err(SendToError::Asking { hop: ROUTER.into() }));
    assert_eq!(asked(&bench.turn()), [Asked { to: Mac::BROADCAST, target: ROUTER }]);
    bench.station.send(&arp(REPLY, (ROUTER, PEER), US));
    bench.turn();
    assert_eq!(bench.send(&to, b"far"), Ok(()));
    let frames = bench.turn();
    assert_eq!((&frames[0][..6], &frames[0][30..34]), (&PEER.0[..], &FAR.octets()[..]));
    // One whose station the caller knows needs nobody asked.
    let mut to = SendTo::new(SERVER, PORT);
    to.mac = Some(PEER);
    assert_eq!(bench.send(&to, b"near"), Ok(()));
    assert_eq!(Udp::read(&bench.turn()[0]).data, b"near");
}

#[test]
fn what_cannot_be_sent_is_refused_with_the_reason() {
    let mut bench = Bench::new(udp_config());
    bench.poll.stack_mut().learn_neighbor(Time::ZERO, THEM, PEER);
    for address in [US, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 77, 0, 255), Ipv4Addr::new(224, 0, 0, 1)] {
        let remote = SocketAddrV4::new(address, 5_000).into();
        assert_eq!(bench.send(&SendTo::new(remote, PORT), b"x"), no_way(ConnectError::Remote { remote }));
    }
    let remote = SocketAddr::new(THEM.into(), 0);
    assert_eq!(bench.send(&SendTo::new(remote, PORT), b"x"), no_way(ConnectError::Remote { remote }));
    assert_eq!(bench.send(&SendTo::new(SERVER, 0), b"x"), Err(SendToError::SourcePort));
    for remote in
        [SocketAddr::new(FAR.into(), 5_000), SocketAddr::new(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1).into(), 1)]
    {
        assert_eq!(bench.send(&SendTo::new(remote, PORT), b"x"), no_way(ConnectError::NoRoute { remote }));
    }
    let mut to = SendTo::new(SERVER, PORT);
    to.source = Some(THEM.into());
    assert_eq!(bench.send(&to, b"x"), no_way(ConnectError::Source { address: THEM.into() }));
    let to = SendTo::new(SERVER, PORT);
    assert_eq!(bench.send(&to, &[7; 1_473]), Err(SendToError::TooLong { len: 1_473, most: 1_472 }));
    assert_eq!(bench.send(&to, &[7; 1_472]), Ok(()));
    assert_eq!(Udp::read(&bench.turn()[0]).data, [7; 1_472]);
    // The wire takes none of them: every frame is in flight in the end.
    let mut sent = 0;
    let refused = loop {
        match bench.send(&to, b"x") {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, SendToError::NoFrame(_)) && sent > 0, "{refused:?} after {sent}");
    assert_eq!(bench.poll.stack().stats().datagrams_refused, 1);
    // Far more hosts than are asked for at a time.
    let hosts = (1..250).map(|last| SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, last), 5_000));
    let errors: Vec<_> = hosts.map(|host| bench.send(&SendTo::new(host, PORT), b"x")).collect();
    assert!(errors.contains(&no_way(ConnectError::TooManyNeighbors)), "{errors:?}");
}

/// Below 1,024 and at 11211 are services that answer whatever comes: theirs is taken only where they are asked.
#[test]
fn what_a_service_answers_is_handed_over_where_it_was_named() {
    for services in [vec![], vec![53, 11_211]] {
        let mut config = udp_config();
        config.udp_ports = vec![40_000];
        config.udp_services = services.clone();
        let mut bench = Bench::new(config);
        for (port, data) in [(53, b"from 53"), (54, b"from 54"), (11_211, b"by name")] {
            let mut answer = Udp::new(port, data);
            answer.our_port = 40_000;
            bench.station.send(&answer.frame());
        }
        bench.turn();
        let ports: Vec<u16> = bench.heard.0.iter().map(|(from, _)| from.port()).collect();
        assert_eq!((&ports, bench.drops(DropReason::UdpLoopPort)), (&services, 3 - services.len() as u64));
    }
}

/// Two stacks on one wire that loses a tenth of what it carries, over either family.
#[test]
fn two_stacks_that_know_nothing_of_each_other_write_to_each_other() {
    let v6 = |last| Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last);
    let addresses: [[IpAddr; 2]; 2] = [[US.into(), THEM.into()], [v6(2).into(), v6(1).into()]];
    for own in addresses {
        // Each at a port of its own: what comes from a port at which one listens oneself is dropped.
        let port_of = |address: IpAddr| 40_000 + u16::from(address == own[0]);
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let faults = Faults { loss: 0.1, ..Faults::default() };
        for port in 0..2 {
            wire.set_inbound_faults(port, faults.clone()).expect("there are two");
        }
        let mut cores = [(ours, own[0], OWN), (theirs, own[1], PEER)].map(|(port, address, mac)| {
            let mut config = StackConfig::new(address, if address.is_ipv4() { 24 } else { 64 }, mac);
            config.udp_ports = vec![port_of(address)];
            let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
            (Poll::new(stack, [port.take_queue(QueueId(0)).expect("opened once")]), Heard::default())
        });
        let mut sent = [0; 2];
        // An address of IPv6 is in use a second after the start.
        for turn in 0..4_000 {
            let now = Time::from_duration(wire.clock().now());
            for (core, (poll, heard)) in cores.iter_mut().enumerate() {
                poll.poll_with(now, heard).expect("a wire is never gone");
                if turn < 3_500 {
                    let to = SendTo::new((own[1 - core], port_of(own[1 - core])), port_of(own[core]));
                    let written = poll.send_to(now, &to, 100, |room| {
                        room.fill(core as u8);
                        100
                    });
                    sent[core] += usize::from(written.is_ok());
                }
            }
            wire.clock().advance(Duration::from_millis(1));
        }
        for (core, (poll, heard)) in cores.iter().enumerate() {
            let from = SocketAddr::new(own[1 - core], port_of(own[1 - core]));
            assert!(heard.0.iter().all(|heard| *heard == (from, vec![1 - core as u8; 100])));
            let (come, left) = (heard.0.len(), sent[1 - core]);
            assert!(left > 1_000 && come < left && come > left * 8 / 10, "{come} of {left}");
            assert!(poll.stack().neighbor(own[1 - core]).is_some());
        }
    }
}
