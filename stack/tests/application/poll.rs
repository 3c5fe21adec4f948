//! What `Poll` promises beside epoll's contract: what a turn costs, what it is bounded by, and whom it ends.

use std::time::Duration;

use nic::{PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{CloseReason, DropReason, Event, FlowId, Interest, NetStack, Poll, StackConfig, Time, Token};

use crate::lab::raw::{ACK, PSH, RST, SYN, Tcp};
use crate::lab::station::Station;
use crate::lab::{config, secrets};

const LISTENER: Token = Token(usize::MAX);
const SECOND: Duration = Duration::from_secs(1);

/// A core, and a queue to throw frames at it.
struct Bench {
    wire: Wire,
    poll: Poll<WireQueue>,
    /// Events that are taken in a turn, at most.
    most: usize,
    station: Station,
}

impl Bench {
    fn new(config: StackConfig, most: usize) -> Self {
        let (wire, ours, theirs) = Wire::pair(PortConfig::default(), PortConfig::default(), 1).expect("a wire");
        let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
        let mut poll = Poll::new(stack, [ours.take_queue(QueueId(0)).expect("opened once")]);
        poll.listen(LISTENER, Interest::READABLE | Interest::LEVEL);
        let station = Station::new(theirs.take_queue(QueueId(0)).expect("opened once"));
        Self { wire, poll, most, station }
    }

    fn turn(&mut self) -> Vec<Event> {
        let now = Time::from_duration(self.wire.clock().now());
        self.poll.poll(now).expect("a wire is never gone");
        std::iter::from_fn(|| self.poll.next_event()).take(self.most).collect()
    }

    fn sent(&mut self) -> Vec<Tcp> {
        let mut sent = Vec::new();
        // Where a peer is may be asked for meanwhile.
        self.station.receive(|frame| sent.extend((frame[12..14] == [8, 0]).then(|| Tcp::read(frame))));
        sent
    }

    /// A handshake from a port, with 1 as the client's number. Returns the server's next number; `None`: it is not answered.
    fn shake(&mut self, port: u16) -> Option<u32> {
        self.station.send(&Tcp::new(port, SYN, 1, 0).frame());
        self.turn();
        self.turn();
        let next = self.sent().first()?.seq.wrapping_add(1);
        self.station.send(&Tcp::new(port, ACK, 2, next).frame());
        self.turn();
        Some(next)
    }

    /// A connection that is accepted and registered, by its port's number, and the server's next number.
    fn open(&mut self, port: u16, interest: Interest) -> (FlowId, u32) {
        let next = self.shake(port).expect("it is answered");
        let id = self.poll.accept().expect("it waits");
        assert!(self.poll.register(id, Token(usize::from(port)), interest));
        self.turn();
        (id, next)
    }

    fn ask(&mut self, port: u16, seq: u32, next: u32, data: &[u8]) {
        self.station.send(&Tcp::new(port, ACK | PSH, seq, next).with(data).frame());
    }

    fn wait(&mut self, span: Duration) -> Vec<Event> {
        let mut told = Vec::new();
        for _ in 0..100 {
            self.wire.clock().advance(span / 100);
            told.extend(self.turn());
        }
        told
    }
}

fn tokens(events: &[Event]) -> Vec<usize> {
    events.iter().map(|event| event.token().0).collect()
}

#[test]
fn a_turn_costs_as_much_as_there_is_news_however_many_flows_idle() {
    let mut costs = Vec::new();
    for idle in [10u16, 4_000] {
        let mut config = config();
        config.max_flows = 5_000;
        config.keep_alive = None;
        let mut bench = Bench::new(config, 64);
        for port in 0..idle {
            // Level-triggered too: nothing waits.
            let how = if port % 2 == 0 { Interest::READABLE | Interest::LEVEL } else { Interest::READABLE };
            bench.open(1_024 + port, how);
        }
        let (_, next) = bench.open(60_000, Interest::READABLE);
        bench.wait(SECOND);
        let before = bench.poll.stack().work();
        bench.ask(60_000, 2, next, b"request");
        assert_eq!(tokens(&bench.turn()), [60_000]);
        bench.turn();
        let after = bench.poll.stack().work();
        costs.push((after.flows - before.flows, after.sets - before.sets, after.timers - before.timers));
        assert!(!bench.poll.has_work(), "it may sleep");
    }
    assert_eq!(costs[0], costs[1]);
}

#[test]
fn who_stops_taking_events_is_told_of_the_others_in_the_next_turn_and_each_has_its_turn() {
    for how in [Interest::READABLE, Interest::READABLE | Interest::LEVEL] {
        let mut bench = Bench::new(config(), 4);
        let opened: Vec<_> = (0..10).map(|number| bench.open(2_000 + number, how)).collect();
        for (number, (_, next)) in opened.iter().enumerate() {
            bench.ask(2_000 + number as u16, 2, *next, b"x");
        }
        let mut told = Vec::new();
        for most in [4, 4, 2] {
            let events = bench.turn();
            assert!(events.len() <= 4 && events.len() >= most);
            told.extend(tokens(&events));
        }
        told.truncate(10);
        assert_eq!(told, (2_000..2_010).collect::<Vec<_>>(), "{how:?}");
        assert_eq!(bench.turn().is_empty(), how == Interest::READABLE);
    }
}

#[test]
fn who_pours_keeps_nobody_waiting() {
    let mut bench = Bench::new(config(), 2);
    let (pours, pours_next) = bench.open(2_000, Interest::READABLE | Interest::LEVEL);
    let (_, asks_next) = bench.open(2_001, Interest::READABLE);
    let (mut poured, mut asked) = (2, 2);
    for _ in 0..100 {
        // As much as its window takes, and never read as fast.
        for _ in 0..2 {
            bench.ask(2_000, poured, pours_next, &[7; 1_000]);
            poured += 1_000;
        }
        bench.ask(2_001, asked, asks_next, b"?");
        asked += 1;
        let told = tokens(&bench.turn());
        assert!(told.contains(&2_001), "{told:?}");
        let mut flow = bench.poll.flow(pours).expect("it is open");
        let mut piece = [0; 2_000];
        assert!(flow.recv_slice(&mut piece) <= 2_000);
        // What is left of it is told in the next turn.
        bench.poll.again(pours);
    }
}

#[test]
fn connections_that_nobody_accepts_are_bounded_and_others_come_once_some_are() {
    let mut config = config();
    config.syn_queue = 8;
    let mut bench = Bench::new(config, 64);
    let opened: Vec<bool> = (0..20).map(|number| bench.shake(3_000 + number).is_some()).collect();
    assert_eq!(opened, [vec![true; 8], vec![false; 12]].concat());
    assert_eq!(bench.poll.stack().stats().drops.of(DropReason::SynQueueFull), 12);
    // Level-triggered: told until there is none.
    assert_eq!(tokens(&bench.turn()), [LISTENER.0]);
    // One is reset before anybody takes it: nobody hears of it.
    bench.station.send(&Tcp::new(3_000, RST, 2, 0).frame());
    bench.turn();
    let accepted: Vec<_> = std::iter::from_fn(|| bench.poll.accept()).collect();
    assert_eq!(accepted.len(), 7);
    assert!(bench.turn().is_empty());
    assert!(bench.shake(3_008).is_some() && bench.poll.accept().is_some());
}

/// Where fewer events are taken than flows have news, too: connections wait to be found then, and are found in turn.
#[test]
fn the_accept_queue_is_bounded_however_busy_the_flows_are() {
    let mut config = config();
    config.syn_queue = 8;
    let mut bench = Bench::new(config, 1);
    let (_, next) = bench.open(2_000, Interest::READABLE | Interest::LEVEL);
    bench.ask(2_000, 2, next, b"never read");
    let answered = (0..100).filter(|number| bench.shake(3_000 + number).is_some()).count();
    // As many as the queue holds, and handshakes that were under way when it was found full.
    assert!((8..=17).contains(&answered), "{answered}");
    let accepted = std::iter::from_fn(|| bench.poll.accept()).count();
    assert!((8..=17).contains(&accepted), "{accepted}");
}

/// Level-triggered flows that are never read have news in every turn.
#[test]
fn a_listener_that_busy_flows_keep_from_being_told_is_told_first_in_the_next_turn() {
    let mut bench = Bench::new(config(), 64);
    let (_, next) = bench.open(2_000, Interest::READABLE | Interest::LEVEL);
    bench.ask(2_000, 2, next, b"never read");
    bench.turn();
    bench.shake(3_000).expect("it is answered");
    bench.most = 1;
    let told: Vec<_> = (0..6).flat_map(|_| tokens(&bench.turn())).collect();
    assert_eq!(told.iter().filter(|&&token| token == LISTENER.0).count(), 3, "{told:?}");
    assert!(bench.poll.accept().is_some());
}

#[test]
fn a_connection_that_is_accepted_as_it_opens_is_told_of_at_once_with_what_came_with_it() {
    let mut bench = Bench::new(config(), 64);
    bench.poll.accept_each(Token(5), Interest::READABLE);
    let told = |bench: &mut Bench| {
        let seen = |event: &Event| (event.token(), event.is_new(), event.is_readable(), event.is_woken());
        bench.turn().iter().map(seen).collect::<Vec<_>>()
    };
    let begin = |bench: &mut Bench, port| {
        bench.station.send(&Tcp::new(port, SYN, 1, 0).frame());
        bench.turn();
        bench.turn();
        bench.sent()
    };
    let answered = |sent: Vec<Tcp>| sent.first().map(|answer| (answer.flags, answer.seq.wrapping_add(1)));
    let Some((_, next)) = answered(begin(&mut bench, 2_000)) else { panic!("it is answered") };
    bench.station.send(&Tcp::new(2_000, ACK, 2, next).frame());
    bench.ask(2_000, 2, next, b"first words");
    assert_eq!(told(&mut bench), [(Token(5), true, true, false)]);
    assert_eq!((told(&mut bench), bench.poll.accept()), (vec![], None), "told once, and it waits nowhere");
    bench.ask(2_000, 13, next, b"and more");
    assert_eq!(told(&mut bench), [(Token(5), false, true, false)]);
    // One that says nothing is told of too.
    let Some((_, next)) = answered(begin(&mut bench, 2_001)) else { panic!("it is answered") };
    bench.station.send(&Tcp::new(2_001, ACK, 2, next).frame());
    assert_eq!(told(&mut bench), [(Token(5), true, false, false)]);
    // None is let in for a while, and then for good.
    bench.poll.set_accepting(false);
    assert_eq!(answered(begin(&mut bench, 2_002)), None);
    bench.poll.set_accepting(true);
    assert_eq!(answered(begin(&mut bench, 2_002)).map(|(flags, _)| flags), Some(SYN | ACK));
    bench.poll.stop_listening();
    assert_eq!(answered(begin(&mut bench, 2_003)).map(|(flags, _)| flags), Some(RST | ACK));
}

#[test]
fn who_is_woken_is_told_of_whatever_is_true_and_who_is_looked_at_again_only_of_what_is() {
    let mut bench = Bench::new(config(), 64);
    let (id, next) = bench.open(2_000, Interest::READABLE);
    let (deaf, _) = bench.open(2_001, Interest::READABLE);
    bench.poll.deregister(deaf);
    bench.turn();
    bench.poll.again(id);
    assert_eq!(bench.turn(), []);
    for _ in 0..2 {
        bench.poll.wake(id);
        bench.poll.wake(deaf);
    }
    assert!(bench.poll.has_work(), "it does not sleep before they are told");
    let seen = |event: &Event| (event.flow(), event.is_woken(), event.is_readable());
    assert_eq!(bench.turn().iter().map(seen).collect::<Vec<_>>(), [(id, true, false)]);
    bench.ask(2_000, 2, next, b"never read");
    assert_eq!(bench.turn().iter().map(seen).collect::<Vec<_>>(), [(id, false, true)]);
    bench.poll.again(id);
    assert_eq!(bench.turn().iter().map(seen).collect::<Vec<_>>(), [(id, false, true)]);
    bench.poll.wake(id);
    assert_eq!(bench.turn().iter().map(seen).collect::<Vec<_>>(), [(id, true, true)]);
}

#[test]
fn who_is_silent_for_too_long_is_ended_and_told() {
    let mut config = config();
    config.idle_timeout = Some(30 * SECOND);
    config.keep_alive = None;
    let mut bench = Bench::new(config, 64);
    bench.open(2_000, Interest::READABLE);
    let (deaf, _) = bench.open(2_001, Interest::READABLE);
    bench.poll.deregister(deaf);
    let told = bench.wait(40 * SECOND);
    let ends: Vec<_> = told.iter().map(|event| (event.token().0, event.closed())).collect();
    assert_eq!(ends, [(2_000, Some(CloseReason::TimedOut))], "who is not registered hears nothing");
    assert!(bench.poll.flow(deaf).is_none() && bench.poll.stack().flows() == 0);
}

#[test]
fn keep_alives_end_a_flow_whose_peer_is_gone_and_a_close_lingers_no_longer_than_told() {
    let mut config = config();
    config.keep_alive = Some(10 * SECOND);
    config.linger_timeout = 5 * SECOND;
    let mut bench = Bench::new(config, 64);
    bench.open(2_000, Interest::READABLE);
    let (closed, _) = bench.open(2_001, Interest::READABLE);
    let mut flow = bench.poll.flow(closed).expect("it is open");
    assert_eq!(flow.send_slice(b"last words"), 10);
    flow.close();
    assert!(!bench.poll.register(closed, Token(1), Interest::READABLE), "it is let go");
    assert!(bench.wait(4 * SECOND).is_empty() && bench.poll.stack().flows() == 2);
    assert!(bench.wait(3 * SECOND).is_empty() && bench.poll.stack().flows() == 1);
    let told = bench.wait(30 * SECOND);
    assert_eq!(told.iter().filter_map(Event::closed).collect::<Vec<_>>(), [CloseReason::TimedOut]);
    assert_eq!(bench.poll.stack().flows(), 0);
}

/// Its answers are as far apart as it is asked, and smoltcp's questions to a closed window soon are twelve seconds apart.
#[test]
fn a_peer_that_answers_with_a_closed_window_is_not_given_up_however_short_the_patience() {
    let ms = Duration::from_millis;
    for (keep_alive, give_up) in [
        (Some(ms(500)), 60 * SECOND),
        (Some(ms(100)), 60 * SECOND),
        (None, 3 * SECOND),
        (Some(60 * SECOND), 5 * SECOND),
    ] {
        let mut config = config();
        (config.keep_alive, config.give_up_timeout) = (keep_alive, give_up);
        let mut bench = Bench::new(config, 64);
        let (id, next) = bench.open(2_000, Interest::READABLE);
        let mut closed = Tcp::new(2_000, ACK, 2, next);
        closed.window = 0;
        bench.station.send(&closed.frame());
        bench.turn();
        assert_eq!(bench.poll.flow(id).expect("it is open").send_slice(b"what waits"), 10);
        let mut asked = 0;
        for _ in 0..9_000 {
            bench.wire.clock().advance(ms(10));
            assert!(bench.turn().is_empty(), "{keep_alive:?} {give_up:?}");
            for _ in bench.sent() {
                asked += 1;
                bench.station.send(&closed.frame());
            }
        }
        // It is not asked more often than the patience wants either.
        let patience = keep_alive.unwrap_or(Duration::MAX).min(give_up / 3);
        let most = 2 * (90 * SECOND).div_duration_f64(patience) as u32 + 20;
        assert!((7..most).contains(&asked), "{asked} questions, {keep_alive:?} {give_up:?}");
        // It opens the window: what waits comes.
        bench.station.send(&Tcp::new(2_000, ACK, 2, next).frame());
        bench.turn();
        bench.turn();
        let data: Vec<u8> = bench.sent().into_iter().flat_map(|segment| segment.data).collect();
        assert!(data.ends_with(b"hat waits"), "{data:?}");
        // One that answers no more is given up as soon as ever.
        let mut ends = Vec::new();
        let begin = bench.wire.clock().now();
        while ends.is_empty() {
            bench.wire.clock().advance(ms(10));
            ends.extend(bench.turn().iter().filter_map(Event::closed));
        }
        let limit = keep_alive.map_or(give_up, |interval| give_up.min(3 * interval)) + ms(100);
        assert!(ends == [CloseReason::TimedOut] && bench.wire.clock().now() - begin <= limit, "{ends:?}");
    }
}
