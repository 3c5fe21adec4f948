//! `Items`: the keys and values of a run, and the requests and replies made of them, byte for byte.
//!
//! Keys have 30 bytes and values 100, all different, all computed from the item's number. Read first: memcached
//! `protocol.txt`, "Retrieval command", "Storage commands".

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
        let all = |make: &dyn Fn(String, String) -> String| {
            let item = |number: u32| {
                let value = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                make(format!("key:{number:026}"), format!("{value:0100}")).into_bytes()
            };
            (0..ITEMS).map(item).collect()
        };
        Self {
            gets: all(&|key, _| format!("get {key}\r\n")),
            sets: all(&|key, value| format!("set {key} 0 0 {VALUE_BYTES}\r\n{value}\r\n")),
            values: all(&|key, value| format!("VALUE {key} 0 {VALUE_BYTES}\r\n{value}\r\nEND\r\n")),
        }
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
