//! The harness itself: two memcacheds never differ, a target that is wrong in one rare way is found and cut to size.

use std::io;

use differential::campaign::{Campaign, Findings};
use differential::case::Protocol;
use differential::differences::Differences;
use differential::memcached::{Memcached, golden};
use differential::target::Target;

const SEED: u64 = 11;

/// What is tested is a memcached too, as it is or with a wrong reply, and so as unreliable as the oracle is.
fn run(tested: impl Fn(&Memcached) -> Box<dyn Target>, listed: &str) -> (Findings, Differences) {
    run_of(Protocol::Text, tested, listed)
}

fn run_of(protocol: Protocol, tested: impl Fn(&Memcached) -> Box<dyn Target>, listed: &str) -> (Findings, Differences) {
    let (oracle, other) = (memcached(), memcached());
    let mut differences = Differences::parse(listed).unwrap();
    let campaign =
        Campaign { protocol, seed: SEED, first: 0, operations: 60_000, most_unlisted: 1, tested_is_memcached: true };
    let findings = campaign.run(&mut oracle.target(), &mut *tested(&other), &mut differences).unwrap();
    (findings, differences)
}

fn memcached() -> Memcached {
    Memcached::start(&golden()).unwrap_or_else(|error| panic!("{error}"))
}

/// A memcached whose every `from` in a reply is replaced by `to`.
struct Wrong {
    inner: differential::target::SocketTarget,
    from: &'static [u8],
    to: &'static [u8],
}

impl Target for Wrong {
    fn name(&self) -> &str {
        "wrong"
    }

    fn second(&mut self) -> io::Result<u64> {
        self.inner.second()
    }

    fn exchange(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
        let replies = self.inner.exchange(pieces)?;
        let mut out = Vec::new();
        let mut rest = &replies[..];
        while let Some((&first, after)) = rest.split_first() {
            if let Some(after) = rest.strip_prefix(self.from) {
                out.extend_from_slice(self.to);
                rest = after;
            } else {
                out.push(first);
                rest = after;
            }
        }
        Ok(out)
    }
}

fn wrong(from: &'static [u8], to: &'static [u8]) -> impl Fn(&Memcached) -> Box<dyn Target> {
    move |other| Box::new(Wrong { inner: other.target(), from, to })
}

#[test]
fn two_memcacheds_do_not_differ() {
    let (findings, differences) = run(|other| Box::new(other.target()), "");
    assert!(findings.unlisted.is_empty(), "{}", findings.report(&differences));
    assert!(findings.operations >= 10_000);
}

#[test]
fn a_rare_wrong_reply_is_found_and_cut_to_the_operations_it_needs() {
    // A decr that loses the space memcached pads with; a cas that never finds the item changed.
    for (from, to) in [(&b" 2\r\n9 \r\n"[..], &b" 1\r\n9\r\n"[..]), (b"EXISTS\r\n", b"STORED\r\n")] {
        let (findings, differences) = run(wrong(from, to), "");
        let first = findings.unlisted.first().unwrap_or_else(|| panic!("{from:?}: {}", findings.report(&differences)));
        let operations: usize =
            first.split("shrunk to ").nth(1).and_then(|text| text.split(' ').next()?.parse().ok()).unwrap();
        assert!(operations <= 4, "{first}");
        assert!(first.contains(&format!("seed {SEED} case ")), "{first}");
    }
}

#[test]
fn a_listed_difference_is_counted_and_what_it_does_not_cover_is_still_found() {
    let listed = "## unfriendly\n- request: `^ *version`\n- memcached: `^VERSION`\n- sidestep: `^GO AWAY`\n- why: a test\n\
                  ```transcript\n> version\\r\\n\nmemcached: VERSION 1.6.45\\r\\n\nsidestep: GO AWAY 1.6.45\\r\\n\n```\n";
    let (findings, differences) = run(wrong(b"VERSION", b"GO AWAY"), listed);
    assert!(findings.unlisted.is_empty(), "{}", findings.report(&differences));
    let (seen, operations) = (differences.classes()[0].seen, findings.operations);
    assert!(seen > 20, "{seen} of {operations} operations");
    let (oracle, other) = (memcached(), memcached());
    let stale = differences.verify(&mut oracle.target(), &mut *wrong(b"VERSION", b"GO AWAY")(&other)).unwrap();
    assert_eq!(stale, Vec::<String>::new());
    let stale = differences.verify(&mut oracle.target(), &mut other.target()).unwrap();
    assert_eq!(stale.len(), 1, "a transcript that no longer holds is reported");

    let (findings, _) = run(wrong(b"NOT_FOUND", b"NOT-FOUND"), listed);
    assert!(!findings.unlisted.is_empty());
}

#[test]
fn a_wrong_word_is_found_beside_refused_stores_whose_unique_memcached_keeps() {
    let listed = include_str!("../../../cache/tests/differences.md");
    let (findings, differences) = run_of(Protocol::Meta, wrong(b"EX ", b"HD "), listed);
    let first = findings.unlisted.first().unwrap_or_else(|| panic!("{}", findings.report(&differences)));
    assert!(first.contains("EX ") && first.contains("HD "), "{first}");
    let class = differences.classes().iter().find(|class| class.name == "a-refused-ms-leaves-its-unique-behind");
    assert_eq!(class.map(|class| class.seen), Some(0));
}
