//! Our own stack keeps the contract of a transport: what is reported, in which order, and of what nothing is. On a wire
//! in memory, with a virtual clock, against an echo server on the same stack.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mcload::transport::own_stack::{OwnStack, Route};
use mcload::transport::{Close, End, News, Slot, Transport};
use nic::{PortConfig, QueueId, Wire, WireQueue};
use stack::{FlowId, Interest, Mac, NetStack, Poll, Secrets, StackConfig, Time, Token};

/// Of each family: server, client, and a host that is not there.
const FAMILIES: [[IpAddr; 3]; 2] = [
    [
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9)),
    ],
    [
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)),
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)),
        IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 9)),
    ],
];
const SERVER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
const CLIENT_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn stack(address: IpAddr, mac: Mac, adjust: impl FnOnce(&mut StackConfig)) -> NetStack {
    let mut config = StackConfig::new(address, if address.is_ipv4() { 24 } else { 64 }, mac);
    adjust(&mut config);
    NetStack::new(config, Secrets::from_bytes([5; 32])).expect("a good configuration")
}

struct Lab {
    wire: Wire,
    micros: Arc<AtomicU64>,
    client: OwnStack<WireQueue>,
    server: Poll<WireQueue>,
    /// The server takes nothing while this is set.
    deaf: bool,
    last: Option<FlowId>,
}

impl Lab {
    /// Over each family, one after the other.
    fn of_each_family() -> impl Iterator<Item = Self> {
        FAMILIES.into_iter().map(|family| Self::to(family, SocketAddr::new(family[0], 7)))
    }

    fn to([own, client_address, _]: [IpAddr; 3], server: SocketAddr) -> Self {
        let (wire, ours, theirs) =
            Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a good configuration");
        let micros = Arc::new(AtomicU64::new(0));
        let clock = micros.clone();
        let route = Route { server, mac: None, worker: (0, 1) };
        let queue = ours.take_queue(QueueId(0)).expect("opened once");
        let client = OwnStack::new(
            route,
            8,
            stack(client_address, CLIENT_MAC, |config| config.max_flows = 16),
            queue,
            None,
            // Looking at the clock takes a moment, as it does: nothing that waits for time may wait for ever.
            Box::new(move || Duration::from_micros(clock.fetch_add(1, Ordering::Relaxed))),
        );
        let queue = theirs.take_queue(QueueId(0)).expect("opened once");
        let mut server = Poll::new(stack(own, SERVER_MAC, |config| config.ports = vec![7]), [queue]);
        server.accept_each(Token(0), Interest::EDGE);
        let mut lab = Self { wire, micros, client, server, deaf: false, last: None };
        if client_address.is_ipv6() {
            // Until both have tested their addresses (RFC 4862 §5.4).
            lab.run(5_000);
        }
        lab
    }

    fn serve(&mut self) {
        let now = Time::from_micros(self.micros.load(Ordering::Relaxed));
        self.server.take_in(now);
        while let Some(event) = self.server.next_event() {
            if event.closed().is_some() {
                continue;
            }
            self.last = Some(event.flow());
            let Some(mut flow) = self.server.flow(event.flow()) else { continue };
            while !self.deaf && flow.recv_queue() > 0 && flow.send_room() > 0 {
                let mut scratch = [0; 1_024];
                let room = flow.send_room().min(scratch.len());
                let got = flow.peek(&mut scratch[..room]);
                flow.send_slice(&scratch[..got]);
                let mut left = got;
                while left > 0 {
                    left -= flow.recv(|bytes| (bytes.len().min(left), bytes.len().min(left)));
                }
            }
            if flow.peer_closed() && flow.recv_queue() == 0 {
                flow.close();
            }
        }
        self.server.send(now).expect("a wire is never gone");
    }

    /// Turns for `millis` of virtual time, and what is reported in it. Bytes are taken and added up.
    fn run(&mut self, millis: u64) -> (Vec<(Slot, News)>, Vec<u8>) {
        let (mut told, mut bytes) = (Vec::new(), Vec::new());
        for _ in 0..millis {
            let until = self.client.now();
            self.client.wait(until).expect("a wire is never gone");
            while let Some((slot, news)) = self.client.news() {
                if news == News::Readable {
                    self.client.recv(slot, &mut |piece, _| bytes.extend_from_slice(piece));
                }
                told.push((slot, news));
            }
            self.client.flush().expect("a wire is never gone");
            self.serve();
            self.micros.fetch_add(1_000, Ordering::Relaxed);
            self.wire.clock().advance(Duration::from_millis(1));
        }
        (told, bytes)
    }

    fn open(&mut self, slot: Slot) {
        self.client.open(slot).expect("there is room");
        assert_eq!(self.run(10).0, [(slot, News::Opened)]);
    }
}

#[test]
fn bytes_go_there_and_back_and_room_is_reported_once_there_is_some() {
    for mut lab in Lab::of_each_family() {
        assert_eq!(lab.client.send(3, b"early"), 0);
        lab.open(3);
        assert_eq!(lab.client.send(3, b"hello"), 5);
        let (told, bytes) = lab.run(10);
        assert_eq!((told, bytes.as_slice()), (vec![(3, News::Readable)], &b"hello"[..]));
        lab.deaf = true;
        let long = vec![7; 100_000];
        let mut sent = lab.client.send(3, &long);
        assert!((1..long.len()).contains(&sent));
        // The deaf server's receive ring takes half of it; what is sent then finds no room again.
        assert_eq!(lab.run(20).0, [(3, News::Writable)]);
        sent += lab.client.send(3, &long[sent..]);
        assert!(sent < long.len());
        assert_eq!(lab.run(20).0, []);
        lab.deaf = false;
        let last = lab.last.expect("the server has a flow");
        lab.server.wake(last);
        let mut back = 0;
        for _ in 0..1_000 {
            let (told, bytes) = lab.run(1);
            back += bytes.len();
            if told.contains(&(3, News::Writable)) {
                sent += lab.client.send(3, &long[sent..]);
            }
            lab.server.wake(last);
        }
        assert_eq!((sent, back), (long.len(), long.len()));
    }
}

#[test]
fn each_way_to_end_is_told_as_what_it_is() {
    for mut lab in Lab::of_each_family() {
        lab.open(0);
        let last = lab.last.expect("the server has a flow");
        let mut flow = lab.server.flow(last).expect("it is open");
        flow.send_slice(b"bye");
        flow.close();
        let (told, bytes) = lab.run(10);
        assert_eq!(told, [(0, News::Readable), (0, News::Ended(End::Finished))]);
        assert_eq!(bytes, b"bye");
        lab.open(0);
        let last = lab.last.expect("the server has a flow");
        lab.server.flow(last).expect("it is open").abort();
        assert_eq!(lab.run(10).0, [(0, News::Ended(End::Reset))]);
        assert_eq!(lab.client.send(0, b"late"), 0);
    }
}

#[test]
fn nobody_listening_and_nobody_there_are_told_apart() {
    for family in FAMILIES {
        let [own, _, nobody] = family;
        for (address, port, end, millis) in [(own, 8, End::Refused, 20), (nobody, 7, End::TimedOut, 4_000)] {
            let mut lab = Lab::to(family, SocketAddr::new(address, port));
            lab.client.open(5).expect("it can be tried");
            assert_eq!(lab.run(millis).0, [(5, News::Ended(end))]);
        }
    }
}

#[test]
fn of_a_slot_that_was_closed_nothing_is_told_and_it_may_be_opened_again_at_once() {
    for mut lab in Lab::of_each_family() {
        for round in 0..40 {
            let how = if round % 2 == 0 { Close::InOrder } else { Close::Reset };
            lab.open(1);
            assert_eq!(lab.client.send(1, b"x"), 1);
            if round % 3 == 0 {
                lab.run(1);
            }
            lab.client.close(1, how);
            lab.client.close(1, how);
            // Closed while it is still opening, too.
            lab.client.open(1).expect("there is room");
            lab.client.close(1, how);
            lab.client.open(2).expect("there is room");
            assert_eq!(lab.run(10), (vec![(2, News::Opened)], vec![]), "round {round}");
            lab.client.close(2, how);
            assert_eq!(lab.run(10).0, []);
        }
        // The last FINs are answered.
        lab.run(2_000);
        assert_eq!(lab.client.stack().flows(), 0);
        assert_eq!(lab.server.flows(), 0);
    }
}

#[test]
fn slots_wait_for_a_block_that_closing_flows_still_have() {
    for mut lab in Lab::of_each_family() {
        // Sixteen flows in all, of which the closing ones hold eight until their peer has answered.
        for slot in 0..8 {
            lab.client.open(slot).expect("there is room");
        }
        assert_eq!(lab.run(10).0.len(), 8);
        for round in 0..3 {
            for slot in 0..8 {
                lab.client.close(slot, Close::InOrder);
                lab.client.open(slot).expect("it waits if there is no room");
            }
            let opened = lab.run(30).0;
            assert_eq!(
                opened.iter().filter(|&&(_, news)| news == News::Opened).count(),
                8,
                "round {round}: {opened:?}"
            );
        }
    }
}
