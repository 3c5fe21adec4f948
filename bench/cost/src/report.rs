//! What was measured, as a table, JSON, or lines for `compare`.

use std::fmt::Write;

use figures::table::optional;
use serde_json::{Map, Value, json};

use crate::cycles::{Cycles, Spread};
use crate::instructions::Instructions;
use crate::workload::Workload;

/// Characters of a function's name in the table.
const NAME_CHARS: usize = 96;

/// What is known of one workload.
#[derive(Debug, Clone)]
pub struct Measured {
    /// Which.
    pub workload: Workload,
    /// Connections, in the pass that measured cycles.
    pub connections: usize,
    /// By the time-stamp counter.
    pub cycles: Option<Cycles>,
    /// By callgrind.
    pub instructions: Option<Instructions>,
}

/// All that was measured in a run.
#[derive(Debug, Clone)]
pub struct Report {
    /// Cycles of the time-stamp counter in a second.
    pub rate_hz: f64,
    /// Functions to be named.
    pub top: usize,
    /// By workload.
    pub measured: Vec<Measured>,
}

impl Report {
    /// For people. Everything is per request (per connection where each serves one).
    pub fn table(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write_table(self, &mut text);
        text
    }

    /// For `compare`.
    pub fn lines(&self) -> String {
        let line = |measured: &Measured| {
            let each = measured.instructions.as_ref()?.each();
            Some(format!("{}\t{each:.3}\n", measured.workload.name()))
        };
        self.measured.iter().filter_map(line).collect()
    }

    /// For programs.
    pub fn json(&self) -> String {
        let spread = |spread: &Spread| json!({ "least": spread.least, "median": spread.median });
        let workload = |measured: &Measured| {
            let mut object = Map::new();
            object.insert("name".into(), measured.workload.name().into());
            object.insert("connections".into(), measured.connections.into());
            if let Some(cycles) = &measured.cycles {
                let steps = cycles.steps.iter().map(|(step, of)| (lower(step), spread(of)));
                object.insert("frames".into(), cycles.frames.into());
                object.insert("cycles".into(), spread(&cycles.total));
                object.insert("steps".into(), steps.collect::<Map<_, _>>().into());
            }
            if let Some(instructions) = &measured.instructions {
                object.insert("instructions".into(), instructions.each().into());
                object.insert(
                    "functions".into(),
                    instructions.top(self.top).map(|(name, each)| json!([name, each])).collect(),
                );
            }
            Value::Object(object)
        };
        let workloads: Vec<Value> = self.measured.iter().map(workload).collect();
        format!("{:#}\n", json!({ "tsc_hz": self.rate_hz.round(), "workloads": workloads }))
    }
}

fn write_table(report: &Report, out: &mut String) -> std::fmt::Result {
    let per_nano = report.rate_hz / 1e9;
    writeln!(
        out,
        "{:<18} {:>11} {:>7} {:>8} {:>8} {:>8} {:>13}",
        "per request", "connections", "frames", "cycles", "median", "ns", "instructions"
    )?;
    for measured in &report.measured {
        write!(out, "{:<18} {:>11}", measured.workload.name(), measured.connections)?;
        let cycles = measured.cycles.as_ref();
        let figure = |pick: fn(&Cycles) -> f64, digits| optional(cycles.map(pick), digits);
        let ns = optional(cycles.map(|cycles| cycles.total.least / per_nano), 0);
        let [frames, least, median] =
            [figure(|of| of.frames, 2), figure(|of| of.total.least, 0), figure(|of| of.total.median, 0)];
        let instructions = optional(measured.instructions.as_ref().map(Instructions::each), 1);
        writeln!(out, " {frames:>7} {least:>8} {median:>8} {ns:>8} {instructions:>13}")?;
    }
    writeln!(out, "cycles: the least of the batches; ns: of the least, at {per_nano:.3} cycles a nanosecond")?;

    let with_steps: Vec<(&Measured, &Cycles)> =
        report.measured.iter().filter_map(|measured| Some((measured, measured.cycles.as_ref()?))).collect();
    if let Some((_, first)) = with_steps.first() {
        write!(out, "\n{:<18}", "cycles by step")?;
        for (step, _) in &first.steps {
            write!(out, " {:>8}", lower(step))?;
        }
        writeln!(out)?;
        for (measured, cycles) in &with_steps {
            for (name, is_median) in [(measured.workload.name(), false), ("  median", true)] {
                write!(out, "{name:<18}")?;
                for (_, spread) in &cycles.steps {
                    write!(out, " {:>8.1}", if is_median { spread.median } else { spread.least })?;
                }
                writeln!(out)?;
            }
        }
    }
    for measured in &report.measured {
        let Some(instructions) = measured.instructions.as_ref().filter(|_| report.top > 0) else { continue };
        writeln!(out, "\ninstructions of {}", measured.workload.name())?;
        for (name, each) in instructions.top(report.top) {
            let name: String = name.chars().take(NAME_CHARS).collect();
            writeln!(out, "{each:>9.1} {:>5.1} %  {name}", each / instructions.each() * 100.0)?;
        }
    }
    Ok(())
}

fn lower(step: &impl std::fmt::Debug) -> String {
    format!("{step:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callgrind::Profile;

    fn report() -> Report {
        let total = Spread { least: 1_000.0, median: 1_100.0 };
        let cycles = Cycles { total, steps: vec![(sidestep_cached::TurnStep::Ingest, total)], frames: 2.0 };
        let profile = Profile { total: 4_000, functions: vec![("a<\"b\">".to_owned(), 3_000)] };
        let instructions = Some(Instructions { requests: 2, profile });
        let measured = Measured { workload: Workload::TcpGet, connections: 32, cycles: Some(cycles), instructions };
        Report { rate_hz: 2e9, top: 5, measured: vec![measured] }
    }

    #[test]
    fn the_table_has_cycles_beside_instructions() {
        let table = report().table();
        let row = table.lines().find(|line| line.starts_with("TCP GET")).unwrap();
        let words: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(words, ["TCP", "GET", "32", "2.00", "1000", "1100", "500", "2000.0"]);
        assert!(table.contains("1500.0  75.0 %  a<\"b\">"), "{table}");
    }

    #[test]
    fn the_json_has_every_figure() {
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        let workload = &json["workloads"][0];
        assert_eq!(workload["functions"], json!([["a<\"b\">", 1500.0]]));
        assert_eq!(workload["steps"], json!({ "ingest": { "least": 1000.0, "median": 1100.0 } }));
    }

    #[test]
    fn lines_are_what_compare_reads() {
        let lines = report().lines();
        assert_eq!(lines, "TCP GET\t2000.000\n");
        assert!(crate::compare::compare(&lines, &lines, "").unwrap().passed);
    }
}
