//! The generator over real sockets, against servers in this process: an honest one, a liar, one that hangs up.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use clap::Parser;
use mcload::args::Args;
use mcload::progress::Progress;
use mcload::run::{Outcome, run_over_sockets};

type Items = Arc<Mutex<HashMap<String, (String, Vec<u8>)>>>;

/// What a server does at its n-th reply, counted over all its connections.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    FlipAt(u64),
    HangUpAt(u64),
}

/// Serves `get` and `set` on a thread a connection until the process ends.
fn serve(fault: Fault) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (items, replies) = (Items::default(), Arc::new(Mutex::new(0)));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (items, replies) = (items.clone(), replies.clone());
            std::thread::spawn(move || converse(stream.unwrap(), items, replies, fault));
        }
    });
    address
}

fn converse(mut stream: TcpStream, items: Items, replies: Arc<Mutex<u64>>, fault: Fault) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut line = String::new();
    while reader.read_line(&mut line).unwrap_or(0) > 0 {
        let words: Vec<&str> = line.split_whitespace().collect();
        let mut reply = Vec::new();
        if words[0] == "set" {
            let mut body = vec![0; words[4].parse::<usize>().unwrap() + 2];
            reader.read_exact(&mut body).unwrap();
            body.truncate(body.len() - 2);
            items.lock().unwrap().insert(words[1].to_owned(), (words[2].to_owned(), body));
            reply.extend_from_slice(b"STORED\r\n");
        } else {
            if let Some((flags, body)) = items.lock().unwrap().get(words[1]) {
                reply.extend_from_slice(format!("VALUE {} {flags} {}\r\n", words[1], body.len()).as_bytes());
                reply.extend_from_slice(body);
                reply.extend_from_slice(b"\r\n");
            }
            reply.extend_from_slice(b"END\r\n");
        }
        let number = {
            let mut replies = replies.lock().unwrap();
            *replies += 1;
            *replies
        };
        if fault == Fault::HangUpAt(number) {
            return;
        }
        if fault == Fault::FlipAt(number) {
            let middle = reply.len() / 2;
            reply[middle] ^= 1;
        }
        if stream.write_all(&reply).is_err() {
            return;
        }
        line.clear();
    }
}

fn load(fault: Fault) -> Result<Outcome, String> {
    let server = serve(fault).to_string();
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
