//! The generator over real sockets, against servers in this process: an honest one, a liar, one that hangs up.

#[path = "lab/server.rs"]
mod server;

use std::net::TcpListener;

use clap::Parser;
use mcload::args::Args;
use mcload::progress::Progress;
use mcload::run::{Outcome, run_over_sockets};
use server::{Fault, serve};

fn load(fault: Fault) -> Result<Outcome, String> {
    let server = serve(TcpListener::bind("127.0.0.1:0").unwrap(), fault).to_string();
    let arguments = "--connections 6 --workers 2 --depth 4 --requests 3001 --keys 100 --value-bytes 700";
    let arguments = ["sidestep-mcload", "--server", &server].into_iter().chain(arguments.split(' '));
    let plan = Args::try_parse_from(arguments).unwrap().plan().unwrap();
    run_over_sockets(&plan, &Progress::new(plan.workers, false)).map_err(|error| error.to_string())
}

#[test]
fn an_honest_server_is_loaded_read_back_and_measured() {
    let outcome = load(Fault::None).unwrap();
    assert!(outcome.all_right());
    assert_eq!((outcome.load.sets, outcome.sample.hits, outcome.sample.misses), (100, 100, 0));
    assert_eq!((outcome.measured.requests(), outcome.measured.misses), (3_001, 0));
    assert_eq!(outcome.measured.latency_ns.len(), 3_001);
}

#[test]
fn one_flipped_bit_among_thousands_of_replies_is_reported() {
    let outcome = load(Fault::FlipAt(1_500)).unwrap();
    assert!(!outcome.all_right());
    assert_eq!((outcome.measured.wrong, outcome.load.wrong), (1, 0));
    assert!(outcome.measured.first_wrong.is_some());
    // The other connections have gone on to the end of their share.
    assert!(outcome.measured.requests() > 2_000, "{}", outcome.measured.requests());
}

#[test]
fn a_server_that_hangs_up_is_named() {
    let error = load(Fault::HangUpAt(1_500)).unwrap_err();
    assert!(error.contains("the server closed a connection") || error.contains("recv"), "{error}");
}
