//! The run folder of a comparison: raw results as they come, then summary, README and plots.
//!
//! ```text
//! bench/runs/2026-11-22-tcp-get/
//!   README.md      command, commit, machine, both sides' configuration, the table
//!   plan.toml      the plan as it was run, options of the command line included
//!   raw.jsonl      a line a run, void ones too, in the order in which they ran
//!   summary.json   ratios, intervals, medians, every pair
//!   *.svg          plots
//! ```

use std::path::Path;

use figures::chart::ChartError;
use figures::folder::{FolderError, RunFolder};
use figures::machine::Machine;
use serde::Serialize;

use crate::plan::Plan;
use crate::plot;
use crate::readme;
use crate::run::Run;
use crate::summary::Summary;

/// Why results could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The folder cannot be made or written.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] ChartError),
    /// The plan cannot be written as TOML.
    #[error("cannot write plan.toml: {0}")]
    Plan(#[from] toml::ser::Error),
}

/// Makes the folder of a comparison, with its plan.
///
/// # Errors
/// When it cannot be written.
pub fn create(under: &Path, date: &str, plan: &Plan) -> Result<RunFolder, OutputError> {
    let folder = RunFolder::create(under, date, &plan.name)?;
    folder.write("plan.toml", &toml::to_string(plan)?)?;
    Ok(folder)
}

/// Stores one run, void or not, as soon as it has ended.
///
/// # Errors
/// When it cannot be written.
pub fn store_run(folder: &RunFolder, run: &Run) -> Result<(), OutputError> {
    Ok(folder.append_json("raw.jsonl", run)?)
}

/// Stores everything else.
///
/// # Errors
/// When a file cannot be written or a plot not drawn.
pub fn finish(
    folder: &RunFolder,
    plan: &Plan,
    machine: &Machine,
    runs: &[Run],
    summary: &Summary,
) -> Result<(), OutputError> {
    #[derive(Serialize)]
    struct File<'a> {
        line: Option<String>,
        machine: &'a Machine,
        #[serde(flatten)]
        summary: &'a Summary,
    }
    folder.write_json("summary.json", &File { line: summary.line(), machine, summary })?;
    let plots = plot::all(plan, summary);
    for plot in &plots {
        folder.write(&plot.file, &plot.chart.draw()?)?;
    }
    Ok(folder.write("README.md", &readme::text(plan, machine, runs, summary, &plots))?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::rounds::run_rounds;
    use crate::rounds::tests::{plan, run};

    #[test]
    fn the_folder_holds_every_run_and_the_plan_as_it_was_run() {
        let scratch = std::env::temp_dir().join(format!("sidestep-compare-every-run-{}", std::process::id()));
        let plan = plan("pairs = 2", "[sweep]\nvariable = 'n'\nlabel = 'connections'\nvalues = [0, 1000]");
        let folder = create(&scratch, "2026-11-22", &plan).unwrap();
        let runs = run_rounds(&plan, |id| {
            let run = run(id, 100.0 + id.order as f64, if id.round == 1 { &["steal 9 %"] } else { &[] });
            store_run(&folder, &run).unwrap();
            Ok(run)
        })
        .unwrap();
        let summary = Summary::of(&plan, &runs);
        finish(&folder, &plan, &Machine::look(plan.version_commands()), &runs, &summary).unwrap();

        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let raw: Vec<_> = read("raw.jsonl").lines().map(json).collect();
        assert_eq!(raw.len(), runs.len());
        let null = |run: &&serde_json::Value| run["role"] == "null" && run["value"] == 1000 && run["round"] == 1;
        assert_eq!(raw.iter().find(null).unwrap()["void"][0], "steal 9 %");
        let again = Plan::parse(&read("plan.toml")).unwrap();
        assert_eq!((again.pairs, again.values()), (2, vec![Some(0), Some(1000)]));
        let stored = json(&read("summary.json"));
        assert_eq!(stored["line"].as_str(), summary.line().as_deref());
        assert_eq!(stored["points"][0]["pairs"][0]["void"].as_array().unwrap().len(), 3);
        let readme = read("README.md");
        assert!(readme.contains("VOID") && readme.contains("steal 9 %"), "{readme}");
        for plot in ["ratios-1000.svg", "latency-1000.svg", "series.svg"] {
            assert!(readme.contains(plot) && folder.path().join(plot).is_file(), "{plot}");
        }
        fs::remove_dir_all(&scratch).unwrap();
    }
}
