//! The command line: memcached's letters where memcached has one, checked before anything is opened.
//!
//! Two steps, so that a mistake is told in the words of the option: clap reads [`Flags`] (what was typed), and
//! [`Flags::check`] makes [`Options`] of it (what holds) or says value, unit, limit and next step in one line.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use cache::Protocol;
use clap::Parser;

/// What was typed.
#[derive(Debug, Parser)]
#[command(name = "sidestep-cached", version, about = "A memcached-compatible cache server on AF_XDP sockets")]
pub struct Flags {
    /// Network interface to serve on, such as eth1
    #[arg(long, value_name = "NAME")]
    interface: String,
    /// The stack's own IPv4 address and prefix, such as 10.77.0.2/24; it must not be the kernel's
    #[arg(long, value_name = "ADDRESS/PREFIX")]
    address: String,
    /// TCP port to listen on, 1 to 65535
    #[arg(short = 'p', long = "port", value_name = "PORT", default_value = "11211")]
    port: String,
    /// Threads, one core and one shard of the cache each, 1 to 64
    #[arg(short = 't', long = "threads", value_name = "NUMBER", default_value = "4")]
    threads: String,
    /// Memory for items, index and what is in flight, in megabytes
    #[arg(short = 'm', long = "memory-limit", value_name = "MB", default_value = "64")]
    memory: String,
    /// Answer an error when memory is full instead of evicting the oldest items
    #[arg(short = 'M', long = "disable-evictions")]
    no_evict: bool,
    /// Most connections at a time, over all cores
    #[arg(short = 'c', long = "conn-limit", value_name = "NUMBER", default_value = "1024")]
    connections: String,
    /// Most half-open connections of a core
    #[arg(short = 'b', long = "listen-backlog", value_name = "NUMBER", default_value = "1024")]
    backlog: String,
    /// Largest item, such as 512k or 1m
    #[arg(short = 'I', long = "max-item-size", value_name = "SIZE", default_value = "1m")]
    item_size: String,
    /// Disable cas uniques: gets answers 0
    #[arg(short = 'C', long = "disable-cas")]
    no_cas: bool,
    /// What connections speak: ascii, binary, or auto, where their first byte says
    #[arg(short = 'B', long = "protocol", value_name = "NAME", default_value = "auto")]
    protocol: String,
    /// How the XDP program is attached: auto, native or generic
    #[arg(long, value_name = "MODE", default_value = "auto")]
    mode: String,
    /// Most queues to open; default: all that the interface has
    #[arg(long, value_name = "NUMBER")]
    queues: Option<String>,
    /// CPUs to pin the threads to, such as 0,2,4; default: the CPUs this process may use, in order
    #[arg(long, value_name = "LIST")]
    cpus: Option<String>,
    /// Microseconds that an idle thread looks for work before it sleeps
    #[arg(long, value_name = "MICROSECONDS", default_value = "50")]
    spin: String,
    /// Record every frame in and out to DIR/queue-N.pcap
    #[arg(long, value_name = "DIR")]
    capture: Option<PathBuf>,
    /// Say more (twice: more still); RUST_LOG overrides
    #[arg(short = 'v', long = "verbose", action = clap::ArgAction::Count)]
    verbose: u8,
}

/// What holds: every value within its limits.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Interface to serve on.
    pub interface: String,
    /// The stack's own address.
    pub address: Ipv4Addr,
    /// Bits of the network part of `address`.
    pub prefix: u8,
    /// TCP port.
    pub port: u16,
    /// Cores, each with its thread and shard.
    pub cores: usize,
    /// Memory for items, index and what is in flight, of all cores together.
    pub memory_bytes: usize,
    /// Whether the oldest items make room for new ones.
    pub evict: bool,
    /// Most connections, over all cores.
    pub connections: usize,
    /// Most half-open connections of a core.
    pub backlog: usize,
    /// Largest item, key and header included.
    pub item_size_bytes: usize,
    /// Whether items have cas uniques.
    pub use_cas: bool,
    /// What connections speak.
    pub protocol: Protocol,
    /// How the XDP program is attached.
    pub mode: Mode,
    /// Most queues to open.
    pub queues: Option<usize>,
    /// CPUs to pin to; empty: those the process may use.
    pub cpus: Vec<usize>,
    /// How long an idle thread looks for work before it sleeps.
    pub spin: Duration,
    /// Folder for a capture of every frame.
    pub capture: Option<PathBuf>,
    /// How often -v was given.
    pub verbose: u8,
}

/// How the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Native, or generic where that is faster or all there is.
    Auto,
    /// In the driver.
    Native,
    /// After the kernel has made an skb of the frame.
    Generic,
}

/// Why the command line was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A number was out of its limits, or none.
    #[error("{option} {value}: not {unit} from {least} to {most}{hint}")]
    Number {
        /// The option's letter or name.
        option: &'static str,
        /// What was typed.
        value: String,
        /// What it counts.
        unit: &'static str,
        /// Smallest that is taken.
        least: u64,
        /// Largest that is taken.
        most: u64,
        /// What to do next, if there is more to say.
        hint: &'static str,
    },
    /// An address was not ADDRESS/PREFIX.
    #[error("--address {value}: not an IPv4 address with a prefix of 1 to 30 bits; write it like 10.77.0.2/24")]
    Address {
        /// What was typed.
        value: String,
    },
    /// The address cannot be a host's.
    #[error("--address {value}: {why}; choose an unused address of the network that the interface is on")]
    NotAHost {
        /// What was typed.
        value: String,
        /// What it is instead.
        why: &'static str,
    },
    /// A size was not a number with k, m or g.
    #[error("-I {value}: not a size from 1k to 1024m; write it like 512k or 1m")]
    Size {
        /// What was typed.
        value: String,
    },
    /// A word was none of those known.
    #[error("--mode {value}: not one of auto, native, generic")]
    Mode {
        /// What was typed.
        value: String,
    },
    /// No protocol is called that.
    #[error("-B {value}: not one of auto, ascii, binary")]
    Protocol {
        /// What was typed.
        value: String,
    },
    /// Fewer CPUs than threads were named.
    #[error("--cpus names {named} CPUs for -t {threads} threads; name one for each thread")]
    Cpus {
        /// CPUs named.
        named: usize,
        /// Threads asked for.
        threads: usize,
    },
}

impl Flags {
    /// Makes options of what was typed.
    ///
    /// # Errors
    /// The first value that is outside its limits, as one line that names value, unit, limit and what to do.
    pub fn check(self) -> Result<Options, OptionError> {
        let (address, prefix) = host_address(&self.address)?;
        let cores = number("-t", &self.threads, "a number of threads", 1, 64, "")?;
        let cpus = match &self.cpus {
            None => Vec::new(),
            Some(list) => list
                .split(',')
                .map(|cpu| number("--cpus", cpu, "a CPU number", 0, 4095, "; separate them by commas"))
                .collect::<Result<Vec<_>, _>>()?,
        };
        if !cpus.is_empty() && cpus.len() < cores {
            return Err(OptionError::Cpus { named: cpus.len(), threads: cores });
        }
        Ok(Options {
            interface: self.interface,
            address,
            prefix,
            // Every port fits in 16 bits: `number` has checked it.
            port: number("-p", &self.port, "a TCP port", 1, 65_535, "")? as u16,
            cores,
            memory_bytes: number("-m", &self.memory, "a number of megabytes", 1, 1 << 20, "")? << 20,
            evict: !self.no_evict,
            connections: number("-c", &self.connections, "a number of connections", 1, 16_000_000, "")?,
            backlog: number("-b", &self.backlog, "a number of half-open connections", 1, 1 << 20, "")?,
            item_size_bytes: item_size(&self.item_size)?,
            use_cas: !self.no_cas,
            protocol: match self.protocol.as_str() {
                "auto" => Protocol::Auto,
                "ascii" => Protocol::Ascii,
                "binary" => Protocol::Binary,
                _ => return Err(OptionError::Protocol { value: self.protocol }),
            },
            mode: match self.mode.as_str() {
                "auto" => Mode::Auto,
                "native" => Mode::Native,
                "generic" => Mode::Generic,
                _ => return Err(OptionError::Mode { value: self.mode }),
            },
            queues: self.queues.map(|text| number("--queues", &text, "a number of queues", 1, 1024, "")).transpose()?,
            cpus,
            spin: Duration::from_micros(
                number("--spin", &self.spin, "a number of microseconds", 0, 1_000_000, "")? as u64
            ),
            capture: self.capture,
            verbose: self.verbose,
        })
    }
}

fn number(
    option: &'static str,
    text: &str,
    unit: &'static str,
    least: u64,
    most: u64,
    hint: &'static str,
) -> Result<usize, OptionError> {
    match u64::from_str(text) {
        Ok(value) if (least..=most).contains(&value) => Ok(value as usize),
        _ => Err(OptionError::Number { option, value: text.to_owned(), unit, least, most, hint }),
    }
}

fn host_address(text: &str) -> Result<(Ipv4Addr, u8), OptionError> {
    let wrong = || OptionError::Address { value: text.to_owned() };
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address = Ipv4Addr::from_str(address).map_err(|_| wrong())?;
    let prefix = u8::from_str(prefix).map_err(|_| wrong())?;
    if !(1..=30).contains(&prefix) {
        return Err(wrong());
    }
    let host_bits = u32::from(address) & (u32::MAX >> prefix);
    let why = if address.is_loopback() {
        Some("it is a loopback address")
    } else if address.is_multicast() || address.is_unspecified() || address.octets()[0] >= 240 {
        Some("it is no unicast address")
    } else if host_bits == 0 {
        Some("it is the network's own address")
    } else if host_bits == u32::MAX >> prefix {
        Some("it is the network's broadcast address")
    } else {
        None
    };
    match why {
        Some(why) => Err(OptionError::NotAHost { value: text.to_owned(), why }),
        None => Ok((address, prefix)),
    }
}

/// memcached's -I: bytes, or with k or m; 1 KiB to 1 GiB (memcached.c, option `I`).
fn item_size(text: &str) -> Result<usize, OptionError> {
    let wrong = || OptionError::Size { value: text.to_owned() };
    let (digits, unit) = match text.to_ascii_lowercase().chars().last() {
        Some('k') => (&text[..text.len() - 1], 1usize << 10),
        Some('m') => (&text[..text.len() - 1], 1 << 20),
        Some('g') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let bytes = usize::from_str(digits).ok().and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)?;
    if (1 << 10..=1 << 30).contains(&bytes) { Ok(bytes) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(more: &[&str]) -> Result<Options, OptionError> {
        let always = ["sidestep-cached", "--interface", "ss0", "--address", "10.77.0.2/24"];
        Flags::try_parse_from(always.iter().chain(more)).expect("clap takes every one of these").check()
    }

    #[test]
    fn the_defaults_are_memcacheds() {
        let options = options(&[]).expect("defaults are within their limits");
        assert_eq!((options.port, options.cores, options.connections), (11211, 4, 1024));
        assert_eq!((options.memory_bytes, options.item_size_bytes), (64 << 20, 1 << 20));
        assert!(options.evict && options.use_cas);
    }

    #[test]
    fn a_port_out_of_range_names_value_and_limit() {
        let error = options(&["-p", "70000"]).expect_err("no such port").to_string();
        assert_eq!(error, "-p 70000: not a TCP port from 1 to 65535");
        assert!(options(&["-p", "0"]).is_err());
    }

    #[test]
    fn an_address_that_no_host_can_have_is_refused() {
        for wrong in
            ["10.77.0.2", "10.77.0.0/24", "10.77.0.255/24", "127.0.0.1/8", "224.0.0.1/4", "10.77.0.2/31", "x/24"]
        {
            assert!(host_address(wrong).is_err(), "{wrong}");
        }
        assert_eq!(host_address("10.77.0.2/24"), Ok((Ipv4Addr::new(10, 77, 0, 2), 24)));
    }

    #[test]
    fn item_sizes_are_read_as_memcached_reads_them() {
        assert_eq!(item_size("512k"), Ok(512 << 10));
        assert_eq!(item_size("2M"), Ok(2 << 20));
        assert_eq!(item_size("2048"), Ok(2048));
        for wrong in ["", "k", "1023", "2g", "1x", "99999999999999999999m"] {
            assert!(item_size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_protocol_is_one_of_memcacheds() {
        assert_eq!(options(&["-B", "binary"]).map(|options| options.protocol), Ok(Protocol::Binary));
        assert_eq!(options(&[]).map(|options| options.protocol), Ok(Protocol::Auto));
        let error = options(&["-B", "text"]).expect_err("no such protocol").to_string();
        assert_eq!(error, "-B text: not one of auto, ascii, binary");
    }

    #[test]
    fn fewer_cpus_than_threads_are_refused() {
        assert_eq!(options(&["-t", "2", "--cpus", "1"]), Err(OptionError::Cpus { named: 1, threads: 2 }));
    }
}
