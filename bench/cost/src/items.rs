//! `Items`: the keys and values of a run, and the requests and replies made of them, byte for byte.
//!
//! Keys have 30 bytes and values 100, all different, all computed from the item's number. Read first: memcached
//! `protocol.txt`, "Retrieval command", "Storage commands".

use std::io::Write;

/// Keys there are. With their values they fill about 1.5 MB: more than a first-level cache, less than a third-level.
pub const ITEMS: u32 = 10_000;
/// Bytes of a key.
pub const KEY_BYTES: usize = 30;
/// Bytes of a value.
pub const VALUE_BYTES: usize = 100;

/// What a request asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// get, of a key that is there.
    Get,
    /// set.
    Set,
}

/// The requests and replies for all items, made once.
#[derive(Debug)]
pub struct Items {
    gets: Vec<Vec<u8>>,
    sets: Vec<Vec<u8>>,
    values: Vec<Vec<u8>>,
}

impl Items {
    /// Makes them.
    pub fn new() -> Self {
        let all = |make: fn(u32, &mut Vec<u8>)| (0..ITEMS).map(|number| made(number, make)).collect();
        Self { gets: all(get), sets: all(set), values: all(value_reply) }
    }

    /// The request about item `number`, which is taken modulo [`ITEMS`].
    pub fn request(&self, ask: Ask, number: u32) -> &[u8] {
        let at = (number % ITEMS) as usize;
        match ask {
            Ask::Get => &self.gets[at],
            Ask::Set => &self.sets[at],
        }
    }

    /// The only right answer to it.
    pub fn reply(&self, ask: Ask, number: u32) -> &[u8] {
        match ask {
            Ask::Get => &self.values[(number % ITEMS) as usize],
            Ask::Set => b"STORED\r\n",
        }
    }
}

impl Default for Items {
    fn default() -> Self {
        Self::new()
    }
}

fn made(number: u32, make: fn(u32, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    make(number, &mut bytes);
    bytes
}

/// Writing to a vector cannot fail, so the results of `write!` are of no use here.
fn key(number: u32, out: &mut Vec<u8>) {
    let _ = write!(out, "key:{number:026}");
}

fn value(number: u32, out: &mut Vec<u8>) {
    let _ = write!(out, "{:0100}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15));
}

fn get(number: u32, out: &mut Vec<u8>) {
    out.extend(b"get ");
    key(number, out);
    out.extend(b"\r\n");
}

fn set(number: u32, out: &mut Vec<u8>) {
    out.extend(b"set ");
    key(number, out);
    let _ = write!(out, " 0 0 {VALUE_BYTES}\r\n");
    value(number, out);
    out.extend(b"\r\n");
}

fn value_reply(number: u32, out: &mut Vec<u8>) {
    out.extend(b"VALUE ");
    key(number, out);
    let _ = write!(out, " 0 {VALUE_BYTES}\r\n");
    value(number, out);
    out.extend(b"\r\nEND\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_the_lengths_of_the_workload() {
        let items = Items::new();
        let text = "get key:00000000000000000000000007\r\n";
        assert_eq!(items.request(Ask::Get, 7), text.as_bytes());
        assert_eq!(items.request(Ask::Get, 7 + ITEMS), text.as_bytes());
        assert_eq!(text.len(), "get ".len() + KEY_BYTES + 2);
        let head = b"VALUE key:00000000000000000000000007 0 100\r\n";
        let reply = items.reply(Ask::Get, 7);
        assert!(reply.starts_with(head));
        assert_eq!(reply.len(), head.len() + VALUE_BYTES + "\r\nEND\r\n".len());
        assert_ne!(items.reply(Ask::Get, 8)[head.len()..], reply[head.len()..]);
    }
}
