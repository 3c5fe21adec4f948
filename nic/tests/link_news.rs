//! What the kernel tells of an interface of a namespace of its own. Needs root; without it the test says so and passes.

#[path = "xdp_veth/lab.rs"]
#[allow(dead_code, reason = "shared with the tests of AF_XDP")]
mod lab;

use std::sync::mpsc;
use std::time::Duration;

use lab::{Lab, Side};
use sidestep_nic::link::{Link, LinkNews};

/// Far longer than the kernel takes, which may be a second for a carrier.
const PATIENCE: Duration = Duration::from_secs(60);

/// A change that `ip link` makes on a side, and whether it is made.
type Change<'a> = (Side, &'a [&'a str], Box<dyn Fn() -> bool + Sync>);

#[test]
fn the_kernel_tells_of_each_change_of_an_interface() {
    let Some(lab) = Lab::up(1) else { return };
    let (index, news) = lab.inside(Side::Server, || {
        let index = Link::by_name(Side::Server.link()).expect("it is there").index;
        (index, LinkNews::listen().expect("whoever asks is told"))
    });
    let (to, told) = mpsc::channel();
    let listen = move |mut news: LinkNews| {
        while let Ok(about) = news.wait() {
            if to.send(about).is_err() {
                return;
            }
        }
    };
    // It ends with the test's process at the latest: nobody else sends.
    std::thread::spawn(move || listen(news));
    let mtu = |bytes| move || Link::by_index(index).is_ok_and(|link| link.mtu == bytes);
    let carrier = |there| move || Link::state(index).is_ok_and(|state| state.carrier == there);
    let gone = move || Link::by_index(index).is_err();
    let changes: [Change<'_>; 6] = [
        (Side::Server, &["set", "s0", "mtu", "1400"], Box::new(mtu(1400))),
        (Side::Client, &["set", "c0", "down"], Box::new(carrier(false))),
        (Side::Client, &["set", "c0", "up"], Box::new(carrier(true))),
        (Side::Server, &["set", "s0", "mtu", "1500"], Box::new(mtu(1500))),
        (Side::Server, &["set", "s0", "name", "s1"], Box::new(move || Link::by_name("s1").is_ok())),
        (Side::Client, &["del", "c0"], Box::new(gone)),
    ];
    for (side, change, is_so) in &changes {
        lab.ip(*side, &[&["link"], *change].concat());
        loop {
            let about = told.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("nothing is told of {change:?}"));
            if about == index && lab.inside(Side::Server, is_so) {
                break;
            }
        }
    }
}
