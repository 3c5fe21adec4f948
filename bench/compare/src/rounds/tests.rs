use super::*;
use crate::cpu::{CpuTime, Foreign};
use crate::report::Report;

/// A plan with all three sides and `more` at its top level.
pub(crate) fn plan(more: &str, tables: &str) -> Plan {
    let side = |role: &str| format!("[{role}]\nname = '{role}'\ncommand = ['x']\nready = {{ stdout = 'y' }}\n");
    let text = format!(
        "title = 't'\nname = 't'\nbound_seconds = 5\n{more}\n[generator]\ncommand = ['g']\n{tables}\n{}{}{}",
        side("ours"),
        side("peer"),
        side("null")
    );
    Plan::parse(&text).unwrap()
}

/// A finished run with this rate.
pub(crate) fn run(id: RunId, rate: f64, void: &[&str]) -> Run {
    let report = Report {
        requests_per_second: rate,
        requests: None,
        seconds: None,
        errors: 0,
        latency_us: [Some(10.0), Some(20.0), Some(40.0), Some(80.0), Some(100.0)],
        lateness_p99_us: None,
        void_reason: None,
    };
    Run {
        id,
        void: void.iter().map(ToString::to_string).collect(),
        failed: false,
        report: Some(report),
        window_seconds: 1.0,
        cpu: CpuTime::default(),
        cpu_us_per_request: Some(1e6 / rate),
        steal_percent: 0.0,
        foreign: Foreign::default(),
        load_before: 0.0,
        server_command: vec![],
        warm_up_command: vec![],
        generator_command: vec![],
        generator_output: None,
    }
}

const SWEEP: &str = "[sweep]\nvariable = 'n'\nlabel = 'n'\nvalues = [0, 5, 10]";

fn ids(plan: &Plan, void: impl Fn(RunId) -> bool) -> Vec<RunId> {
    let runs = run_rounds(plan, |id| Ok(run(id, 1.0, if void(id) { &["bad"] } else { &[] }))).unwrap();
    runs.iter().map(|run| run.id).collect()
}

#[test]
fn every_round_holds_every_side_once() {
    let plan = plan("pairs = 6\nseed = 4", "");
    let ids = ids(&plan, |_| false);
    assert_eq!(ids.len(), 18);
    for round in ids.chunks(3) {
        let mut roles: Vec<Role> = round.iter().map(|id| id.role).collect();
        roles.sort();
        assert_eq!(roles, [Role::Ours, Role::Peer, Role::Null]);
        assert_eq!(round.iter().map(|id| id.order).collect::<Vec<_>>(), [1, 2, 3]);
    }
}

#[test]
fn the_order_is_random_and_comes_from_the_seed() {
    let order = |seed: u64| ids(&plan(&format!("pairs = 20\nseed = {seed}"), ""), |_| false);
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    let ours_first = order(1).iter().filter(|id| id.role == Role::Ours && id.order == 1).count();
    assert!((2..=14).contains(&ours_first), "ours came first in {ours_first} of 20 rounds");
}

#[test]
fn the_sides_of_a_value_stand_together() {
    let plan = plan("pairs = 3", SWEEP);
    for point in ids(&plan, |_| false).chunks(3) {
        assert!(point.iter().all(|id| id.value == point[0].value));
    }
}

#[test]
fn a_void_pair_is_run_again_and_kept() {
    let plan = plan("pairs = 3\nextra_pairs = 5", "");
    let runs =
        run_rounds(&plan, |id| Ok(run(id, 1.0, if id.round == 2 && id.role == Role::Null { &["bad"] } else { &[] })))
            .unwrap();
    assert_eq!(runs.len(), 12);
    assert_eq!(valid_pairs(&plan, &runs, None), 3);
    assert_eq!(pair_void(&plan, &runs, 2, None), Some(vec!["null: bad".into()]));
    assert_eq!(pair_void(&plan, &runs, 9, None), None);
}

#[test]
fn repeating_is_bounded() {
    let ids = ids(&plan("pairs = 3\nextra_pairs = 2", ""), |_| true);
    assert_eq!(ids.last().unwrap().round, 5);
}

#[test]
fn only_the_value_that_lacks_a_pair_is_run_again() {
    let plan = plan("pairs = 2", SWEEP);
    let ids = ids(&plan, |id| id.round == 1 && id.value == Some(5) && id.role == Role::Peer);
    let again: Vec<_> = ids.iter().filter(|id| id.round == 3).map(|id| id.value).collect();
    assert_eq!(again, [Some(5); 3]);
}

#[test]
fn against_the_first_value_that_value_is_always_there_and_voids_its_round() {
    let plan = plan("pairs = 2\nagainst = 'first'", SWEEP);
    let runs = run_rounds(&plan, |id| {
        Ok(run(id, 1.0, if id.round == 1 && id.value == Some(0) && id.role == Role::Ours { &["bad"] } else { &[] }))
    })
    .unwrap();
    assert_eq!(pair_void(&plan, &runs, 1, Some(10)), Some(vec!["ours at the first value: bad".into()]));
    for value in [0, 5, 10] {
        assert_eq!(valid_pairs(&plan, &runs, Some(value)), 2);
    }
    assert_eq!(rounds_of(&runs).last(), Some(3));
}

#[test]
fn an_error_returns_the_runs_before_it() {
    let plan = plan("pairs = 3", "");
    let (runs, error) =
        run_rounds(&plan, |id| if id.round == 2 { Err(RunError::Interrupted) } else { Ok(run(id, 1.0, &[])) })
            .unwrap_err();
    assert_eq!(runs.len(), 3);
    assert!(matches!(error, RunError::Interrupted));
}

#[test]
fn a_side_is_left_out_above_what_it_bears_and_the_pair_is_whole_without_it() {
    let mut plan = plan("pairs = 2\nagainst = 'first'", SWEEP);
    plan.peer.most = Some(5);
    let runs = run_rounds(&plan, |id| Ok(run(id, 1.0, &[]))).unwrap();
    let count = |value| runs.iter().filter(|run| run.id.role == Role::Peer && run.id.value == Some(value)).count();
    assert_eq!((count(0), count(5), count(10)), (2, 2, 0));
    assert_eq!(valid_pairs(&plan, &runs, Some(10)), 2);
    plan.against = Against::Peer;
    assert!(plan.check().unwrap_err().to_string().contains("'most'"));
}

#[test]
fn the_values_of_a_side_stand_together_when_they_are_compared_with_the_first() {
    let plan = plan("pairs = 3\nagainst = 'first'", SWEEP);
    for side in ids(&plan, |_| false).chunks(3) {
        assert!(side.iter().all(|id| id.role == side[0].role), "{side:?}");
    }
}
