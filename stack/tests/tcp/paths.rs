//! Values over paths that lose frames, to a client that acknowledges as Linux does.

use std::time::Duration;

use nic::{Faults, RateLimit};

use crate::lab::config;
use crate::lab::sink::Sink;

const VALUE: usize = 1_000_000;

/// A path of so many microseconds each way, as fast as the relay of `scripts/relay`.
fn path(micros: u64) -> Faults {
    let rate = RateLimit { bits_per_second: 2_500_000_000, queue_bytes: 8 << 20 };
    Faults { delay: Duration::from_micros(micros), rate: Some(rate), ..Faults::default() }
}

/// What came of some values: how long each took, in order of time, and what the server counts.
#[derive(Debug, Default)]
struct Came {
    took: Vec<Duration>,
    time_outs: u64,
    probes: u64,
    again: u64,
    segments: u64,
    needless: u64,
}

impl Came {
    fn median(&self) -> Duration {
        self.took[self.took.len() / 2]
    }

    fn p99(&self) -> Duration {
        self.took[(self.took.len() * 99 / 100).min(self.took.len() - 1)]
    }
}

/// Gets `count` values on one connection for each of `seeds`, over a path that loses so much of the server's frames.
fn values(micros: u64, loss: f64, seeds: u64, count: usize) -> Came {
    let mut came = Came::default();
    for seed in 0..seeds {
        let mut config = config();
        config.conn_memory = 32 << 20;
        let out = Faults { loss, ..path(micros) };
        let mut sink = Sink::new(config, VALUE, (out, path(micros)), seed);
        for _ in 0..2 {
            sink.get(VALUE);
        }
        came.took.extend((0..count).map(|_| sink.get(VALUE)));
        let stats = sink.stats();
        assert_eq!(stats.contained, 0);
        came.time_outs += stats.retransmission_timeouts;
        came.probes += stats.tail_probes;
        came.again += stats.sent_again;
        came.segments += sink.segments;
        came.needless += sink.needless;
    }
    came.took.sort();
    came
}

fn say(what: &str, came: &Came) {
    let Came { time_outs, probes, again, needless, segments, .. } = came;
    println!(
        "{what}: median {:?}, p99 {:?}, time-outs {time_outs}, probes {probes}, again {again}, needless {needless} of {segments}",
        came.median(),
        came.p99()
    );
}

#[test]
fn a_path_that_loses_one_percent_at_random_costs_a_value_few_round_trips_and_no_time_out() {
    let came = values(5_000, 0.01, 6, 20);
    say("10 ms, 1 %", &came);
    // A window that each loss cuts by three tenths has room for 13 segments at such a rate, and a value has 685.
    assert!(came.median() < Duration::from_millis(45), "{:?}", came.median());
    assert!(came.p99() < Duration::from_millis(200), "{:?}", came.p99());
    assert_eq!(came.time_outs, 0);
    assert!(came.needless * 1_000 < came.segments, "{} of {}", came.needless, came.segments);
}

/// What made some values take ten times as long as others: a loss among the last few segments of a value cut the window to
/// two, and a segment that was held back until an ACK came made the path look as if it had become longer.
#[test]
fn the_unluckiest_values_take_a_few_times_as_long_as_others() {
    let mut worst = Duration::ZERO;
    for seed in [3, 15, 21, 22, 30, 39] {
        let mut config = config();
        config.conn_memory = 32 << 20;
        let out = Faults { loss: 0.01, ..path(5_000) };
        let mut sink = Sink::new(config, VALUE, (out, path(5_000)), seed);
        let took: Vec<_> = (0..10).map(|_| sink.get(VALUE)).collect();
        println!("{took:?}");
        worst = worst.max(took.into_iter().max().expect("there are ten"));
    }
    assert!(worst < Duration::from_millis(180), "{worst:?}");
}

#[test]
fn what_is_sent_again_and_lost_again_needs_hardly_any_time_out() {
    let came = values(5_000, 0.05, 4, 5);
    say("10 ms, 5 %", &came);
    // 685 segments, 34 of them lost and 2 of these twice, in each of 28 values.
    assert!(came.time_outs <= 2, "{}", came.time_outs);
    // Segments do not end where those of the value before did: what the peer has of one was taken for all of it.
    assert!(came.needless * 250 < came.segments, "{} of {}", came.needless, came.segments);
}

#[test]
fn a_peer_that_makes_up_what_it_has_costs_a_turn_little() {
    let mut config = config();
    config.conn_memory = 32 << 20;
    let mut sink = Sink::new(config, VALUE, (path(5_000), path(5_000)), 1);
    for _ in 0..4 {
        sink.get(VALUE);
    }
    let begins = sink.got();
    sink.ask();
    sink.run(Duration::from_millis(8), |_| false);
    let (turns, before) = (sink.turns, sink.server.poll.stack().work().sets);
    for step in 0..300 {
        // Each tells of one segment more, far from the others, so that what lies between is lost.
        let at = begins + 4_000 * (1 + step % 200);
        sink.pretend((at, at + 1_460));
        sink.run(Duration::from_micros(10), |_| false);
    }
    sink.run(Duration::from_millis(6), |_| false);
    let (turns, walked) = (sink.turns - turns, sink.server.poll.stack().work().sets - before);
    println!("{walked} in {turns} turns, {} in one", sink.most_sets);
    assert_eq!(sink.stats().contained, 0);
    assert!(walked > 10_000, "{walked}: nothing was asked for");
    // One goes from the first segment in flight to the last, and is paid for by those that follow.
    assert!(sink.most_sets < 1_000, "{}", sink.most_sets);
    assert!(walked < turns * 150 + 1_000, "{walked} in {turns} turns");
}

/// A peer that takes small segments, and has a window for many, could have as many of them under way as its window holds, of
/// which each that it says it lacks has all of them walked past.
#[test]
fn a_walk_past_what_is_in_flight_is_bounded_however_small_the_segments_are() {
    for mss in [216, 536, 1_460] {
        let mut config = config();
        config.conn_memory = 32 << 20;
        let mut sink = Sink::with_mss(mss, config, VALUE, (path(5_000), path(5_000)), 1);
        for _ in 0..6 {
            sink.get(VALUE);
        }
        let begins = sink.got();
        sink.ask();
        sink.run(Duration::from_millis(8), |_| false);
        (sink.most_sets, sink.segments) = (0, 0);
        for step in 0..20 {
            let at = begins + u64::from(mss) * (4 + 2 * step);
            sink.pretend((at, at + u64::from(mss)));
            sink.run(Duration::from_micros(10), |_| false);
        }
        sink.run(Duration::from_millis(6), |_| false);
        println!("{mss}: {} in one turn, {} came", sink.most_sets, sink.segments);
        assert!(sink.segments >= 600, "{}: so few were under way", sink.segments);
        // All that is in flight, the first of it once more, and what a turn sends beside it.
        assert!(sink.most_sets <= 1_024 + 2 + 64, "{mss}: {}", sink.most_sets);
    }
}

/// RFC 2018 §8: a receiver may throw away what it has told that it has, and the sender must find out.
#[test]
fn a_peer_that_throws_away_what_it_has_told_of_is_sent_it_again() {
    let mut thrown = 0;
    for seed in 0..20 {
        let mut config = config();
        config.conn_memory = 32 << 20;
        let out = Faults { loss: 0.02, ..path(5_000) };
        let mut sink = Sink::new(config, VALUE, (out, path(5_000)), seed);
        for _ in 0..3 {
            sink.get(VALUE);
        }
        let until = sink.got() + VALUE as u64;
        let began = sink.now();
        sink.ask();
        for _ in 0..3 {
            sink.run(Duration::from_millis(12), |sink| sink.got() >= until);
            thrown += sink.renege();
        }
        sink.run(Duration::from_secs(20), |sink| sink.got() >= until);
        println!("{:?}, {} time-outs", sink.now().since(began), sink.stats().retransmission_timeouts);
        assert!(sink.got() >= until, "{} bytes are missing: {:?}", until - sink.got(), sink.server.poll.stack());
        assert_eq!(sink.stats().retransmission_timeouts, 0);
    }
    assert!(thrown > 1_000_000, "{thrown}");
}

/// An ACK says all that those before it have said: the way on which they come may lose many of them.
#[test]
fn lost_acknowledgments_cost_a_value_nothing_and_have_nothing_sent_again() {
    for micros in [100, 5_000, 20_000] {
        let mut whole = Duration::ZERO;
        for loss in [0.0, 0.001, 0.01, 0.1] {
            let mut config = config();
            config.conn_memory = 32 << 20;
            let mut sink = Sink::new(config, VALUE, (path(micros), path(micros)), 1);
            for _ in 0..2 {
                sink.get(VALUE);
            }
            let mut took = Vec::new();
            for _ in 0..20 {
                // Its request is not to be lost: a client has a time-out of its own for that.
                let (until, began) = (sink.got() + VALUE as u64, sink.now());
                sink.ask();
                sink.run(Duration::from_micros(2 * micros), |_| false);
                sink.set_faults_of_acknowledgments(Faults { loss, ..path(micros) });
                sink.run(Duration::from_secs(20), |sink| sink.got() >= until);
                sink.set_faults_of_acknowledgments(path(micros));
                assert!(sink.got() >= until, "{} bytes are missing", until - sink.got());
                took.push(sink.now().since(began));
            }
            took.sort();
            let (median, stats) = (took[10], sink.stats());
            println!(
                "{micros} us, {loss}: median {median:?}, most {:?}, {} lost",
                took[19],
                sink.lost_acknowledgments()
            );
            assert!(loss < 0.005 || sink.lost_acknowledgments() > 0, "none was lost");
            if loss == 0.0 {
                whole = median;
            }
            assert!(median <= whole + whole / 20, "{median:?} instead of {whole:?}");
            assert!(stats.sent_again * 1_000 <= sink.segments, "{} of {}", stats.sent_again, sink.segments);
            assert_eq!(stats.retransmission_timeouts, 0);
        }
    }
}
