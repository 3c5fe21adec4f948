//! The program itself against servers and generators that are shell scripts, so that the true ratio is known.
//!
//! Limits for steal and foreign programs are raised out of reach here: the test must pass on a busy machine.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("sidestep-compare-e2e-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn plan(&self, text: &str) -> PathBuf {
        let path = self.0.join("plan.toml");
        fs::write(&path, text).unwrap();
        path
    }

    fn compare(&self, plan: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep-compare"));
        command.arg(plan).arg("--output").arg(self.0.join("runs")).args(more);
        command
    }

    fn run(&self, text: &str, more: &[&str]) -> Output {
        self.compare(&self.plan(text), more).output().unwrap()
    }

    /// The one run folder.
    fn folder(&self) -> PathBuf {
        let folders: Vec<_> = fs::read_dir(self.0.join("runs")).unwrap().flatten().collect();
        assert_eq!(folders.len(), 1);
        folders[0].path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Servers print that they are up and wait; the generator's rate comes from the side's variable `rate`. The servers'
/// pids are appended to `pids`, and so is that of a child they leave behind.
fn plan(scratch: &Scratch, top: &str, generator: &str, tables: &str) -> String {
    let pids = scratch.0.join("pids");
    let side = |role: &str, rate: &str| {
        format!(
            "[{role}]\nname = 'fake {role}'\ncpus = '0'\nset = {{ rate = '{rate}' }}\nversion = ['echo', 'fake 1.0']\n\
             command = ['sh', '-c', 'sleep 1000 & echo $$ $! >>{pids}; echo up now; wait']\n\
             ready = {{ stdout = 'up' }}\n",
            pids = pids.display()
        )
    };
    format!(
        "title = 'Two fake servers'\nname = 'fake'\npairs = 5\nbound_seconds = 60\n{top}\n\
         [void]\nsteal_percent = 100.0\nforeign_percent = 100000.0\n\
         [generator]\ncommand = ['sh', '-c', '{generator}']\n{tables}\n{}{}{}",
        side("ours", "3000"),
        side("peer", "1000"),
        side("null", "4000")
    )
}

const GENERATOR: &str = "echo progress; echo \"{{\\\"requests_per_second\\\": {rate}, \\\"errors\\\": 0, \
    \\\"p50_us\\\": 10, \\\"p99_us\\\": 50}}\"";

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn last_line(output: &Output) -> String {
    stdout(output).lines().last().unwrap_or_default().to_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// True while `pid` runs; a zombie that init has yet to reap does not.
fn runs(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, back)| !back.trim_start().starts_with(['Z', 'X']))
}

/// Every run that is stored, void ones too.
fn raw(scratch: &Scratch) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(scratch.folder().join("raw.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until every process that the fake servers wrote down is gone; hangs, and so fails, if one never goes.
fn nothing_survives(scratch: &Scratch) {
    let pids = fs::read_to_string(scratch.0.join("pids")).unwrap();
    assert!(!pids.is_empty());
    for pid in pids.split_whitespace() {
        while runs(pid) {
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_known_ratio_is_found_and_everything_is_stored() {
    let scratch = Scratch::new("known");
    let output = scratch.run(&plan(&scratch, "", GENERATOR, ""), &[]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(last_line(&output), "ratio 3.00 [3.00 3.00] null 0.75");
    nothing_survives(&scratch);

    let folder = scratch.folder();
    let raw = raw(&scratch);
    assert_eq!(raw.len(), 15, "{:?}", raw.iter().map(|run| &run["void"]).collect::<Vec<_>>());
    let raw = raw.iter().find(|run| run["round"] == 1 && run["role"] == "ours").unwrap();
    assert_eq!(raw["generator_output"]["p99_us"], 50);
    assert_eq!(raw["report"]["requests_per_second"], 3000.0);
    assert!(raw["cpu"]["idle"].is_number() && raw["load_before"].is_number());
    for file in ["README.md", "plan.toml", "summary.json", "ratios.svg", "latency.svg"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    for text in ["ratio 3.00 [3.00 3.00] null 0.75", "fake 1.0", "commit ", "Linux ", "taskset --cpu-list 0 sh -c"] {
        assert!(readme.contains(text), "{text} is not in\n{readme}");
    }
}

/// As the plans over a veth have their peer: any server, by its program, the words behind it, and what it is called.
#[test]
fn debians_memcached_is_a_peer_by_its_command_line() {
    let scratch = Scratch::new("foreign");
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let set = "[set]\npeer = 'false'\npeer_options = ''\npeer_version = '{peer} -V'\npeer_name = 'nobody'";
    let text = plan(&scratch, "", GENERATOR, set);
    let (before, peer) = text.split_once("[peer]").unwrap();
    let (_, null) = peer.split_once("[null]").unwrap();
    let text = format!(
        "{before}[peer]\nname = '{{peer_name}}'\ncommand = ['{{*peer}}', '{{*peer_options}}']\n\
         version = ['{{*peer_version}}']\nset = {{ rate = '1000', address = '127.0.0.1' }}\n\
         ready = {{ tcp = '127.0.0.1:{port}' }}\n[null]{null}"
    );
    let options = format!("peer_options=-u nobody -l {{address}} -p {port}");
    let set = ["peer=/usr/bin/memcached", &options, "peer_name=Debian's memcached"];
    let words: Vec<&str> = set.iter().flat_map(|pair| ["--set", pair]).chain(["--pairs", "1"]).collect();
    let output = scratch.run(&text, &words);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(last_line(&output), "ratio 3.00 [3.00 3.00] null 0.75");
    let readme = fs::read_to_string(scratch.folder().join("README.md")).unwrap();
    let command = format!("/usr/bin/memcached -u nobody -l 127.0.0.1 -p {port}");
    for text in ["Debian's memcached", "peer: memcached 1.", &command] {
        assert!(readme.contains(text), "{text} is not in\n{readme}");
    }
}

#[test]
fn wrong_replies_void_the_pair_and_too_few_pairs_are_a_failure() {
    let scratch = Scratch::new("void");
    // Every second measurement of the whole comparison has an error: the file holds a line for each.
    let count = scratch.0.join("count");
    let generator = format!(
        "echo x >>{0}; n=$(wc -l <{0}); echo \"{{{{\\\"requests_per_second\\\": {{rate}}, \\\"errors\\\": $((n == 5))}}}}\"",
        count.display()
    );
    let text = plan(&scratch, "extra_pairs = 0", &generator, "");
    let output = scratch.run(&text, &["--pairs", "2"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(last_line(&output), "ratio 3.00 [3.00 3.00] null 0.75");
    assert!(stderr(&output).contains("only 1 of 2 pairs"), "{}", stderr(&output));
    assert!(stdout(&output).contains("void: 1 wrong or lost replies, limit 0"), "{}", stdout(&output));
    assert!(fs::read_to_string(scratch.folder().join("README.md")).unwrap().contains("VOID"));
    assert_eq!(raw(&scratch).len(), 6);
}

#[test]
fn a_void_pair_is_made_up_for() {
    let scratch = Scratch::new("again");
    let count = scratch.0.join("count");
    let generator = format!(
        "echo x >>{0}; [ $(wc -l <{0}) != 2 ] || exit 7; echo \"{{{{\\\"requests_per_second\\\": {{rate}}, \\\"errors\\\": 0}}}}\"",
        count.display()
    );
    let output = scratch.run(&plan(&scratch, "extra_pairs = 1", &generator, ""), &["--pairs", "2"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert!(stdout(&output).contains("the generator ended with exit code 7"), "{}", stdout(&output));
    assert_eq!(raw(&scratch).len(), 9);
}

#[test]
fn a_sweep_is_substituted_and_compared_with_its_first_value() {
    let scratch = Scratch::new("sweep");
    let generator =
        "echo \"{{\\\"requests_per_second\\\": $(({rate} - {dead})), \\\"errors\\\": 0, \\\"p99_us\\\": 9}}\"";
    let sweep = "[sweep]\nvariable = 'dead'\nlabel = 'dead connections'\nvalues = [0, 10, 300]";
    let output = scratch.run(&plan(&scratch, "against = 'first'", generator, sweep), &["--pairs", "2"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(last_line(&output), "ratio 0.90 [0.90 0.90] null 0.73");
    assert!(raw(&scratch).iter().any(|run| run["round"] == 2 && run["value"] == 300 && run["role"] == "null"));
    for file in ["series.svg", "series-p99.svg", "ratios-300.svg"] {
        assert!(scratch.folder().join(file).is_file(), "{file}");
    }
}

#[test]
fn a_generator_that_never_ends_is_ended_and_its_pair_is_void() {
    let scratch = Scratch::new("hang");
    let text = plan(&scratch, "extra_pairs = 0", "sleep 1000", "").replace("bound_seconds = 60", "bound_seconds = 1");
    let output = scratch.run(&text, &["--pairs", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("ran longer than 1 s"), "{}", stdout(&output));
    assert!(stderr(&output).contains("no valid pair"), "{}", stderr(&output));
    nothing_survives(&scratch);
}

#[test]
fn a_server_that_dies_is_told_with_its_last_words() {
    let scratch = Scratch::new("dies");
    let text =
        plan(&scratch, "extra_pairs = 0", GENERATOR, "").replace("echo up now; wait", "echo no port >&2; exit 3");
    let output = scratch.run(&text, &["--pairs", "1"]);
    assert!(stdout(&output).contains("exit code 3 before it was ready: no port"), "{}", stdout(&output));
}

#[test]
fn an_interrupt_ends_every_process_and_keeps_the_runs() {
    let scratch = Scratch::new("interrupt");
    let after = scratch.0.join("after");
    // The first measurement is quick, the second waits for ever.
    let generator = format!("[ ! -e {0} ] || sleep 1000; touch {0}; {GENERATOR}", scratch.0.join("once").display());
    let top = format!("after = [['touch', '{}']]", after.display());
    let plan = scratch.plan(&plan(&scratch, &top, &generator, ""));
    let mut child = scratch.compare(&plan, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.by_ref().map_while(Result::ok).any(|line| line.starts_with("round  1")));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("interrupted"), "{}", stderr(&output));
    nothing_survives(&scratch);
    assert!(after.exists());
    assert_eq!(raw(&scratch).len(), 1);
}

#[test]
fn being_killed_outright_leaves_no_server_behind() {
    let scratch = Scratch::new("killed");
    let text = plan(&scratch, "", "echo $$ >>{pids}; exec sleep 1000", "")
        // The whole group of a killed comparison is not signalled, only what it started itself: no grandchildren here.
        .replace("sleep 1000 & echo $$ $!", "echo $$")
        .replace("echo up now; wait", "echo up now; exec sleep 1000");
    let pids = scratch.0.join("pids");
    let plan = scratch.plan(&text);
    let mut child = scratch.compare(&plan, &["--set", &format!("pids={}", pids.display())]);
    let mut child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Server and generator have written their pids.
    while fs::read_to_string(&pids).unwrap_or_default().lines().count() < 2 {
        assert!(child.try_wait().unwrap().is_none(), "the comparison ended by itself");
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
    nothing_survives(&scratch);
}

#[test]
fn a_missing_program_and_a_wrong_plan_are_clear_errors() {
    let scratch = Scratch::new("errors");
    let text = plan(&scratch, "", GENERATOR, "");
    let output = scratch.run(&text.replacen("command = ['sh', '-c', 'sleep", "command = ['./none', '", 3), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("cannot start './none"), "{}", stderr(&output));
    let output = scratch.run(&text.replace("pairs = 5", "pears = 5"), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("unknown field `pears`"), "{}", stderr(&output));
    let output = scratch.run(&text, &["--set", "port"]);
    assert_eq!(output.status.code(), Some(2));
    let output = scratch.compare(&scratch.0.join("no-such-plan.toml"), &[]).output().unwrap();
    assert!(stderr(&output).contains("no-such-plan.toml") && stderr(&output).contains("bench/compare/plans"));
}

#[test]
fn a_failing_preparation_stops_before_the_first_server() {
    let scratch = Scratch::new("before");
    let top = "before = [['sh', '-c', 'echo no lab >&2; exit 4']]";
    let output = scratch.run(&plan(&scratch, top, GENERATOR, ""), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("exit code 4: no lab"), "{}", stderr(&output));
    assert!(!scratch.0.join("pids").exists());
}

#[test]
fn loads_are_percents_of_the_peers_capacity_of_the_round() {
    let scratch = Scratch::new("capacity");
    // The peer can do 1,000 a second; what is offered is answered, the faster the less it is.
    let generator =
        "echo \"{{\\\"requests_per_second\\\": {load}, \\\"errors\\\": 0, \\\"p99_us\\\": $(({load} / 10))}}\"";
    let tables = format!(
        "[sweep]\nvariable = 'percent'\nlabel = 'percent'\nvalues = [50, 90]\n\
         [capacity]\nvariable = 'load'\nleast_percent = 99.0\n[capacity.generator]\ncommand = ['sh', '-c', '{GENERATOR}']"
    );
    let text = plan(&scratch, "metric = 'p99_us'", generator, &tables);
    let output = scratch.run(&text, &["--pairs", "2"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(last_line(&output), "ratio 1.00 [1.00 1.00] null 1.00");
    let raw = raw(&scratch);
    let ours = raw.iter().find(|run| run["round"] == 2 && run["value"] == 90 && run["role"] == "ours").unwrap();
    assert_eq!((&ours["rate"], &ours["report"]["latency_us"][2]), (&900.into(), &90.0.into()));
    assert!(raw.iter().any(|run| run["round"] == 2 && run["capacity"] == true));
    let readme = fs::read_to_string(scratch.folder().join("README.md")).unwrap();
    assert!(readme.contains("1000, 1000 requests/s"), "{readme}");
}

#[test]
fn a_peer_that_no_longer_bears_its_load_voids_the_pair() {
    let scratch = Scratch::new("slower");
    let generator =
        "echo \"{{\\\"requests_per_second\\\": $(({load} - {rate} / 100)), \\\"errors\\\": 0, \\\"p99_us\\\": 9}}\"";
    let tables = format!(
        "[sweep]\nvariable = 'percent'\nlabel = 'percent'\nvalues = [90]\n\
         [capacity]\nvariable = 'load'\nleast_percent = 99.0\n[capacity.generator]\ncommand = ['sh', '-c', '{GENERATOR}']"
    );
    let output =
        scratch.run(&plan(&scratch, "metric = 'p99_us'\nextra_pairs = 0", generator, &tables), &["--pairs", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("answered 890 of 900 requests"), "{}", stdout(&output));
}

#[test]
fn a_side_that_keeps_failing_ends_the_comparison_with_its_last_words() {
    let scratch = Scratch::new("keeps-failing");
    let after = scratch.0.join("after");
    let top = format!("after = [['touch', '{}']]", after.display());
    let text = plan(&scratch, &top, GENERATOR, "").replacen("echo up now; wait", "echo no port >&2; exit 3", 1);
    let output = scratch.run(&text, &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("fake ours failed twice in a row"), "{}", stderr(&output));
    assert!(stderr(&output).contains("no port"), "{}", stderr(&output));
    assert!(after.exists(), "the last commands were not run");
    nothing_survives(&scratch);
}

#[test]
fn a_base_is_joined_and_its_environment_reaches_every_command() {
    let scratch = Scratch::new("base");
    let text = plan(&scratch, "env = { FAKE_RATE = '{fake}' }", &GENERATOR.replace("{rate}", "$FAKE_RATE"), "");
    fs::write(scratch.0.join("below.toml"), text).unwrap();
    let output = scratch.run("base = 'below.toml'\npairs = 1\nname = 'above'\n[set]\nfake = '42'", &[]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    assert_eq!(last_line(&output), "ratio 1.00 [1.00 1.00] null 1.00");
    assert!(scratch.folder().to_string_lossy().ends_with("-above"));
    let whole = fs::read_to_string(scratch.folder().join("plan.toml")).unwrap();
    assert!(whole.contains("FAKE_RATE") && !whole.contains("below.toml"), "{whole}");
}

#[test]
fn results_become_a_table_in_a_document() {
    let scratch = Scratch::new("table");
    let output = scratch.run(&plan(&scratch, "", GENERATOR, ""), &["--pairs", "2"]);
    assert!(output.status.success(), "{}{}", stdout(&output), stderr(&output));
    let table = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sidestep-compare"));
        command.arg("table").args(more).arg(scratch.folder()).output().unwrap()
    };
    let row = stdout(&table(&[])).lines().last().unwrap().to_owned();
    for text in ["Two fake servers", "| fake 1.0 | 3000 | 1000 | **3.00** [3.00 3.00] | 0.75 | 2 |", "../bench/runs/"] {
        assert!(row.contains(text), "{text} is not in {row}");
    }
    let document = scratch.0.join("doc.md");
    fs::write(&document, "no place\n").unwrap();
    let into = ["--into", document.to_str().unwrap()];
    assert!(stderr(&table(&into)).contains("results: begin"));
    fs::write(&document, format!("{}\nold\n{}\n", compare::table::BEGIN, compare::table::END)).unwrap();
    assert!(table(&into).status.success());
    let text = fs::read_to_string(&document).unwrap();
    assert!(text.contains(&row) && !text.contains("old"), "{text}");
}
