//! A small memcached on kernel sockets in this process, which may be made to lie or to hang up.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

type Items = Arc<Mutex<HashMap<String, (String, Vec<u8>)>>>;

/// What a server does at its n-th reply, counted over all its connections.
#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    FlipAt(u64),
    HangUpAt(u64),
}

/// Serves `get` and `set` of whoever connects to `listener`, on a thread a connection until the process ends.
pub fn serve(listener: TcpListener, fault: Fault) -> SocketAddr {
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
