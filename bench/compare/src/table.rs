//! `sidestep-compare table`: the results of run folders as one Markdown table, so that nobody copies a figure by hand.
//!
//! Everything in it is read from the folders' `summary.json` and `plan.toml`. A document keeps the table between two
//! comment lines, `BEGIN` and `END`; what stands between them is replaced.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Parser;
use figures::table::{Table, optional};
use serde_json::Value;

use crate::plan::{Against, Metric, Plan, PlanError};

/// The line before the table in a document.
pub const BEGIN: &str = "<!-- results: begin (scripts/compare table writes what is between these lines) -->";
/// The line after it.
pub const END: &str = "<!-- results: end -->";

/// Prints the results of run folders as a Markdown table, or writes it into a document.
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-compare table")]
pub struct TableArgs {
    /// The run folders, such as bench/runs/*.
    #[arg(required = true)]
    pub folders: Vec<PathBuf>,
    /// The document in which to replace the table, instead of printing it.
    #[arg(long)]
    pub into: Option<PathBuf>,
}

/// Why there is no table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// A file cannot be read or written.
    #[error("{path}: {source}; give run folders, such as bench/runs/*")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A folder's plan is none.
    #[error("{path}: {source}")]
    Plan {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: PlanError,
    },
    /// A summary is not as this program writes it.
    #[error("{path}: there is no {what}; was it written by another version?")]
    Summary {
        /// Which.
        path: PathBuf,
        /// What is lacking.
        what: &'static str,
    },
    /// A document has no place for the table.
    #[error("{path} has no line '{line}'; add the two lines around the place for the table")]
    NoPlace {
        /// The document.
        path: PathBuf,
        /// What is lacking.
        line: &'static str,
    },
}

/// Does what the command line asks: returns the table when it is to be printed.
///
/// # Errors
/// [`TableError`], naming the file.
pub fn run(args: &TableArgs) -> Result<Option<String>, TableError> {
    let table = table(&args.folders)?;
    let Some(path) = &args.into else { return Ok(Some(table)) };
    let error = |source| TableError::File { path: path.clone(), source };
    let text = fs::read_to_string(path).map_err(error)?;
    let text = replaced(&text, &table).map_err(|line| TableError::NoPlace { path: path.clone(), line })?;
    fs::write(path, text).map_err(error)?;
    Ok(None)
}

/// `text` with `table` between its two lines.
fn replaced(text: &str, table: &str) -> Result<String, &'static str> {
    let (before, rest) = text.split_once(BEGIN).ok_or(BEGIN)?;
    let (_, after) = rest.split_once(END).ok_or(END)?;
    Ok(format!("{before}{BEGIN}\n\n{table}\n{END}{after}"))
}

/// The table of these folders, a row for each point, in the folders' order.
///
/// # Errors
/// [`TableError`], naming the file.
pub fn table(folders: &[PathBuf]) -> Result<String, TableError> {
    let columns = [
        "comparison",
        "figure",
        "against",
        "ours:",
        "peer:",
        "ratio [95 % interval]:",
        "ours / null:",
        "pairs:",
        "run",
    ];
    let mut table = Table::new(&columns);
    for folder in folders.iter().filter(|folder| folder.is_dir()) {
        rows(folder, &mut table)?;
    }
    Ok(table.to_string())
}

fn rows(folder: &Path, table: &mut Table) -> Result<(), TableError> {
    let read = |name: &str| {
        let path = folder.join(name);
        fs::read_to_string(&path).map_err(|source| TableError::File { path, source })
    };
    let plan = Plan::parse(&read("plan.toml")?)
        .map_err(|source| TableError::Plan { path: folder.join("plan.toml"), source })?;
    let lacks = |what| TableError::Summary { path: folder.join("summary.json"), what };
    let summary: Value = serde_json::from_str(&read("summary.json")?).map_err(|_| lacks("JSON"))?;
    let points = summary["points"].as_array().ok_or_else(|| lacks("list of points"))?;
    let machine = &summary["machine"];
    let (date, commit) =
        machine["date"].as_str().zip(machine["commit"].as_str()).ok_or_else(|| lacks("date and commit"))?;
    let commit = commit.get(..9).unwrap_or(commit);
    let dirty = if machine["dirty"].as_bool() == Some(false) { "" } else { "+" };
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    // What its program says of itself, since a plan may be run against any.
    let said = |of: &Value| if of[0] == "peer" { of[1].as_str().map(str::to_owned) } else { None };
    let versions = machine["versions"].as_array();
    let peer = versions.and_then(|versions| versions.iter().find_map(said)).unwrap_or_else(|| plan.peer.name.clone());
    for point in points {
        let number = |at: &str| point.pointer(at).and_then(Value::as_f64);
        let what = match (&plan.sweep, point["value"].as_u64()) {
            (Some(sweep), Some(value)) => format!("{}, {}: {value}", plan.title, sweep.label),
            _ => plan.title.clone(),
        };
        let ratio = match (number("/ratio/median"), number("/ratio/low"), number("/ratio/high")) {
            (Some(median), Some(low), Some(high)) => format!("**{median:.2}** [{low:.2} {high:.2}]"),
            _ => "no valid pair".to_owned(),
        };
        let figure = |role: &str| {
            let figure = side(point, role, "/metric/median").map(|figure| amount(plan.metric, figure));
            let own = side(point, role, "/own/median").filter(|_| plan.against == Against::First);
            figure.unwrap_or_else(|| "-".into()) + &own.map_or_else(String::new, |own| format!(" ({own:.2})"))
        };
        table.row([
            what,
            plan.metric.label().to_owned(),
            peer.clone(),
            figure("ours"),
            figure("peer"),
            ratio,
            optional(number("/null"), 2),
            point["valid_pairs"].as_u64().unwrap_or(0).to_string(),
            format!("[{date}, {commit}{dirty}](../bench/runs/{name})"),
        ]);
    }
    Ok(())
}

/// A figure of one side of a point.
fn side(point: &Value, role: &str, at: &str) -> Option<f64> {
    let sides = point["sides"].as_array()?;
    sides.iter().find(|side| side["role"] == role)?.pointer(at)?.as_f64()
}

/// A figure as the table shows it: rates in thousands, where that leaves two digits.
fn amount(metric: Metric, figure: f64) -> String {
    match metric {
        Metric::RequestsPerSecond if figure >= 1e4 => format!("{:.0} k", figure / 1e3),
        _ => format!("{figure:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_what_stands_between_its_lines() {
        let text = format!("above\n{BEGIN}\nold\n{END}\nbelow\n");
        let new = replaced(&text, "| new |\n").unwrap();
        assert_eq!(new, format!("above\n{BEGIN}\n\n| new |\n\n{END}\nbelow\n"));
        assert_eq!(replaced(&new, "| new |\n").unwrap(), new, "again changes nothing");
        assert_eq!(replaced("no place", "").unwrap_err(), BEGIN);
        assert_eq!(replaced(BEGIN, "").unwrap_err(), END);
    }

    #[test]
    fn small_rates_keep_their_digits() {
        let shown = |figure| amount(Metric::RequestsPerSecond, figure);
        assert_eq!([shown(419_400.0), shown(9_036.0), shown(331.4)], ["419 k", "9036", "331"]);
    }

    #[test]
    fn a_folder_that_is_none_is_named() {
        let path = std::env::temp_dir().join(format!("sidestep-compare-table-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        let error = table(std::slice::from_ref(&path)).unwrap_err().to_string();
        fs::remove_dir_all(&path).unwrap();
        assert!(error.contains("plan.toml") && error.contains("bench/runs"), "{error}");
    }
}
