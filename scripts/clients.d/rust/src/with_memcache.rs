//! The crate `memcache`, binary by default, text if asked.

use std::collections::HashMap;
use std::time::Duration;

use memcache::{CommandError, MemcacheError};

use crate::session::{Client, NotOffered, Outcome};

/// Time after which an answer counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A client of the crate, in one of its protocols.
pub struct Memcache {
    client: memcache::Client,
    binary: bool,
}

impl Memcache {
    /// `server` is address and port, `protocol` as the crate's address has it: `binary` or `ascii`.
    pub fn connect(server: &str, protocol: &str) -> Outcome<Self> {
        let server = format!("memcache://{server}?protocol={protocol}&timeout={}", PATIENCE.as_secs());
        let client = memcache::Client::builder().add_server(server)?.with_connection_timeout(PATIENCE).build()?;
        Ok(Self { client, binary: protocol == "binary" })
    }
}

fn none_if_missing<T>(found: Result<T, MemcacheError>) -> Outcome<Option<T>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(MemcacheError::CommandError(CommandError::KeyNotFound)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl Client for Memcache {
    fn incr_of_nothing(&self) -> Option<u64> {
        self.binary.then_some(0)
    }

    fn set(&mut self, key: &str, value: &[u8], ttl: u32) -> Outcome<()> {
        Ok(self.client.set(key, value, ttl)?)
    }

    fn get(&mut self, key: &str) -> Outcome<Option<Vec<u8>>> {
        Ok(self.client.get(key)?)
    }

    fn get_many(&mut self, keys: &[&str]) -> Outcome<HashMap<String, Vec<u8>>> {
        Ok(self.client.gets(keys)?)
    }

    fn gets(&mut self, key: &str) -> Outcome<(Vec<u8>, u64)> {
        let found: Option<(Vec<u8>, u32, Option<u64>)> = self.client.get(key)?;
        let (value, _, unique) = found.ok_or("gets found nothing")?;
        Ok((value, unique.ok_or("gets gave no unique")?))
    }

    fn cas(&mut self, key: &str, value: &[u8], unique: u64) -> Outcome<bool> {
        Ok(self.client.cas(key, value, 0, unique)?)
    }

    fn incr(&mut self, key: &str, number: u64) -> Outcome<Option<u64>> {
        none_if_missing(self.client.increment(key, number))
    }

    fn decr(&mut self, key: &str, number: u64) -> Outcome<Option<u64>> {
        none_if_missing(self.client.decrement(key, number))
    }

    fn touch(&mut self, key: &str, ttl: u32) -> Outcome<bool> {
        Ok(self.client.touch(key, ttl)?)
    }

    fn delete(&mut self, key: &str) -> Outcome<bool> {
        Ok(self.client.delete(key)?)
    }

    fn set_noreply(&mut self, _key: &str, _value: &[u8]) -> Outcome<()> {
        Err(NotOffered("memcache waits for every reply").into())
    }

    fn delete_noreply(&mut self, _key: &str) -> Outcome<()> {
        Err(NotOffered("memcache waits for every reply").into())
    }
}
