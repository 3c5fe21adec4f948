//! What is compared, as written in TOML: the sides, the generator, how many pairs, and what makes a run void.
//!
//! Commands are lists of words; no shell is between. `{name}` in a word is replaced by a variable of the plan
//! (`[set]`), of the side (`[ours.set]`) or by the value of the sweep; `{{` and `}}` stand for the braces themselves. A
//! word that is `{*name}` becomes as many words as the variable has between its blanks, each filled in turn: so that a
//! whole command line can be given by `--set`.
//! Every command of every side at every value is substituted when the plan is read, so a typing error is found before
//! the first server starts.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::report::{Pointers, Report};
use crate::void::Limits;

/// What several plans have in common.
pub mod base;
mod substitute;

use substitute::words;

/// Most pairs, and most extra pairs, of one plan.
pub const MAX_PAIRS: u32 = 1_000;
/// Most points of a sweep.
pub const MAX_POINTS: usize = 64;
/// Longest bound of a run, in seconds.
pub const MAX_BOUND_SECONDS: u64 = 3_600;

/// A comparison; see the module.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// One line for people: the heading of README and plots.
    pub title: String,
    /// Name of the run folder: lower-case letters, digits and '-'.
    pub name: String,
    /// Valid pairs to reach: 20 for a published figure, 5 while working.
    #[serde(default = "twenty")]
    pub pairs: u32,
    /// Pairs that may be run beyond `pairs` to make up for void ones.
    #[serde(default = "ten")]
    pub extra_pairs: u32,
    /// Seed of the order of the runs and of the bootstrap.
    #[serde(default = "one")]
    pub seed: u64,
    /// Longest time of a run's every step (start until ready, warm-up, measurement), in seconds; then it is ended and
    /// the pair is void.
    pub bound_seconds: u64,
    /// The figure whose ratio is taken.
    #[serde(default)]
    pub metric: Metric,
    /// What ours is divided by.
    #[serde(default)]
    pub against: Against,
    /// Commands run once before everything, such as making namespaces. Each must end with exit code 0.
    #[serde(default)]
    pub before: Vec<Vec<String>>,
    /// Commands run once at the end, also after an error or Ctrl-C.
    #[serde(default)]
    pub after: Vec<Vec<String>>,
    /// Variables for all commands.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Environment of all commands, beside that of this program; placeholders are filled as in commands.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// When a run is void.
    #[serde(default)]
    pub void: Limits,
    /// The parameter that is varied, if any.
    pub sweep: Option<Sweep>,
    /// For loads in percent of what the peer can do: how that is measured.
    pub capacity: Option<Capacity>,
    /// The generator that drives every side which names none of its own.
    pub generator: Generator,
    /// The numerator.
    pub ours: Side,
    /// The denominator.
    pub peer: Side,
    /// The machine's ceiling: a responder that does no work.
    pub null: Option<Side>,
}

/// A server.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// What tables and plots call it; placeholders are filled.
    pub name: String,
    /// Starts the server in the foreground.
    pub command: Vec<String>,
    /// Processors for the server, in `taskset` syntax such as `0` or `0-1`.
    pub cpus: Option<String>,
    /// When it counts as started.
    pub ready: Ready,
    /// Prints the server's version on its first line.
    #[serde(default)]
    pub version: Vec<String>,
    /// Variables of this side; they hide the plan's.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// Largest value of the sweep at which this side is run, where it or the machine bears no more; with against =
    /// 'first', and not for ours.
    pub most: Option<u64>,
    /// A generator for this side alone, such as a frame generator for the null responder.
    pub generator: Option<Generator>,
}

/// When a server counts as started: exactly one of `stdout`, `stderr` and `tcp`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A line of its standard output contains this.
    pub stdout: Option<String>,
    /// A line of its standard error contains this.
    pub stderr: Option<String>,
    /// A TCP connection to this address is accepted.
    pub tcp: Option<String>,
    /// Network namespace (`ip netns`) to connect from; with `tcp` only.
    pub namespace: Option<String>,
}

/// A load generator; the last line it prints is one JSON object.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Generator {
    /// The measured run.
    pub command: Vec<String>,
    /// Words behind the command's own, for a plan whose base has the command.
    #[serde(default)]
    pub extra: Vec<String>,
    /// Run before it against the same server, such as loading the keys; its output is not looked at.
    #[serde(default)]
    pub warm_up: Vec<String>,
    /// Processors for the generator, in `taskset` syntax.
    pub cpus: Option<String>,
    /// Where the figures are in the object.
    #[serde(default)]
    pub report: Pointers,
}

/// What the peer can do, measured anew at the start of every round, so that the sweep's values can be percents of it: a
/// rate that was fair an hour ago may be beyond what the machine gives now.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Capacity {
    /// The variable that holds the rate, in requests a second: the sweep's value in percent of the peer's capacity.
    pub variable: String,
    /// Least share of that rate, in percent, that the peer and the null responder must reach for the pair to be valid.
    pub least_percent: f64,
    /// Drives the peer in a closed loop.
    pub generator: Generator,
}

/// One parameter, varied.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sweep {
    /// Its name in commands, without the braces.
    pub variable: String,
    /// What the plots call it, with its unit.
    pub label: String,
    /// Its values, rising.
    pub values: Vec<u64>,
}

/// The figure whose ratio is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Requests answered a second; a larger ratio is better.
    #[default]
    RequestsPerSecond,
    /// Median latency; a smaller ratio is better, as for all latencies.
    P50Us,
    /// 90th percentile of the latency.
    P90Us,
    /// 99th percentile of the latency.
    P99Us,
    /// 99.9th percentile of the latency.
    P999Us,
}

impl Metric {
    /// Name and unit.
    pub fn label(self) -> &'static str {
        match self {
            Metric::RequestsPerSecond => "requests/s",
            Metric::P50Us => "p50 latency (us)",
            Metric::P90Us => "p90 latency (us)",
            Metric::P99Us => "p99 latency (us)",
            Metric::P999Us => "p99.9 latency (us)",
        }
    }

    /// This figure of a report; `None` when the generator does not report it.
    pub fn of(self, report: &Report) -> Option<f64> {
        match self {
            Metric::RequestsPerSecond => Some(report.requests_per_second),
            latency => report.latency_us[latency as usize - Metric::P50Us as usize],
        }
    }
}

/// What ours is divided by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Against {
    /// The peer at the same value.
    #[default]
    Peer,
    /// Ours at the sweep's first value, in the same round: what the parameter costs.
    First,
}

/// Which of the sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The numerator.
    Ours,
    /// The denominator.
    Peer,
    /// The machine's ceiling.
    Null,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Ours => "ours",
            Role::Peer => "peer",
            Role::Null => "null",
        })
    }
}

/// For what a command is filled: the side whose variables it sees, the sweep's value, the rate that is offered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filling<'a> {
    /// The side; `None`: the plan's own variables alone.
    pub side: Option<&'a Side>,
    /// The sweep's value.
    pub value: Option<u64>,
    /// Requests a second, where the plan has a capacity; its variable's name stands where it is not known yet.
    pub rate: Option<u64>,
}

/// The commands of one run, every placeholder filled.
#[derive(Debug, Clone)]
pub struct Commands {
    /// Starts the server.
    pub server: Vec<String>,
    /// The warm-up, empty for none.
    pub warm_up: Vec<String>,
    /// The measured run.
    pub generator: Vec<String>,
    /// When the server counts as started.
    pub ready: Ready,
}

/// What is wrong with a plan.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// It is not TOML, lacks a member or has one too many.
    #[error("{0}")]
    Toml(#[from] toml::de::Error),
    /// A number is outside its limits.
    #[error("{name} is {value}; it must be from {least} to {most}")]
    Range {
        /// The member.
        name: &'static str,
        /// As written.
        value: u64,
        /// Smallest value allowed.
        least: u64,
        /// Largest value allowed.
        most: u64,
    },
    /// Anything else: a sentence that says what and what to do.
    #[error("{0}")]
    Wrong(String),
}

fn twenty() -> u32 {
    20
}
fn ten() -> u32 {
    10
}
fn one() -> u64 {
    1
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// [`PlanError`], whose text names the member and its limits.
    pub fn parse(text: &str) -> Result<Plan, PlanError> {
        let plan: Plan = toml::from_str(text)?;
        plan.check()?;
        Ok(plan)
    }

    /// Checks a plan whose members have been changed, such as by options of the command line.
    ///
    /// # Errors
    /// As [`Plan::parse`].
    pub fn check(&self) -> Result<(), PlanError> {
        within("pairs", self.pairs.into(), 1..=MAX_PAIRS.into())?;
        within("extra_pairs", self.extra_pairs.into(), 0..=MAX_PAIRS.into())?;
        within("bound_seconds", self.bound_seconds, 1..=MAX_BOUND_SECONDS)?;
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        ensure((1..=60).contains(&self.name.len()) && self.name.chars().all(fine), || {
            format!("name is '{}'; use 1 to 60 lower-case letters, digits and '-'", self.name)
        })?;
        self.void.check().map_err(PlanError::Wrong)?;
        self.check_sweep()?;
        for argv in self.before.iter().chain(&self.after) {
            self.fill(argv, Filling::default())?;
        }
        self.environment()?;
        let peer_is_needed = self.against == Against::Peer && self.peer.most.is_some();
        ensure(self.ours.most.is_none() && !peer_is_needed, || {
            "'most' is for the peer and the null responder, with against = 'first'".into()
        })?;
        if let Some(Capacity { least_percent, .. }) = self.capacity {
            ensure(self.sweep.is_some() && self.against == Against::Peer, || {
                "[capacity] needs a [sweep] of percents and against = 'peer'".into()
            })?;
            ensure((0.0..=100.0).contains(&least_percent), || {
                format!("capacity.least_percent is {least_percent}; it must be from 0 to 100")
            })?;
            self.commands_of_capacity()?;
        }
        for (role, side) in self.sides() {
            for value in self.values() {
                self.commands(role, value, None)?;
            }
            self.fill(&side.version, Filling { side: Some(side), ..Filling::default() })?;
            check_ready(role, &side.ready)?;
        }
        Ok(())
    }

    fn check_sweep(&self) -> Result<(), PlanError> {
        let first = self.against == Against::First;
        let Some(Sweep { variable, values, .. }) = &self.sweep else {
            return ensure(!first, || "against is 'first', but there is no [sweep]; add one or use 'peer'".into());
        };
        within("the number of sweep.values", values.len() as u64, 1..=MAX_POINTS as u64)?;
        ensure(values.is_sorted_by(|one, next| one < next), || {
            format!("sweep.values is {values:?}; the values must rise")
        })?;
        ensure(!first || values.len() > 1, || {
            "against is 'first', but sweep.values has one value; give two or more".into()
        })?;
        let set = self.sides().map(|(_, side)| &side.set).chain([&self.set]);
        ensure(!set.into_iter().any(|set| set.contains_key(variable)), || {
            format!("'{variable}' is both sweep.variable and set; name one otherwise")
        })
    }

    /// The sides that this plan has, ours first.
    pub fn sides(&self) -> impl Iterator<Item = (Role, &Side)> + use<'_> {
        let null = self.null.iter().map(|side| (Role::Null, side));
        [(Role::Ours, &self.ours), (Role::Peer, &self.peer)].into_iter().chain(null)
    }

    /// Their roles.
    pub fn roles(&self) -> impl Iterator<Item = Role> + use<'_> {
        self.sides().map(|(role, _)| role)
    }

    /// What prints each side's version, by role.
    pub fn version_commands(&self) -> impl Iterator<Item = (String, Vec<String>)> + use<'_> {
        let at = |side| Filling { side: Some(side), ..Filling::default() };
        self.sides().map(move |(role, side)| (role.to_string(), self.fill(&side.version, at(side)).unwrap_or_default()))
    }

    /// What ours is divided by, in words.
    pub fn under(&self) -> String {
        match self.against {
            Against::Peer => self.peer.name.clone(),
            Against::First => format!("{} at the first value", self.ours.name),
        }
    }

    /// The sides that are run at `value`.
    pub fn roles_at(&self, value: Option<u64>) -> impl Iterator<Item = Role> + use<'_> {
        let bears = move |side: &Side| side.most.zip(value).is_none_or(|(most, value)| value <= most);
        self.sides().filter(move |(_, side)| bears(side)).map(|(role, _)| role)
    }

    /// The side of a role; `None` only for a null responder that the plan lacks.
    pub fn side(&self, role: Role) -> Option<&Side> {
        match role {
            Role::Ours => Some(&self.ours),
            Role::Peer => Some(&self.peer),
            Role::Null => self.null.as_ref(),
        }
    }

    /// The generator that drives `side`.
    pub fn generator_of<'a>(&'a self, side: &'a Side) -> &'a Generator {
        side.generator.as_ref().unwrap_or(&self.generator)
    }

    /// The sweep's values, or one `None` when nothing is varied.
    pub fn values(&self) -> Vec<Option<u64>> {
        match &self.sweep {
            None => vec![None],
            Some(sweep) => sweep.values.iter().copied().map(Some).collect(),
        }
    }

    /// The sweep's first value.
    pub fn first_value(&self) -> Option<u64> {
        self.sweep.as_ref().and_then(|sweep| sweep.values.first().copied())
    }

    /// The commands of `role` at `value`, offered `rate` requests a second where the plan has a capacity.
    ///
    /// # Errors
    /// An unknown placeholder, an empty command, or a side that the plan lacks.
    pub fn commands(&self, role: Role, value: Option<u64>, rate: Option<u64>) -> Result<Commands, PlanError> {
        let side = self.side(role).ok_or_else(|| PlanError::Wrong(format!("the plan has no side {role:?}")))?;
        self.commands_with(self.generator_of(side), Filling { side: Some(side), value, rate }, side)
    }

    /// The commands that measure the peer's capacity.
    ///
    /// # Errors
    /// As [`commands`](Self::commands), or the plan has no capacity.
    pub fn commands_of_capacity(&self) -> Result<Commands, PlanError> {
        let lacking = || PlanError::Wrong("the plan has no [capacity]".into());
        let generator = &self.capacity.as_ref().ok_or_else(lacking)?.generator;
        self.commands_with(generator, Filling { side: Some(&self.peer), ..Filling::default() }, &self.peer)
    }

    fn commands_with(&self, generator: &Generator, at: Filling<'_>, side: &Side) -> Result<Commands, PlanError> {
        let text = |text: &Option<String>| -> Result<Option<String>, PlanError> {
            text.as_ref().map(|text| Ok(self.fill(std::slice::from_ref(text), at)?.concat())).transpose()
        };
        let commands = Commands {
            server: self.fill(&side.command, at)?,
            warm_up: self.fill(&generator.warm_up, at)?,
            generator: self.fill(&[generator.command.as_slice(), generator.extra.as_slice()].concat(), at)?,
            ready: Ready {
                stdout: text(&side.ready.stdout)?,
                stderr: text(&side.ready.stderr)?,
                tcp: text(&side.ready.tcp)?,
                namespace: text(&side.ready.namespace)?,
            },
        };
        ensure(!commands.server.is_empty() && !commands.generator.is_empty(), || {
            format!("a command of side '{}' is empty; give at least a program", side.name)
        })?;
        Ok(commands)
    }

    /// Name and value of each variable of the environment.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn environment(&self) -> Result<Vec<(String, String)>, PlanError> {
        let filled = |(name, value): (&String, &String)| {
            Ok((name.clone(), self.fill(std::slice::from_ref(value), Filling::default())?.concat()))
        };
        self.env.iter().map(filled).collect()
    }

    /// The words of a command with every placeholder filled.
    ///
    /// # Errors
    /// An unknown placeholder or a lone brace.
    pub fn fill(&self, argv: &[String], at: Filling<'_>) -> Result<Vec<String>, PlanError> {
        let lookup = |name: &str| {
            if self.capacity.as_ref().is_some_and(|capacity| capacity.variable == name) {
                return Some(at.rate.map_or_else(|| name.to_uppercase(), |rate| rate.to_string()));
            }
            let swept = self.sweep.as_ref().filter(|sweep| sweep.variable == name).and(at.value);
            let side = at.side.and_then(|side| side.set.get(name));
            swept.map(|value| value.to_string()).or_else(|| side.or_else(|| self.set.get(name)).cloned())
        };
        let mut filled = Vec::with_capacity(argv.len());
        for word in argv {
            filled.extend(words(word, lookup).map_err(PlanError::Wrong)?);
        }
        Ok(filled)
    }

    /// Fills the placeholders in what tables call the sides, once every variable is known.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn name_sides(&mut self) -> Result<(), PlanError> {
        let name = |side: &Side| {
            let at = Filling { side: Some(side), ..Filling::default() };
            Ok(self.fill(std::slice::from_ref(&side.name), at)?.concat())
        };
        let names: Result<Vec<String>, PlanError> = self.sides().map(|(_, side)| name(side)).collect();
        let sides = [&mut self.ours, &mut self.peer].into_iter().chain(&mut self.null);
        for (side, name) in sides.zip(names?) {
            side.name = name;
        }
        Ok(())
    }
}

fn check_ready(role: Role, ready: &Ready) -> Result<(), PlanError> {
    let printed = [&ready.stdout, &ready.stderr];
    let given = printed.iter().filter(|text| text.is_some()).count() + usize::from(ready.tcp.is_some());
    let empty = printed.iter().any(|text| text.as_ref().is_some_and(String::is_empty));
    let problem = match (given, &ready.tcp, &ready.namespace) {
        (0 | 2.., _, _) => "needs exactly one of 'stdout', 'stderr' and 'tcp'",
        (_, None, Some(_)) => "has a 'namespace', which goes with 'tcp' only",
        _ if empty => "has an empty text; give one that the line contains",
        _ => return Ok(()),
    };
    Err(PlanError::Wrong(format!("the ready table of {role:?} {problem}")))
}

fn within(name: &'static str, value: u64, allowed: RangeInclusive<u64>) -> Result<(), PlanError> {
    let (least, most) = (*allowed.start(), *allowed.end());
    if allowed.contains(&value) { Ok(()) } else { Err(PlanError::Range { name, value, least, most }) }
}

fn ensure(fine: bool, otherwise: impl FnOnce() -> String) -> Result<(), PlanError> {
    if fine { Ok(()) } else { Err(PlanError::Wrong(otherwise())) }
}

#[cfg(test)]
mod tests;
