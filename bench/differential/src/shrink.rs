//! Cuts a case that differs down to the operations that are needed for it.

use std::io;

use crate::case::{Case, Split};
use crate::conversation::{Delivery, Parting, compare, play};
use crate::target::Target;

/// Plays allowed to shrink one case.
const BUDGET: u64 = 600;

/// Plays of one case until no second begins on the way. Where each play lasts about a second, the last one counts.
const STILL: u32 = 16;

/// The replies of each leg.
pub type Replies = Vec<Vec<u8>>;

/// Plays cases against both targets.
pub struct Pair<'a> {
    /// Whose replies are right.
    pub oracle: &'a mut dyn Target,
    /// Whose replies are examined.
    pub tested: &'a mut dyn Target,
    /// Cases played so far; numbers the attempts, so that unique keys never come twice.
    pub plays: u64,
}

impl Pair<'_> {
    /// Plays `case` on both and compares.
    ///
    /// # Errors
    /// A target failed or hung.
    pub fn differ(&mut self, case: &mut Case) -> io::Result<Option<Parting>> {
        let (oracle, tested) = self.play(case)?;
        Ok(compare(&oracle, &tested))
    }

    /// The replies of both. Where they differ and a second began on one side meanwhile, the case is played again: an
    /// item with one second to live, as bent commands make it, is there before and not behind it.
    ///
    /// # Errors
    /// A target failed or hung.
    pub fn play(&mut self, case: &mut Case) -> io::Result<(Replies, Replies)> {
        let mut tries = 1;
        loop {
            self.plays += 1;
            case.attempt = self.plays;
            let (oracle, still) = within_a_second(case, self.oracle, Delivery::Whole)?;
            let (tested, also) = within_a_second(case, self.tested, Delivery::AsSplit)?;
            if oracle == tested || still && also || tries == STILL {
                return Ok((oracle, tested));
            }
            tries += 1;
        }
    }

    /// The shortest beginning of `case` that differs: its last operation is the one that shows the difference.
    ///
    /// # Errors
    /// A target failed or hung.
    pub fn shortest_prefix(&mut self, case: &Case) -> io::Result<Option<(Case, Parting)>> {
        let (mut same, mut differs) = (0, case.len());
        let mut found = None;
        while same + 1 < differs || found.is_none() {
            let middle = if found.is_none() { differs } else { same.midpoint(differs) };
            let mut prefix = case.without(middle..case.len());
            match self.differ(&mut prefix)? {
                Some(parting) => {
                    differs = middle;
                    found = Some((prefix, parting));
                }
                None if found.is_none() => return Ok(None),
                None => same = middle,
            }
        }
        Ok(found)
    }

    /// Removes operations, half of them first and single ones last, as long as the case still differs.
    ///
    /// # Errors
    /// A target failed or hung.
    pub fn shrink(&mut self, case: Case, parting: Parting) -> io::Result<(Case, Parting)> {
        let (mut best, limit) = ((case, parting), self.plays + BUDGET);
        let mut whole = best.0.clone();
        whole.legs.iter_mut().for_each(|leg| leg.split = Split::Whole);
        if let Some(parting) = self.differ(&mut whole)? {
            best = (whole, parting);
        }
        let mut step = best.0.len().div_ceil(2).max(1);
        loop {
            let mut start = 0;
            while start < best.0.len() && self.plays < limit {
                let mut fewer = best.0.without(start..start + step);
                if fewer.is_empty() {
                    start += step;
                    continue;
                }
                match self.differ(&mut fewer)? {
                    Some(parting) => best = (fewer, parting),
                    None => start += step,
                }
            }
            if step == 1 || self.plays >= limit {
                return Ok(best);
            }
            step = step.div_ceil(2);
        }
    }
}

/// The replies, and whether the target's clock stood still meanwhile.
fn within_a_second(case: &Case, target: &mut dyn Target, delivery: Delivery) -> io::Result<(Replies, bool)> {
    let before = target.second()?;
    let replies = play(case, target, delivery)?;
    Ok((replies, target.second()? == before))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::case::{Leg, Operation, Piece};
    use crate::conversation::BEGIN;

    /// A server whose item lives for a second, and whose seconds begin at the plays given.
    struct Mortal {
        plays: u64,
        ticks: Vec<u64>,
        second: u64,
    }

    impl Target for Mortal {
        fn name(&self) -> &str {
            "mortal"
        }

        fn second(&mut self) -> io::Result<u64> {
            Ok(self.second)
        }

        fn exchange(&mut self, pieces: &[&[u8]]) -> io::Result<Vec<u8>> {
            if pieces == [BEGIN] {
                self.plays += 1;
                return Ok(b"OK\r\n".to_vec());
            }
            let begins = self.ticks.contains(&self.plays);
            self.second += u64::from(begins);
            Ok(if begins { b"NOT_FOUND\r\n".to_vec() } else { b"STORED\r\n".to_vec() })
        }
    }

    fn said(ticks: [Vec<u64>; 2]) -> (Option<Parting>, u64) {
        let [mut oracle, mut tested] = ticks.map(|ticks| Mortal { plays: 0, ticks, second: 7 });
        let mut pair = Pair { oracle: &mut oracle, tested: &mut tested, plays: 0 };
        let operations = vec![Operation::new(vec![Piece::Bytes(b"cas k 0 0 1 9\r\nx\r\n".to_vec())])];
        let legs = vec![Leg { operations, split: Split::Whole, udp: false }];
        let mut case = Case { index: 0, key_lengths: Vec::new(), unique: false, attempt: 0, legs };
        let parting = pair.differ(&mut case).expect("both answer");
        (parting, pair.plays)
    }

    #[test]
    fn what_differs_because_a_second_began_is_played_again_and_what_differs_within_one_is_not() {
        assert_eq!(said([vec![], vec![]]), (None, 1));
        assert_eq!(said([vec![1, 2, 3], vec![]]), (None, 4));
        assert_eq!(said([vec![1], vec![2]]), (None, 3));
        assert_eq!(said([vec![1, 2], vec![1, 2]]), (None, 1), "the same replies need no other play");
        let (parting, plays) = said([(1..=u64::from(STILL)).collect(), vec![]]);
        assert!(parting.is_some_and(|parting| parting.tested == b"STORED\r\n"), "not hidden");
        assert_eq!(plays, u64::from(STILL));
    }
}
