//! Packet scripts: `script/*/*.pkt`, each a conversation with a host, played on our stack and, as root, on the
//! Linux kernel.
//!
//! `SIDESTEP_SCRIPT=part/of-a-name` plays those alone and prints all that happens. The format, and the lists of scripts
//! that must fail, are in `script/README.md`. Time is virtual on our stack.

#[path = "lab/lab.rs"]
mod lab;
#[path = "script/runner/runner.rs"]
mod runner;
#[path = "../../nic/tests/xdp_veth/lab.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod veth;

use std::panic::resume_unwind;

use runner::linux::{self, Linux};
use runner::lists::List;
use runner::ours::Ours;
use runner::parse::Script;
use runner::play::play;
use runner::{FOLDERS, is_traced, lists, scripts};

/// Namespaces among which the scripts for Linux are shared out.
const KERNELS: usize = 6;

/// Plays a script on our stack; returns what happened, or how it failed.
fn play_on_ours(script: &Script) -> Result<Vec<String>, String> {
    let mut host = Ours::new(script)?;
    let played = play(script, &mut host).map_err(|failure| failure.to_string());
    // One that failed says where; what it has left is of no interest.
    if played.is_ok() {
        host.end();
    }
    if is_traced() {
        println!("{}: {:#?}", script.path, played);
    }
    played
}

#[test]
fn scripts_pass_and_those_wanted_fail() {
    let wanted = lists::read("wanted.txt");
    let scripts = scripts().unwrap_or_else(|errors| panic!("{errors}"));
    let mut wrong = Vec::new();
    for script in &scripts {
        match (play_on_ours(script), wanted.get(&script.path)) {
            (Ok(_), None) | (Err(_), Some(_)) => {}
            (Err(failure), None) => wrong.push(failure),
            (Ok(_), Some(reason)) => {
                wrong.push(format!("{} passes: take it off wanted.txt, where it is for: {reason}", script.path));
            }
        }
    }
    println!("{} scripts, of which {} are wanted", scripts.len(), wanted.len());
    assert!(wrong.is_empty(), "{} of {} scripts:\n{}", wrong.len(), scripts.len(), wrong.join("\n"));
}

#[test]
fn scripts_pass_on_linux_but_for_those_listed() {
    let different = lists::read("linux.txt");
    let scripts = scripts().unwrap_or_else(|errors| panic!("{errors}"));
    let played: Vec<_> = scripts.iter().filter_map(linux::for_kernel).collect();
    // Nearly all of the time is spent waiting for the kernel's timers.
    let shares: Vec<Vec<_>> = (0..KERNELS).map(|n| played.iter().skip(n).step_by(KERNELS).collect()).collect();
    let Some(mut kernels): Option<Vec<_>> = shares.iter().map(|share| Linux::new(share)).collect() else { return };
    let mut wrong: Vec<_> = std::thread::scope(|scope| {
        let different = &different;
        let pairs = kernels.iter_mut().zip(&shares).enumerate();
        let threads: Vec<_> = pairs
            .map(|(number, (kernel, share))| scope.spawn(move || play_on_linux(number, kernel, share, different)))
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    for path in different.keys().filter(|path| !is_traced() && played.iter().all(|script| script.path != **path)) {
        wrong.push(format!("{path} is not played: take it off linux.txt"));
    }
    println!("{} of {} scripts, of which {} are listed", played.len(), scripts.len(), different.len());
    assert!(wrong.is_empty(), "{} of {} scripts:\n{}", wrong.len(), played.len(), wrong.join("\n"));
}

/// Plays scripts on a kernel of their own, the one of this number. Returns what is wrong.
fn play_on_linux(number: usize, kernel: &mut Linux, scripts: &[&Script], different: &List) -> Vec<String> {
    linux::stay_on_one_processor(number);
    let mut wrong = Vec::new();
    for script in scripts {
        let outcome = kernel.play(script);
        if is_traced() {
            println!("{}: {outcome:#?}", script.path);
        }
        match (outcome, different.get(&script.path)) {
            (Ok(_), None) | (Err(_), Some(_)) => {}
            (Err(failure), None) => wrong.push(failure.to_string()),
            (Ok(_), Some(reason)) => {
                wrong.push(format!("{} passes: take it off linux.txt, where it is for: {reason}", script.path));
            }
        }
    }
    wrong
}

#[test]
fn every_folder_has_scripts_and_every_list_names_some_of_them() {
    if is_traced() {
        return;
    }
    let scripts = scripts().unwrap_or_else(|errors| panic!("{errors}"));
    for list in ["wanted.txt", "linux.txt"] {
        for path in lists::read(list).keys() {
            assert!(scripts.iter().any(|script| script.path == *path), "{list}: there is no {path}");
        }
    }
    for folder in FOLDERS {
        assert!(scripts.iter().any(|script| script.path.starts_with(folder)), "there is no script in {folder}");
    }
    assert!(scripts.len() >= 200, "{} scripts", scripts.len());
}

/// A script of these lines, behind a first one that names a clause.
fn script(lines: &[&str]) -> Result<Script, String> {
    Script::parse("open/x.pkt", &format!("// RFC 9293 §3.5: a test\n{}\n", lines.join("\n")))
}

#[test]
fn a_line_that_is_not_understood_is_named_with_its_place() {
    for (line, what) in [
        ("+0 frobnicate", "nothing that an application does"),
        ("+0 < S 0:1(0)", "0 and 0 bytes are 0"),
        ("+0 < Q 0:0(0)", "`Q` is no flag"),
        ("+0 < . 1:1(0)", "belong together"),
        ("+0 < S 0:0(0) win 70000", "`70000` is not a number that fits here"),
        ("+0 < S 0:0(0) <mss>", "`mss` is no option"),
        ("+0~+1 < S 0:0(0)", "only what the host sends"),
        ("soon accept", "`soon` is not a number"),
        ("+0 recv", "recv = what it gives"),
        ("+0 listen = 3", "gives nothing"),
        ("+0 state ajar", "`ajar` is none of none, connecting"),
        ("+0 < [0:0(0)] icmp unreachable sometimes", "is none of"),
        ("listen", "a time and what happens then"),
        ("--isn", "--name=value"),
    ] {
        let error = script(&["+0 listen", line]).expect_err(line);
        assert!(error.starts_with(&format!("open/x.pkt:3: `{line}`: ")) && error.contains(what), "{error}");
    }
    let error = Script::parse("open/x.pkt", "+0 listen\n").expect_err("no clause");
    assert!(error.contains("open/x.pkt:1: the first line must be a comment"), "{error}");
}

#[test]
fn a_script_that_fails_says_where_what_and_what_came_before() {
    let lines = ["+0 listen", "+1 < S 0:0(0) <mss 1460>", "+0 > S. 0:0(0) ack 7 <...>"];
    let failure = play_on_ours(&script(&lines).expect("it parses")).expect_err("the ACK is of 1");
    for part in [
        "stack/tests/script/open/x.pkt:4: +0 > S. 0:0(0) ack 7 <...>",
        "expected: 1.000000~1.000000 > S. 0:0(0) ack 7 <...>",
        "got:      1.000000 > S. 0:0(0) ack 1 win 4096 <mss 1460>",
        "1.000000 < S 0:0(0) <mss 1460>",
    ] {
        assert!(failure.contains(part), "{part} is not in\n{failure}");
    }
}

#[test]
fn what_comes_early_late_or_unasked_fails_a_script() {
    let begin = ["+0 listen", "+0 < S 0:0(0)"];
    for (rest, what) in [
        (&["+0.1 quiet"][..], "expected: nothing until 0.100000"),
        (&["+0.1 > S. 0:0(0) ack 1 <...>"], "expected: 0.100000~0.102000"),
        (&[], "expected: nothing more"),
        (&["+0 > S. 0:0(0) ack 1 <...>", "+0.1 > S. 0:0(0) ack 1 <...>"], "got:      nothing until 0.102000"),
        (&["+0 > S. 0:0(0) ack 1 <...>", "+0 accept"], "got:      None"),
        (&["+0 > S. 0:0(0) ack 1 <...>", "+0 state open"], "got:      State(HalfOpen)"),
    ] {
        let failure = play_on_ours(&script(&[&begin[..], rest].concat()).expect("it parses")).expect_err(what);
        assert!(failure.contains(what), "{what} is not in\n{failure}");
    }
}

#[test]
fn a_list_without_reasons_is_refused() {
    for (text, what) in [
        ("open/x.pkt", "a script, a colon, a reason"),
        ("open/x.pkt : because", "more than a word"),
        ("open/x.pkt : a good reason, I think\nopen/x.pkt : a good reason, I think", "listed already"),
    ] {
        let error = lists::parse("wanted.txt", text).expect_err(what);
        assert!(error.contains(what), "{error}");
    }
}
