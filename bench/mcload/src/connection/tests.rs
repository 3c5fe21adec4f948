//! Connections against an in-memory server that stores what it is told, or lies once.

use std::collections::HashMap;

use super::*;
use crate::keyspace::Keyspace;
use crate::popularity::Popularity;
use crate::sizes::Size;
use crate::tally::Tally;
use crate::workload::{Mix, Operation, Workload};

const NOW: Nanos = 1_000;
const LATER: Nanos = 43_000;

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
                for key in &words[1..] {
                    let Some((flags, body)) = self.items.get(*key) else { continue };
                    replies.extend_from_slice(b"VALUE ");
                    replies.extend_from_slice(&[*key, flags].join(&b' '));
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

fn codec(value_bytes: usize, multiget: u32) -> Codec {
    let keyspace = Keyspace::new(20, Size::Fixed(10), Size::Fixed(value_bytes), 9);
    Codec::new(keyspace, Popularity::Uniform(20), multiget)
}

fn receive(
    connection: &mut Connection,
    bytes: &[u8],
    now: Nanos,
    codec: &Codec,
    tally: &mut Tally,
) -> Result<u64, Wrong> {
    connection.receive(bytes, now, &mut Desk { codec, tally, scratch: &mut Vec::new() })
}

fn mixed(requests: u64, multi: bool) -> Workload {
    Workload::draw(3, 0, Mix { get: 1, set: 1 }, Popularity::Uniform(20), multi, requests)
}

/// Runs `workload` to the end, requests going out in pieces of at most `room` bytes and replies coming in pieces of
/// `split` bytes.
fn run(
    codec: &Codec,
    mut workload: Workload,
    depth: usize,
    (room, split): (usize, usize),
    lie: impl Fn(Vec<u8>) -> Vec<u8>,
) -> Result<Tally, Box<Mismatch>> {
    let (mut server, mut tally) = (FakeServer::default(), Tally::new());
    let (mut connection, mut scratch) = (Connection::new(), Vec::new());
    loop {
        let mut wire = Vec::new();
        while connection.in_flight() < depth {
            let mut out = Vec::new();
            if connection.is_flushed() {
                let Some(request) = workload.next() else { break };
                connection.push(request, NOW, codec, &mut out);
            }
            connection.send(&out, codec, |bytes| {
                // As a ring with `room` bytes that is emptied between two calls.
                let taken = bytes.len().min(room);
                wire.extend_from_slice(&bytes[..taken]);
                taken
            });
        }
        while !connection.is_flushed() {
            connection.send(&[], codec, |bytes| {
                let taken = bytes.len().min(room);
                wire.extend_from_slice(&bytes[..taken]);
                taken
            });
        }
        if connection.in_flight() == 0 {
            return Ok(tally);
        }
        for piece in lie(server.serve(&wire)).chunks(split) {
            connection.receive(piece, LATER, &mut Desk { codec, tally: &mut tally, scratch: &mut scratch })?;
        }
    }
}

const AT_ONCE: (usize, usize) = (usize::MAX, usize::MAX);

#[test]
fn an_honest_server_passes_at_any_depth_and_any_split() {
    for (value_bytes, requests) in [(33, 500), (5_000, 100)] {
        for depth in [1, 3, 16] {
            for pieces in [(1, 1), (7, 7), (4096, 3), AT_ONCE] {
                let tally = run(&codec(value_bytes, 1), mixed(requests, false), depth, pieces, |replies| replies);
                let tally = tally.unwrap();
                assert_eq!(tally.requests(), requests, "depth {depth}, pieces {pieces:?}");
                assert!(tally.hits > 0 && tally.misses > 0 && tally.sets > 0);
                assert_eq!((tally.hits + tally.misses, tally.latency_ns.len()), (tally.gets, requests));
                assert!(tally.latency_ns.equivalent(tally.latency_ns.max(), 42_000), "{}", tally.latency_ns.max());
            }
        }
    }
}

#[test]
fn a_multi_get_counts_each_key_as_found_or_missing_at_any_split() {
    for split in [1, 2, 13, 100, usize::MAX] {
        let tally = run(&codec(33, 7), mixed(300, true), 3, (usize::MAX, split), |replies| replies).unwrap();
        assert_eq!((tally.requests(), tally.hits + tally.misses), (300, 7 * tally.gets));
        assert!(tally.hits > 0 && tally.misses > 0 && tally.sets > 0);
    }
}

#[test]
fn a_value_of_a_multi_get_out_of_order_or_sent_twice_is_found() {
    let codec = codec(4, 2);
    let request = Request { operation: Operation::MultiGet, key: 5 };
    let keys: Vec<_> = codec.owed(request).collect();
    assert_ne!(keys[0], keys[1], "the number draws two different keys");
    let reply = |keys: &[u64]| {
        let mut reply = Vec::new();
        for &key in keys {
            codec.put_value_line(key, &mut reply);
            reply.extend(codec.keyspace().value(key).copy(0, usize::MAX));
            reply.extend(b"\r\n");
        }
        reply.extend(b"END\r\n");
        reply
    };
    let check = |reply: &[u8]| {
        let (mut connection, mut tally) = (Connection::new(), Tally::new());
        connection.push(request, NOW, &codec, &mut Vec::new());
        receive(&mut connection, reply, NOW, &codec, &mut tally).map(|_| (tally.hits, tally.misses))
    };
    assert_eq!(check(&reply(&keys)), Ok((2, 0)));
    assert_eq!(check(&reply(&keys[1..])), Ok((1, 1)));
    assert_eq!(check(&reply(&[])), Ok((0, 2)));
    assert!(check(&reply(&[keys[1], keys[0]])).is_err());
    assert!(check(&reply(&[keys[0], keys[0]])).is_err());
}

#[test]
fn one_flipped_bit_anywhere_in_a_reply_is_found_with_its_place() {
    let codec = codec(33, 1);
    let request = Request { operation: Operation::Get, key: 4 };
    let mut reply = Vec::new();
    codec.put_value_line(4, &mut reply);
    reply.extend(codec.keyspace().value(4).copy(0, usize::MAX));
    reply.extend(b"\r\nEND\r\n");
    for split in [1, 10, usize::MAX] {
        for at in 0..reply.len() {
            let mut reply = reply.clone();
            reply[at] ^= 1;
            let (mut connection, mut tally) = (Connection::new(), Tally::new());
            connection.push(request, NOW, &codec, &mut Vec::new());
            let found =
                reply.chunks(split).find_map(|piece| receive(&mut connection, piece, NOW, &codec, &mut tally).err());
            let found = found.unwrap_or_else(|| panic!("byte {at} in pieces of {split}"));
            // "END" in place of "VALUE" is another right reply up to its first wrong byte; no flip makes an E of a V.
            assert_eq!((found.offset, found.found[0]), (at as u64, reply[at]), "{found}");
        }
    }
}

#[test]
fn an_error_line_where_a_value_or_a_stored_should_be_is_found() {
    for line in ["ERROR\r\n", "SERVER_ERROR out of memory storing object\r\n", "EXISTS\r\n", "\r\n"] {
        for pieces in [AT_ONCE, (1, 1)] {
            let lie = |_| line.as_bytes().to_vec();
            let mismatch = run(&codec(33, 1), mixed(10, false), 1, pieces, lie).unwrap_err();
            assert!(mismatch.found.len() <= line.len(), "{mismatch}");
        }
    }
}

#[test]
fn a_reply_nobody_asked_for_is_found() {
    let mismatch = run(&codec(33, 1), mixed(10, false), 1, AT_ONCE, |mut replies| {
        replies.extend_from_slice(b"END\r\n");
        replies
    })
    .unwrap_err();
    assert_eq!(mismatch.request, None);
    assert_eq!(mismatch.to_string(), "a reply nobody asked for: \"END\\r\\n\"");
}

#[test]
fn another_keys_value_is_found_before_its_line_ends() {
    let (mut connection, mut tally) = (Connection::new(), Tally::new());
    let codec = codec(33, 1);
    connection.push(Request { operation: Operation::Get, key: 4 }, NOW, &codec, &mut Vec::new());
    let mismatch = receive(&mut connection, b"VALUE kkkkkkkkk5 ", NOW, &codec, &mut tally).unwrap_err();
    assert_eq!((mismatch.offset, &mismatch.found[..]), (15, &b"5 "[..]));
}

#[test]
fn a_recycled_connection_remembers_nothing() {
    let codec = codec(5_000, 1);
    let (mut connection, mut tally) = (Connection::new(), Tally::new());
    connection.push(Request { operation: Operation::Get, key: 4 }, NOW, &codec, &mut Vec::new());
    receive(&mut connection, b"VALUE kkkk", NOW, &codec, &mut tally).unwrap();
    let mut out = Vec::new();
    assert!(connection.push(Request { operation: Operation::Set, key: 4 }, NOW, &codec, &mut out));
    connection.send(&out, &codec, |_| 3);
    assert!(!connection.is_flushed());
    assert_eq!(connection.reset(), 2);
    assert!(connection.is_flushed());
    connection.push(Request { operation: Operation::Get, key: 5 }, NOW, &codec, &mut Vec::new());
    assert_eq!(receive(&mut connection, b"END\r\n", LATER, &codec, &mut tally), Ok(1));
}
