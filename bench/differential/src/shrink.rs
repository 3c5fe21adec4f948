//! Cuts a case that differs down to the operations that are needed for it.

use std::io;

use crate::case::{Case, Split};
use crate::conversation::{Delivery, Parting, compare, play};
use crate::target::Target;

/// Plays allowed to shrink one case.
const BUDGET: u64 = 600;

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
        self.plays += 1;
        case.attempt = self.plays;
        let oracle = play(case, self.oracle, Delivery::Whole)?;
        let tested = play(case, self.tested, Delivery::AsSplit)?;
        Ok(compare(&oracle, &tested))
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
