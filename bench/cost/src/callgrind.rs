//! `Profile`: the instructions of each function, read from a file that callgrind wrote.
//!
//! Invariant: the functions' own instructions add up to the total. Read first: Valgrind manual, "Callgrind Format
//! Specification" (name compression; the cost line after `calls=` is that of the call, not the function's own).

use std::collections::HashMap;

/// Instructions by function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    /// All instructions counted.
    pub total: u64,
    /// Each function's own instructions, most first; equal ones by name.
    pub functions: Vec<(String, u64)>,
}

/// Why a file is none of callgrind's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the file that callgrind wrote is not understood: {text:?}")]
pub struct BadProfile {
    line: usize,
    text: String,
}

impl Profile {
    /// Reads the contents of a `callgrind.out` with the single event `Ir`.
    ///
    /// # Errors
    /// [`BadProfile`]: the first line that does not follow the format.
    pub fn read(text: &str) -> Result<Self, BadProfile> {
        let mut names: HashMap<u32, String> = HashMap::new();
        let mut own: HashMap<u32, u64> = HashMap::new();
        let mut function = None;
        let mut call_follows = false;
        for (at, line) in text.lines().enumerate() {
            let bad = || BadProfile { line: at + 1, text: line.to_owned() };
            if let Some(name) = line.strip_prefix("fn=") {
                function = Some(number(name, &mut names).ok_or_else(bad)?);
            } else if let Some(name) = line.strip_prefix("cfn=") {
                number(name, &mut names).ok_or_else(bad)?;
            } else if line.starts_with("calls=") {
                call_follows = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
                let cost = line.split_ascii_whitespace().next_back().and_then(|cost| cost.parse::<u64>().ok());
                let cost = cost.ok_or_else(bad)?;
                if !std::mem::take(&mut call_follows) {
                    *own.entry(function.ok_or_else(bad)?).or_default() += cost;
                }
            }
        }
        let total = own.values().sum();
        let named = |(number, cost): (u32, u64)| (names.get(&number).cloned().unwrap_or_default(), cost);
        let mut functions: Vec<_> = own.into_iter().map(named).collect();
        functions.sort_unstable_by(|(name, cost), (other, more)| more.cmp(cost).then_with(|| name.cmp(other)));
        Ok(Self { total, functions })
    }
}

/// The number of a compressed name, `(12) name` the first time and `(12)` afterwards.
fn number(text: &str, names: &mut HashMap<u32, String>) -> Option<u32> {
    let (number, name) = text.strip_prefix('(')?.split_once(')')?;
    let number = number.parse().ok()?;
    if !name.is_empty() {
        names.insert(number, name.trim_start().to_owned());
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "# callgrind format\nversion: 1\ncmd: x\npositions: line\nevents: Ir\nsummary: 70\n\n\
        ob=(1) /bin/x\nfl=(1) a.rs\nfn=(1) outer\n16 10\n+2 5\ncfi=(2) b.rs\ncfn=(2) inner\ncalls=3 20\n* 45\n18 1\n\n\
        fl=(2)\nfn=(2)\n20 40\nfi=(1)\n-3 5\n\nfn=(3) other\n5 9\n\ntotals: 70\n";

    #[test]
    fn calls_are_not_counted_twice() {
        let profile = Profile::read(FILE).unwrap();
        let functions = profile.functions.iter().map(|(name, cost)| (name.as_str(), *cost));
        assert_eq!(functions.collect::<Vec<_>>(), [("inner", 45), ("outer", 16), ("other", 9)]);
        assert_eq!(profile.total, 70);
    }

    #[test]
    fn another_file_is_refused_with_its_line() {
        let error = Profile::read("events: Ir\n3 x\n").unwrap_err();
        assert_eq!(error, BadProfile { line: 2, text: "3 x".to_owned() });
        assert_eq!(Profile::read("3 4\n").unwrap_err().line, 1, "a cost of no function");
        assert_eq!(Profile::read("fn=nonsense\n").unwrap_err().line, 1);
    }
}
