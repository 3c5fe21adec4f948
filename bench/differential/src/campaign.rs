//! Runs many cases and says what differed: listed classes are counted and cut out, anything else is shrunk and shown.

use std::collections::HashMap;
use std::fmt::Write;
use std::io;

use crate::binary;
use crate::case::{Case, Operation, Protocol, shown};
use crate::conversation::{Parting, compare};
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
            let replies = pair.play(&mut case)?;
            let Some(seen) = compare(&replies.0, &replies.1) else { return Ok(()) };
            if let Some(rest) = self.without_explained(pair, &case, (&seen, &replies.1), differences, findings)? {
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

    /// `case` without what explains the difference: replies of memcached that say nothing, or what a listed class names.
    /// `difference`: where the replies part, and all replies of what is tested.
    fn without_explained(
        &self,
        pair: &mut Pair<'_>,
        case: &Case,
        difference: (&Parting, &[Vec<u8>]),
        differences: &mut Differences,
        findings: &mut Findings,
    ) -> io::Result<Option<Case>> {
        if let Some(reliable) = self.without_unreliable(case, difference.0) {
            findings.unreliable += 1;
            return Ok(Some(reliable));
        }
        if let Some(rest) = without_listed(case, difference.0, differences, findings) {
            return Ok(Some(rest));
        }
        let rest = without_cause(pair, case, difference, differences)?;
        findings.listed += u64::from(rest.is_some());
        Ok(rest)
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

/// `case` without the operations of the leg that differs which a listed class covers by its lines, if there are any. One
/// of them is most likely the culprit; if not, the difference is still there when the rest is played.
fn without_listed(
    case: &Case,
    parting: &Parting,
    differences: &mut Differences,
    findings: &mut Findings,
) -> Option<Case> {
    let operations = &case.legs.get(parting.leg)?.operations;
    let requests: Vec<_> = operations.iter().map(|operation| request(case, operation)).collect();
    let covered = differences.classify_any(&requests, &parting.oracle, &parting.tested)?;
    findings.listed += covered.len() as u64;
    let (mut rest, mut number) = (case.clone(), 0);
    rest.legs[parting.leg].operations.retain(|_| {
        number += 1;
        !covered.contains(&(number - 1))
    });
    rest.legs.retain(|leg| !leg.operations.is_empty());
    Some(rest)
}

/// `case` with the cause of the difference blanked in one operation, the last that is it: one that a listed class names,
/// up to the leg that differs. It is the cause if the difference is gone without it, and nothing else has changed in what
/// is tested (`difference` holds its replies to `case`): what memcached alone makes of it. A fault of ours would either
/// stay or change our replies.
fn without_cause(
    pair: &mut Pair<'_>,
    case: &Case,
    (parting, tested): (&Parting, &[Vec<u8>]),
    differences: &mut Differences,
) -> io::Result<Option<Case>> {
    let before = case.of_first_attempt(tested);
    let legs = case.legs.iter().enumerate().take(parting.leg + 1);
    let places = legs.flat_map(|(leg, of)| (0..of.operations.len()).map(move |at| (leg, at)));
    for (leg, at) in places.collect::<Vec<_>>().into_iter().rev() {
        let Some((class, text)) = differences.cause(&request(case, &case.legs[leg].operations[at])) else { continue };
        let mut without = case.clone();
        without.legs[leg].operations[at].blank(&text);
        let (oracle, tested) = pair.play(&mut without)?;
        let later = compare(&oracle, &tested).is_none_or(|next| (next.leg, next.same) > (parting.leg, parting.same));
        if later && without.of_first_attempt(&tested) == before {
            differences.count(class);
            return Ok(Some(without));
        }
    }
    Ok(None)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Leg, Piece, Split};
    use crate::conversation::BEGIN;

    const LISTED: &str = "## left-behind\n- cause: `^ms .* (E9+)[ \\r]`\n- why: a test\n\
                          ```transcript\n> ms k 1 E9\\r\\n\nmemcached:\nsidestep:\n```\n";
    const REFUSED: &str = "ms k 1 E999 q\r\nxyz";
    const SHOWS: &str = "ms j 1 I C7\r\nx\r\n";

    /// A server to which an E of 9s may make a difference for what the next connection is told.
    struct Server {
        says: [&'static str; 2],
        left: bool,
    }

    impl Target for Server {
        fn name(&self) -> &str {
            "server"
        }

        fn exchange(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
            let sent = pieces.concat();
            if sent == BEGIN {
                self.left = false;
                return Ok(b"OK\r\n".to_vec());
            }
            self.left |= sent.windows(2).any(|two| two == b"E9");
            let said = if sent.starts_with(b"ms j") { self.says[usize::from(self.left)] } else { "CLIENT_ERROR\r\n" };
            Ok(said.as_bytes().to_vec())
        }
    }

    /// What a campaign makes of a case of two connections: how many differences it listed, and the unlisted ones.
    fn examined(first: &str, oracle_says: [&'static str; 2], tested_says: [&'static str; 2]) -> (u64, Vec<String>) {
        let leg = |text: &str| Leg {
            operations: vec![Operation::new(vec![Piece::Bytes(text.into())])],
            split: Split::Whole,
            udp: false,
        };
        let legs = vec![leg(first), leg(SHOWS)];
        let case = Case { index: 0, key_lengths: Vec::new(), unique: false, attempt: 0, legs };
        let [mut oracle, mut tested] = [oracle_says, tested_says].map(|says| Server { says, left: false });
        let mut pair = Pair { oracle: &mut oracle, tested: &mut tested, plays: 0 };
        let mut differences = Differences::parse(LISTED).expect("well formed");
        let campaign = Campaign {
            protocol: Protocol::Meta,
            seed: 1,
            first: 0,
            operations: 1,
            most_unlisted: 1,
            tested_is_memcached: false,
        };
        let mut findings = Findings::default();
        campaign.examine(&mut pair, case, &mut differences, &mut findings).expect("both answer");
        assert_eq!(differences.classes()[0].seen, findings.listed);
        (findings.listed, findings.unlisted)
    }

    #[test]
    fn a_difference_that_goes_with_its_cause_while_ours_stays_is_listed() {
        assert_eq!(examined(REFUSED, ["EX\r\n", "HD\r\n"], ["EX\r\n", "EX\r\n"]), (1, Vec::new()));
    }

    #[test]
    fn a_difference_beside_its_cause_that_does_not_come_from_it_is_found() {
        let cases = [
            ("it stays without the cause", REFUSED, ["HD\r\n", "HD\r\n"], ["EX\r\n", "EX\r\n"]),
            ("what is tested makes it", REFUSED, ["EX\r\n", "EX\r\n"], ["EX\r\n", "HD\r\n"]),
            ("both make something of the cause", REFUSED, ["EX\r\n", "HD\r\n"], ["HD\r\n", "EX\r\n"]),
            ("there is no cause", "ms k 1 q\r\nxyz", ["HD\r\n", "HD\r\n"], ["EX\r\n", "EX\r\n"]),
        ];
        for (what, first, oracle, tested) in cases {
            let (listed, unlisted) = examined(first, oracle, tested);
            assert_eq!((listed, unlisted.len()), (0, 1), "{what}");
        }
    }
}
