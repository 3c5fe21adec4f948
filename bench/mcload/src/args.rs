//! The command line, and how it becomes a [`Plan`].

use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::time::Duration;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, ValueEnum, value_parser};

use crate::arrivals::Gaps;
use crate::codec::Codec;
use crate::keyspace::Keyspace;
use crate::plan::{Length, Loop, Plan, Reuse};
use crate::popularity::{Popularity, Zipf};
use crate::sizes::{LEAST_ETC_KEY_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Size};
use crate::transport::Close;
use crate::workload::Mix;
use crate::xsk_args::XskArgs;

/// Most connections of one run that carry requests: bounds memory.
pub const MAX_CONNECTIONS: i64 = 1_000_000;
/// Most dead connections of one run.
pub const MAX_DEAD: i64 = 4_000_000;
/// Most requests in flight on one connection.
pub const MAX_DEPTH: i64 = 4_096;
/// Most keys of one run.
pub const MAX_KEYS: u64 = 1_000_000_000;
/// Most keys of one multi-get.
pub const MAX_MULTIGET: i64 = 1_000;
/// Most arrivals that may wait.
pub const MAX_BACKLOG: i64 = 1 << 24;
/// Most threads.
const MAX_WORKERS: i64 = 256;

/// Load on a memcached server, in closed or open loop, every reply checked byte for byte.
///
/// Loads all keys, reads a sample back, then measures. Exit code 0: every reply was right; 1: a reply was wrong or
/// the run failed; 2: a wrong command line.
#[derive(Debug, Clone, Parser)]
#[command(name = "sidestep-mcload", version)]
pub struct Args {
    /// The server: ADDRESS:PORT.
    #[arg(long, value_name = "ADDR:PORT", value_parser = server)]
    pub server: SocketAddr,
    /// What to ask; sets --mix, sizes, --keys, --popularity and --arrivals unless they are given.
    #[arg(long, value_enum, default_value_t = Preset::Micro)]
    pub workload: Preset,
    /// Connections, shared out evenly among the workers.
    #[arg(long, default_value_t = 32, value_parser = value_parser!(u32).range(1..=MAX_CONNECTIONS))]
    pub connections: u32,
    /// Requests in flight on each connection, at most [default: 1, or 16 with --rate].
    #[arg(long, value_parser = value_parser!(u32).range(1..=MAX_DEPTH))]
    pub depth: Option<u32>,
    /// Connections opened first, silent while measuring, and checked to be alive after it.
    #[arg(long, default_value_t = 0, value_parser = value_parser!(u32).range(..=MAX_DEAD))]
    pub dead: u32,
    /// Stop after this many requests in all.
    #[arg(long, conflicts_with = "seconds", value_parser = value_parser!(u64).range(1..=1 << 48))]
    pub requests: Option<u64>,
    /// Stop after this many seconds (default 5).
    #[arg(long, value_parser = value_parser!(u64).range(1..=86_400))]
    pub seconds: Option<u64>,
    /// Open loop: so many requests a second in all, at random moments, whatever the server does.
    #[arg(long, value_name = "PER_SECOND", value_parser = rate)]
    pub rate: Option<f64>,
    /// Open loop: the law of the gaps between requests.
    #[arg(long, value_enum, requires = "rate")]
    pub arrivals: Option<Gaps>,
    /// Open loop: requests that may wait for their connection; one more is dropped and voids the result.
    #[arg(long, default_value_t = 65_536, value_parser = value_parser!(u32).range(1..=MAX_BACKLOG))]
    pub backlog: u32,
    /// Shares of the operations: get and set.
    #[arg(long)]
    pub mix: Option<Mix>,
    /// Keys asked for by each get.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=MAX_MULTIGET))]
    pub multiget: u32,
    /// Length of every key, in bytes.
    #[arg(long, value_parser = value_parser!(u16).range(1..=MAX_KEY_BYTES as i64))]
    pub key_bytes: Option<u16>,
    /// Length of every value, in bytes.
    #[arg(long, value_parser = value_parser!(u32).range(..=MAX_VALUE_BYTES as i64))]
    pub value_bytes: Option<u32>,
    /// How many keys there are.
    #[arg(long, value_parser = value_parser!(u64).range(1..=MAX_KEYS))]
    pub keys: Option<u64>,
    /// How often each key is asked for: uniform, or zipf=EXPONENT.
    #[arg(long)]
    pub popularity: Option<Law>,
    /// Seed of the values, of the order of the requests and of their moments.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Threads of the generator.
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..=MAX_WORKERS))]
    pub workers: u32,
    /// How long a connection may take to open, and a request to be answered, in seconds.
    #[arg(long, default_value = "10", value_parser = value_parser!(u64).range(1..=3_600).map(Duration::from_secs))]
    pub timeout: Duration,
    /// How --workload connect closes: in order (FIN) or at once (RST), which leaves no TIME-WAIT here.
    #[arg(long, value_enum, default_value_t = Close::InOrder)]
    pub close: Close,
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
    pub xsk: Option<XskArgs>,
}

fn server(text: &str) -> Result<SocketAddr, String> {
    let found = text.to_socket_addrs().ok().and_then(|mut found| found.next());
    found.ok_or_else(|| "it must be ADDRESS:PORT, such as 10.77.0.2:11211".to_owned())
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (1.0..=1e8).contains(rate));
    rate.ok_or_else(|| "it must be from 1 to 100000000 requests a second".to_owned())
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

/// `--popularity`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// All keys alike.
    Uniform,
    /// Zipf's law with this exponent.
    Zipf(f64),
}

impl FromStr for Law {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let exponent = text.strip_prefix("zipf=").and_then(|exponent| exponent.parse().ok());
        match exponent.filter(|&exponent| exponent > 0.0 && exponent <= Zipf::MAX_EXPONENT) {
            Some(exponent) => Ok(Law::Zipf(exponent)),
            None if text == "uniform" => Ok(Law::Uniform),
            None => Err("it must be uniform, or zipf=EXPONENT with an exponent above 0 and at most 10"),
        }
    }
}

/// What a preset sets.
struct Defaults {
    mix: Mix,
    keys: u64,
    key_size: Size,
    value_size: Size,
    law: Law,
    gaps: Gaps,
}

impl Preset {
    fn defaults(self) -> Defaults {
        let micro = Defaults {
            mix: Mix { get: 90, set: 10 },
            keys: 10_000,
            key_size: Size::Fixed(30),
            value_size: Size::Fixed(100),
            law: Law::Uniform,
            gaps: Gaps::Poisson,
        };
        // Ten fields of 100 bytes; "user" and 19 digits.
        let ycsb = |get, set| Defaults {
            mix: Mix { get, set },
            keys: 1_000_000,
            key_size: Size::Fixed(23),
            value_size: Size::Fixed(1_000),
            law: Law::Zipf(0.99),
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
                law: Law::Uniform,
                gaps: Gaps::Etc,
            },
            Preset::YcsbA => ycsb(50, 50),
            Preset::YcsbB => ycsb(95, 5),
            Preset::YcsbC => ycsb(1, 0),
        }
    }
}

/// Options that do not go together.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArgsError {
    /// A worker would have nothing to do.
    #[error(
        "--workers is {workers}; it must be at most --connections and --backlog, which are {connections} and {backlog}"
    )]
    Workers {
        /// As typed.
        workers: u32,
        /// As typed.
        connections: u32,
        /// As typed.
        backlog: u32,
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
    /// A connection a request carries one request.
    #[error("--depth is {depth}; with --workload connect each connection carries one request: leave --depth out")]
    DepthOfOne {
        /// As typed.
        depth: u32,
    },
}

impl Args {
    /// Reads the program's command line; ends the program where that is wrong.
    pub fn read() -> (Args, Plan) {
        let args = Self::parse();
        match args.plan() {
            Ok(plan) => (args, plan),
            Err(error) => Self::command().error(ErrorKind::ArgumentConflict, error).exit(),
        }
    }

    /// What to do, with the workload's own values where nothing is said.
    ///
    /// # Errors
    /// [`ArgsError`], naming the option, its value and its limits.
    pub fn plan(&self) -> Result<Plan, ArgsError> {
        let defaults = self.workload.defaults();
        let reuse = if self.workload == Preset::Connect { Reuse::PerRequest } else { Reuse::Kept };
        let depth = match (self.depth, reuse) {
            (Some(depth), Reuse::PerRequest) if depth != 1 => return Err(ArgsError::DepthOfOne { depth }),
            (None, Reuse::Kept) if self.rate.is_some() => 16,
            (depth, _) => depth.unwrap_or(1),
        };
        let Args { workers, connections, backlog, .. } = *self;
        if workers > connections.min(backlog) {
            return Err(ArgsError::Workers { workers, connections, backlog });
        }
        let gaps = self.arrivals.unwrap_or(defaults.gaps);
        let time = Length::Time(Duration::from_secs(self.seconds.unwrap_or(5)));
        Ok(Plan {
            server: self.server,
            name: self.workload.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned()),
            connections,
            depth,
            dead: self.dead,
            reuse,
            close: self.close,
            length: self.requests.map_or(time, Length::Requests),
            pace: self.rate.map_or(Loop::Closed, |rate| Loop::Open { rate, gaps, backlog }),
            mix: self.mix.unwrap_or(defaults.mix),
            codec: self.codec(&defaults)?,
            load: !self.no_load,
            seed: self.seed,
            workers,
            timeout: self.timeout,
        })
    }

    fn codec(&self, defaults: &Defaults) -> Result<Codec, ArgsError> {
        let keys = self.keys.unwrap_or(defaults.keys);
        let key_size = self.key_bytes.map_or(defaults.key_size, |bytes| Size::Fixed(bytes.into()));
        let key_bytes = if let Size::Fixed(bytes) = key_size { bytes } else { LEAST_ETC_KEY_BYTES };
        let least = Keyspace::digits(keys);
        if key_bytes < least {
            return Err(ArgsError::KeyTooShort { key_bytes, keys, least });
        }
        let value_size = self.value_bytes.map_or(defaults.value_size, |bytes| Size::Fixed(bytes as usize));
        let popularity = match self.popularity.unwrap_or(defaults.law) {
            Law::Uniform => Popularity::Uniform(keys),
            Law::Zipf(exponent) => Popularity::Zipf(Zipf::new(keys, exponent)),
        };
        Ok(Codec::new(Keyspace::new(keys, key_size, value_size, self.seed), popularity, self.multiget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Args, clap::Error> {
        Args::try_parse_from(format!("sidestep-mcload --server 127.0.0.1:1 {line}").split_whitespace())
    }

    fn args(line: &str) -> Args {
        parse(line).unwrap()
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
        for (line, what) in [
            ("--depth 0", "0 is not in 1..=4096"),
            ("--key-bytes 251", "251 is not in 1..=250"),
            ("--rate 0.5", "from 1 to 100000000 requests a second"),
            ("--multiget 0", "0 is not in 1..=1000"),
            ("--timeout 0", "0 is not in 1..=3600"),
            ("--mix get=0", "it must look like get=90,set=10"),
        ] {
            let error = parse(line).unwrap_err().to_string();
            assert!(error.contains(what), "{line}: {error}");
        }
        for text in ["zipf", "zipf=0", "zipf=11", "zipf=nan", "hot"] {
            assert!(parse(&format!("--popularity {text}")).unwrap_err().to_string().contains(&format!("'{text}'")));
        }
        let message = |line: &str| args(line).plan().unwrap_err().to_string();
        assert!(message("--connections 2 --workers 3").starts_with("--workers is 3; it must be at most --connections"));
        assert_eq!(
            message("--key-bytes 3 --keys 1001"),
            "--key-bytes is 3, too few to number 1001 keys; use at least 4"
        );
        assert!(message("--workload connect --depth 2").contains("leave --depth out"));
    }

    #[test]
    fn options_that_exclude_or_need_each_other_say_so() {
        for line in
            ["--requests 1 --seconds 1", "--progress --quiet", "--arrivals poisson", "--address 10.0.0.1", "-i xsk:a"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
