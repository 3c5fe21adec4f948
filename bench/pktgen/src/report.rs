//! `Report`: the figures of a run, added up over its queues, as text or as one line of JSON.

use std::fmt::Write;

use figures::quantiles;
use hdrhistogram::Histogram;
use serde_json::{Map, json};

use crate::options::{Mode, Plan};
use crate::run::Outcome;
use crate::tally::{Batches, DropReason, Tally, Traffic};

/// What a frame takes on the wire besides its bytes: preamble 8, check sequence 4, gap 12 (IEEE 802.3 §3.1.1, §4.4.2).
const FRAMING_BYTES: u64 = 24;

/// What a run came to.
#[derive(Debug)]
pub struct Report {
    mode: Mode,
    port: String,
    device: String,
    poll: bool,
    batch: u16,
    cpus: Vec<usize>,
    queues: usize,
    tally: Tally,
    wakeups: u64,
    tx_exhausted: u64,
    link_dropped: u64,
}

impl Report {
    /// Adds up the outcomes of all queues. `device` says what the port turned out to be.
    pub fn new(plan: &Plan, device: String, outcomes: &[Outcome]) -> Self {
        let mut tally = Tally::default();
        outcomes.iter().for_each(|outcome| tally.add(&outcome.tally));
        let sum = |count: fn(&Outcome) -> u64| outcomes.iter().map(count).sum();
        Self {
            mode: plan.mode,
            port: plan.port.to_string(),
            device,
            poll: plan.poll.is_some(),
            batch: plan.batch,
            cpus: outcomes.iter().filter_map(|outcome| outcome.cpu).collect(),
            queues: outcomes.len(),
            tally,
            wakeups: sum(|outcome| outcome.stats.wakeups),
            tx_exhausted: sum(|outcome| outcome.stats.tx_exhausted),
            link_dropped: sum(|outcome| outcome.stats.rx_dropped),
        }
    }

    fn seconds(&self) -> f64 {
        self.tally.active_time().as_secs_f64()
    }

    fn per_second(&self, count: u64) -> f64 {
        if self.seconds() > 0.0 { count as f64 / self.seconds() } else { 0.0 }
    }

    /// Millions of frames a second, gigabits a second without and with framing.
    fn rates(&self, traffic: Traffic) -> [f64; 3] {
        let bits = |bytes| self.per_second(bytes) * 8.0 / 1e9;
        let framed = traffic.bytes + traffic.frames * FRAMING_BYTES;
        [self.per_second(traffic.frames) / 1e6, bits(traffic.bytes), bits(framed)]
    }

    /// System calls for each frame received or sent: wake-ups and sleeps.
    fn system_calls_per_frame(&self) -> f64 {
        let frames = self.tally.rx.frames + self.tally.tx.frames;
        if frames == 0 { 0.0 } else { (self.wakeups + self.tally.sleeps) as f64 / frames as f64 }
    }

    /// For people: a figure a line.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let waiting = if self.poll { "sleeping" } else { "spinning" };
        writeln!(
            out,
            "{} on {} ({}), {} queue(s), CPUs {:?}, {waiting}, batch {}; {:.3} s from the first frame to the last",
            self.mode,
            self.port,
            self.device,
            self.queues,
            self.cpus,
            self.batch,
            self.seconds()
        )?;
        for (name, traffic) in [("received", self.tally.rx), ("sent", self.tally.tx)] {
            let [mpps, gbps, framed] = self.rates(traffic);
            writeln!(
                out,
                "{name:<9} {} frames, {mpps:.4} Mpps, {gbps:.4} Gbps, {framed:.4} Gbps with framing",
                traffic.frames
            )?;
        }
        for (name, batches) in [("rx batch", &self.tally.rx_batches), ("tx batch", &self.tally.tx_batches)] {
            writeln!(out, "{name:<9} mean {:.2};{}", batches.mean(), buckets(batches))?;
        }
        writeln!(
            out,
            "calls     {} wake-ups, {} sleeps, {:.4} system calls a frame, {} turns",
            self.wakeups,
            self.tally.sleeps,
            self.system_calls_per_frame(),
            self.tally.turns
        )?;
        write!(out, "dropped   {} by the link, {} for want of a frame to send;", self.link_dropped, self.tx_exhausted)?;
        let drops = self.drops().map(|(name, count)| format!(" {name} {count}")).collect::<Vec<_>>();
        writeln!(out, " freed:{}", if drops.is_empty() { " none".to_owned() } else { drops.join(",") })?;
        writeln!(out, "neighbors {} answered", self.tally.neighbors_answered)?;
        let Some(trips) = &self.tally.trips else { return Ok(()) };
        writeln!(
            out,
            "trips     {} sent, {} answered ({:.0}/s), {} lost, {} reordered",
            trips.sent,
            trips.answered,
            self.per_second(trips.answered),
            trips.lost,
            trips.reordered
        )?;
        writeln!(out, "rtt us    {}", quantiles::micros(&trips.rtt))?;
        if !trips.lateness.is_empty() {
            writeln!(out, "late us   {}", quantiles::micros(&trips.lateness))?;
        }
        Ok(())
    }

    /// The same as one line of JSON.
    pub fn json(&self) -> String {
        let tally = &self.tally;
        let traffic = |traffic: Traffic| {
            let ([mpps, gbps, gbps_framed], Traffic { frames, bytes }) = (self.rates(traffic), traffic);
            json!({ "frames": frames, "bytes": bytes, "mpps": mpps, "gbps": gbps, "gbps_framed": gbps_framed })
        };
        let batches = |batches: &Batches| json!({ "mean": batches.mean(), "calls": batches.calls });
        let micros = |histogram: &Histogram<u64>| (!histogram.is_empty()).then(|| quantiles::object(histogram, 1e3));
        let trips = tally.trips.as_ref().map(|trips| {
            json!({
                "sent": trips.sent,
                "answered": trips.answered,
                "answered_per_second": self.per_second(trips.answered),
                "lost": trips.lost,
                "reordered": trips.reordered,
                "rtt_us": micros(&trips.rtt),
                "lateness_us": micros(&trips.lateness),
            })
        });
        let report = json!({
            "mode": self.mode.to_string(),
            "port": self.port,
            "device": self.device,
            "queues": self.queues,
            "cpus": self.cpus,
            "poll": self.poll,
            "batch": self.batch,
            "seconds": self.seconds(),
            "rx": traffic(tally.rx),
            "tx": traffic(tally.tx),
            "rx_batches": batches(&tally.rx_batches),
            "tx_batches": batches(&tally.tx_batches),
            "turns": tally.turns,
            "wakeups": self.wakeups,
            "sleeps": tally.sleeps,
            "system_calls_per_frame": self.system_calls_per_frame(),
            "link_dropped": self.link_dropped,
            "tx_exhausted": self.tx_exhausted,
            "drops": self.drops().map(|(name, count)| (name.to_owned(), count.into())).collect::<Map<_, _>>(),
            "neighbors_answered": tally.neighbors_answered,
            "trips": trips,
        });
        format!("{report}\n")
    }

    fn drops(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DropReason::ALL
            .into_iter()
            .map(|(reason, name)| (name, self.tally.drops.of(reason)))
            .filter(|(_, count)| *count > 0)
    }
}

fn buckets(batches: &Batches) -> String {
    let names = ["1", "2-3", "4-7", "8-15", "16-31", "32-63", "64"];
    let shown = names.iter().zip(batches.calls).filter(|(_, calls)| *calls > 0);
    shown.map(|(name, calls)| format!(" {name}: {calls}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests;
