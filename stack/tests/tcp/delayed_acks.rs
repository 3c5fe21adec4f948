//! Hosts that delay their ACKs, and those behind which segments are lost: how soon the first answer on a connection is sent again.

use std::net::Ipv4Addr;
use std::time::Duration;

use etherparse::TcpOptionElement::{SelectiveAcknowledgement, SelectiveAcknowledgementPermitted};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, PSH, SYN, Tcp};
use crate::lab::{App, THEM};

const ISN: u32 = 7;
const ROUND_TRIP: Duration = Duration::from_micros(200);
/// Less than 2 round trips and 5 ms, and so much more that a timer has run out; and the same of 50 ms.
const SOON: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(2)];
const LATE: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(2)];

/// A connection of a client that uses SACK, by its own port.
struct Client {
    host: Ipv4Addr,
    port: u16,
    seq: u32,
    next: u32,
}

/// Hosts, and the server.
struct Hosts {
    bench: Bench,
    ports: std::ops::RangeFrom<u16>,
}

impl Hosts {
    fn new() -> Self {
        Self { bench: Bench::new(App::Echo), ports: 2_000.. }
    }

    fn open(&mut self, host: Ipv4Addr) -> Client {
        let port = self.ports.next().expect("more ports than tests use");
        let syn = Tcp::new(port, SYN, ISN, 0).from(host).frame_with(&[SelectiveAcknowledgementPermitted]);
        let answers = self.bench.frame(&syn);
        let next = Tcp::read(answers.first().expect("a SYN-ACK")).seq.wrapping_add(1);
        self.bench.wait(ROUND_TRIP);
        assert_eq!(self.bench.tcp(&Tcp::new(port, ACK, ISN + 1, next).from(host)), []);
        Client { host, port, seq: ISN + 1, next }
    }

    /// The client asks something, which is answered.
    #[track_caller]
    fn ask(&mut self, client: &mut Client) {
        let echo =
            self.bench.one(&Tcp::new(client.port, ACK | PSH, client.seq, client.next).from(client.host).with(b"?"));
        assert_eq!((echo.seq, &echo.data[..]), (client.next, &b"?"[..]));
        client.seq += 1;
    }

    /// The client acknowledges the answer, of which it got one more than it needed if that is `twice`.
    fn acknowledge(&mut self, client: &mut Client, twice: bool) {
        client.next = client.next.wrapping_add(1);
        if twice {
            self.tell_of_twice(client);
        } else {
            let ack = Tcp::new(client.port, ACK, client.seq, client.next).from(client.host);
            assert_eq!(self.bench.tcp(&ack), []);
        }
    }

    /// The client says that it got the last byte that it has acknowledged twice.
    fn tell_of_twice(&mut self, client: &Client) {
        let had = [SelectiveAcknowledgement((client.next.wrapping_sub(1), client.next), [None; 3])];
        let ack = Tcp::new(client.port, ACK, client.seq, client.next).from(client.host).frame_with(&had);
        assert_eq!(self.bench.frame(&ack), Vec::<Vec<u8>>::new());
    }

    /// The answer is sent again after the second span, not before the first is over.
    #[track_caller]
    fn sent_again_after(&mut self, spans: [Duration; 2]) {
        assert_eq!(spans.map(|span| self.bench.wait(span).len()), [0, 1]);
    }

    /// A new connection, whose client has the answer and acknowledges it only when that comes again.
    #[track_caller]
    fn in_vain(&mut self, host: Ipv4Addr) {
        let mut client = self.open(host);
        self.ask(&mut client);
        self.sent_again_after(SOON);
        self.acknowledge(&mut client, true);
    }

    /// The client acknowledges what was lost when it came again.
    fn mended(&mut self, client: &mut Client) {
        self.bench.wait(ROUND_TRIP);
        self.acknowledge(client, false);
    }

    /// Probes, and those that were in vain.
    fn probes(&self) -> (u64, u64) {
        let stats = self.bench.server.poll.stack().stats();
        (stats.tail_probes, stats.probes_needless)
    }
}

#[test]
fn the_fifth_connection_of_a_host_that_delays_its_acks_is_answered_once() {
    let mut hosts = Hosts::new();
    (0..4).for_each(|_| hosts.in_vain(THEM));
    assert_eq!(hosts.probes(), (4, 4));
    for _ in 0..100 {
        let mut client = hosts.open(THEM);
        for _ in 0..3 {
            hosts.ask(&mut client);
            assert_eq!(hosts.bench.wait(Duration::from_millis(40)), [], "it delays its ACK");
            hosts.acknowledge(&mut client, false);
        }
    }
    assert_eq!(hosts.probes(), (4, 4));
    // Of another host that is not known.
    hosts.in_vain(Ipv4Addr::new(10, 77, 0, 9));
}

#[test]
fn the_first_answer_that_is_lost_on_a_connection_comes_late_and_then_none_does() {
    let mut hosts = Hosts::new();
    (0..4).for_each(|_| hosts.in_vain(THEM));
    let mut client = hosts.open(THEM);
    hosts.ask(&mut client);
    hosts.sent_again_after(LATE);
    // It was lost: what its host is known for does not hold for this connection.
    hosts.mended(&mut client);
    for _ in 0..3 {
        hosts.ask(&mut client);
        hosts.sent_again_after(SOON);
        hosts.mended(&mut client);
    }
    // Nor for those that come after it: as many probes were needed as were in vain.
    let mut client = hosts.open(THEM);
    hosts.ask(&mut client);
    hosts.sent_again_after(SOON);
}

#[test]
fn where_one_answer_in_ten_is_lost_none_waits() {
    let mut hosts = Hosts::new();
    for number in 0..200 {
        let mut client = hosts.open(THEM);
        hosts.ask(&mut client);
        hosts.sent_again_after(SOON);
        if number % 10 == 0 {
            hosts.mended(&mut client);
        } else {
            hosts.acknowledge(&mut client, true);
        }
    }
    assert_eq!(hosts.probes(), (200, 180));
}

/// An ACK of two whole segments is not delayed (RFC 5681 §4.2): its silence says that something was lost.
#[test]
fn two_whole_segments_do_not_wait() {
    let mut hosts = Hosts::new();
    (0..4).for_each(|_| hosts.in_vain(THEM));
    let mut client = hosts.open(THEM);
    let long = vec![b'x'; 2 * crate::lab::family::USUAL_MSS];
    let (first, second) = long.split_at(long.len() / 2);
    let port = client.port;
    let mut echoed = Vec::new();
    for part in [first, second] {
        let ask = Tcp::new(port, ACK | PSH, client.seq, client.next).from(client.host).with(part);
        echoed.extend(hosts.bench.tcp(&ask));
        client.seq += part.len() as u32;
    }
    assert_eq!(echoed.iter().map(|echo| echo.data.len()).sum::<usize>(), long.len());
    hosts.sent_again_after(SOON);
}

/// A client acknowledges an answer while the probe for it is on its way, and then says that it got it twice.
#[test]
fn a_probe_that_crosses_an_ack_was_in_vain() {
    let mut hosts = Hosts::new();
    for _ in 0..4 {
        let mut client = hosts.open(THEM);
        hosts.ask(&mut client);
        hosts.sent_again_after(SOON);
        hosts.acknowledge(&mut client, false);
        hosts.tell_of_twice(&client);
        // This one is known already.
        hosts.ask(&mut client);
        assert_eq!(hosts.bench.wait(LATE[0]), []);
        hosts.acknowledge(&mut client, false);
    }
    assert_eq!(hosts.probes(), (4, 4));
    let mut client = hosts.open(THEM);
    hosts.ask(&mut client);
    hosts.sent_again_after(LATE);
}
