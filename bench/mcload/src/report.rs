//! An outcome as text for people and as one line of JSON for programs. README.md lists the fields.

use std::fmt::{self, Write};

use clap::ValueEnum;
use figures::quantiles::micros;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::plan::{Length, Loop, Plan, Reuse};
use crate::popularity::Popularity;
use crate::run::Outcome;
use crate::sizes::Size;
use crate::tally::Tally;

/// The generator may be late by this part of the latency that it reports, both at p99.
pub const LATENESS_SHARE: f64 = 0.1;

fn per_second(count: u64, outcome: &Outcome) -> f64 {
    count as f64 / outcome.measured_time.as_secs_f64().max(1e-9)
}

fn hit_share(tally: &Tally) -> f64 {
    tally.hits as f64 / ((tally.hits + tally.misses) as f64).max(1.0)
}

fn first_wrong(outcome: &Outcome) -> Option<String> {
    [&outcome.load, &outcome.sample, &outcome.measured, &outcome.dead]
        .into_iter()
        .find_map(|tally| tally.first_wrong.as_ref())
        .map(ToString::to_string)
}

/// Why the figures of an open loop say nothing about the server; `None` when they do, and in a closed loop.
pub fn void_reason(plan: &Plan, outcome: &Outcome) -> Option<String> {
    let Loop::Open { backlog, .. } = plan.pace else { return None };
    let measured = &outcome.measured;
    if measured.overflowed > 0 {
        return Some(format!(
            "{} of {} arrivals found {backlog} waiting and were dropped; the server cannot keep up with the rate",
            measured.overflowed, measured.offered
        ));
    }
    if measured.latency_ns.is_empty() {
        return Some("no request was answered".to_owned());
    }
    let lateness = measured.lateness_ns.value_at_quantile(0.99) as f64;
    let latency = measured.latency_ns.value_at_quantile(0.99) as f64;
    (lateness > LATENESS_SHARE * latency).then(|| {
        format!(
            "the generator itself was late: p99 {:.1} us, more than {:.0} % of the p99 latency of {:.1} us; \
             use a lower rate, more workers, or a processor of its own",
            lateness / 1e3,
            LATENESS_SHARE * 100.0,
            latency / 1e3
        )
    })
}

fn size(size: Size) -> String {
    match size {
        Size::Fixed(bytes) => format!("of {bytes} B"),
        Size::Etc => "of ETC sizes".to_owned(),
    }
}

/// Several lines for people; times in microseconds.
pub fn text(plan: &Plan, outcome: &Outcome) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = text_to(&mut out, plan, outcome);
    out
}

fn text_to(out: &mut String, plan: &Plan, outcome: &Outcome) -> fmt::Result {
    plan_to(out, plan)?;
    if plan.load {
        let sample = &outcome.sample;
        writeln!(
            out,
            "loaded {} keys in {:.2} s; read back {}: {} found, {} missing",
            outcome.load.sets,
            outcome.load_time.as_secs_f64(),
            sample.requests(),
            sample.hits,
            sample.misses
        )?;
    }
    rate_to(out, plan, outcome)?;
    latency_to(out, plan, outcome)?;
    if plan.dead > 0 {
        writeln!(out, "dead connections: {} opened, {} alive at the end", plan.dead, outcome.dead.requests())?;
    }
    if let Some(reason) = void_reason(plan, outcome) {
        writeln!(out, "VOID: {reason}")?;
    }
    match first_wrong(outcome) {
        None => writeln!(out, "wrong replies: 0"),
        Some(first) => writeln!(out, "WRONG REPLIES on {} connections; the first: {first}", outcome.wrong()),
    }
}

/// What was done to which server.
fn plan_to(out: &mut String, plan: &Plan) -> fmt::Result {
    let codec = &plan.codec;
    let keyspace = codec.keyspace();
    write!(
        out,
        "{}: {}, {} connections x depth {}, {} worker(s), {} keys {}, values {}",
        plan.server,
        plan.name,
        plan.connections,
        plan.depth,
        plan.workers,
        keyspace.keys(),
        size(keyspace.key_size()),
        size(keyspace.value_size()),
    )?;
    if let Popularity::Zipf(zipf) = codec.popularity() {
        write!(out, ", zipf {}", zipf.exponent())?;
    }
    if codec.multiget() > 1 {
        write!(out, ", {} keys a get", codec.multiget())?;
    }
    writeln!(out, ", mix get={},set={}, seed {}", plan.mix.get, plan.mix.set, plan.seed)
}

/// How much was done in a second, and of what.
fn rate_to(out: &mut String, plan: &Plan, outcome: &Outcome) -> fmt::Result {
    let measured = &outcome.measured;
    match plan.pace {
        Loop::Closed => write!(out, "closed loop: {:.0} requests/s", per_second(measured.requests(), outcome))?,
        Loop::Open { rate, .. } => write!(
            out,
            "open loop: offered {rate:.0} requests/s (sent {:.0}/s), achieved {:.0} requests/s",
            per_second(measured.offered - measured.overflowed, outcome),
            per_second(measured.requests(), outcome)
        )?,
    }
    writeln!(
        out,
        " ({} in {:.2} s: {} hits, {} misses, {} sets; hit share {:.4})",
        measured.requests(),
        outcome.measured_time.as_secs_f64(),
        measured.hits,
        measured.misses,
        measured.sets,
        hit_share(measured)
    )?;
    if plan.reuse == Reuse::PerRequest {
        writeln!(
            out,
            "connections: {:.0}/s ({} opened, {} refused, {} timed out, {} cut off), opening us: {}",
            per_second(measured.connects, outcome),
            measured.connects,
            measured.refused,
            measured.connect_timed_out,
            measured.cut,
            micros(&measured.connect_ns)
        )?;
    }
    Ok(())
}

/// How long the requests took, and which took for ever.
fn latency_to(out: &mut String, plan: &Plan, outcome: &Outcome) -> fmt::Result {
    let measured = &outcome.measured;
    writeln!(out, "latency us: {}", micros(&measured.latency_ns))?;
    if measured.timed_out > 0 {
        let share = measured.timed_out as f64 / measured.ended() as f64;
        writeln!(
            out,
            "unanswered after {} s: {} requests ({:.4} of all), {} more went down with their connections",
            plan.timeout.as_secs_f64(),
            measured.timed_out,
            share,
            measured.abandoned
        )?;
    }
    if matches!(plan.pace, Loop::Open { .. }) {
        writeln!(out, "lateness of the generator us: {}", micros(&measured.lateness_ns))?;
    }
    Ok(())
}

fn quantiles(histogram: &Histogram<u64>) -> Value {
    let mut all = figures::quantiles::object(histogram, 1.0);
    all.insert("mean".to_owned(), histogram.mean().into());
    all.insert("count".to_owned(), histogram.len().into());
    Value::Object(all)
}

fn size_json(size: Size) -> Value {
    match size {
        Size::Fixed(bytes) => bytes.into(),
        Size::Etc => "etc".into(),
    }
}

/// A value as the command line has it.
fn word(value: impl ValueEnum) -> Option<String> {
    value.to_possible_value().map(|value| value.get_name().to_owned())
}

fn plan_json(plan: &Plan) -> Value {
    let keyspace = plan.codec.keyspace();
    let (requests, seconds) = match plan.length {
        Length::Requests(requests) => (Some(requests), None),
        Length::Time(time) => (None, Some(time.as_secs_f64())),
    };
    let (rate, arrivals, backlog) = match plan.pace {
        Loop::Closed => (None, None, None),
        Loop::Open { rate, gaps, backlog } => (Some(rate), word(gaps), Some(backlog)),
    };
    let zipf = match plan.codec.popularity() {
        Popularity::Uniform(_) => None,
        Popularity::Zipf(zipf) => Some(zipf.exponent()),
    };
    json!({
        "server": plan.server.to_string(),
        "workload": plan.name,
        "connections": plan.connections,
        "depth": plan.depth,
        "dead": plan.dead,
        "workers": plan.workers,
        "keys": keyspace.keys(),
        "key_bytes": size_json(keyspace.key_size()),
        "value_bytes": size_json(keyspace.value_size()),
        "zipf": zipf,
        "mix": { "get": plan.mix.get, "set": plan.mix.set },
        "multiget": plan.codec.multiget(),
        "rate": rate,
        "arrivals": arrivals,
        "backlog": backlog,
        "requests": requests,
        "seconds": seconds,
        "close": word(plan.close),
        "load": plan.load,
        "timeout_seconds": plan.timeout.as_secs_f64(),
        "seed": plan.seed,
    })
}

/// One line of JSON; times in nanoseconds unless the name says otherwise.
pub fn json(plan: &Plan, outcome: &Outcome) -> String {
    let measured = &outcome.measured;
    let open = matches!(plan.pace, Loop::Open { .. });
    let void = void_reason(plan, outcome);
    let value = json!({
        "plan": plan_json(plan),
        "load": { "keys": outcome.load.sets, "seconds": outcome.load_time.as_secs_f64() },
        "sample": { "hits": outcome.sample.hits, "misses": outcome.sample.misses },
        "measured": {
            "loop": if open { "open" } else { "closed" },
            "requests": measured.requests(),
            "seconds": outcome.measured_time.as_secs_f64(),
            "per_second": per_second(measured.requests(), outcome),
            "gets": measured.gets,
            "hits": measured.hits,
            "misses": measured.misses,
            "sets": measured.sets,
            "hit_share": hit_share(measured),
            "latency_ns": quantiles(&measured.latency_ns),
            "timed_out": measured.timed_out,
            "abandoned": measured.abandoned,
            "offered": open.then_some(measured.offered),
            "offered_per_second": open.then(|| per_second(measured.offered, outcome)),
            "overflowed": open.then_some(measured.overflowed),
            "lateness_ns": open.then(|| quantiles(&measured.lateness_ns)),
            "connects": measured.connects,
            "connects_per_second": per_second(measured.connects, outcome),
            "refused": measured.refused,
            "connect_timed_out": measured.connect_timed_out,
            "cut": measured.cut,
            "connect_ns": quantiles(&measured.connect_ns),
        },
        "dead": { "opened": plan.dead, "alive": outcome.dead.requests() },
        "void": void.is_some(),
        "void_reason": void,
        "wrong": outcome.wrong(),
        "first_wrong": first_wrong(outcome),
    });
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::args::Args;
    use crate::mismatch::Mismatch;
    use crate::tally::record;

    fn outcome(line: &str) -> (Plan, Outcome) {
        let line = format!("x --server 127.0.0.1:11211 {line}");
        let plan = Args::try_parse_from(line.split_whitespace()).unwrap().plan().unwrap();
        let mut outcome = Outcome::new();
        outcome.measured.gets = 4;
        outcome.measured.hits = 3;
        outcome.measured.misses = 1;
        outcome.measured.offered = 4;
        (1..=4).for_each(|micros| record(&mut outcome.measured.latency_ns, 0, micros * 100_000));
        outcome.measured_time = Duration::from_secs(2);
        (plan, outcome)
    }

    fn parsed(plan: &Plan, outcome: &Outcome) -> Value {
        serde_json::from_str(&json(plan, outcome)).unwrap()
    }

    #[test]
    fn text_shows_rate_hit_share_and_quantiles() {
        let (plan, outcome) = outcome("");
        let text = text(&plan, &outcome);
        assert!(text.contains("2 requests/s"), "{text}");
        assert!(text.contains("hit share 0.7500"), "{text}");
        assert!(text.contains("p50 200."), "{text}");
        assert!(!text.contains("VOID") && !text.contains("lateness"), "{text}");
        assert!(text.ends_with("wrong replies: 0\n"), "{text}");
    }

    #[test]
    fn the_first_wrong_reply_is_shown_in_both_forms() {
        let (plan, mut outcome) = outcome("");
        outcome.measured.record_wrong(Box::new(Mismatch::unasked(b"\"x\"\r\n")));
        assert!(!outcome.all_right());
        assert!(text(&plan, &outcome).contains("WRONG REPLIES on 1 connections; the first: a reply nobody asked for"));
        let json = parsed(&plan, &outcome);
        assert_eq!(json["wrong"], 1);
        assert_eq!(json["first_wrong"], "a reply nobody asked for: \"\\\"x\\\"\\r\\n\"");
    }

    #[test]
    fn a_late_generator_voids_an_open_loop_and_nothing_else() {
        for (lateness_ns, void) in [(39_000, false), (41_000, true)] {
            let (plan, mut late) = outcome("--rate 2");
            (0..4).for_each(|_| record(&mut late.measured.lateness_ns, 0, lateness_ns));
            assert_eq!(void_reason(&plan, &late).is_some(), void, "{lateness_ns} ns late at a p99 of 400 us");
            assert_eq!(text(&plan, &late).contains("VOID: the generator itself was late: p99 41"), void);
            let json = parsed(&plan, &late);
            assert_eq!((json["void"].as_bool(), json["void_reason"].is_string()), (Some(void), void));
            let (closed, _) = outcome("");
            assert_eq!(void_reason(&closed, &late), None);
        }
    }

    #[test]
    fn a_backlog_that_overflowed_voids() {
        let (plan, mut outcome) = outcome("--rate 2 --backlog 7");
        outcome.measured.overflowed = 1;
        let reason = void_reason(&plan, &outcome).unwrap();
        assert!(reason.starts_with("1 of 4 arrivals found 7 waiting"), "{reason}");
    }

    #[test]
    fn an_open_loop_shows_what_was_offered_and_what_was_achieved() {
        let (plan, outcome) = outcome("--rate 3");
        let text = text(&plan, &outcome);
        assert!(text.contains("offered 3 requests/s (sent 2/s), achieved 2 requests/s"), "{text}");
        let json = parsed(&plan, &outcome);
        assert_eq!((json["plan"]["rate"].as_f64(), json["measured"]["offered"].as_u64()), (Some(3.0), Some(4)));
    }
}
