//! The schedule: rounds in random order until enough pairs are valid, or the plan's bound is reached.
//!
//! A round measures every side at every value that still lacks pairs, in an order that is drawn anew for every round.
//! What is divided by each other stands together, the sides of a value or the values of a side, so that slow changes of
//! the machine touch both alike.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_xoshiro::Xoshiro256PlusPlus;

use crate::plan::{Against, Plan, Role};
use crate::run::{Run, RunError, RunId};

/// The runs of one round at one value.
pub fn at(runs: &[Run], round: u32, value: Option<u64>) -> impl Iterator<Item = &Run> {
    runs.iter().filter(move |run| !run.id.capacity && run.id.round == round && run.id.value == value)
}

/// The rounds that `runs` hold, in order.
pub fn rounds_of(runs: &[Run]) -> impl Iterator<Item = u32> {
    1..=runs.iter().map(|run| run.id.round).max().unwrap_or(0)
}

/// Why the pair of `round` at `value` is void; empty when it is valid. `None` when the round has no such pair.
///
/// Against the first value, a pair needs that value's run of ours as well.
pub fn pair_void(plan: &Plan, runs: &[Run], round: u32, value: Option<u64>) -> Option<Vec<String>> {
    let mut reasons = Vec::new();
    let mut seen = 0;
    for run in at(runs, round, value) {
        seen += 1;
        let name = plan.side(run.id.role).map_or("", |side| side.name.as_str());
        reasons.extend(run.void.iter().map(|reason| format!("{name}: {reason}")));
    }
    if seen < plan.roles_at(value).count() {
        return None;
    }
    for run in runs.iter().filter(|run| run.id.capacity && run.id.round == round) {
        reasons.extend(run.void.iter().map(|reason| format!("capacity of {}: {reason}", plan.peer.name)));
    }
    let first = plan.first_value();
    if plan.against == Against::First && value != first {
        let base = at(runs, round, first).find(|run| run.id.role == Role::Ours)?;
        reasons.extend(base.void.iter().map(|reason| format!("{} at the first value: {reason}", plan.ours.name)));
    }
    Some(reasons)
}

/// How many pairs at `value` are valid.
pub fn valid_pairs(plan: &Plan, runs: &[Run], value: Option<u64>) -> u32 {
    let valid =
        rounds_of(runs).filter(|round| pair_void(plan, runs, *round, value).is_some_and(|void| void.is_empty()));
    valid.count() as u32
}

/// Why `runs` need not go on: the side of the last one has now failed twice in a row. A disturbed run is another
/// matter; it may be better the next time.
fn hopeless(plan: &Plan, runs: &[Run]) -> Option<RunError> {
    let last = runs.last()?;
    let same = |run: &&Run| run.id.role == last.id.role && run.id.capacity == last.id.capacity;
    let failed = runs.iter().rev().filter(same).take(2).filter(|run| run.failed).count();
    let side = plan.side(last.id.role).map_or("", |side| side.name.as_str());
    (failed == 2).then(|| RunError::KeepsFailing { side: side.to_owned(), reason: last.void.join("; ") })
}

/// What each percent of the peer's capacity comes to in `round`; `None` when it could not be measured.
fn rate_of(runs: &[Run], round: u32, percent: u64) -> Option<u64> {
    let run = runs.iter().find(|run| run.id.capacity && run.id.round == round)?;
    let capacity = run.report.as_ref()?.requests_per_second;
    Some(((capacity * percent as f64 / 100.0) as u64).max(1))
}

/// Runs rounds until every value has `plan.pairs` valid pairs or `plan.extra_pairs` more rounds have not sufficed.
///
/// `measure` makes one run and is told which; it also stores it. The runs measured before an error are returned.
///
/// # Errors
/// The first error of `measure`, beside the runs so far.
pub fn run_rounds(
    plan: &Plan,
    mut measure: impl FnMut(RunId) -> Result<Run, RunError>,
) -> Result<Vec<Run>, (Vec<Run>, RunError)> {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(plan.seed);
    let mut runs = Vec::new();
    for round in 1..=plan.pairs + plan.extra_pairs {
        let mut values = plan.values();
        let lacking = |value: &Option<u64>| valid_pairs(plan, &runs, *value) < plan.pairs;
        let first = plan.first_value();
        if !values.iter().any(lacking) {
            break;
        }
        values.retain(|value| lacking(value) || (plan.against == Against::First && *value == first));
        values.shuffle(&mut random);
        let mut roles: Vec<Role> = plan.roles().collect();
        roles.shuffle(&mut random);
        // What is compared stands together: the sides of a value, or the values of a side.
        let mut points: Vec<(Role, Option<u64>)> = Vec::new();
        match plan.against {
            Against::Peer => {
                for value in values {
                    roles.shuffle(&mut random);
                    points.extend(roles.iter().map(|role| (*role, value)));
                }
            }
            Against::First => {
                for role in roles {
                    values.shuffle(&mut random);
                    points.extend(values.iter().map(|value| (role, *value)));
                }
            }
        }
        points.retain(|(role, value)| plan.roles_at(*value).any(|bears| bears == *role));
        let mut ids: Vec<RunId> = plan.capacity.iter().map(|_| RunId::of_capacity(round)).collect();
        for (order, (role, value)) in (1..).zip(points) {
            ids.push(RunId { round, order, role, value, rate: None, capacity: false });
        }
        for mut id in ids {
            if plan.capacity.is_some() && !id.capacity {
                id.rate = id.value.and_then(|percent| rate_of(&runs, round, percent));
                if id.rate.is_none() {
                    // The peer's capacity is unknown, and why has been told: another round.
                    break;
                }
            }
            match measure(id) {
                Ok(run) => runs.push(run),
                Err(error) => return Err((runs, error)),
            }
            if let Some(error) = hopeless(plan, &runs) {
                return Err((runs, error));
            }
        }
    }
    Ok(runs)
}

#[cfg(test)]
pub(crate) mod tests;
