//! What the generator reports against what a simulated server, which knows it exactly, has done: delays, lost replies,
//! a stall, refused connections, the generator's own lateness. Virtual clock; no test here depends on the machine.

/// The same over this project's own TCP/IP.
mod over_stack;
/// A server whose faults are known exactly.
mod server;
/// A transport without a network.
mod simulated;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::Parser;
use hdrhistogram::Histogram;
use mcload::args::Args;
use mcload::plan::Plan;
use mcload::progress::Progress;
use mcload::report;
use mcload::run::{Outcome, SAMPLE_KEYS, run};

use server::{Delay, Faults, MICRO, MILLI, Server, Truth};
use simulated::{HANDSHAKE, Simulated};

/// What the issue allows between the truth and the report.
const TOLERANCE: f64 = 0.02;
const SEED: u64 = 77;

fn plan(line: &str) -> Plan {
    let line = format!("x --server 127.0.0.1:1 --keys 200 --mix get=1 {line}");
    Args::try_parse_from(line.split_whitespace()).unwrap().plan().unwrap()
}

fn simulate(plan: &Plan, faults: Faults) -> (Outcome, Arc<Truth>) {
    let truth = Arc::new(Truth::default());
    let keys = plan.codec.keyspace().keys();
    assert!(keys <= SAMPLE_KEYS, "each key is set once and read back once");
    let make = |share: mcload::run::Share| {
        let server = Server::new(faults, 2 * keys, SEED, truth.clone());
        Ok(Simulated::new(share.slots(), server))
    };
    let outcome = run(plan, &Progress::new(1, false), make).unwrap();
    assert!(outcome.all_right());
    assert_eq!(outcome.sample.hits, keys);
    (outcome, truth)
}

fn near(what: &str, found: f64, truth: f64) {
    assert!((found / truth - 1.0).abs() <= TOLERANCE, "{what}: reported {found}, true {truth}");
}

/// The quantiles of the issue against the true ones, in nanoseconds.
fn quantiles(histogram: &Histogram<u64>, truth: impl Fn(f64) -> f64) {
    for quantile in [0.50, 0.99, 0.999] {
        near(&format!("quantile {quantile}"), histogram.value_at_quantile(quantile) as f64, truth(quantile));
    }
}

/// A million requests in a closed loop, and in an open one over so many connections that none is ever asked to carry a
/// second request while it waits for a first but by rare chance.
const LOOPS: [&str; 2] = ["--connections 64 --requests 1000000", "--connections 20000 --rate 20000 --requests 1000000"];

#[test]
fn a_constant_delay_is_reported_as_it_is() {
    for line in LOOPS {
        let (outcome, _) = simulate(&plan(line), Faults::none(Delay::Constant(700 * MICRO)));
        assert_eq!(outcome.measured.requests(), 1_000_000);
        quantiles(&outcome.measured.latency_ns, |_| 700e3);
        assert!(report::void_reason(&plan(line), &outcome).is_none());
    }
}

#[test]
fn a_known_distribution_of_delays_is_reported_at_every_quantile() {
    for line in LOOPS {
        let delay = Delay::Exponential { least: 100 * MICRO, mean: 500 * MICRO };
        let (outcome, _) = simulate(&plan(line), Faults::none(delay));
        quantiles(&outcome.measured.latency_ns, |quantile| 100e3 - (1.0 - quantile).ln() * 500e3);

        let delay = Delay::TwoModes { fast: 100 * MICRO, slow: 30 * MILLI, slow_of_1000: 4 };
        let (outcome, _) = simulate(&plan(line), Faults::none(delay));
        quantiles(&outcome.measured.latency_ns, |quantile| if quantile > 0.996 { 30e6 } else { 100e3 });
    }
}

#[test]
fn a_known_share_of_lost_replies_and_the_delay_of_the_others_are_both_reported() {
    for line in LOOPS {
        let mut plan = plan(line);
        plan.depth = 1;
        plan.timeout = Duration::from_millis(200);
        let faults =
            Faults { drop: 0.05, ..Faults::none(Delay::Exponential { least: 100 * MICRO, mean: 500 * MICRO }) };
        let (outcome, truth) = simulate(&plan, faults);
        let measured = &outcome.measured;
        assert_eq!(measured.timed_out, truth.dropped.load(Ordering::Relaxed), "each lost reply, and nothing else");
        assert_eq!((measured.ended(), measured.abandoned), (1_000_000, 0));
        near("share of lost replies", measured.timed_out as f64 / measured.ended() as f64, 0.05);
        if line.contains("rate") {
            // An open loop counts from the intended time, so what waits behind a lost reply is late too: of a
            // connection's one request a second 5 % are lost and block it for 200 ms. That is 1 % of all; the median
            // does not see it, the other quantiles must.
            near("p50", measured.latency_ns.value_at_quantile(0.5) as f64, 100e3 + 0.5_f64.ln().abs() * 500e3);
        } else {
            quantiles(&measured.latency_ns, |quantile| 100e3 - (1.0 - quantile).ln() * 500e3);
        }
    }
}

#[test]
fn a_stall_of_200_ms_shows_in_the_open_loop_and_not_in_the_closed() {
    let stall = |line, at| {
        let plan = plan(line);
        let faults = Faults { stall: Some((at, 200 * MILLI)), ..Faults::none(Delay::Constant(100 * MICRO)) };
        simulate(&plan, faults).0.measured.latency_ns.value_at_quantile(0.999) as f64
    };
    // Of 10 s at 10,000/s the stall meets 2 %, which wait evenly from 0 to 200 ms: the longest 0.1 % of all begin at
    // 95 % of that.
    near("open p99.9", stall("--connections 32 --depth 4096 --rate 10000 --seconds 10", 50_000), 190.1e6);
    near("closed p99.9", stall("--connections 32 --seconds 10", 50_000), 100e3);
}

#[test]
fn waiting_for_a_connection_that_is_full_counts_from_the_intended_time() {
    // One connection, one request at a time, 1 ms each, offered 900/s: an M/D/1 queue, mean wait rho / (2 (1 - rho)).
    let plan = plan("--connections 1 --depth 1 --rate 900 --requests 1000000");
    let (outcome, _) = simulate(&plan, Faults::none(Delay::Constant(MILLI)));
    near("mean", outcome.measured.latency_ns.mean(), 1e6 * (1.0 + 0.9 / (2.0 * 0.1)));
    assert_eq!(outcome.measured.lateness_ns.max(), 1, "that is the server's, not the generator's lateness");
    assert!(report::void_reason(&plan, &outcome).is_none());
}

#[test]
fn offered_and_achieved_rates_are_the_true_ones() {
    let plan = plan("--connections 100 --rate 50000 --seconds 20");
    let (outcome, _) = simulate(&plan, Faults::none(Delay::Constant(MILLI)));
    near("duration", outcome.measured_time.as_secs_f64(), 20.0);
    near("offered", outcome.measured.offered as f64, 1e6);
    assert_eq!(outcome.measured.requests(), outcome.measured.offered);
}

#[test]
fn more_than_the_server_can_do_overflows_the_backlog_and_voids() {
    let plan = plan("--connections 4 --depth 1 --rate 8000 --backlog 1000 --seconds 2");
    let (outcome, _) = simulate(&plan, Faults::none(Delay::Constant(MILLI)));
    let measured = &outcome.measured;
    // 4 connections do 4,000/s; 1,000 wait at the end.
    near("achieved and overflowed", (measured.requests() + measured.overflowed) as f64, measured.offered as f64);
    near("overflowed", measured.overflowed as f64, 7_000.0);
    assert!(report::void_reason(&plan, &outcome).unwrap().contains("cannot keep up"));
}

#[test]
fn a_generator_that_runs_late_says_so_and_is_void() {
    for (oversleep, void) in [(MICRO, false), (500 * MICRO, true)] {
        let plan = plan("--connections 100 --rate 1000 --requests 20000");
        let faults = Faults { oversleep, ..Faults::none(Delay::Constant(MILLI)) };
        let (outcome, _) = simulate(&plan, faults);
        near("lateness", outcome.measured.lateness_ns.value_at_quantile(0.5) as f64, oversleep as f64);
        assert_eq!(report::void_reason(&plan, &outcome).is_some(), void, "{oversleep} ns late");
        assert_eq!(report::text(&plan, &outcome).contains("VOID"), void);
        assert_eq!(report::json(&plan, &outcome).contains("\"void\":true"), void);
    }
}

#[test]
fn a_connection_a_request_counts_refused_and_unanswered_ones() {
    for line in ["--connections 50", "--connections 2000 --rate 5000"] {
        let mut plan = plan(&format!("--workload connect --requests 100000 {line}"));
        plan.timeout = Duration::from_millis(50);
        let faults = Faults { refuse_every: 10, ignore_every: 25, ..Faults::none(Delay::Constant(300 * MICRO)) };
        let (outcome, truth) = simulate(&plan, faults);
        let measured = &outcome.measured;
        let (refused, ignored) = (truth.refused.load(Ordering::Relaxed), truth.ignored.load(Ordering::Relaxed));
        assert!(refused > 9_900 && ignored > 1_900, "{refused} {ignored}");
        assert_eq!((measured.refused, measured.connect_timed_out), (refused, ignored));
        assert_eq!(measured.requests() + refused + ignored, 100_000);
        assert_eq!(measured.connects, measured.requests());
        near("opening", measured.connect_ns.value_at_quantile(0.5) as f64, HANDSHAKE as f64);
        near("p50", measured.latency_ns.value_at_quantile(0.5) as f64, (HANDSHAKE + 300 * MICRO) as f64);
    }
}

#[test]
fn dead_connections_are_seen_to_be_alive_or_not() {
    let plan = plan("--connections 4 --dead 1000 --requests 10000");
    let (outcome, truth) = simulate(&plan, Faults::none(Delay::Constant(MICRO)));
    assert_eq!((outcome.dead.requests(), outcome.dead.hits), (1_000, 1_000));
    assert_eq!(outcome.measured.requests(), 10_000, "the dead say nothing while measuring");
    assert_eq!(truth.requests.load(Ordering::Relaxed), 2 * 200 + 10_000 + 1_000);
    // Slots 0 to 3 carry requests.
    let faults = Faults { kill: Some((5_000, 500)), ..Faults::none(Delay::Constant(MICRO)) };
    let (outcome, _) = simulate(&plan, faults);
    assert_eq!((outcome.measured.requests(), outcome.dead.requests()), (10_000, 999));
    assert!(report::text(&plan, &outcome).contains("dead connections: 1000 opened, 999 alive at the end"));
}

/// The right replies that came in the same piece as the wrong one were forgotten, and the run waited for them for ever.
#[test]
fn a_wrong_reply_behind_right_ones_in_one_piece_leaves_nothing_to_wait_for() {
    for line in ["--requests 10000", "--rate 100000 --requests 10000"] {
        let plan = plan(&format!("--connections 4 --depth 8 {line}"));
        for garble in 5_000..5_008 {
            let faults = Faults { garble: Some(garble), ..Faults::none(Delay::Constant(MICRO)) };
            let make = |share: mcload::run::Share| {
                let server = Server::new(faults, 2 * 200, SEED, Arc::new(Truth::default()));
                Ok(Simulated::new(share.slots(), server))
            };
            let outcome = run(&plan, &Progress::new(1, false), make).unwrap();
            let measured = &outcome.measured;
            assert_eq!((measured.wrong, measured.ended()), (1, 10_000), "{line}, reply {garble}");
        }
    }
}

/// All connections were looked at ten times a second, however long they were given.
#[test]
fn a_generator_of_many_quiet_connections_rests_between_its_questions() {
    let plan = plan("--connections 50000 --rate 10 --requests 1000 --timeout 120");
    let (_, truth) = simulate(&plan, Faults::none(Delay::Constant(MICRO)));
    // A hundred seconds: the questions and their answers, and each connection looked at 16 times in two minutes, 512 at a time.
    let looked = 16 * 50_000 / 512;
    let waits = truth.waits.load(Ordering::Relaxed);
    assert!(waits <= 2 * 1_000 + looked + 100, "waited {waits} times");
}

#[test]
fn a_server_that_falls_silent_ends_the_run_with_a_reason() {
    let mut plan = plan("--connections 4 --requests 10000");
    plan.timeout = Duration::from_millis(100);
    let faults = Faults { drop: 1.0, ..Faults::none(Delay::Constant(MICRO)) };
    let make = |share: mcload::run::Share| {
        Ok(Simulated::new(share.slots(), Server::new(faults, 2 * 200, SEED, Arc::new(Truth::default()))))
    };
    let error = run(&plan, &Progress::new(1, false), make).unwrap_err().to_string();
    assert!(error.contains("no reply came for 0.4 s while 4 requests were in flight"), "{error}");
}
