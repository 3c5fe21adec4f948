//! All modes over the in-memory wire, on virtual time: what is lost, changed or not ours is counted exactly.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Parser;
use nic::{Burst, Corrupt, Faults, FrameCensus, Mac, Queue, QueueId, Reorder, Wire, WireQueue};
use sidestep_pktgen::options::Plan;
use sidestep_pktgen::port::{Seat, open_wire};
use sidestep_pktgen::station::Station;
use sidestep_pktgen::tally::{DropReason, Tally, Trips};
use sidestep_pktgen::{arp, ndp};

const TURN: Duration = Duration::from_micros(10);
/// More turns than any of these runs needs: ten virtual seconds.
const TURNS_MAX: usize = 1_000_000;

/// The ports of the wire: the asked mode's and the other end's.
const ASKED: usize = 0;
const OTHER: usize = 1;

struct Bench {
    wire: Wire,
    seats: Vec<Seat<WireQueue>>,
}

/// What a run came to: tallies and censuses of the asked end and of the other, queue by queue.
struct Ended {
    asked: Tally,
    other: Tally,
    wire: Wire,
}

impl Ended {
    fn trips(&self) -> &Trips {
        self.asked.trips.as_ref().expect("ping counts trips")
    }

    /// Frames that did not come through a direction whole.
    fn lost_or_corrupted(&self) -> u64 {
        [ASKED, OTHER].map(|port| self.wire.counts(port)).iter().map(|way| way.all_lost() + way.corrupted).sum()
    }
}

fn plan(line: &str) -> Plan {
    Plan::try_parse_from(format!("pktgen -i wire: {line}").split_whitespace()).unwrap().checked().unwrap()
}

impl Bench {
    fn new(line: &str, seed: u64) -> Self {
        println!("seed {seed}, {line}");
        let (wire, seats) = open_wire(&plan(line), seed).unwrap();
        Self { wire, seats }
    }

    fn with_faults(self, both_ways: &Faults) -> Self {
        for port in [ASKED, OTHER] {
            self.wire.set_inbound_faults(port, both_ways.clone()).unwrap();
        }
        self
    }

    /// One turn of every seat; true when the asked ones are done.
    fn turn(&mut self) -> bool {
        let now = self.wire.clock().now();
        let mut done = true;
        for seat in &mut self.seats {
            let progress = seat.engine.turn(&mut seat.queue, now).unwrap();
            done &= progress.done || !seat.asked;
        }
        self.wire.clock().advance(TURN);
        done
    }

    /// Turns until the asked end is done, then ends both and checks that every frame came home.
    fn run(mut self) -> Ended {
        let turns = (0..TURNS_MAX).find(|_| self.turn());
        assert!(turns.is_some(), "still not done");
        self.end()
    }

    fn end(self) -> Ended {
        let (mut asked, mut other) = (Tally::default(), Tally::default());
        for mut seat in self.seats {
            let tally = seat.engine.finish(&mut seat.queue);
            seat.queue.flush().unwrap();
            let FrameCensus { total, free, fill, tx, held } = seat.queue.census();
            assert_eq!((held, tx, free + fill), (0, 0, total), "a frame is missing");
            if seat.asked { asked.add(&tally) } else { other.add(&tally) }
        }
        Ended { asked, other, wire: self.wire }
    }
}

#[test]
fn every_ping_comes_back_from_pong_whatever_its_length() {
    for bytes in [60, 61, 512, 1514] {
        let ended = Bench::new(&format!("-f ping -n 10000 -l {bytes}"), 1).run();
        let trips = ended.trips();
        assert_eq!((trips.sent, trips.answered, trips.lost, trips.reordered), (10_000, 10_000, 0, 0));
        assert_eq!((ended.asked.drops.all(), ended.other.drops.all()), (0, 0));
        // One ARP request each way besides.
        assert_eq!((ended.other.rx.frames, ended.other.tx.frames, ended.other.neighbors_answered), (10_001, 10_001, 1));
        assert_eq!(ended.asked.rx.bytes, 10_000 * bytes + 60);
    }
}

#[test]
fn every_ping_over_ipv6_comes_back_from_pong_whatever_its_length() {
    for bytes in [80, 81, 512, 1514] {
        let ended = Bench::new(&format!("-f ping -n 10000 -l {bytes} -s fd77::4 -d fd77::2"), 1).run();
        let trips = ended.trips();
        assert_eq!((trips.sent, trips.answered, trips.lost, trips.reordered), (10_000, 10_000, 0, 0));
        assert_eq!((ended.asked.drops.all(), ended.other.drops.all()), (0, 0));
        // One solicitation each way besides, of 86 bytes.
        assert_eq!((ended.other.rx.frames, ended.other.tx.frames, ended.other.neighbors_answered), (10_001, 10_001, 1));
        assert_eq!(ended.asked.rx.bytes, 10_000 * bytes + 86);
    }
}

#[test]
fn pings_of_several_queues_each_come_home() {
    for ends in ["-s 192.0.2.1:7000-7127", "-s [fd77::4]:7000-7127 -d fd77::2"] {
        let ended = Bench::new(&format!("-f ping -p 3 -n 30001 {ends}"), 2).run();
        let trips = ended.trips();
        assert_eq!((trips.sent, trips.answered, trips.lost), (30_001, 30_001, 0));
        assert_eq!(ended.asked.drops.all(), 0);
    }
}

#[test]
fn an_answer_on_another_queue_is_not_taken_for_one_of_its_own() {
    use nic::PortConfig;
    use sidestep_pktgen::part::Part;
    let plan = plan("-f ping -p 2 -n 4000 --timeout 1 -s 192.0.2.1:7000-7031 -D 02:00:00:00:00:02");
    let config = PortConfig::with_queues(2);
    let (wire, first, second) = Wire::pair(config.clone(), config, 4).unwrap();
    let part = Part::of(&plan, Mac([2, 0, 0, 0, 0, 1]));
    let opposite = part.opposite(Mac([2, 0, 0, 0, 0, 2]));
    let mut seats = Vec::new();
    for (part, port, asked) in [(part, first, true), (opposite, second, false)] {
        // Nobody says where a flow comes home, so that about half of them come to the other queue.
        for (number, engine) in part.engines(|_| None).unwrap().into_iter().enumerate() {
            seats.push(Seat { engine, queue: port.take_queue(QueueId(number as u16)).unwrap(), asked });
        }
    }
    let ended = Bench { wire, seats }.run();
    let trips = ended.trips();
    assert_eq!((trips.sent, trips.answered + trips.lost), (4_000, 4_000));
    assert!(trips.lost > 1_000 && trips.answered > 1_000, "{} lost", trips.lost);
    assert_eq!(ended.asked.drops.of(DropReason::Unexpected), trips.lost);
}

#[test]
fn lost_frames_are_counted_exactly() {
    let faults = Faults { loss: 0.03, delay: Duration::from_micros(50), ..Faults::default() };
    for seed in 1..=4 {
        // The peer's Ethernet address is known, so that no ARP is lost and asked again.
        let ended = Bench::new("-f ping -n 20000 -D 02:00:00:00:00:02", seed).with_faults(&faults).run();
        let (trips, lost) = (ended.trips(), ended.lost_or_corrupted());
        assert!(lost > 500, "the wire lost {lost} of 40,000");
        assert_eq!((trips.sent, trips.lost, trips.answered), (20_000, lost, 20_000 - lost));
        assert_eq!(trips.reordered, 0);
    }
}

#[test]
fn corrupted_frames_are_never_taken_for_answers() {
    let faults = Faults { corrupt: Some(Corrupt { probability: 0.05, bits: 12 }), ..Faults::default() };
    for seed in 1..=4 {
        let ended = Bench::new("-f ping -n 20000 -l 200 -D 02:00:00:00:00:02", seed).with_faults(&faults).run();
        let (trips, corrupted) = (ended.trips(), [ASKED, OTHER].map(|port| ended.wire.counts(port).corrupted));
        assert!(corrupted.iter().all(|corrupted| *corrupted > 300), "{corrupted:?}");
        assert_eq!(trips.answered + trips.lost, 20_000);
        // Each loss is a frame that was corrupted, or could only have been undetectably so; a frame may be so twice.
        assert!(trips.lost <= ended.lost_or_corrupted());
        assert!(ended.asked.drops.of(DropReason::BadChecksum) > 300, "{:?}", ended.asked.drops);
        assert_eq!(ended.asked.rx.frames, trips.answered + ended.asked.drops.all());
    }
}

#[test]
fn the_round_trip_time_is_the_wire_s_delay_both_ways() {
    let faults = Faults { delay: Duration::from_micros(300), ..Faults::default() };
    let ended = Bench::new("-f ping -n 5000", 1).with_faults(&faults).run();
    let rtt = &ended.trips().rtt;
    // A turn of ours and one of the other end's may be added; the histogram is right within a thousandth.
    for micros in [rtt.min(), rtt.value_at_percentile(50.0), rtt.max()].map(|nanos| nanos as f64 / 1e3) {
        assert!((599.0..=621.0).contains(&micros), "{micros} us");
    }
}

#[test]
fn overtaken_frames_are_counted_as_reordered() {
    let reorder = Some(Reorder { probability: 0.02, depth: 8, hold: Duration::from_millis(1) });
    let bench = Bench::new("-f ping -n 20000 -D 02:00:00:00:00:02", 3);
    bench.wire.set_inbound_faults(ASKED, Faults { reorder, ..Faults::default() }).unwrap();
    let ended = bench.run();
    assert_eq!((ended.trips().answered, ended.trips().lost), (20_000, 0));
    // Each frame held back arrives after a later one, unless it was released for want of one or with another.
    let (held_back, reordered) = (ended.wire.counts(ASKED).reordered, ended.trips().reordered);
    assert!(held_back > 200 && reordered > held_back / 2 && reordered <= held_back, "{reordered} of {held_back}");
}

#[test]
fn a_duplicate_is_not_a_second_answer() {
    let bench = Bench::new("-f ping -n 5000 -D 02:00:00:00:00:02", 5);
    bench.wire.set_inbound_faults(ASKED, Faults { duplicate: 0.1, ..Faults::default() }).unwrap();
    let mut ended = bench;
    while !ended.turn() {}
    // The copy of the last answer may be under way still.
    ended.turn();
    let ended = ended.end();
    let copies = ended.wire.counts(ASKED).duplicated;
    assert!(copies > 300, "{copies}");
    assert_eq!((ended.trips().answered, ended.trips().lost), (5_000, 0));
    assert!(copies - ended.asked.drops.of(DropReason::Unexpected) <= 1);
}

#[test]
fn an_answer_after_the_time_out_stays_lost() {
    let faults = Faults { delay: Duration::from_millis(3), ..Faults::default() };
    let bench = Bench::new("-f ping -n 640 --window 64 --timeout 5 -D 02:00:00:00:00:02", 1).with_faults(&faults);
    let ended = bench.run();
    assert_eq!((ended.trips().sent, ended.trips().answered, ended.trips().lost), (640, 0, 640));
    assert!(ended.asked.drops.of(DropReason::Unexpected) >= 640 - 64, "{:?}", ended.asked.drops);
}

#[test]
fn a_rate_is_kept_and_timed_from_the_intended_moment() {
    let mut bench = Bench::new("-f ping -R 50000 -n 5000 -D 02:00:00:00:00:02", 1);
    let start = bench.wire.clock().now();
    for turn in 0..TURNS_MAX {
        if bench.turn() {
            break;
        }
        if turn == 5_000 {
            // Nobody runs for 20 ms, the generator included.
            bench.wire.clock().advance(Duration::from_millis(20));
        }
    }
    let took = bench.wire.clock().now() - start;
    assert!(took >= Duration::from_millis(99) && took < Duration::from_millis(105), "{took:?}");
    let ended = bench.end();
    let trips = ended.trips();
    assert_eq!((trips.answered, trips.lost), (5_000, 0));
    // A fifth of the frames were due within the stall, and their times show it.
    let stalled = trips.rtt.count_between(1_000_000, u64::MAX);
    assert!((900..=1_100).contains(&stalled), "{stalled}");
    assert!(trips.rtt.max() >= 19_900_000 && trips.lateness.max() >= 19_900_000);
}

#[test]
fn what_tx_sends_rx_counts() {
    let ended = Bench::new("-f rx -n 10000 -l 300", 1).run();
    let counted = ended.asked.rx.frames - ended.asked.neighbors_answered;
    assert!((10_000..10_064).contains(&counted), "{counted}");
    assert_eq!(ended.asked.drops.all(), 0);
    let ended = Bench::new("-f tx -n 10000 -R 1000000 -D 02:00:00:00:00:02", 1).run();
    assert_eq!((ended.asked.tx.frames, ended.asked.tx.bytes), (10_000, 600_000));
}

#[test]
fn pong_ends_after_as_many_frames_as_asked() {
    let ended = Bench::new("-f pong -n 1000", 1).run();
    assert_eq!(ended.asked.tx.frames, 1_000 + ended.asked.neighbors_answered);
}

/// A pong alone with a port of which the test holds the other end.
fn pong_and_stranger(line: &str) -> (Bench, WireQueue) {
    let mut bench = Bench::new(line, 1);
    let stranger = bench.seats.pop().unwrap();
    assert!(!stranger.asked);
    (bench, stranger.queue)
}

fn send(queue: &mut WireQueue, bytes: &[u8]) {
    let mut frame = queue.tx_alloc().unwrap();
    frame.resize(bytes.len()).unwrap();
    frame.bytes_mut().copy_from_slice(bytes);
    let mut burst = Burst::default();
    burst.push(frame).unwrap();
    assert_eq!(queue.tx_burst(&mut burst), 1);
    queue.flush().unwrap();
}

fn receive(queue: &mut WireQueue) -> Vec<Vec<u8>> {
    let mut burst = Burst::default();
    queue.rx_burst(&mut burst);
    std::iter::from_fn(|| burst.pop())
        .map(|frame| {
            let bytes = frame.bytes().to_vec();
            queue.free(frame);
            bytes
        })
        .collect()
}

const STRANGER: arp::Host = arp::Host { mac: Mac([2, 0, 0, 0, 0, 9]), address: Ipv4Addr::new(192, 0, 2, 9) };
const STRANGER_V6: ndp::Host =
    ndp::Host { mac: Mac([2, 0, 0, 0, 0, 9]), address: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9) };

#[test]
fn arp_for_its_address_is_answered_and_for_another_is_not() {
    let (mut bench, mut stranger) = pong_and_stranger("-f pong");
    for wanted in [[192, 0, 2, 1], [192, 0, 2, 77]] {
        send(&mut stranger, &arp::request(STRANGER, wanted.into()));
        bench.turn();
    }
    let mut answers = receive(&mut stranger);
    assert_eq!(answers.len(), 1);
    let learned = arp::receive(&mut answers[0], STRANGER);
    assert_eq!(learned, arp::Arp::Learned([192, 0, 2, 1].into(), Mac([2, 0, 0, 0, 0, 1])));
    let ended = bench.end();
    assert_eq!((ended.asked.neighbors_answered, ended.asked.drops.of(DropReason::OtherNeighbor)), (1, 1));
}

#[test]
fn a_solicitation_for_its_address_is_answered_and_one_for_another_is_not() {
    let (mut bench, mut stranger) = pong_and_stranger("-f pong -s 2001:db8::1");
    let ours = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    let asks = [ndp::solicitation(STRANGER_V6, ours), ndp::solicitation(STRANGER_V6, STRANGER_V6.address)];
    // Who has no address yet asks in fewer bytes, without an option.
    let testing = ndp::Host { address: Ipv6Addr::UNSPECIFIED, ..STRANGER_V6 };
    let mut short = ndp::solicitation(testing, ours)[..78].to_vec();
    short[19] = 24;
    short[56..58].fill(0);
    let sum = nic::checksum::pseudo_header_v6([0; 16], *short[38..].first_chunk().unwrap(), 58, 24);
    let field = nic::checksum::field(nic::checksum::add(sum, &short[54..]));
    short[56..58].copy_from_slice(&field);
    for frame in [&asks[0][..], &asks[1], &short] {
        send(&mut stranger, frame);
        bench.turn();
    }
    let answers = receive(&mut stranger);
    assert_eq!(answers.len(), 2);
    assert_eq!((&answers[0][..6], &answers[1][..6]), (&STRANGER_V6.mac.0[..], &[0x33, 0x33, 0, 0, 0, 1][..]));
    for answer in &answers {
        assert_eq!(ndp::receive(answer, STRANGER_V6), ndp::Ndp::Learned(ours, Mac([2, 0, 0, 0, 0, 1])));
    }
    let ended = bench.end();
    assert_eq!((ended.asked.neighbors_answered, ended.asked.drops.of(DropReason::OtherNeighbor)), (2, 1));
}

#[test]
fn what_is_not_for_it_is_freed_and_counted_and_only_the_rest_reflected() {
    use sidestep_pktgen::packet::{Ports, Stamp, UdpTemplate};
    let (mut bench, mut stranger) = pong_and_stranger("-f pong -s 192.0.2.1:7-9");
    let stranger_station = Station { mac: STRANGER.mac, address: STRANGER.address.into() };
    let template = UdpTemplate::new(stranger_station, Mac([2, 0, 0, 0, 0, 1]), [192, 0, 2, 1].into(), 60);
    let udp = |destination| {
        let mut frame = vec![0; 60];
        let stamp = Stamp { slot: 1, sequence: 2, sent_nanos: 3 };
        template.write(&mut frame, Ports { source: 5, destination }, stamp);
        frame
    };
    let changed = |at: usize, value: u8| {
        let mut frame = udp(8);
        frame[at] = value;
        frame
    };
    let frames = [
        (udp(6), Some(DropReason::OtherPort)),
        (udp(7), None),
        (changed(23, 6), None), // TCP
        (udp(10), Some(DropReason::OtherPort)),
        (changed(12, 0x86), Some(DropReason::OtherFamily)),
        (changed(33, 2), Some(DropReason::OtherAddress)),
        (changed(23, 1), Some(DropReason::OtherProtocol)),
        (changed(20, 0x20), Some(DropReason::Fragment)),
        (changed(0, 3), Some(DropReason::Group)),
        (udp(9)[..41].to_vec(), Some(DropReason::Truncated)),
    ];
    for (frame, _) in &frames {
        send(&mut stranger, frame);
    }
    bench.turn();
    let back = receive(&mut stranger);
    assert_eq!(back.len(), 2);
    for (sent, back) in [&frames[1].0, &frames[2].0].into_iter().zip(&back) {
        assert_eq!((&back[..6], &back[6..12]), (&sent[6..12], &sent[..6]));
        assert_eq!((&back[26..30], &back[30..34]), (&sent[30..34], &sent[26..30]));
        assert_eq!((&back[34..36], &back[36..38]), (&sent[36..38], &sent[34..36]));
        assert_eq!((&back[12..26], &back[38..]), (&sent[12..26], &sent[38..]));
    }
    let ended = bench.end();
    for (reason, name) in DropReason::ALL {
        let expected = frames.iter().filter(|(_, dropped)| *dropped == Some(reason)).count() as u64;
        assert_eq!(ended.asked.drops.of(reason), expected, "{name}");
    }
}

#[test]
fn a_full_transmit_ring_leaves_frames_to_the_link_and_loses_none_of_ours() {
    use nic::PortConfig;
    use sidestep_pktgen::part::Part;
    // Rings of 16 at the pong's end, bursts of 64 from the other.
    let small = PortConfig { rx_ring: 16, tx_ring: 16, frames: 160, ..PortConfig::default() };
    let (wire, first, second) = Wire::pair(small, PortConfig::default(), 9).unwrap();
    let plan = plan("-f pong");
    let part = Part::of(&plan, Mac([2, 0, 0, 0, 0, 1]));
    let opposite = part.opposite(Mac([2, 0, 0, 0, 0, 2]));
    let mut seats = Vec::new();
    for (part, port, asked) in [(part, first, true), (opposite, second, false)] {
        let engine = part.engines(|_| None).unwrap().pop().unwrap();
        seats.push(Seat { engine, queue: port.take_queue(QueueId(0)).unwrap(), asked });
    }
    let mut bench = Bench { wire, seats };
    for _ in 0..30_000 {
        bench.turn();
    }
    // Ping stops, and what is outstanding is answered or given up.
    bench.seats[1].engine.stop();
    for _ in 0..30_000 {
        bench.turn();
    }
    let ended = bench.end();
    let trips = ended.other.trips.unwrap();
    assert!(trips.answered > 10_000, "{}", trips.answered);
    assert_eq!(trips.sent, trips.answered + trips.lost);
    assert_eq!(trips.lost, [ASKED, OTHER].iter().map(|port| ended.wire.counts(*port).all_lost()).sum::<u64>());
}
