//! The crate `async-memcached`: text commands, and meta commands for what its text commands lack (cas, touch).

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use async_memcached::{AsciiProtocol, Client as Connection, Error, MetaProtocol, Status};
use tokio::runtime::Runtime;

use crate::session::{Client, Outcome};

/// Time after which an answer counts as missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// One connection, and the runtime that drives it.
pub struct AsyncMemcached {
    runtime: Runtime,
    server: String,
    connection: Connection,
}

/// Waits for an answer, but not for ever.
fn wait<T>(runtime: &Runtime, answer: impl Future<Output = Result<T, Error>>) -> Outcome<Result<T, Error>> {
    Ok(runtime.block_on(async { tokio::time::timeout(PATIENCE, answer).await })?)
}

fn none_if_missing<T>(found: Result<T, Error>) -> Outcome<Option<T>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(Error::Protocol(Status::NotFound)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

impl AsyncMemcached {
    /// `server` is address and port.
    pub fn connect(server: &str) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let server = format!("tcp://{server}");
        let connection = wait(&runtime, Connection::new(&server))??;
        Ok(Self { runtime, server, connection })
    }
}

impl Client for AsyncMemcached {
    const NO_RECONNECT: Option<&'static str> =
        Some("a Client is one connection and has no reconnect; a new one was served");

    fn set(&mut self, key: &str, value: &[u8], ttl: u32) -> Outcome<()> {
        Ok(wait(&self.runtime, self.connection.set(key, value, Some(ttl.into()), None))??)
    }

    fn get(&mut self, key: &str) -> Outcome<Option<Vec<u8>>> {
        let found = wait(&self.runtime, self.connection.get(key))??;
        Ok(found.map(|item| item.data.unwrap_or_default()))
    }

    fn get_many(&mut self, keys: &[&str]) -> Outcome<HashMap<String, Vec<u8>>> {
        let found = none_if_missing(wait(&self.runtime, self.connection.get_multi(keys))?)?.unwrap_or_default();
        let pair = |item: async_memcached::Value| Ok((String::from_utf8(item.key)?, item.data.unwrap_or_default()));
        found.into_iter().map(pair).collect()
    }

    fn gets(&mut self, key: &str) -> Outcome<(Vec<u8>, u64)> {
        let found = wait(&self.runtime, self.connection.meta_get(key, false, None, Some(&["v", "c"])))??;
        let item = found.ok_or("mg found nothing")?;
        Ok((item.data.unwrap_or_default(), item.cas.ok_or("mg gave no cas")?))
    }

    fn cas(&mut self, key: &str, value: &[u8], unique: u64) -> Outcome<bool> {
        let compare = format!("C{unique}");
        match wait(&self.runtime, self.connection.meta_set(key, value, false, None, Some(&[&compare])))? {
            Ok(_) => Ok(true),
            Err(Error::Protocol(Status::Exists)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn incr(&mut self, key: &str, number: u64) -> Outcome<Option<u64>> {
        none_if_missing(wait(&self.runtime, self.connection.increment(key, number))?)
    }

    fn decr(&mut self, key: &str, number: u64) -> Outcome<Option<u64>> {
        none_if_missing(wait(&self.runtime, self.connection.decrement(key, number))?)
    }

    fn touch(&mut self, key: &str, ttl: u32) -> Outcome<bool> {
        let until = format!("T{ttl}");
        let found = wait(&self.runtime, self.connection.meta_get(key, false, None, Some(&[&until, "t"])))??;
        Ok(found.is_some())
    }

    fn delete(&mut self, key: &str) -> Outcome<bool> {
        Ok(none_if_missing(wait(&self.runtime, self.connection.delete(key))?)?.is_some())
    }

    fn set_noreply(&mut self, key: &str, value: &[u8]) -> Outcome<()> {
        // A quiet ms and an mn.
        wait(&self.runtime, self.connection.meta_set(key, value, true, None, None))??;
        Ok(())
    }

    fn delete_noreply(&mut self, key: &str) -> Outcome<()> {
        Ok(wait(&self.runtime, self.connection.delete_no_reply(key))??)
    }

    fn renew(&mut self) -> Outcome<()> {
        if let Ok(found) = wait(&self.runtime, self.connection.get("reconnect"))? {
            return Err(format!("the closed connection answered {found:?}").into());
        }
        self.connection = wait(&self.runtime, Connection::new(&self.server))??;
        Ok(())
    }
}
