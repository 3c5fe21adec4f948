//! What tests of patience ask of a loopback, and how they see what became of it.

use sidestep_cache::CacheConfig;

use crate::loopback::{Client, Loopback};

/// A ring as the server's are at first.
pub const RING: usize = 8 << 10;

pub fn config(cores: usize) -> CacheConfig {
    let mut config = CacheConfig { cores, connections_per_core: 512, ..CacheConfig::default() };
    config.shard.memory_bytes = cores * (32 << 20);
    config
}

pub fn value_of(key: &str, bytes: usize) -> String {
    key.bytes().cycle().map(char::from).take(bytes).collect()
}

pub fn set(key: &str, bytes: usize) -> String {
    format!("set {key} 0 0 {bytes}\r\n{}\r\n", value_of(key, bytes))
}

pub fn hit(key: &str, bytes: usize) -> String {
    format!("VALUE {key} 0 {bytes}\r\n{}\r\nEND\r\n", value_of(key, bytes))
}

pub fn store(loopback: &mut Loopback, client: Client, keys: &[String], bytes: usize) {
    for key in keys {
        assert_eq!(loopback.ask(client, set(key, bytes)), "STORED\r\n");
    }
}

/// A client of `core` that sends `request` and reads nothing of the answer.
pub fn deaf(loopback: &mut Loopback, core: usize, request: &str) -> Client {
    let client = loopback.connect_with(core, 65_535, RING);
    loopback.set_reads(client, false);
    loopback.send(client, request.as_bytes());
    loopback.run();
    client
}

/// What is in the client's ring reaches it, and no more.
pub fn drip(loopback: &mut Loopback, core: usize, clients: &[Client]) {
    clients.iter().for_each(|&client| loopback.set_reads(client, true));
    loopback.turn(core);
    clients.iter().for_each(|&client| loopback.set_reads(client, false));
}

pub fn closed(loopback: &Loopback, clients: &[Client]) -> usize {
    clients.iter().filter(|&&client| loopback.is_closed(client)).count()
}

/// What a server says to one who sends a value for which there is no memory.
pub const NO_MEMORY: &str = "SERVER_ERROR out of memory storing object\r\n";
