use super::*;

const PLAN: &str = r#"
title = "t"
name = "t"
pairs = 5
bound_seconds = 10
before = [["true", "{port}"]]
[set]
port = "11211"
[generator]
command = ["gen", "{address}:{port}", "{{}}", "{dead}"]
[sweep]
variable = "dead"
label = "dead connections"
values = [0, 1000]
[ours]
name = "ours"
command = ["a"]
ready = { stdout = "up" }
set = { address = "10.77.0.2" }
[peer]
name = "peer"
command = ["b"]
ready = { tcp = "{address}:{port}" }
set = { address = "10.77.0.3", port = "7" }
"#;

fn error(from: &str, to: &str) -> String {
    let text = PLAN.replace(from, to);
    assert_ne!(text, PLAN, "nothing was replaced");
    Plan::parse(&text).unwrap_err().to_string()
}

#[test]
fn commands_are_filled_from_plan_side_and_sweep() {
    let plan = Plan::parse(PLAN).unwrap();
    let ours = plan.commands(Role::Ours, Some(1000), None).unwrap();
    assert_eq!(ours.generator, ["gen", "10.77.0.2:11211", "{}", "1000"]);
    let peer = plan.commands(Role::Peer, Some(0), None).unwrap();
    assert_eq!(peer.generator, ["gen", "10.77.0.3:7", "{}", "0"]);
    assert_eq!(peer.ready.tcp.as_deref(), Some("10.77.0.3:7"));
    assert_eq!(plan.roles().collect::<Vec<_>>(), [Role::Ours, Role::Peer]);
}

#[test]
fn what_is_not_written_has_the_published_defaults() {
    let plan = Plan::parse(&PLAN.replace("pairs = 5", "")).unwrap();
    assert_eq!((plan.pairs, plan.extra_pairs, plan.seed), (20, 10, 1));
    assert_eq!((plan.metric, plan.against), (Metric::RequestsPerSecond, Against::Peer));
}

#[test]
fn an_unknown_member_is_named_with_its_line() {
    let text = error("pairs = 5", "pears = 5");
    assert!(text.contains("pears") && text.contains("line 4"), "{text}");
    let text = error("stdout = \"up\"", "stdoot = \"up\"");
    assert!(text.contains("stdoot"), "{text}");
}

#[test]
fn a_missing_member_is_named() {
    let text = error("bound_seconds = 10", "");
    assert!(text.contains("bound_seconds"), "{text}");
}

#[test]
fn numbers_outside_their_limits_are_named_with_both() {
    let text = error("pairs = 5", "pairs = 0");
    assert!(text.contains("pairs is 0") && text.contains("1 to 1000"), "{text}");
    let text = error("bound_seconds = 10", "bound_seconds = 4000");
    assert!(text.contains("4000") && text.contains("3600"), "{text}");
    let text = error("[generator]", "[void]\nsteal_percent = -1.0\n[generator]");
    assert!(text.contains("steal_percent is -1"), "{text}");
}

#[test]
fn a_name_must_be_fit_for_a_folder() {
    let text = error("name = \"t\"\npairs", "name = \"../t\"\npairs");
    assert!(text.contains("'../t'"), "{text}");
}

#[test]
fn an_unknown_placeholder_is_named_with_the_next_step() {
    let text = error("{address}:{port}\", \"{{}}\"", "{addres}\"");
    assert!(text.contains("{addres}") && text.contains("--set addres="), "{text}");
    let text = error("\"{{}}\"", "\"{\"");
    assert!(text.contains("lone '{'"), "{text}");
    let text = error("\"{{}}\"", "\"}\"");
    assert!(text.contains("lone '}'"), "{text}");
}

#[test]
fn the_sweeps_variable_is_unknown_outside_the_sides() {
    assert!(error("[\"true\", \"{port}\"]", "[\"true\", \"{dead}\"]").contains("{dead}"));
}

#[test]
fn readiness_is_one_condition() {
    assert!(error("stdout = \"up\"", "").contains("exactly one"));
    assert!(error("stdout = \"up\"", "stdout = \"up\", tcp = \"1.2.3.4:5\"").contains("exactly one"));
    assert!(error("stdout = \"up\"", "stdout = \"up\", namespace = \"n\"").contains("'tcp' only"));
}

#[test]
fn sweep_values_rise_and_first_needs_a_sweep() {
    assert!(error("[0, 1000]", "[1000, 0]").contains("must rise"));
    assert!(error("[0, 1000]", "[]").contains("1 to 64"));
    assert!(error("address = \"10.77.0.2\" }", "address = \"10.77.0.2\", dead = \"5\" }").contains("'dead'"));
    let text = PLAN.replace("pairs = 5", "pairs = 5\nagainst = \"first\"");
    assert!(Plan::parse(&text).is_ok());
    let without = text.replace("[sweep]\nvariable = \"dead\"\nlabel = \"dead connections\"\nvalues = [0, 1000]\n", "");
    assert!(Plan::parse(&without).unwrap_err().to_string().contains("no [sweep]"));
}
