//! The guard over a veth of a namespace of its own: what a veth has of settings, given back, also after a SIGKILL. Needs
//! root; without it each test says so and passes.

#[path = "xdp_veth/holder.rs"]
mod holder;
#[path = "xdp_veth/lab.rs"]
#[allow(dead_code, reason = "shared with the tests of AF_XDP")]
mod lab;

use std::io::Write;
use std::path::{Path, PathBuf};

use holder::Holder;
use lab::{Lab, Side};
use sidestep_nic::guard::{Guard, left_behind};
use sidestep_nic::link::Link;
use sidestep_nic::settings::{Knobs, NicKnobs, Setting};

/// What a veth of two queues has, and another value for each.
fn changes() -> [(Setting, &'static str); 5] {
    let feature = |name: &str| Setting::Feature(name.to_owned());
    [
        (Setting::Mtu, "1400"),
        (Setting::Channels, "rx 1 tx 1 combined 0"),
        (feature("rx-gro"), "on"),
        (feature("tx-generic-segmentation"), "off"),
        (Setting::File("/proc/sys/net/ipv4/conf/s0/arp_ignore".into()), "1"),
    ]
}

fn link() -> Link {
    Link::by_name(Side::Server.link()).expect("it is there")
}

fn values() -> Vec<String> {
    let knobs = NicKnobs::of(&link()).expect("the kernel tells");
    changes().iter().map(|(setting, _)| knobs.read(setting).expect("a veth has it")).collect()
}

/// A folder for one test; removed by whoever made it.
fn folder(lab: &Lab) -> PathBuf {
    std::env::temp_dir().join(format!("sidestep-{}", lab.name()))
}

fn change_all(folder: &Path) -> Guard {
    let mut guard = Guard::of_server(&link(), folder).expect("the kernel tells");
    for (setting, value) in changes() {
        guard.change(&setting, value).unwrap_or_else(|error| panic!("{error}"));
    }
    guard
}

/// The role that the test below plays in a process of its own.
const HOLD: &str = "SIDESTEP_GUARD_TEST_HOLD";

#[test]
fn settings_of_a_veth_come_back_when_asked_and_after_a_kill() {
    if let Ok(name) = std::env::var(HOLD) {
        let lab = Lab::of_name(&name);
        let _guard = lab.inside(Side::Server, || change_all(&folder(&lab)));
        println!("\nholding");
        std::io::stdout().flush().expect("a pipe");
        loop {
            std::thread::park(); // Until killed.
        }
    }
    let Some(lab) = Lab::up(2) else { return };
    let folder = folder(&lab);
    let before = lab.inside(Side::Server, values);
    let wanted: Vec<String> = changes().iter().map(|(_, value)| (*value).to_owned()).collect();
    assert!(before.iter().zip(&wanted).all(|(before, wanted)| before != wanted), "{before:?}");

    lab.inside(Side::Server, || {
        let mut guard = change_all(&folder);
        assert_eq!(values(), wanted);
        assert_eq!(guard.restore().len(), wanted.len());
    });
    assert_eq!(lab.inside(Side::Server, values), before);

    let mut holder = Holder::start(&lab, HOLD, "settings_of_a_veth_come_back_when_asked_and_after_a_kill");
    assert_eq!(lab.inside(Side::Server, values), wanted);
    let left = || left_behind(Side::Server.link(), &folder).expect("the folder can be read");
    assert_eq!(lab.inside(Side::Server, || left()[0].holder()), Some(holder.0.id()));
    assert!(lab.inside(Side::Client, || left().is_empty()), "another namespace has links of that name too");
    holder.0.kill().expect("it runs"); // SIGKILL.
    holder.0.wait().expect("it ends");
    assert_eq!(lab.inside(Side::Server, values), wanted, "nobody has given it back yet");
    lab.inside(Side::Server, || {
        // One of them is changed by somebody else meanwhile.
        NicKnobs::of(&link()).expect("the kernel tells").write(&Setting::Mtu, "1300").expect("it can");
        let mut found = left();
        assert_eq!((found.len(), found[0].holder()), (1, None));
        let mut guard = found.remove(0).take().expect("the link is there");
        let said: Vec<String> = guard.restore().iter().map(ToString::to_string).collect();
        assert!(said.last().expect("five").contains("somebody has made it 1300 since"), "{said:?}");
        assert!(left().is_empty());
    });
    let after = lab.inside(Side::Server, values);
    assert_eq!((after[0].as_str(), &after[1..]), ("1300", &before[1..]));
    std::fs::remove_dir(&folder).expect("it is empty");
}
