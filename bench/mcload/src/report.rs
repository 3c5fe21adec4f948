//! An outcome as text for people and as one line of JSON for programs.

use std::fmt::Write;

use crate::args::{Length, Plan};
use crate::run::Outcome;
use crate::tally::Tally;

const QUANTILES: [(&str, f64); 4] = [("p50", 0.50), ("p90", 0.90), ("p99", 0.99), ("p99.9", 0.999)];

fn per_second(outcome: &Outcome) -> f64 {
    outcome.measured.requests() as f64 / outcome.measured_time.as_secs_f64().max(1e-9)
}

fn hit_share(tally: &Tally) -> f64 {
    tally.hits as f64 / ((tally.hits + tally.misses) as f64).max(1.0)
}

fn first_wrong(outcome: &Outcome) -> Option<String> {
    [&outcome.load, &outcome.sample, &outcome.measured]
        .into_iter()
        .find_map(|tally| tally.first_wrong.as_ref())
        .map(ToString::to_string)
}

fn wrong(outcome: &Outcome) -> u64 {
    outcome.load.wrong + outcome.sample.wrong + outcome.measured.wrong
}

/// Several lines for people. Latencies are in microseconds, closed loop: measured from the moment a request was made.
pub fn text(plan: &Plan, outcome: &Outcome) -> String {
    let (keyspace, measured, sample) = (&plan.keyspace, &outcome.measured, &outcome.sample);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}: {} connections x depth {}, {} worker(s), {} keys of {} B, values of {} B, mix get={},set={}, seed {}",
        plan.server,
        plan.connections,
        plan.depth,
        plan.workers,
        keyspace.keys(),
        keyspace.key_bytes(),
        keyspace.value_bytes(),
        plan.mix.get,
        plan.mix.set,
        plan.seed
    );
    let _ = writeln!(
        out,
        "loaded {} keys in {:.2} s; read back {}: {} found, {} missing",
        outcome.load.sets,
        outcome.load_time.as_secs_f64(),
        sample.requests(),
        sample.hits,
        sample.misses
    );
    let _ = writeln!(
        out,
        "closed loop: {:.0} requests/s ({} in {:.2} s: {} hits, {} misses, {} sets; hit share {:.4})",
        per_second(outcome),
        measured.requests(),
        outcome.measured_time.as_secs_f64(),
        measured.hits,
        measured.misses,
        measured.sets,
        hit_share(measured)
    );
    let _ = write!(out, "latency us:");
    for (name, quantile) in QUANTILES {
        let _ = write!(out, " {name} {:.1}", measured.latency_ns.value_at_quantile(quantile) as f64 / 1e3);
    }
    let _ = writeln!(out, " max {:.1}", measured.latency_ns.max() as f64 / 1e3);
    match first_wrong(outcome) {
        None => {
            let _ = writeln!(out, "wrong replies: 0");
        }
        Some(first) => {
            let _ = writeln!(out, "WRONG REPLIES on {} connections; the first: {first}", wrong(outcome));
        }
    }
    out
}

/// One line of JSON; latencies in nanoseconds.
pub fn json(plan: &Plan, outcome: &Outcome) -> String {
    let (keyspace, measured) = (&plan.keyspace, &outcome.measured);
    let length = match plan.length {
        Length::Requests(requests) => format!("\"requests\":{requests}"),
        Length::Time(time) => format!("\"seconds\":{}", time.as_secs()),
    };
    let mut latency = String::new();
    for (name, quantile) in QUANTILES {
        let _ = write!(latency, "\"{name}\":{},", measured.latency_ns.value_at_quantile(quantile));
    }
    let _ = write!(latency, "\"max\":{}", measured.latency_ns.max());
    let first = first_wrong(outcome).map_or_else(|| "null".to_owned(), |text| quote(&text));
    format!(
        "{{\"plan\":{{\"server\":{},\"connections\":{},\"depth\":{},\"workers\":{},\"keys\":{},\"key_bytes\":{},\
         \"value_bytes\":{},\"mix\":{{\"get\":{},\"set\":{}}},\"seed\":{},{length}}},\
         \"load\":{{\"keys\":{},\"seconds\":{:.6}}},\"sample\":{{\"hits\":{},\"misses\":{}}},\
         \"measured\":{{\"requests\":{},\"seconds\":{:.6},\"per_second\":{:.1},\"hits\":{},\"misses\":{},\"sets\":{},\
         \"latency_ns\":{{{latency}}}}},\"wrong\":{},\"first_wrong\":{first}}}\n",
        quote(&plan.server.to_string()),
        plan.connections,
        plan.depth,
        plan.workers,
        keyspace.keys(),
        keyspace.key_bytes(),
        keyspace.value_bytes(),
        plan.mix.get,
        plan.mix.set,
        plan.seed,
        outcome.load.sets,
        outcome.load_time.as_secs_f64(),
        outcome.sample.hits,
        outcome.sample.misses,
        measured.requests(),
        outcome.measured_time.as_secs_f64(),
        per_second(outcome),
        measured.hits,
        measured.misses,
        measured.sets,
        wrong(outcome),
    )
}

/// A JSON string (RFC 8259 §7).
fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(control));
            }
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;

    use super::*;
    use crate::args::Args;
    use crate::connection::Mismatch;

    fn outcome() -> (Plan, Outcome) {
        let plan = Args::try_parse_from(["x", "--server", "127.0.0.1:11211"]).unwrap().plan().unwrap();
        let mut measured = Tally::new();
        measured.hits = 3;
        measured.misses = 1;
        (1..=4).for_each(|micros| measured.record(Duration::from_micros(micros * 100)));
        let outcome = Outcome {
            load: Tally::new(),
            load_time: Duration::from_secs(1),
            sample: Tally::new(),
            measured,
            measured_time: Duration::from_secs(2),
        };
        (plan, outcome)
    }

    #[test]
    fn text_shows_rate_hit_share_and_quantiles() {
        let (plan, outcome) = outcome();
        let text = text(&plan, &outcome);
        assert!(text.contains("2 requests/s"), "{text}");
        assert!(text.contains("hit share 0.7500"), "{text}");
        assert!(text.contains("p50 200."), "{text}");
        assert!(text.ends_with("wrong replies: 0\n"), "{text}");
    }

    #[test]
    fn the_first_wrong_reply_is_shown_in_both_forms() {
        let (plan, mut outcome) = outcome();
        let found = b"\"x\"\r\n".to_vec();
        outcome.measured.record_wrong(Mismatch { request: None, offset: 0, expected: Vec::new(), found });
        assert!(!outcome.all_right());
        assert!(text(&plan, &outcome).contains("WRONG REPLIES on 1 connections; the first: a reply nobody asked for"));
        assert!(json(&plan, &outcome).contains("\"wrong\":1,\"first_wrong\":\"a reply nobody asked for: \\\""));
    }

    #[test]
    fn json_strings_are_escaped() {
        assert_eq!(quote("a\"b\\c\n"), "\"a\\\"b\\\\c\\u000a\"");
    }
}
