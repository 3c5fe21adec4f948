//! The run folder: raw results as they come, then summary, README and plots.
//!
//! ```text
//! bench/runs/2026-11-22-tcp-get/
//!   README.md      command, commit, machine, both sides' configuration, the table
//!   plan.toml      the plan as it was run, options of the command line included
//!   raw/           one file a run, void ones too
//!   summary.json   ratios, intervals, medians, every pair
//!   *.svg          plots
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::machine::Machine;
use crate::plan::{Plan, Role};
use crate::plot::{self, PlotError};
use crate::readme;
use crate::run::Run;
use crate::summary::Summary;

/// Most folders of one name and day.
const MAX_FOLDERS: u32 = 100;

/// Why results could not be stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// A file or folder cannot be written.
    #[error("cannot write {path}: {source}; check the place and its permissions")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Too many folders of one day.
    #[error("{path} and its successors up to -{MAX_FOLDERS} exist; remove some or choose another --name")]
    Full {
        /// The first of them.
        path: PathBuf,
    },
    /// A plot cannot be drawn.
    #[error(transparent)]
    Plot(#[from] PlotError),
    /// A value cannot be written as JSON or TOML.
    #[error("cannot write {what}: {text}")]
    Format {
        /// Which file.
        what: &'static str,
        /// Why.
        text: String,
    },
}

/// Makes `<under>/<date>-<name>`, or the first free of `-2`, `-3`, ...: earlier results are never overwritten.
///
/// # Errors
/// When it cannot be written, or too many of that name and day are there.
pub fn dated_folder(under: &Path, date: &str, name: &str) -> Result<PathBuf, OutputError> {
    let base = under.join(format!("{date}-{name}"));
    fs::create_dir_all(under).map_err(|source| OutputError::Write { path: under.into(), source })?;
    for number in 1..=MAX_FOLDERS {
        let path = if number == 1 { base.clone() } else { under.join(format!("{date}-{name}-{number}")) };
        match fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(OutputError::Write { path, source }),
        }
    }
    Err(OutputError::Full { path: base })
}

/// A run folder of this comparison alone.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// Makes `<under>/<date>-<name>`, or the first free of `-2`, `-3`, ...: earlier results are never overwritten.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(under: &Path, date: &str, plan: &Plan) -> Result<RunFolder, OutputError> {
        let folder = RunFolder { path: dated_folder(under, date, &plan.name)? };
        let raw = folder.path.join("raw");
        fs::create_dir(&raw).map_err(|source| OutputError::Write { path: raw, source })?;
        let text = toml_text(plan)?;
        folder.write("plan.toml", &text)?;
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stores one run, void or not, as soon as it has ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn store_run(&self, run: &Run) -> Result<(), OutputError> {
        let role = match run.slot.role {
            _ if run.slot.capacity => "capacity",
            Role::Ours => "ours",
            Role::Peer => "peer",
            Role::Null => "null",
        };
        let value = run.slot.value.map_or_else(String::new, |value| format!("-{value}"));
        self.write(&format!("raw/round-{:03}{value}-{role}.json", run.slot.round), &json("a run", run)?)
    }

    /// Stores everything else.
    ///
    /// # Errors
    /// When a file cannot be written or a plot not drawn.
    pub fn finish(&self, plan: &Plan, machine: &Machine, runs: &[Run], summary: &Summary) -> Result<(), OutputError> {
        #[derive(Serialize)]
        struct File<'a> {
            line: Option<String>,
            machine: &'a Machine,
            #[serde(flatten)]
            summary: &'a Summary,
        }
        let file = File { line: summary.line(), machine, summary };
        self.write("summary.json", &json("summary.json", &file)?)?;
        let mut plots = Vec::new();
        for drawing in plot::all(plan, summary)? {
            self.write(&drawing.file, &drawing.svg)?;
            plots.push((drawing.file, drawing.caption));
        }
        self.write("README.md", &readme::text(plan, machine, runs, summary, &plots))
    }

    fn write(&self, name: &str, text: &str) -> Result<(), OutputError> {
        let path = self.path.join(name);
        fs::write(&path, text).map_err(|source| OutputError::Write { path, source })
    }
}

fn json(what: &'static str, value: &impl Serialize) -> Result<String, OutputError> {
    let mut text =
        serde_json::to_string_pretty(value).map_err(|error| OutputError::Format { what, text: error.to_string() })?;
    text.push('\n');
    Ok(text)
}

fn toml_text(plan: &Plan) -> Result<String, OutputError> {
    toml::to_string(plan).map_err(|error| OutputError::Format { what: "plan.toml", text: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rounds::run_rounds;
    use crate::rounds::tests::{plan, run};

    /// A folder of this test's own, removed at the end.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Scratch {
            let path = std::env::temp_dir().join(format!("sidestep-compare-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Scratch(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_folder_holds_every_run_and_the_plan_as_it_was_run() {
        let scratch = Scratch::new("every-run");
        let plan = plan("pairs = 2", "[sweep]\nvariable = 'n'\nlabel = 'connections'\nvalues = [0, 1000]");
        let folder = RunFolder::create(&scratch.0, "2026-11-22", &plan).unwrap();
        let runs = run_rounds(&plan, |slot| {
            let run = run(slot, 100.0 + slot.order as f64, if slot.round == 1 { &["steal 9 %"] } else { &[] });
            folder.store_run(&run).unwrap();
            Ok(run)
        })
        .unwrap();
        let summary = Summary::of(&plan, &runs);
        folder.finish(&plan, &Machine::look(&plan), &runs, &summary).unwrap();

        assert_eq!(fs::read_dir(folder.path().join("raw")).unwrap().count(), runs.len());
        let raw = fs::read_to_string(folder.path().join("raw/round-001-1000-null.json")).unwrap();
        let raw: serde_json::Value = serde_json::from_str(&raw).unwrap();
        assert_eq!(raw["void"][0], "steal 9 %");
        assert_eq!((&raw["role"], &raw["value"]), (&"null".into(), &1000.into()));
        let again = Plan::parse(&fs::read_to_string(folder.path().join("plan.toml")).unwrap()).unwrap();
        assert_eq!((again.pairs, again.values()), (2, vec![Some(0), Some(1000)]));
        let stored: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(folder.path().join("summary.json")).unwrap()).unwrap();
        assert_eq!(stored["line"].as_str(), summary.line().as_deref());
        assert_eq!(stored["points"][0]["pairs"][0]["void"].as_array().unwrap().len(), 3);
        let readme = fs::read_to_string(folder.path().join("README.md")).unwrap();
        assert!(readme.contains("VOID") && readme.contains("steal 9 %"), "{readme}");
        for plot in ["ratios-1000.svg", "latency-1000.svg", "series.svg"] {
            assert!(readme.contains(plot) && folder.path().join(plot).is_file(), "{plot}");
        }
    }

    #[test]
    fn an_earlier_folder_is_never_overwritten() {
        let scratch = Scratch::new("never-overwritten");
        let plan = plan("pairs = 2", "");
        let first = RunFolder::create(&scratch.0, "2026-11-22", &plan).unwrap();
        let second = RunFolder::create(&scratch.0, "2026-11-22", &plan).unwrap();
        assert!(first.path().ends_with("2026-11-22-t"));
        assert!(second.path().ends_with("2026-11-22-t-2"));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let plan = plan("pairs = 2", "");
        let error = RunFolder::create(Path::new("/proc/none"), "2026-11-22", &plan).unwrap_err().to_string();
        assert!(error.contains("/proc/none"), "{error}");
    }
}
