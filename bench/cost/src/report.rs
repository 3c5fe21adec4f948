//! What was measured, as a table, JSON, or lines for `compare`.

use std::fmt::Write;

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
        let workloads: Vec<String> = self.measured.iter().map(|measured| self.json_of(measured)).collect();
        format!("{{\"tsc_hz\":{:.0},\"workloads\":[\n{}\n]}}\n", self.rate_hz, workloads.join(",\n"))
    }

    fn json_of(&self, measured: &Measured) -> String {
        let name = quoted(measured.workload.name());
        let mut text = format!("{{\"name\":{name},\"connections\":{}", measured.connections);
        if let Some(cycles) = &measured.cycles {
            let steps: Vec<String> = cycles
                .steps
                .iter()
                .map(|(step, spread)| format!("{}:{}", quoted(&lower(step)), json(spread)))
                .collect();
            let _ = write!(text, ",\"frames\":{:.3},\"cycles\":{}", cycles.frames, json(&cycles.total));
            let _ = write!(text, ",\"steps\":{{{}}}", steps.join(","));
        }
        if let Some(instructions) = &measured.instructions {
            let top = instructions.top(self.top);
            let top: Vec<String> = top.map(|(name, each)| format!("[{},{each:.3}]", quoted(name))).collect();
            let _ = write!(text, ",\"instructions\":{:.3},\"functions\":[{}]", instructions.each(), top.join(","));
        }
        text.push('}');
        text
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
        match &measured.cycles {
            Some(Cycles { total, frames, .. }) => {
                let (least, median) = (total.least, total.median);
                write!(out, " {frames:>7.2} {least:>8.0} {median:>8.0} {:>8.0}", least / per_nano)?;
            }
            None => write!(out, " {:>7} {:>8} {:>8} {:>8}", "-", "-", "-", "-")?,
        }
        match &measured.instructions {
            Some(instructions) => writeln!(out, " {:>13.1}", instructions.each())?,
            None => writeln!(out, " {:>13}", "-")?,
        }
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

fn json(spread: &Spread) -> String {
    format!("{{\"least\":{:.2},\"median\":{:.2}}}", spread.least, spread.median)
}

fn lower(step: &impl std::fmt::Debug) -> String {
    format!("{step:?}").to_lowercase()
}

/// A JSON string (RFC 8259 §7).
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            '\0'..' ' => out.push_str(&format!("\\u{:04x}", u32::from(character))),
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::callgrind::Profile;

    fn report() -> Report {
        let total = Spread { least: 1_000.0, median: 1_100.0 };
        let cycles = Cycles { total, steps: vec![(sidestep_cached::Step::Ingest, total)], frames: 2.0 };
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
    fn names_are_quoted_for_json() {
        let json = report().json();
        assert!(json.contains(r#""functions":[["a<\"b\">",1500.000]]"#), "{json}");
        assert!(json.contains(r#""steps":{"ingest":{"least":1000.00,"median":1100.00}}"#), "{json}");
        assert_eq!(quoted("\u{1}\\"), "\"\\u0001\\\\\"");
    }

    #[test]
    fn lines_are_what_compare_reads() {
        let lines = report().lines();
        assert_eq!(lines, "TCP GET\t2000.000\n");
        assert!(crate::compare::compare(&lines, &lines, "").unwrap().passed);
    }
}
