//! Flows that sleep: what they answer is what flows answer that never do.

use std::time::Duration;

use etherparse::TcpOptionElement::{SelectiveAcknowledgement, SelectiveAcknowledgementPermitted};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};
use sidestep_stack::{Event, Rings, StackConfig};

use crate::lab::bench::Bench;
use crate::lab::raw::{ACK, FIN, PSH, RST, SYN, Tcp};
use crate::lab::{self, App, config};

const FLOWS: usize = 600;
/// More than the stack keeps free for those that come.
const AWAKE: usize = 200;

fn of_rings(awake_flows: usize) -> StackConfig {
    let mut config = config();
    (config.max_flows, config.flows_at_start) = (FLOWS + 200, AWAKE.min(64));
    config.rings = Rings { rx: 512, tx: 512 };
    config.awake_flows = awake_flows;
    config
}

/// What a client knows of its connection.
#[derive(Debug, Clone, Copy)]
struct Client {
    port: u16,
    seq: u32,
    ack: u32,
    open: bool,
}

/// Two stacks that get the same frames at the same times, of which one has its flows sleep.
struct Pair {
    sleeps: Bench,
    oracle: Bench,
}

impl Pair {
    fn new() -> Self {
        Self { sleeps: Bench::with(of_rings(AWAKE), App::Echo), oracle: Bench::with(of_rings(usize::MAX), App::Echo) }
    }

    #[track_caller]
    fn tcp(&mut self, segment: &Tcp) -> Vec<Tcp> {
        let answers = self.sleeps.tcp(segment);
        assert_eq!(answers, self.oracle.tcp(segment), "{segment:?}");
        answers
    }

    /// What both send meanwhile, in whatever order.
    fn wait(&mut self, span: Duration) -> Vec<Tcp> {
        let [mut ours, mut oracles] = [self.sleeps.wait(span), self.oracle.wait(span)];
        let order = |segment: &Tcp| (segment.peer_port, segment.seq, segment.ack, segment.flags);
        ours.sort_by_key(order);
        oracles.sort_by_key(order);
        assert_eq!(ours, oracles);
        ours
    }

    fn open(&mut self, port: u16, seq: u32) -> Client {
        let isn = self.tcp(&Tcp::new(port, SYN, seq, 0))[0].seq;
        let (seq, ack) = (seq.wrapping_add(1), isn.wrapping_add(1));
        assert_eq!(self.tcp(&Tcp::new(port, ACK, seq, ack)), []);
        Client { port, seq, ack, open: true }
    }

    /// A client says `data`, gets it back, and acknowledges that.
    fn exchange(&mut self, client: &mut Client, data: &[u8]) {
        let echo = self.tcp(&Tcp::new(client.port, ACK | PSH, client.seq, client.ack).with(data));
        // As much as the window had room for.
        let echoed: Vec<u8> = echo.iter().flat_map(|segment| segment.data.clone()).collect();
        assert!(data.starts_with(&echoed) && !echoed.is_empty());
        client.seq = client.seq.wrapping_add(echoed.len() as u32);
        client.ack = client.ack.wrapping_add(echoed.len() as u32);
        assert_eq!(self.tcp(&Tcp::new(client.port, ACK, client.seq, client.ack)), []);
    }
}

#[test]
fn sleepers_answer_as_those_that_never_sleep() {
    for seed in 1..=3 {
        println!("seed {seed}");
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let mut pair = Pair::new();
        let mut clients: Vec<_> = (0..FLOWS).map(|number| pair.open(2_000 + number as u16, rng.next_u32())).collect();
        for _ in 0..6_000 {
            if rng.next_u32().is_multiple_of(8) {
                pair.wait(Duration::from_micros(u64::from(rng.next_u32() % 40_000)));
            }
            let client = &mut clients[rng.next_u32() as usize % FLOWS];
            if client.open {
                any_segment(&mut pair, client, &mut rng);
            }
        }
        let (asleep, made) = pair.sleeps.server.poll.stack().sleepers();
        let stats = *pair.sleeps.server.poll.stack().stats();
        println!("asleep {asleep}, blocks {made}, fell asleep {}, woke {}", stats.fell_asleep, stats.woke);
        assert!(asleep > FLOWS / 2 && made <= AWAKE && stats.woke > 1_000);
        let now = pair.sleeps.now();
        assert_eq!((pair.sleeps.server.poll.stack_mut().lost_timers(now), stats.blocks_beyond), (0, 0));
        assert_eq!(pair.sleeps.server.bytes, pair.oracle.server.bytes);
    }
}

/// Something that a client, or somebody who lies, may send.
fn any_segment(pair: &mut Pair, client: &mut Client, rng: &mut Xoshiro256PlusPlus) {
    let Client { port, seq, ack, .. } = *client;
    match rng.next_u32() % 16 {
        // A question whether it is there.
        0 => drop(pair.tcp(&Tcp::new(port, ACK, seq.wrapping_sub(1), ack))),
        // What came before, again.
        1 => drop(pair.tcp(&Tcp::new(port, ACK | PSH, seq.wrapping_sub(3), ack).with(b"old"))),
        2 => drop(pair.tcp(&Tcp::new(port, SYN, rng.next_u32(), 0))),
        // Resets that are not exact, and acknowledgements of what was never sent.
        3 => drop(pair.tcp(&Tcp::new(port, RST, seq.wrapping_add(7), 0))),
        4 => drop(pair.tcp(&Tcp::new(port, ACK, seq, ack.wrapping_add(1_000)))),
        5 => drop(pair.tcp(&Tcp::new(port, ACK | PSH, seq.wrapping_add(100_000), ack).with(b"beyond"))),
        // A window that opens or closes: what is said next goes out when it is open.
        6 => {
            let mut update = Tcp::new(port, ACK, seq, ack);
            update.window = 600 + (rng.next_u32() % 60_000) as u16;
            drop(pair.tcp(&update));
        }
        7 if rng.next_u32().is_multiple_of(4) => {
            pair.tcp(&Tcp::new(port, RST, seq, 0));
            client.open = false;
        }
        8 if rng.next_u32().is_multiple_of(4) => {
            pair.tcp(&Tcp::new(port, ACK | FIN, seq, ack));
            client.open = false;
        }
        // Behind a hole, which is filled then.
        9 => {
            pair.tcp(&Tcp::new(port, ACK | PSH, seq.wrapping_add(2), ack).with(b"cd"));
            pair.tcp(&Tcp::new(port, ACK | PSH, seq, ack).with(b"ab"));
            (client.seq, client.ack) = (seq.wrapping_add(4), ack.wrapping_add(4));
            pair.tcp(&Tcp::new(port, ACK, client.seq, client.ack));
        }
        _ => {
            let data: Vec<u8> = (0..1 + rng.next_u32() % 300).map(|_| rng.next_u32() as u8).collect();
            pair.exchange(client, &data);
        }
    }
}

#[test]
fn a_sleeper_is_asked_whether_its_peer_is_there_and_given_up_as_one_that_is_awake() {
    let mut pair = Pair::new();
    let mut clients: Vec<_> = (0..FLOWS).map(|number| pair.open(2_000 + number as u16, number as u32)).collect();
    for _ in 0..3 {
        for client in &mut clients {
            pair.exchange(client, b"?");
            for bench in [&mut pair.sleeps, &mut pair.oracle] {
                bench.wire.clock().advance(Duration::from_millis(10));
            }
        }
    }
    assert!(pair.sleeps.server.poll.stack().sleepers().0 > FLOWS / 2);
    let (mut asked, mut woken) = ([vec![0; FLOWS], vec![0; FLOWS]], 0);
    // Twice, and each time a live peer answers.
    for _ in 0..1_400 {
        for (bench, asked) in [&mut pair.sleeps, &mut pair.oracle].into_iter().zip(&mut asked) {
            bench.wire.clock().advance(Duration::from_millis(100));
            for question in lab::bench::segments(&bench.turn()) {
                let number = usize::from(question.peer_port - 2_000);
                let Client { port, seq, ack, .. } = clients[number];
                assert_eq!((question.seq, question.ack), (ack.wrapping_sub(1), seq));
                asked[number] += 1;
                assert_eq!(bench.tcp(&Tcp::new(port, ACK, seq, ack)), []);
            }
        }
        woken = pair.sleeps.server.poll.stack().stats().woke;
    }
    let [ours, oracles] = asked;
    println!("woken {woken}");
    assert!(ours.iter().all(|&times| times == 2), "{ours:?}");
    assert_eq!(ours, oracles);
    assert_eq!(pair.sleeps.server.poll.stack().census().open, FLOWS);
}

#[test]
fn an_application_that_comes_back_to_a_sleeper_wakes_it() {
    let mut bench = Bench::with(of_rings(AWAKE), App::Record);
    for number in 0..FLOWS as u16 {
        bench.open(2_000 + number, u32::from(number));
    }
    bench.wait(Duration::from_secs(1));
    let ids: Vec<_> = bench.server.events.iter().filter(|event| event.is_new()).map(Event::flow).collect();
    assert_eq!(ids.len(), FLOWS);
    assert!(bench.server.poll.stack().sleepers().0 > FLOWS / 2);
    for (number, &id) in ids.iter().enumerate() {
        let mut flow = bench.server.poll.flow(id).expect("it is open");
        assert_eq!(flow.peer().port(), 2_000 + number as u16);
        assert_eq!(flow.send_slice(b"news"), 4);
        let sent = bench.turn();
        assert_eq!(lab::bench::segments(&sent)[0].data, b"news");
    }
    // All at once: they are more than blocks, and each gets one.
    for &id in &ids {
        bench.server.poll.wake(id);
    }
    assert_eq!(bench.server.poll.stack().census().open, FLOWS);
}

/// With a cookie it would have neither window scale nor SACK, and what was said of it could open it a second time.
#[test]
fn a_syn_that_finds_flows_that_rest_gets_the_block_of_one_and_no_cookie() {
    let mut config = of_rings(4);
    config.flows_at_start = 4;
    let mut bench = Bench::with(config, App::Echo);
    for number in 0..100 {
        let (port, seq) = (2_000 + number, u32::from(number));
        bench.open(port, seq);
    }
    let stats = *bench.server.poll.stack().stats();
    assert_eq!((stats.opened, stats.cookies_sent), (100, 0));
    assert_eq!(bench.server.poll.stack().sleepers().1, 4, "blocks");
}

/// A window may close as the last byte is acknowledged: nothing waits, and the flow sleeps, and what is to be said next waits.
#[test]
fn a_flow_sleeps_before_a_closed_window_and_sends_what_comes_then_once_that_opens() {
    let mut pair = Pair::new();
    let mut client = pair.open(2_000, 7);
    pair.exchange(&mut client, b"before");
    let id = (0..FLOWS).find_map(|index| pair.sleeps.server.poll.open_at(index)).expect("it is open");
    let Client { port, seq, ack, .. } = client;
    for window in [0, 60_000, 0] {
        assert_eq!(pair.tcp(&Tcp { window, ..Tcp::new(port, ACK, seq, ack) }), []);
        assert!(pair.sleeps.server.poll.stack_mut().lay_down(id));
        assert_eq!(pair.sleeps.server.poll.stack().under_way().asleep_closed_window, u64::from(window == 0));
    }
    // Its question comes with the window closed: the answer waits, and the flow does not sleep.
    let said = Tcp { window: 0, ..Tcp::new(port, ACK | PSH, seq, ack).with(b"again") };
    let acks = pair.tcp(&said);
    assert!(acks.iter().all(|segment| segment.data.len() < 2), "no more than a probe: {acks:?}");
    assert!(!pair.sleeps.server.poll.stack_mut().lay_down(id));
    // Probes of the window, alike.
    let probes = pair.wait(Duration::from_secs(2));
    assert!(probes.iter().any(|probe| probe.data == b"a"), "{probes:?}");
    let mut sent = pair.tcp(&Tcp::new(port, ACK, seq + 5, ack));
    // The octet of the probes has arrived, or comes first.
    sent.extend(pair.tcp(&Tcp::new(port, ACK, seq + 5, ack + 1)));
    assert!(sent.iter().any(|segment| segment.data.ends_with(b"gain")), "{sent:?}");
    assert_eq!(pair.sleeps.server.poll.stack().stats().woken_by.window, 2);
}

#[test]
fn a_flow_that_is_told_to_sleeps_if_it_rests_and_wakes_with_its_next_segment() {
    let mut bench = Bench::with(of_rings(AWAKE), App::Record);
    bench.open(2_000, 7);
    let id = bench.server.events[0].flow();
    assert!(bench.server.poll.stack_mut().lay_down(id) && bench.server.poll.stack_mut().lay_down(id));
    assert_eq!((bench.server.poll.stack().sleepers().0, bench.server.poll.open_at(id.index())), (1, Some(id)));
    // What has come and was not read keeps it awake.
    let isn = bench.server.poll.flow(id).map(|flow| flow.send_queue());
    assert_eq!((isn, bench.server.poll.stack().sleepers().0), (Some(0), 0), "whoever visits it wakes it");
    bench.turn();
    assert!(bench.server.poll.stack_mut().lay_down(id));
    let mut all_awake = Bench::with(of_rings(usize::MAX), App::Record);
    all_awake.open(2_000, 7);
    let id = all_awake.server.events[0].flow();
    assert!(!all_awake.server.poll.stack_mut().lay_down(id), "where each may have a block none sleeps");
}

/// Who holds every block with half a request keeps nobody else out for longer than its patience.
#[test]
fn a_sleeper_that_finds_all_blocks_held_by_halves_of_requests_gets_one_after_a_while() {
    let mut config = of_rings(8);
    config.flows_at_start = 8;
    let mut bench = Bench::with(config, App::Record);
    let isn = bench.open(2_000, 7);
    let mut nexts = Vec::new();
    for port in 3_000..3_008 {
        let next = bench.open(port, 9);
        nexts.push(next);
        bench.tcp(&Tcp::new(port, ACK | PSH, 10, next).with(b"get half"));
    }
    assert_eq!(bench.server.poll.stack().sleepers(), (1, 8));
    let question = Tcp::new(2_000, ACK | PSH, 8, isn).with(b"?");
    let mut answered = None;
    for fifth in 0..40 {
        // Nobody takes what the others say a byte at a time either.
        let (port, seq, next) = (3_000 + fifth % 8, 18 + u32::from(fifth / 8), nexts[usize::from(fifth) % 8]);
        let mut sent = bench.tcp(&Tcp::new(port, ACK | PSH, seq, next).with(b"x"));
        sent.extend(bench.tcp(&question));
        sent.extend(bench.wait(Duration::from_millis(200)));
        if sent.iter().any(|segment| segment.peer_port == 2_000 && segment.ack == 9) {
            answered = Some(fifth);
            break;
        }
    }
    let stats = *bench.server.poll.stack().stats();
    assert!(answered.is_some_and(|fifth| (14..30).contains(&fifth)), "{answered:?} {stats:?}");
    assert_eq!((stats.gave_way, stats.opened), (1, 9));
    assert!(bench.drops(sidestep_stack::DropReason::NoFreeFlow) > 10);
}

/// A client that delays its ACKs says so of the first answer, which is sent again in vain: it has that twice (RFC 2883).
#[test]
fn a_sleeper_knows_that_its_client_delays_its_acks() {
    let mut bench = Bench::with(of_rings(AWAKE), App::Echo);
    let answers = bench.frame(&Tcp::new(2_000, SYN, 7, 0).frame_with(&[SelectiveAcknowledgementPermitted]));
    let mut next = Tcp::read(answers.first().expect("a SYN-ACK")).seq + 1;
    // The round trip.
    bench.wait(Duration::from_micros(200));
    assert_eq!(bench.tcp(&Tcp::new(2_000, ACK, 8, next)), []);
    let id = (0..FLOWS).find_map(|index| bench.server.poll.stack().open_at(index)).expect("it is open");
    for round in 0..20 {
        let seq = 8 + round;
        let echo = bench.one(&Tcp::new(2_000, ACK | PSH, seq, next).with(b"?"));
        assert_eq!((echo.seq, &echo.data[..]), (next, &b"?"[..]));
        // The client answers at once what it has got twice.
        let again = bench.wait(Duration::from_millis(if round == 0 { 8 } else { 30 }));
        assert_eq!(again.len(), usize::from(round == 0), "round {round}: {again:?}");
        next += 1;
        let twice = [SelectiveAcknowledgement((next - 1, next), [None; 3])];
        let options = if again.is_empty() { &[][..] } else { &twice };
        assert_eq!(bench.frame(&Tcp::new(2_000, ACK, seq + 1, next).frame_with(options)), Vec::<Vec<u8>>::new());
        bench.wait(Duration::from_millis(1));
        assert!(bench.server.poll.stack_mut().lay_down(id), "round {round}: it rests");
    }
    let stats = bench.server.poll.stack().stats();
    assert_eq!((stats.woke, stats.tail_probes, stats.probes_needless), (19, 1, 1), "{stats:?}");
}
