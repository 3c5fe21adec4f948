//! The command line, as typed, and how it becomes a [`Plan`].

use std::net::ToSocketAddrs;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::arrivals::Gaps;
use crate::codec::Codec;
use crate::keyspace::{Keyspace, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::plan::{Length, Loop, Plan, Reuse};
use crate::popularity::{Popularity, Zipf};
use crate::sizes::{LEAST_ETC_KEY_BYTES, Size};
use crate::transport::Close;
use crate::workload::{Mix, MixError};
use crate::xsk_args::XskArgs;

/// Most connections of one run that carry requests: bounds memory.
pub const MAX_CONNECTIONS: u32 = 65_536;
/// Most dead connections of one run.
pub const MAX_DEAD: u32 = 4_000_000;
/// Most requests in flight on one connection.
pub const MAX_DEPTH: u32 = 4_096;
/// Most keys of one run.
pub const MAX_KEYS: u64 = 1_000_000_000;
/// Most keys of one multi-get.
pub const MAX_MULTIGET: u32 = 1_000;
/// Most arrivals that may wait.
pub const MAX_BACKLOG: u32 = 1 << 24;
/// Most threads.
const MAX_WORKERS: u32 = 256;

/// Load on a memcached server, in closed or open loop, every reply checked byte for byte.
///
/// Loads all keys, reads a sample back, then measures. Exit code 0: every reply was right; 1: a reply was wrong or
/// the run failed; 2: a wrong command line.
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-mcload", version)]
pub struct Args {
    /// The server: ADDRESS:PORT.
    #[arg(long, value_name = "ADDR:PORT")]
    pub server: String,
    /// What to ask; sets --mix, sizes, --keys, --popularity and --arrivals unless they are given.
    #[arg(long, value_enum, default_value_t = Preset::Micro)]
    pub workload: Preset,
    /// Connections, shared out evenly among the workers.
    #[arg(long, default_value_t = 32)]
    pub connections: u32,
    /// Requests in flight on each connection, at most [default: 1, or 16 with --rate].
    #[arg(long)]
    pub depth: Option<u32>,
    /// Connections opened first, silent while measuring, and checked to be alive after it.
    #[arg(long, default_value_t = 0)]
    pub dead: u32,
    /// Stop after this many requests in all.
    #[arg(long, conflicts_with = "seconds")]
    pub requests: Option<u64>,
    /// Stop after this many seconds (default 5).
    #[arg(long)]
    pub seconds: Option<u64>,
    /// Open loop: so many requests a second in all, at random moments, whatever the server does.
    #[arg(long, value_name = "PER_SECOND")]
    pub rate: Option<f64>,
    /// Open loop: the law of the gaps between requests.
    #[arg(long, value_enum, requires = "rate")]
    pub arrivals: Option<Arriving>,
    /// Open loop: requests that may wait for their connection; one more is dropped and voids the result.
    #[arg(long, default_value_t = 65_536)]
    pub backlog: u32,
    /// Shares of the operations: get and set.
    #[arg(long)]
    pub mix: Option<String>,
    /// Keys asked for by each get.
    #[arg(long, default_value_t = 1)]
    pub multiget: u32,
    /// Length of every key, in bytes.
    #[arg(long)]
    pub key_bytes: Option<usize>,
    /// Length of every value, in bytes.
    #[arg(long)]
    pub value_bytes: Option<usize>,
    /// How many keys there are.
    #[arg(long)]
    pub keys: Option<u64>,
    /// How often each key is asked for: uniform, or zipf=EXPONENT.
    #[arg(long)]
    pub popularity: Option<String>,
    /// Seed of the values, of the order of the requests and of their moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1)]
    pub workers: u32,
    /// How long a connection may take to open, and a request to be answered, in seconds.
    #[arg(long, default_value_t = 10)]
    pub timeout: u64,
    /// How --workload connect closes: in order (FIN) or at once (RST), which leaves no TIME-WAIT here.
    #[arg(long, value_enum, default_value_t = Closing::Fin)]
    pub close: Closing,
    /// The keys are there already: neither load them nor read a sample back.
    #[arg(long)]
    pub no_load: bool,
    /// Report as one line of JSON.
    #[arg(long)]
    pub json: bool,
    /// A line each second on stderr, even if that is no terminal.
    #[arg(long, conflicts_with = "quiet")]
    pub progress: bool,
    /// No line each second.
    #[arg(long)]
    pub quiet: bool,
    /// Our own stack instead of kernel sockets.
    #[command(flatten)]
    pub xsk: XskArgs,
}

/// A workload with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Preset {
    /// 30 B keys, 100 B values, 10 % sets, 10,000 keys alike.
    Micro,
    /// As micro, gets only, each on a connection of its own: connect, get, close.
    Connect,
    /// Facebook's ETC pool (Atikoglu 2012): sizes, 30 gets a set, gaps; 1 M keys.
    Etc,
    /// YCSB A: half gets, half sets; 1,000 B values, 1 M keys, zipf 0.99.
    YcsbA,
    /// YCSB B: 95 % gets.
    YcsbB,
    /// YCSB C: gets only.
    YcsbC,
}

/// `--arrivals`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Arriving {
    /// Exponential gaps.
    Poisson,
    /// Generalized Pareto gaps of the ETC pool's shape.
    Etc,
}

/// `--close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Closing {
    /// In order.
    Fin,
    /// At once.
    Reset,
}

/// What a preset sets.
struct Defaults {
    mix: Mix,
    keys: u64,
    key_size: Size,
    value_size: Size,
    zipf: Option<f64>,
    gaps: Gaps,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Preset::Micro => "micro",
            Preset::Connect => "connect",
            Preset::Etc => "etc",
            Preset::YcsbA => "ycsb-a",
            Preset::YcsbB => "ycsb-b",
            Preset::YcsbC => "ycsb-c",
        }
    }

    fn defaults(self) -> Defaults {
        let micro = Defaults {
            mix: Mix { get: 90, set: 10 },
            keys: 10_000,
            key_size: Size::Fixed(30),
            value_size: Size::Fixed(100),
            zipf: None,
            gaps: Gaps::Poisson,
        };
        // Ten fields of 100 bytes; "user" and 19 digits.
        let ycsb = |get, set| Defaults {
            mix: Mix { get, set },
            keys: 1_000_000,
            key_size: Size::Fixed(23),
            value_size: Size::Fixed(1_000),
            zipf: Some(0.99),
            gaps: Gaps::Poisson,
        };
        match self {
            Preset::Micro => micro,
            Preset::Connect => Defaults { mix: Mix { get: 1, set: 0 }, ..micro },
            Preset::Etc => Defaults {
                mix: Mix { get: 30, set: 1 },
                keys: 1_000_000,
                key_size: Size::Etc,
                value_size: Size::Etc,
                zipf: None,
                gaps: Gaps::Etc,
            },
            Preset::YcsbA => ycsb(50, 50),
            Preset::YcsbB => ycsb(95, 5),
            Preset::YcsbC => ycsb(1, 0),
        }
    }
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
    #[error("--{name} is {value}; it must be from {least} to {most}{unit}")]
    Range {
        /// The option.
        name: &'static str,
        /// As typed.
        value: u64,
        /// Smallest value allowed.
        least: u64,
        /// Largest value allowed.
        most: u64,
        /// Of all three, with a space before.
        unit: &'static str,
    },
    /// The rate is outside its limits.
    #[error("--rate is {rate}; it must be from 1 to 100000000 requests a second")]
    Rate {
        /// As typed.
        rate: f64,
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
    /// The popularity cannot be read.
    #[error("--popularity is '{text}'; it must be uniform, or zipf=EXPONENT with an exponent above 0 and at most 10")]
    Popularity {
        /// As typed.
        text: String,
    },
    /// A connection a request carries one request.
    #[error("--depth is {depth}; with --workload connect each connection carries one request: leave --depth out")]
    DepthOfOne {
        /// As typed.
        depth: u32,
    },
    /// The mix cannot be read.
    #[error(transparent)]
    Mix(#[from] MixError),
}

fn within(name: &'static str, value: u64, least: u64, most: u64, unit: &'static str) -> Result<(), ArgsError> {
    if (least..=most).contains(&value) { Ok(()) } else { Err(ArgsError::Range { name, value, least, most, unit }) }
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
        let defaults = self.workload.defaults();
        let reuse = if self.workload == Preset::Connect { Reuse::PerRequest } else { Reuse::Kept };
        let depth = match (self.depth, reuse) {
            (Some(depth), Reuse::PerRequest) if depth != 1 => return Err(ArgsError::DepthOfOne { depth }),
            (None, Reuse::Kept) if self.rate.is_some() => 16,
            (depth, _) => depth.unwrap_or(1),
        };
        within("connections", self.connections.into(), 1, MAX_CONNECTIONS.into(), "")?;
        within("depth", depth.into(), 1, MAX_DEPTH.into(), "")?;
        within("dead", self.dead.into(), 0, MAX_DEAD.into(), "")?;
        within("workers", self.workers.into(), 1, self.connections.min(MAX_WORKERS).into(), "")?;
        within("multiget", self.multiget.into(), 1, MAX_MULTIGET.into(), " keys")?;
        within("backlog", self.backlog.into(), self.workers.into(), MAX_BACKLOG.into(), " requests")?;
        within("timeout", self.timeout, 1, 3_600, " seconds")?;
        if let Some(rate) = self.rate
            && !(1.0..=1e8).contains(&rate)
        {
            return Err(ArgsError::Rate { rate });
        }
        let gaps = match self.arrivals {
            Some(Arriving::Poisson) => Gaps::Poisson,
            Some(Arriving::Etc) => Gaps::Etc,
            None => defaults.gaps,
        };
        Ok(Plan {
            server,
            name: self.workload.name(),
            connections: self.connections,
            depth,
            dead: self.dead,
            reuse,
            close: if self.close == Closing::Fin { Close::InOrder } else { Close::Reset },
            length: self.length()?,
            pace: self.rate.map_or(Loop::Closed, |rate| Loop::Open { rate, gaps, backlog: self.backlog }),
            mix: self.mix.as_ref().map_or(Ok(defaults.mix), |mix| mix.parse())?,
            codec: self.codec(&defaults)?,
            load: !self.no_load,
            seed: self.seed,
            workers: self.workers,
            timeout: Duration::from_secs(self.timeout),
        })
    }

    fn length(&self) -> Result<Length, ArgsError> {
        if let Some(requests) = self.requests {
            within("requests", requests, 1, 1 << 48, "")?;
            return Ok(Length::Requests(requests));
        }
        let seconds = self.seconds.unwrap_or(5);
        within("seconds", seconds, 1, 86_400, " seconds")?;
        Ok(Length::Time(Duration::from_secs(seconds)))
    }

    fn codec(&self, defaults: &Defaults) -> Result<Codec, ArgsError> {
        let keys = self.keys.unwrap_or(defaults.keys);
        within("keys", keys, 1, MAX_KEYS, "")?;
        let key_size = self.key_bytes.map_or(defaults.key_size, Size::Fixed);
        if let Size::Fixed(key_bytes) = key_size {
            within("key-bytes", key_bytes as u64, 1, MAX_KEY_BYTES as u64, " bytes")?;
        }
        let (key_bytes, least) = match key_size {
            Size::Fixed(bytes) => (bytes, Keyspace::digits(keys)),
            Size::Etc => (LEAST_ETC_KEY_BYTES, Keyspace::digits(keys)),
        };
        if key_bytes < least {
            return Err(ArgsError::KeyTooShort { key_bytes, keys, least });
        }
        let value_size = self.value_bytes.map_or(defaults.value_size, Size::Fixed);
        if let Size::Fixed(value_bytes) = value_size {
            within("value-bytes", value_bytes as u64, 0, MAX_VALUE_BYTES as u64, " bytes")?;
        }
        let zipf = match self.popularity.as_deref() {
            None => defaults.zipf,
            Some("uniform") => None,
            Some(text) => Some(
                text.strip_prefix("zipf=")
                    .and_then(|exponent| exponent.parse().ok())
                    .filter(|&exponent: &f64| exponent > 0.0 && exponent <= Zipf::MAX_EXPONENT)
                    .ok_or_else(|| ArgsError::Popularity { text: text.to_owned() })?,
            ),
        };
        let popularity = zipf.map_or(Popularity::Uniform(keys), |exponent| Popularity::Zipf(Zipf::new(keys, exponent)));
        Ok(Codec::new(Keyspace::new(keys, key_size, value_size, self.seed), popularity, self.multiget))
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
        assert_eq!((plan.connections, plan.depth, plan.workers, plan.pace), (32, 1, 1, Loop::Closed));
        assert_eq!((plan.mix, plan.codec.keyspace().keys()), (Mix { get: 90, set: 10 }, 10_000));
    }

    #[test]
    fn a_preset_gives_way_to_what_is_said() {
        let plan = args("--workload ycsb-b --keys 10000000 --value-bytes 100 --rate 1000").plan().unwrap();
        let keyspace = plan.codec.keyspace();
        assert_eq!((keyspace.keys(), keyspace.value_size()), (10_000_000, Size::Fixed(100)));
        assert_eq!((keyspace.key_size(), plan.mix), (Size::Fixed(23), Mix { get: 95, set: 5 }));
        assert_eq!(plan.pace, Loop::Open { rate: 1_000.0, gaps: Gaps::Poisson, backlog: 65_536 });
        assert_eq!(plan.codec.popularity(), Popularity::Zipf(Zipf::new(10_000_000, 0.99)));
        let plan = args("--workload etc --popularity zipf=1.2 --rate 10 --depth 2").plan().unwrap();
        assert_eq!((plan.codec.keyspace().key_size(), plan.depth), (Size::Etc, 2));
        assert!(matches!(plan.pace, Loop::Open { gaps: Gaps::Etc, .. }));
    }

    #[test]
    fn a_value_outside_its_limits_is_named_with_them() {
        let message = |line: &str| args(line).plan().unwrap_err().to_string();
        assert_eq!(message("--depth 0"), "--depth is 0; it must be from 1 to 4096");
        assert_eq!(message("--connections 2 --workers 3"), "--workers is 3; it must be from 1 to 2");
        assert_eq!(message("--key-bytes 251"), "--key-bytes is 251; it must be from 1 to 250 bytes");
        assert_eq!(
            message("--key-bytes 3 --keys 1001"),
            "--key-bytes is 3, too few to number 1001 keys; use at least 4"
        );
        assert_eq!(message("--rate 0.5"), "--rate is 0.5; it must be from 1 to 100000000 requests a second");
        assert_eq!(message("--multiget 0"), "--multiget is 0; it must be from 1 to 1000 keys");
        assert_eq!(message("--timeout 0"), "--timeout is 0; it must be from 1 to 3600 seconds");
        assert!(message("--mix get=0").contains("get=0"));
        for text in ["zipf", "zipf=0", "zipf=11", "zipf=nan", "hot"] {
            assert!(message(&format!("--popularity {text}")).contains(&format!("'{text}'")));
        }
        assert!(message("--workload connect --depth 2").contains("leave --depth out"));
    }

    #[test]
    fn options_that_exclude_or_need_each_other_say_so() {
        for line in ["--requests 1 --seconds 1", "--progress --quiet", "--arrivals poisson"] {
            let line = format!("sidestep-mcload --server 127.0.0.1:1 {line}");
            assert!(Args::try_parse_from(line.split_whitespace()).is_err(), "{line}");
        }
    }
}
