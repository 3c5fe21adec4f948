//! Runs many cases and says what differed: listed classes are counted and cut out, anything else is shrunk and shown.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;

use crate::binary;
use crate::case::{Case, Leg, Operation, Protocol, shown};
use crate::conversation::Parting;
use crate::differences::Differences;
use crate::generate;
use crate::memcached::unreliable;
use crate::meta;
use crate::normalize::Uniques;
use crate::shrink::Pair;
use crate::target::Target;
use crate::udp;

/// Listed differences that are cut out of one case before the rest of it is given up.
const CUTS: u32 = 60;

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// What the cases speak.
    pub protocol: Protocol,
    /// Seed of all cases.
    pub seed: u64,
    /// First case.
    pub first: u64,
    /// Stop when this many operations have been compared.
    pub operations: u64,
    /// Stop when this many kinds of unlisted differences have been found.
    pub most_unlisted: usize,
    /// What is examined is a memcached too, unreliable where memcached is.
    pub tested_is_memcached: bool,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Findings {
    /// Cases played.
    pub cases: u64,
    /// Operations sent to each target, replays not counted.
    pub operations: u64,
    /// Differences that a listed class covers.
    pub listed: u64,
    /// Replies of memcached that depend on what lies behind an item in its memory.
    pub unreliable: u64,
    /// Cases with so many listed differences that the rest was given up.
    pub given_up: u64,
    /// How often each kind of unlisted difference was seen: command and both lines, digits left out.
    pub kinds: HashMap<String, u64>,
    /// One of each kind of difference that no class covers: seed, minimal transcript, both replies.
    pub unlisted: Vec<String>,
}

impl Campaign {
    /// Plays cases until the operations are used up or too much differs.
    ///
    /// # Errors
    /// A target failed or hung; the message names the case.
    pub fn run(
        &self,
        oracle: &mut dyn Target,
        tested: &mut dyn Target,
        differences: &mut Differences,
    ) -> io::Result<Findings> {
        let mut pair = Pair { oracle, tested, plays: 0 };
        let mut findings = Findings::default();
        let mut index = self.first;
        while findings.operations < self.operations && findings.unlisted.len() < self.most_unlisted {
            let case = match self.protocol {
                Protocol::Text => generate::case(self.seed, index),
                Protocol::Meta => meta::case(self.seed, index),
                Protocol::Binary => binary::case(self.seed, index),
                Protocol::Udp => udp::case(self.seed, index),
            };
            findings.cases += 1;
            findings.operations += case.len() as u64;
            self.examine(&mut pair, case, differences, &mut findings)
                .map_err(|error| io::Error::new(error.kind(), format!("seed {} case {index}: {error}", self.seed)))?;
            index += 1;
        }
        Ok(findings)
    }

    /// Cuts listed differences out of `case` one by one, until the rest is the same or differs in an unlisted way.
    fn examine(
        &self,
        pair: &mut Pair<'_>,
        mut case: Case,
        differences: &mut Differences,
        findings: &mut Findings,
    ) -> io::Result<()> {
        for _ in 0..CUTS {
            let Some(seen) = pair.differ(&mut case)? else { return Ok(()) };
            if let Some(reliable) = self.without_unreliable(&case, &seen) {
                findings.unreliable += 1;
                case = reliable;
                continue;
            }
            if let Some(rest) = without_listed(&case, &seen, differences, findings) {
                case = rest;
                continue;
            }
            let Some((prefix, parting)) = pair.shortest_prefix(&case)? else {
                findings.unlisted.push(format!(
                    "seed {} case {}: differed once, not when played again; one of the targets is not deterministic. \
                     On connection {} memcached said\n{}  and the other\n{}",
                    self.seed,
                    case.index,
                    seen.leg,
                    shown(&seen.oracle),
                    shown(&seen.tested)
                ));
                return Ok(());
            };
            if let Some(reliable) = self.without_unreliable(&case, &parting) {
                findings.unreliable += 1;
                case = reliable;
                continue;
            }
            if covered(&prefix, &parting, differences) {
                findings.listed += 1;
                case = case.without(prefix.len() - 1..prefix.len());
                continue;
            }
            let cut = prefix.len() - 1..prefix.len();
            let kind = kind(&last_request(&prefix), &parting);
            if let Some(times) = findings.kinds.get_mut(&kind) {
                *times += 1;
                case = case.without(cut);
                continue;
            }
            let (minimal, parting) = pair.shrink(prefix, parting)?;
            if covered(&minimal, &parting, differences) {
                findings.listed += 1;
                case = case.without(cut);
                continue;
            }
            findings.unlisted.push(self.transcript(&minimal, &parting));
            findings.kinds.insert(kind, 1);
            case = case.without(cut);
        }
        findings.given_up += 1;
        Ok(())
    }

    /// `case` without the operations whose answer by memcached says nothing, if the two replies part at one of them.
    ///
    /// What lies behind an item changes from play to play, so that the shortest beginning need not end with the culprit.
    fn without_unreliable(&self, case: &Case, parting: &Parting) -> Option<Case> {
        let says_nothing = |request: &[u8]| {
            unreliable(request, &parting.oracle, &parting.tested)
                || self.tested_is_memcached && unreliable(request, &parting.tested, &parting.oracle)
        };
        let mut reliable = case.clone();
        for leg in &mut reliable.legs {
            leg.operations.retain(|operation| !says_nothing(&request(case, operation)));
        }
        (reliable.len() < case.len()).then_some(reliable)
    }

    fn transcript(&self, case: &Case, parting: &Parting) -> String {
        let mut out = format!("seed {} case {}, shrunk to {} operations:\n", self.seed, case.index, case.len());
        for (number, leg) in case.legs.iter().enumerate() {
            let mut bytes = Vec::new();
            leg.operations.iter().for_each(|operation| case.render(operation, &Uniques::default(), &mut bytes));
            // Writing to a string cannot fail.
            let _ = write!(out, "  connection {number} ({:?}) sends\n{}", leg.split, shown(&bytes));
        }
        let _ = write!(
            out,
            "  on connection {} memcached says\n{}  and the other\n{}",
            parting.leg,
            shown(&parting.oracle),
            shown(&parting.tested)
        );
        out
    }
}

fn request(case: &Case, operation: &Operation) -> Vec<u8> {
    let mut request = Vec::new();
    case.render(&Operation { fenced: false, ..operation.clone() }, &Uniques::default(), &mut request);
    request
}

fn last_request(case: &Case) -> Vec<u8> {
    case.last().map(|operation| request(case, operation)).unwrap_or_default()
}

/// `case` without what a listed class names as the cause of the difference, up to the leg that differs; if that is not
/// there, without the operations of this leg which a listed class covers, if there are any. One of them is most likely
/// the culprit; if not, the difference is still there when the rest is played.
fn without_listed(
    case: &Case,
    parting: &Parting,
    differences: &mut Differences,
    findings: &mut Findings,
) -> Option<Case> {
    let requests = |legs: &[Leg]| -> Vec<_> {
        legs.iter().flat_map(|leg| &leg.operations).map(|operation| request(case, operation)).collect()
    };
    let (before, leg) = (case.legs.get(..parting.leg)?, case.legs.get(parting.leg..=parting.leg)?);
    let causes = differences.classify_causes(&requests(&case.legs[..=parting.leg]), &parting.oracle, &parting.tested);
    let cut = match causes {
        Some(causes) => causes,
        None => {
            let first: usize = before.iter().map(|leg| leg.operations.len()).sum();
            let covered = differences.classify_any(&requests(leg), &parting.oracle, &parting.tested)?;
            covered.into_iter().map(|at| first + at).collect()
        }
    };
    findings.listed += cut.len() as u64;
    let (mut rest, mut number) = (case.clone(), 0);
    for leg in &mut rest.legs {
        leg.operations.retain(|_| {
            number += 1;
            !cut.contains(&(number - 1))
        });
    }
    rest.legs.retain(|leg| !leg.operations.is_empty());
    Some(rest)
}

/// What makes two differences look alike.
fn kind(request: &[u8], parting: &Parting) -> String {
    let words = |bytes: &[u8], most: usize| {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let plain = text.split_whitespace().filter(|word| !word.contains(|c: char| c.is_ascii_digit())).take(most);
        plain.collect::<Vec<_>>().join(" ")
    };
    format!("{}: {} / {}", words(request, 1), words(&parting.oracle, 8), words(&parting.tested, 8))
}

fn covered(case: &Case, parting: &Parting, differences: &mut Differences) -> bool {
    differences.classify(&last_request(case), &parting.oracle, &parting.tested).is_some()
}

impl Findings {
    /// A report for people.
    pub fn report(&self, differences: &Differences) -> String {
        let mut out = String::new();
        for unlisted in &self.unlisted {
            let _ = writeln!(out, "UNLISTED DIFFERENCE: {unlisted}");
        }
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort();
        for (kind, times) in kinds {
            let _ = writeln!(out, "unlisted, {times} times: {kind}");
        }
        for class in differences.classes() {
            let _ = match class.seen {
                0 => writeln!(out, "listed class {}: never seen in this run", class.name),
                seen => writeln!(out, "listed class {}: seen {seen} times ({})", class.name, class.why),
            };
        }
        let _ = writeln!(
            out,
            "{} operations in {} cases: {} kinds of unlisted differences, {} listed ones in {} classes, {} unreliable replies of \
             memcached, {} cases given up",
            self.operations,
            self.cases,
            self.unlisted.len(),
            self.listed,
            differences.classes().iter().filter(|class| class.seen > 0).count(),
            self.unreliable,
            self.given_up
        );
        out
    }
}
