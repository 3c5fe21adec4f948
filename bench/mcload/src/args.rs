//! The command line (`Args`, as typed) and the plan it becomes once every value has been checked (`Plan`).

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::Parser;

use crate::keyspace::Keyspace;
use crate::workload::{Mix, MixError};

/// Most connections of one run: bounds file descriptors and memory.
pub const MAX_CONNECTIONS: u32 = 65_536;
/// Most requests in flight on one connection.
pub const MAX_DEPTH: u32 = 4_096;
/// Longest key of the protocol, in bytes (`protocol.txt`, "Keys").
pub const MAX_KEY_BYTES: usize = 250;
/// Largest value this generator makes, in bytes; memcached's own default limit is 1 MiB.
pub const MAX_VALUE_BYTES: usize = 16 << 20;
/// Most keys of one run.
pub const MAX_KEYS: u64 = 1_000_000_000;

/// Closed-loop load on a memcached server, every reply checked byte for byte.
///
/// Loads all keys, reads a sample back, then measures. Exit code 0: every reply was right; 1: a reply was wrong or
/// the run failed; 2: a wrong command line.
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-mcload", version)]
pub struct Args {
    /// The server: ADDRESS:PORT.
    #[arg(long, value_name = "ADDR:PORT")]
    pub server: String,
    /// Connections, shared out evenly among the workers.
    #[arg(long, default_value_t = 32)]
    pub connections: u32,
    /// Requests in flight on each connection.
    #[arg(long, default_value_t = 1)]
    pub depth: u32,
    /// Stop after this many requests in all.
    #[arg(long, conflicts_with = "seconds")]
    pub requests: Option<u64>,
    /// Stop after this many seconds (default 5).
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Shares of the operations: get and set.
    #[arg(long, default_value = "get=90,set=10")]
    pub mix: String,
    /// Length of every key, in bytes.
    #[arg(long, default_value_t = 30)]
    pub key_bytes: usize,
    /// Length of every value, in bytes.
    #[arg(long, default_value_t = 100)]
    pub value_bytes: usize,
    /// How many keys there are; each is drawn with the same probability.
    #[arg(long, default_value_t = 10_000)]
    pub keys: u64,
    /// Seed of the values and of the order of the requests.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    pub workers: u32,
    /// Give up when a worker sees no byte arrive or leave for this many seconds.
    #[arg(long, default_value_t = 10)]
    pub timeout: u64,
    /// Report as one line of JSON.
    #[arg(long)]
    pub json: bool,
}

/// When the measured phase ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// After this many requests over all connections.
    Requests(u64),
    /// When this much time has passed; requests in flight are still waited for.
    Time(Duration),
}

/// A run whose every value has been checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The server's address.
    pub server: SocketAddr,
    /// Connections, at least one for each worker.
    pub connections: u32,
    /// Requests in flight on each connection.
    pub depth: u32,
    /// When to stop.
    pub length: Length,
    /// Shares of the operations.
    pub mix: Mix,
    /// The keys and their values.
    pub keyspace: Keyspace,
    /// Seed of the order of the requests.
    pub seed: u64,
    /// Threads.
    pub workers: u32,
    /// Longest time without progress.
    pub timeout: Duration,
}

/// What is wrong with a command line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// The address cannot be read or resolved.
    #[error("--server is '{server}'; it must be ADDRESS:PORT, such as 10.77.0.2:11211")]
    Server {
        /// As typed.
        server: String,
    },
    /// A number is outside its limits.
    #[error("--{name} is {value}; it must be from {least} to {most}")]
    Range {
        /// The option.
        name: &'static str,
        /// As typed.
        value: u64,
        /// Smallest value allowed.
        least: u64,
        /// Largest value allowed.
        most: u64,
    },
    /// The keys cannot all be told apart in so few bytes.
    #[error("--key-bytes is {key_bytes}, too few to number {keys} keys; use at least {least}")]
    KeyTooShort {
        /// As typed.
        key_bytes: usize,
        /// As typed.
        keys: u64,
        /// Digits of the last key's number.
        least: usize,
    },
    /// The mix cannot be read.
    #[error(transparent)]
    Mix(#[from] MixError),
}

fn within(name: &'static str, value: u64, least: u64, most: u64) -> Result<(), ArgsError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ArgsError::Range { name, value, least, most }) }
}

impl Args {
    /// Checks every value.
    ///
    /// # Errors
    /// [`ArgsError`], naming the option, its value and its limits.
    pub fn plan(&self) -> Result<Plan, ArgsError> {
        let server = self
            .server
            .to_socket_addrs()
            .ok()
            .and_then(|mut found| found.next())
            .ok_or_else(|| ArgsError::Server { server: self.server.clone() })?;
        within("connections", self.connections.into(), 1, MAX_CONNECTIONS.into())?;
        within("depth", self.depth.into(), 1, MAX_DEPTH.into())?;
        within("workers", self.workers.into(), 1, self.connections.min(256).into())?;
        within("keys", self.keys, 1, MAX_KEYS)?;
        within("key-bytes", self.key_bytes as u64, 1, MAX_KEY_BYTES as u64)?;
        within("value-bytes", self.value_bytes as u64, 0, MAX_VALUE_BYTES as u64)?;
        within("timeout", self.timeout, 1, 3_600)?;
        let least = Keyspace::digits(self.keys);
        if self.key_bytes < least {
            return Err(ArgsError::KeyTooShort { key_bytes: self.key_bytes, keys: self.keys, least });
        }
        let length = match (self.requests, self.seconds) {
            (Some(requests), _) => {
                within("requests", requests, 1, 1 << 48)?;
                Length::Requests(requests)
            }
            (None, seconds) => {
                let seconds = seconds.unwrap_or(5);
                within("seconds", seconds, 1, 86_400)?;
                Length::Time(Duration::from_secs(seconds))
            }
        };
        Ok(Plan {
            server,
            connections: self.connections,
            depth: self.depth,
            length,
            mix: self.mix.parse()?,
            keyspace: Keyspace::new(self.keys, self.key_bytes, self.value_bytes, self.seed),
            seed: self.seed,
            workers: self.workers,
            timeout: Duration::from_secs(self.timeout),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Args {
        Args::try_parse_from(format!("sidestep-mcload --server 127.0.0.1:1 {line}").split_whitespace()).unwrap()
    }

    #[test]
    fn a_plain_command_line_is_a_plan_of_five_seconds() {
        let plan = args("").plan().unwrap();
        assert_eq!(plan.length, Length::Time(Duration::from_secs(5)));
        assert_eq!((plan.connections, plan.depth, plan.workers), (32, 1, 1));
    }

    #[test]
    fn a_value_outside_its_limits_is_named_with_them() {
        let message = |line| args(line).plan().unwrap_err().to_string();
        assert_eq!(message("--depth 0"), "--depth is 0; it must be from 1 to 4096");
        assert_eq!(message("--connections 2 --workers 3"), "--workers is 3; it must be from 1 to 2");
        assert_eq!(message("--key-bytes 251"), "--key-bytes is 251; it must be from 1 to 250");
        assert_eq!(
            message("--key-bytes 3 --keys 1001"),
            "--key-bytes is 3, too few to number 1001 keys; use at least 4"
        );
        assert!(message("--mix get=0").contains("get=0"));
    }

    #[test]
    fn requests_and_seconds_exclude_each_other() {
        let line = "sidestep-mcload --server 127.0.0.1:1 --requests 1 --seconds 1";
        assert!(Args::try_parse_from(line.split_whitespace()).is_err());
    }
}
