//! Connections against an in-memory server that stores what it is told, or lies once.

use std::collections::HashMap;

use super::*;
use crate::workload::Mix;

const NOW: Duration = Duration::from_micros(1);
const LATER: Duration = Duration::from_micros(43);

/// A server of `get` and `set` for requests that arrive whole lines at a time.
#[derive(Default)]
struct FakeServer {
    items: HashMap<Vec<u8>, (Vec<u8>, Vec<u8>)>,
    pending: Vec<u8>,
}

impl FakeServer {
    fn serve(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.pending.extend_from_slice(bytes);
        let mut replies = Vec::new();
        while let Some(end) = self.pending.iter().position(|&byte| byte == b'\n') {
            let line = self.pending[..end - 1].to_vec();
            let words: Vec<&[u8]> = line.split(|&byte| byte == b' ').collect();
            let mut used = end + 1;
            if words[0] == b"set" {
                let length: usize = std::str::from_utf8(words[4]).unwrap().parse().unwrap();
                if self.pending.len() < used + length + 2 {
                    break;
                }
                let body = self.pending[used..used + length].to_vec();
                used += length + 2;
                self.items.insert(words[1].to_vec(), (words[2].to_vec(), body));
                replies.extend_from_slice(b"STORED\r\n");
            } else {
                if let Some((flags, body)) = self.items.get(words[1]) {
                    replies.extend_from_slice(b"VALUE ");
                    replies.extend_from_slice(&[words[1], flags].join(&b' '));
                    replies.extend_from_slice(format!(" {}\r\n", body.len()).as_bytes());
                    replies.extend_from_slice(body);
                    replies.extend_from_slice(b"\r\n");
                }
                replies.extend_from_slice(b"END\r\n");
            }
            self.pending.drain(..used);
        }
        replies
    }
}

fn mixed(depth: u32, requests: u64) -> Connection {
    let workload = Workload::draw(3, 0, Mix { get: 1, set: 1 }, 20, requests);
    Connection::new(Keyspace::new(20, 10, 33, 9), workload, depth)
}

/// Runs to the end, replies arriving in pieces of `split` bytes.
fn run(mut connection: Connection, split: usize, lie: impl Fn(Vec<u8>) -> Vec<u8>) -> Result<Tally, Mismatch> {
    let (mut server, mut tally) = (FakeServer::default(), Tally::new());
    loop {
        connection.fill(NOW);
        let sent = connection.unsent().to_vec();
        connection.advance(sent.len());
        if connection.in_flight() == 0 {
            return Ok(tally);
        }
        for piece in lie(server.serve(&sent)).chunks(split) {
            connection.receive(piece, LATER, &mut tally)?;
        }
    }
}

#[test]
fn an_honest_server_passes_at_any_depth_and_any_split() {
    for depth in [1, 3, 16] {
        for split in [1, 7, 4096] {
            let tally = run(mixed(depth, 500), split, |replies| replies).unwrap();
            assert_eq!(tally.requests(), 500, "depth {depth} split {split}");
            assert!(tally.hits > 0 && tally.misses > 0 && tally.sets > 0);
            assert_eq!(tally.latency_ns.len(), 500);
            assert!(tally.latency_ns.equivalent(tally.latency_ns.max(), 42_000), "{}", tally.latency_ns.max());
        }
    }
}

#[test]
fn one_flipped_bit_of_a_value_is_found_with_its_place() {
    let flipped = |mut replies: Vec<u8>| {
        if replies.starts_with(b"VALUE") {
            let last = replies.len() - 8;
            replies[last] ^= 1;
        }
        replies
    };
    let mismatch = run(mixed(1, 500), 4096, flipped).unwrap_err();
    assert_eq!(mismatch.request.unwrap().operation, Operation::Get);
    assert!(mismatch.offset > 30, "{mismatch}");
}

#[test]
fn an_error_line_where_a_value_or_a_stored_should_be_is_found() {
    for line in ["ERROR\r\n", "SERVER_ERROR out of memory storing object\r\n", "EXISTS\r\n", "\r\n"] {
        let mismatch = run(mixed(1, 10), 4096, |_| line.as_bytes().to_vec()).unwrap_err();
        assert!(mismatch.found.len() <= line.len(), "{mismatch}");
    }
}

#[test]
fn a_reply_nobody_asked_for_is_found() {
    let mismatch = run(mixed(1, 10), 4096, |mut replies| {
        replies.extend_from_slice(b"END\r\n");
        replies
    })
    .unwrap_err();
    assert_eq!(mismatch.request, None);
    assert_eq!(mismatch.to_string(), "a reply nobody asked for: \"END\\r\\n\"");
}

#[test]
fn another_keys_value_is_found() {
    let keyspace = Keyspace::new(20, 10, 33, 9);
    let walk = Workload::Walk { operation: Operation::Get, next: 4, step: 1, end: 5 };
    let (mut connection, mut tally) = (Connection::new(keyspace, walk, 1), Tally::new());
    connection.fill(NOW);
    let mismatch = connection.receive(b"VALUE kkkkkkkkk5 ", NOW, &mut tally).unwrap_err();
    assert_eq!((mismatch.offset, mismatch.found), (15, b"5 ".to_vec()));
}

#[test]
fn never_more_than_depth_are_in_flight_and_unsent_bytes_wait() {
    let mut connection = mixed(4, 100);
    connection.fill(NOW);
    assert_eq!(connection.in_flight(), 4);
    let bytes = connection.unsent().len();
    connection.advance(3);
    connection.fill(NOW);
    assert_eq!((connection.in_flight(), connection.unsent().len()), (4, bytes - 3));
    connection.stop();
    let mut tally = Tally::new();
    let mut server = FakeServer::default();
    // The three bytes already taken are lost to this server, so replay the stream from the start.
    let whole = connection.outgoing.clone();
    connection.advance(bytes);
    connection.receive(&server.serve(&whole), LATER, &mut tally).unwrap();
    connection.fill(NOW);
    assert_eq!((connection.in_flight(), tally.requests()), (0, 4));
}
