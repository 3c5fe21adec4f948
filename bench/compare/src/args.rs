//! The command line: a plan and what is changed in it for this time.

use std::path::PathBuf;

use clap::Parser;

use crate::plan::{Plan, PlanError};

/// Runs interleaved pairs of two servers and prints the ratio with its interval.
///
/// The last line of standard output is `ratio R.RR [lo hi] null N.NN`. Exit code 0: every pair asked for is valid; 1:
/// too few are, or the comparison could not be finished; 2: a wrong plan or command line.
///
/// `sidestep-compare table RUN-FOLDER...` prints the results of earlier comparisons as one table.
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-compare", version)]
pub struct Args {
    /// The plan, in TOML; see bench/compare/plans.
    pub plan: PathBuf,
    /// Valid pairs to reach, instead of the plan's: 5 while working, 20 for a published figure.
    #[arg(long)]
    pub pairs: Option<u32>,
    /// Seed of order and bootstrap, instead of the plan's.
    #[arg(long)]
    pub seed: Option<u64>,
    /// Name of the run folder, instead of the plan's.
    #[arg(long)]
    pub name: Option<String>,
    /// A variable of the plan's commands; may be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// The sweep's values, separated by commas, instead of the plan's.
    #[arg(long, value_delimiter = ',')]
    pub values: Option<Vec<u64>>,
    /// Where run folders are made.
    #[arg(long, default_value = "bench/runs")]
    pub output: PathBuf,
    /// Read and check the plan, print the commands that it comes to, and exit.
    #[arg(long)]
    pub check: bool,
}

impl Args {
    /// The plan in `text` with this command line's changes.
    ///
    /// # Errors
    /// As [`Plan::parse`]; also for a `--set` without '=' and for `--values` without a sweep.
    pub fn apply(&self, text: &str) -> Result<Plan, PlanError> {
        // Read without the check: what the plan leaves open may be set here.
        let mut plan: Plan = toml::from_str(text)?;
        plan.pairs = self.pairs.unwrap_or(plan.pairs);
        plan.seed = self.seed.unwrap_or(plan.seed);
        if let Some(name) = &self.name {
            plan.name.clone_from(name);
        }
        for pair in &self.set {
            let Some((name, value)) = pair.split_once('=') else {
                return Err(PlanError::Wrong(format!("--set is '{pair}'; it must be NAME=VALUE, such as port=11311")));
            };
            plan.set.insert(name.to_owned(), value.to_owned());
        }
        if let Some(values) = &self.values {
            let Some(sweep) = &mut plan.sweep else {
                return Err(PlanError::Wrong("--values is given, but the plan has no [sweep]".into()));
            };
            sweep.values.clone_from(values);
        }
        plan.name_sides()?;
        plan.check()?;
        Ok(plan)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = "title = 't'\nname = 't'\nbound_seconds = 5\n[generator]\ncommand = ['g', '{port}', '{n}']\n\
        [sweep]\nvariable = 'n'\nlabel = 'n'\nvalues = [1]\n\
        [ours]\nname = 'o'\ncommand = ['a']\nready = { stdout = 'x' }\n\
        [peer]\nname = 'p'\ncommand = ['b']\nready = { stdout = 'x' }\n";

    fn apply(words: &[&str]) -> Result<Plan, PlanError> {
        Args::parse_from(["sidestep-compare", "plan.toml"].iter().chain(words)).apply(PLAN)
    }

    #[test]
    fn options_change_the_plan() {
        let plan =
            apply(&["--pairs", "5", "--seed", "9", "--name", "x", "--set", "port=7", "--values", "1,2"]).unwrap();
        assert_eq!((plan.pairs, plan.seed, plan.name.as_str()), (5, 9, "x"));
        assert_eq!(plan.commands(crate::plan::Role::Ours, Some(2), None).unwrap().generator, ["g", "7", "2"]);
    }

    /// The peer of the plans over a veth, given by its command line.
    #[test]
    fn a_server_is_given_by_its_command_line() {
        let plan = PLAN
            .replace("name = 'p'\ncommand = ['b']", "name = '{n2}'\ncommand = ['in', '{*peer}', '{*more}']")
            .replace(
                "[generator]",
                "[set]\nn2 = 'b'\npeer = 'b'\nmore = '-l {address} -t 1'\naddress = '::1'\n[generator]",
            );
        let peer = |words: &[&str]| {
            let words = ["sidestep-compare", "plan.toml", "--set", "port=7"].iter().chain(words);
            let plan = Args::parse_from(words).apply(&plan).unwrap();
            (plan.commands(crate::plan::Role::Peer, Some(1), None).unwrap().server.join(" "), plan.peer.name)
        };
        assert_eq!(peer(&[]), ("in b -l ::1 -t 1".to_owned(), "b".to_owned()));
        assert_eq!(peer(&["--set", "peer=/usr/bin/memcached"]).0, "in /usr/bin/memcached -l ::1 -t 1");
        let other = ["--set", "peer=pogocache", "--set", "more=-h {address}  -p {port}", "--set", "n2=pogocache"];
        assert_eq!(peer(&other), ("in pogocache -h ::1 -p 7".to_owned(), "pogocache".to_owned()));
        assert_eq!(peer(&["--set", "peer=a server", "--set", "more="]).0, "in a server");
    }

    #[test]
    fn what_stays_open_or_is_wrong_is_named() {
        assert!(apply(&[]).unwrap_err().to_string().contains("--set port="));
        assert!(apply(&["--set", "port"]).unwrap_err().to_string().contains("'port'"));
        assert!(apply(&["--set", "port=1", "--pairs", "0"]).unwrap_err().to_string().contains("pairs is 0"));
        assert!(apply(&["--set", "port=1", "--values", "2,1"]).unwrap_err().to_string().contains("rise"));
    }
}
