use std::time::Duration;

use clap::Parser;
use nic::{FrameCensus, QueueStats};

use super::*;
use crate::options::Args;
use crate::tally::Trips;

/// Two queues that each sent 1,000 frames of 60 bytes in the same second and got 999 back.
fn report(line: &str) -> Report {
    let plan = Args::try_parse_from(line.split_whitespace()).unwrap().plan().unwrap();
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
        "rtt us    p50 50.0  p90 50.0  p99 50.0  p99.9 50.0  max 50.0\n",
    ] {
        assert!(text.contains(line), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("late us"), "no rate, no lateness");
}

#[test]
fn the_json_is_one_line_with_balanced_brackets_and_escaped_strings() {
    let json = report("pktgen -f ping -i wire: -p 2").json();
    assert!(!json.contains('\n'));
    assert!(json.contains(r#""device":"generic \"mode\"","queues":2,"cpus":[0, 1],"#), "{json}");
    assert!(json.contains(r#""tx":{"frames":2000,"bytes":120000,"mpps":0.002000,"#), "{json}");
    assert!(json.contains(r#""drops":{"other_address":2},"#), "{json}");
    assert!(json.contains(r#""lost":2,"reordered":0,"rtt_us":{"p50":50."#), "{json}");
    assert!(json.ends_with(r#""lateness_us":null}}"#), "{json}");
    for (open, close) in [('{', '}'), ('[', ']')] {
        assert_eq!(json.matches(open).count(), json.matches(close).count());
    }
}

#[test]
fn nothing_at_all_is_reported_without_dividing_by_it() {
    let plan = Args::try_parse_from(["pktgen", "-f", "rx", "-i", "wire:"]).unwrap().plan().unwrap();
    let report = Report::new(&plan, String::new(), &[]);
    assert!(!report.json().contains("NaN") && !report.json().contains("inf"), "{}", report.json());
    assert!(report.text().contains("0.0000 Mpps") && report.json().ends_with(r#""trips":null}"#));
}

#[test]
fn control_characters_are_escaped() {
    assert_eq!(quoted("a\"b\\c\nd"), r#""a\"b\\c\u000ad""#);
}
