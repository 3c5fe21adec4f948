//! The generator over our own stack on AF_XDP, against a kernel's sockets at the other end of a veth. Needs root;
//! without it each test says so and passes.

#[path = "../../../nic/tests/xdp_veth/lab.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod lab;
#[path = "lab/server.rs"]
#[allow(dead_code, reason = "the other tests use the rest")]
mod server;

use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use clap::Parser;
use lab::{CLIENT, KERNEL, Lab, Side};
use mcload::args::Args;
use mcload::progress::Progress;
use mcload::run::Outcome;
use mcload::transport::xsk::run_over_xsk;
use server::{Fault, serve};

/// Runs the generator in the client's namespace.
fn run(lab: &Lab, server: &str, arguments: &str) -> Result<Outcome, String> {
    run_on(lab, "xsk:c0", server, arguments)
}

fn run_on(lab: &Lab, port: &str, server: &str, arguments: &str) -> Result<Outcome, String> {
    let line = format!("sidestep-mcload --server {server} -i {port} {arguments}");
    let args = Args::try_parse_from(line.split_whitespace()).unwrap();
    let (plan, xsk) = (args.plan().unwrap(), args.xsk.expect("an interface is given"));
    let progress = Progress::new(plan.workers, false);
    lab.inside(Side::Client, || run_over_xsk(&plan, &xsk, &progress)).map_err(|error| error.to_string())
}

fn serve_in(lab: &Lab) -> String {
    serve(lab.inside(Side::Server, || TcpListener::bind((KERNEL, 0)).unwrap()), Fault::None).to_string()
}

#[test]
fn a_kernel_is_loaded_read_back_and_measured_and_silent_connections_live_beside() {
    let Some(lab) = Lab::up(1) else { return };
    let server = serve_in(&lab);
    let arguments = "--address 10.77.0.100 --connections 6 --depth 4 --dead 50 --requests 3001 --keys 100";
    let outcome = run(&lab, &server, &format!("{arguments} --value-bytes 70000")).unwrap();
    assert!(outcome.all_right());
    assert_eq!((outcome.load.sets, outcome.sample.hits, outcome.sample.misses), (100, 100, 0));
    assert_eq!((outcome.measured.requests(), outcome.measured.misses, outcome.dead.gets), (3_001, 0, 50));
}

#[test]
fn a_connection_a_request_is_opened_and_closed_in_order_or_at_once_from_several_addresses() {
    let Some(lab) = Lab::up(1) else { return };
    let server = serve_in(&lab);
    for close in ["fin", "reset"] {
        let arguments = "--address 10.77.0.100-10.77.0.102 --workload connect --connections 8 --keys 50";
        let outcome = run(&lab, &server, &format!("{arguments} --requests 1000 --close {close}")).unwrap();
        assert!(outcome.all_right());
        assert_eq!((outcome.measured.connects, outcome.measured.requests(), outcome.measured.cut), (1_000, 1_000, 0));
        assert_eq!((outcome.measured.refused, outcome.measured.connect_timed_out), (0, 0));
    }
}

/// As many clients that hardly ever ask: each is asked for by an arrival of its own. With a rest the arrivals of a millisecond, and
/// their answers, are attended to together.
#[test]
fn two_thousand_connections_from_several_addresses_have_a_question_now_and_then() {
    let Some(lab) = Lab::up(1) else { return };
    let server = serve_in(&lab);
    let arguments = "--address 10.77.0.100-10.77.0.102 --connections 2000 --depth 1 --rate 2000 --timeout 60";
    for pause in ["", "--spin 0", "--rest 1000"] {
        let outcome = run(&lab, &server, &format!("{arguments} {pause} --requests 4000 --keys 100")).unwrap();
        assert!(outcome.all_right());
        let measured = &outcome.measured;
        assert_eq!(
            (measured.requests(), measured.misses, measured.cut, measured.timed_out),
            (4_000, 0, 0, 0),
            "{pause}"
        );
        assert_eq!((measured.offered, measured.overflowed), (4_000, 0), "{pause}");
    }
}

#[test]
fn two_workers_on_two_queues_find_their_frames_wherever_they_arrive() {
    let Some(lab) = Lab::up(2) else { return };
    let server = serve_in(&lab);
    let arguments = "--address 10.77.0.100 --workers 2 --connections 16 --requests 2000 --keys 50";
    let outcome = run(&lab, &server, arguments).unwrap();
    assert!(outcome.all_right());
    assert_eq!((outcome.measured.requests(), outcome.measured.misses), (2_000, 0));
}

/// Without AF_XDP: the kernel that serves is at the other side of a TAP, in the same namespace.
#[test]
fn two_workers_load_a_kernel_over_a_tap() {
    let Some(lab) = Lab::up(1) else { return };
    lab.ip(Side::Client, &["tuntap", "add", "dev", "tm0", "mode", "tap", "multi_queue"]);
    lab.ip(Side::Client, &["address", "add", "10.79.0.1/24", "dev", "tm0"]);
    lab.ip(Side::Client, &["link", "set", "tm0", "up"]);
    let listener = lab.inside(Side::Client, || TcpListener::bind(("10.79.0.1", 0)).unwrap());
    let server = serve(listener, Fault::None).to_string();
    let arguments = "--address 10.79.0.2 --connections 6 --requests 2000 --keys 100 --value-bytes 5000";
    let outcome = run_on(&lab, "tap:tm0", &server, &format!("{arguments} --workers 2")).unwrap();
    assert!(outcome.all_right());
    assert_eq!((outcome.load.sets, outcome.measured.requests(), outcome.measured.misses), (100, 2_000, 0));
    let refused = run_on(&lab, "tap:tm0", &server, &format!("{arguments} --mode native")).unwrap_err();
    assert!(refused.contains("leave it out"), "{refused}");
}

#[test]
fn the_kernels_own_traffic_on_the_link_passes_while_and_after() {
    let Some(lab) = Lab::up(1) else { return };
    let server = serve_in(&lab);
    let knock = |when| {
        let sockets = [(Side::Server, KERNEL), (Side::Client, CLIENT)]
            .map(|(side, address)| lab.inside(side, || UdpSocket::bind((address, 0)).unwrap()));
        let [server, client] = sockets;
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        client.send_to(b"knock", server.local_addr().unwrap()).unwrap();
        assert_eq!(server.recv(&mut [0; 16]).unwrap_or_else(|error| panic!("{when}: {error}")), 5);
    };
    std::thread::scope(|scope| {
        let load = scope.spawn(|| run(&lab, &server, "--address 10.77.0.100 --connections 2 --seconds 1 --keys 10"));
        while !load.is_finished() {
            knock("while");
        }
        assert!(load.join().unwrap().unwrap().all_right());
    });
    knock("after");
}

#[test]
fn what_stands_in_the_way_is_named() {
    let Some(lab) = Lab::up(1) else { return };
    let error = |server: &str, arguments: &str| run(&lab, server, arguments).unwrap_err();
    let nobody = error("10.77.0.99:11211", "--address 10.77.0.100");
    assert!(nobody.contains("nobody answers ARP for 10.77.0.99 on c0"), "{nobody}");
    let refused = error(&format!("{KERNEL}:1"), "--address 10.77.0.100");
    assert!(refused.contains("refused; is the server running"), "{refused}");
    let beyond = error("192.0.2.1:1", "--address 10.77.0.100");
    assert!(beyond.contains("give --gateway"), "{beyond}");
    let many = error(&format!("{KERNEL}:1"), "--address 10.77.0.100-10.77.0.101 --dead 200000");
    assert!(many.contains("need 4 source addresses") && many.contains("gives 2"), "{many}");
}
