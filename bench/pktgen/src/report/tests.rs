use std::time::Duration;

use clap::Parser;
use nic::{FrameCensus, QueueStats};

use super::*;
use crate::tally::Trips;

/// Two queues that each sent 1,000 frames of 60 bytes in the same second and got 999 back.
fn report(line: &str) -> Report {
    let plan = Plan::try_parse_from(line.split_whitespace()).unwrap();
    let mut trips = Trips { sent: 1_000, answered: 999, lost: 1, ..Trips::default() };
    trips.rtt.record_n(50_000, 999).unwrap();
    let mut tally = Tally {
        rx: Traffic { frames: 999, bytes: 59_940 },
        tx: Traffic { frames: 1_000, bytes: 60_000 },
        trips: Some(trips),
        sleeps: 3,
        active: Some((Duration::from_secs(1), Duration::from_secs(2))),
        ..Tally::default()
    };
    tally.drops.count(DropReason::OtherAddress);
    tally.tx_batches.count(64);
    let mut stats = QueueStats::default();
    stats.wakeups = 17;
    stats.rx_dropped = 5;
    let outcome = |cpu| Outcome { tally: tally.clone(), stats, census: FrameCensus::default(), cpu: Some(cpu) };
    Report::new(&plan, "generic \"mode\"".to_owned(), &[outcome(0), outcome(1)])
}

#[test]
fn rates_are_of_the_time_in_which_frames_moved() {
    let report = report("pktgen -f ping -i wire: -p 2");
    let [mpps, gbps, framed] = report.rates(report.tally.tx);
    assert!((mpps - 0.002).abs() < 1e-12, "{mpps}");
    assert!((gbps - 2_000.0 * 60.0 * 8.0 / 1e9).abs() < 1e-12, "{gbps}");
    // 60 bytes take the time of 84 (IEEE 802.3): 14.88 Mpps at 10 Gbps.
    assert!((framed - 2_000.0 * 84.0 * 8.0 / 1e9).abs() < 1e-12, "{framed}");
    assert!((report.system_calls_per_frame() - 40.0 / 3_998.0).abs() < 1e-12);
}

#[test]
fn the_text_names_every_figure() {
    let text = report("pktgen -f ping -i wire: -p 2").text();
    for line in [
        "ping on wire: (generic \"mode\"), 2 queue(s), CPUs [0, 1], spinning, batch 64; 1.000 s",
        "sent      2000 frames, 0.0020 Mpps",
        "tx batch  mean 64.00; 64: 2\n",
        "calls     34 wake-ups, 6 sleeps, 0.0100 system calls a frame",
        "dropped   10 by the link, 0 for want of a frame to send; freed: other_address 2\n",
        "trips     2000 sent, 1998 answered (1998/s), 2 lost, 0 reordered\n",
        "rtt us    p50 50.0 p90 50.0 p99 50.0 p99.9 50.0 max 50.0\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("late us"), "no rate, no lateness");
}

#[test]
fn the_json_is_one_line_with_every_figure() {
    let json = report("pktgen -f ping -i wire: -p 2").json();
    assert_eq!(json.lines().count(), 1);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["device"], &json["queues"], &json["cpus"]),
        (&"generic \"mode\"".into(), &2.into(), &json!([0, 1]))
    );
    assert_eq!(json["tx"]["bytes"], 120_000);
    assert_eq!(json["drops"], json!({ "other_address": 2 }));
    let trips = &json["trips"];
    assert_eq!((&trips["lost"], &trips["reordered"], &trips["lateness_us"]), (&2.into(), &0.into(), &json!(null)));
    assert!(trips["rtt_us"]["p99.9"].as_f64().is_some_and(|micros| (49.0..51.0).contains(&micros)), "{trips}");
}

#[test]
fn nothing_at_all_is_reported_without_dividing_by_it() {
    let plan = Plan::try_parse_from(["pktgen", "-f", "rx", "-i", "wire:"]).unwrap();
    let report = Report::new(&plan, String::new(), &[]);
    let json: serde_json::Value = serde_json::from_str(&report.json()).unwrap();
    assert_eq!((&json["rx"]["mpps"], &json["trips"]), (&json!(0.0), &json!(null)));
    assert!(report.text().contains("0.0000 Mpps"));
}
