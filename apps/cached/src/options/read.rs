//! The values of options, each read with its limits by a function that clap calls.

use std::convert::Infallible;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use cache::{Network, Protocol, User};
use nic::DeviceName;
use nic::wait_mode::WaitMode;
use stack::OwnAddress;

use super::error::OptionError;
use super::number::{Noted, Number, decimal, integer};
use super::users;

pub(super) const MEMORY: Number = Number::new("-m", "a number of megabytes", 1, 1 << 20);
pub(super) const CORES: Number = Number::new("-t", "a number of threads", 1, 64);
pub(super) const CONNECTIONS: Number = Number::new("-c", "a number of connections", 1, 16_000_000);
pub(super) const BACKLOG: Number = Number::new("-b", "a number of half-open connections", 0, 1 << 20);
pub(super) const REQUESTS: Number = Number::new("-R", "a number of requests", 1, 1 << 30);
pub(super) const SLAB_MIN: Number = Number::new("-n", "a number of bytes", 1, 256 << 10);
const QUEUES: Number = Number::new("--queues", "a number of queues", 1, 1024);
const RING_SIZE: Number = Number::new("--ring-size", "a power of two", 64, 32_768);
const CPU: Number = Number::new("--cpus", "a CPU number", 0, 4095).hint("; separate them by commas");
const VLAN: Number = Number::new("--vlan", "a VLAN number", 1, 4094);
const SPIN: Number = Number::new("--spin", "a number of microseconds", 0, 1_000_000);

/// How long an idle thread looks for work before it sleeps, unless told otherwise.
const SPIN_DEFAULT: Duration = Duration::from_micros(50);

/// A port, of TCP or UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenPort {
    /// None is listened on.
    Off,
    /// Whichever the server draws.
    Any,
    /// This one.
    Number(u16),
}

impl fmt::Display for ListenPort {
    /// As `-p` and `-U` take it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(f, "0"),
            Self::Any => write!(f, "-1"),
            Self::Number(port) => write!(f, "{port}"),
        }
    }
}

/// How the XDP program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Native, or generic where that is faster or all there is; with zero copy where the driver grants it.
    Auto,
    /// In the driver, and the NIC writes frames into our memory itself.
    ZeroCopy,
    /// In the driver, with zero copy or without.
    Native,
    /// In the driver, without zero copy.
    Copy,
    /// After the kernel has made an skb of the frame.
    Generic,
}

/// Which frames of the interface are the server's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Steering {
    /// All for an address that the kernel does not have.
    Own,
    /// Those for the server's ports at an address that the kernel has too.
    Shared,
    /// All of the queues that are opened.
    Dedicated,
}

/// The CPUs of `--cpus`, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cpus(pub(super) Vec<usize>);

/// The TCP port unless `-p` or `-U` says otherwise, as in memcached.
pub(super) const TCP_PORT: ListenPort = ListenPort::Number(11_211);

/// Threads unless `-t` says otherwise, as in memcached.
pub(super) const THREADS: usize = 4;

/// The largest item unless `-I` says otherwise, as in memcached.
pub(super) const ITEM_SIZE_BYTES: usize = 1 << 20;

/// Least memory of a shard, in bytes: room for two of the largest items.
const SHARD_LEAST_BYTES: usize = 2 * ITEM_SIZE_BYTES;

/// Threads for a store of `memory_bytes`: the default, or as many as have room for a shard of their own.
pub(super) fn threads_for(memory_bytes: usize, notes: &mut Vec<String>) -> usize {
    let threads = (memory_bytes / SHARD_LEAST_BYTES).clamp(1, THREADS);
    if threads < THREADS {
        let (megabytes, least) = (memory_bytes >> 20, SHARD_LEAST_BYTES >> 20);
        notes.push(format!(
            "-m {megabytes}: {threads} of {THREADS} threads, a shard needs {least} MB at -I 1m; -t decides otherwise"
        ));
    }
    threads
}

pub(super) fn cpus(list: &str) -> Result<Cpus, OptionError> {
    let cpu = |cpu| CPU.read_whole(cpu).map(|cpu| cpu as usize);
    list.split(',').map(cpu).collect::<Result<Vec<_>, _>>().map(Cpus)
}

pub(super) fn queues(text: &str) -> Result<usize, OptionError> {
    QUEUES.read_whole(text).map(|queues| queues as usize)
}

pub(super) fn vlan(text: &str) -> Result<u16, OptionError> {
    // At most 4094, which fits.
    Ok(VLAN.read_whole(text)? as u16)
}

pub(super) fn ring_size(text: &str) -> Result<u32, OptionError> {
    let size = RING_SIZE.read_whole(text)? as u32;
    if size.is_power_of_two() { Ok(size) } else { Err(RING_SIZE.wrong(text)) }
}

pub(super) fn spin(text: &str) -> Result<Duration, OptionError> {
    SPIN.read_whole(text).map(Duration::from_micros)
}

/// How long an idle thread looks for work before it sleeps: for ever, not at all, or as long as is asked.
pub(super) fn time_to_look(wait: WaitMode, asked: Option<Duration>) -> Result<Duration, OptionError> {
    let time = match wait {
        WaitMode::Auto => return Ok(asked.unwrap_or(SPIN_DEFAULT)),
        WaitMode::Spin => Duration::MAX,
        WaitMode::Irq => Duration::ZERO,
    };
    let why = "that says already how long a thread looks for work; leave --spin out, or give --wait auto";
    let refused =
        |asked: Duration| OptionError::Refused { option: format!("--wait {wait} --spin {}", asked.as_micros()), why };
    asked.map_or(Ok(time), |asked| Err(refused(asked)))
}

pub(super) fn wait(text: &str) -> Result<WaitMode, OptionError> {
    let why = "no way to wait; it must be spin, irq or auto";
    text.trim().parse().map_err(|_| OptionError::Refused { option: format!("--wait {text}"), why })
}

pub(super) fn tcp_port(text: &str) -> Result<Noted<ListenPort>, OptionError> {
    port("-p", "a TCP port", text)
}

pub(super) fn udp_port(text: &str) -> Result<Noted<ListenPort>, OptionError> {
    port("-U", "a UDP port", text)
}

fn port(option: &'static str, unit: &'static str, text: &str) -> Result<Noted<ListenPort>, OptionError> {
    const HINT: &str = ", or 0 for none, or -1 for any";
    match integer(text) {
        Some((0, "")) => Ok(Noted { value: ListenPort::Off, note: None }),
        Some((-1, "")) => Ok(Noted { value: ListenPort::Any, note: None }),
        _ => {
            let number = Number::new(option, unit, 1, 65_535).hint(HINT).read(text)?;
            // Every port fits 16 bits: `read` has checked it.
            Ok(number.map(|port| ListenPort::Number(port as u16)))
        }
    }
}

/// A network of `--udp-trust`, with its text for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trusted {
    pub(super) network: Network,
    pub(super) text: String,
}

/// Address and prefix length. An address alone is a network too.
fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, prefix) =
        text.trim().split_once('/').map_or((text.trim(), None), |(left, right)| (left, Some(right)));
    let address = IpAddr::from_str(address).ok()?;
    let whole = if address.is_ipv4() { 32 } else { 128 };
    let prefix = prefix.map_or(Some(whole), |prefix| u8::from_str(prefix).ok())?;
    Some((address, prefix)).filter(|&(address, prefix)| Network::new(address, prefix).is_some())
}

pub(super) fn trusted(text: &str) -> Result<Trusted, OptionError> {
    match network(text).and_then(|(address, prefix)| Network::new(address, prefix)) {
        Some(network) => Ok(Trusted { network, text: text.to_owned() }),
        None => Err(OptionError::Network { option: "--udp-trust", value: text.to_owned() }),
    }
}

pub(super) fn allowed(text: &str) -> Result<(IpAddr, u8), OptionError> {
    network(text).ok_or_else(|| OptionError::Network { option: "--allow", value: text.to_owned() })
}

pub(super) fn steering(text: &str) -> Result<Steering, OptionError> {
    match text.trim() {
        "own" => Ok(Steering::Own),
        "shared" => Ok(Steering::Shared),
        "dedicated" => Ok(Steering::Dedicated),
        _ => Err(OptionError::Word { option: "--steering", value: text.to_owned(), words: "own, shared, dedicated" }),
    }
}

pub(super) fn protocol(text: &str) -> Result<Protocol, OptionError> {
    match text.trim() {
        "auto" => Ok(Protocol::Auto),
        "ascii" => Ok(Protocol::Ascii),
        "binary" => Ok(Protocol::Binary),
        _ => Err(OptionError::Word { option: "-B", value: text.to_owned(), words: "auto, ascii, binary" }),
    }
}

pub(super) fn mode(text: &str) -> Result<Mode, OptionError> {
    match text.trim() {
        "auto" => Ok(Mode::Auto),
        "zero-copy" => Ok(Mode::ZeroCopy),
        "native" => Ok(Mode::Native),
        "copy" => Ok(Mode::Copy),
        "generic" => Ok(Mode::Generic),
        _ => {
            let words = "auto, zero-copy, native, copy, generic";
            Err(OptionError::Word { option: "--mode", value: text.to_owned(), words })
        }
    }
}

/// A name, without the blanks that unit files leave around it.
pub(super) fn name(text: &str) -> Result<String, Infallible> {
    Ok(text.trim().to_owned())
}

/// Which of the devices the server takes.
pub(super) fn device(text: &str) -> Result<DeviceName, OptionError> {
    let refused = |why| Err(OptionError::Refused { option: format!("--device {text}"), why });
    match text.trim().parse() {
        Ok(DeviceName::Xdp(name)) if name.first_queue > 0 => {
            refused("the server opens the first queues of an interface: leave the queue out, and give --queues NUMBER")
        }
        Ok(device @ (DeviceName::Xdp(_) | DeviceName::Tap(_))) => Ok(device),
        Ok(DeviceName::Wire) => {
            refused("a wire joins ports of one process, and no client is on it; without a NIC give tap:NAME")
        }
        Ok(DeviceName::Pcap(_)) => refused(
            "the clients of a capture wait for no answer; `sidestep replay FILE` plays a capture to the server's code, and \
             compares what it answers",
        ),
        Err(_) => refused("no device; write xdp:INTERFACE or tap:INTERFACE, such as xdp:eth0"),
    }
}

pub(super) fn slab_factor(text: &str) -> Result<f64, OptionError> {
    match decimal(text) {
        Some((factor, _)) if factor > 1.0 && factor <= 1000.0 => Ok(factor),
        _ => Err(OptionError::Refused { option: format!("-f {text}"), why: "not a factor above 1 and up to 1000" }),
    }
}

/// The first character counts, as in memcached.
pub(super) fn delimiter(text: &str) -> Result<u8, OptionError> {
    match text.trim().bytes().next() {
        Some(byte) if byte.is_ascii_graphic() => Ok(byte),
        _ => Err(OptionError::Refused { option: format!("-D {text}"), why: "not a printable character, such as :" }),
    }
}

pub(super) fn auth(path: &Path) -> Result<(String, Vec<User>), OptionError> {
    Ok((path.display().to_string(), users::read_users(path)?))
}

pub(super) fn host_address(text: &str) -> Result<OwnAddress, OptionError> {
    let wrong = || OptionError::Address { value: text.to_owned() };
    let (address, prefix) = text.trim().split_once('/').ok_or_else(wrong)?;
    let address = IpAddr::from_str(address).map_err(|_| wrong())?;
    let prefix = u8::from_str(prefix).map_err(|_| wrong())?;
    let prefixes = if address.is_ipv4() { 1..=30 } else { 1..=128 };
    if !prefixes.contains(&prefix) {
        return Err(wrong());
    }
    match no_host(address, prefix) {
        Some(why) => Err(OptionError::NotAHost { value: text.to_owned(), why }),
        None => Ok(OwnAddress::new(address, prefix)),
    }
}

/// Why no host can have the address, if none can.
fn no_host(address: IpAddr, prefix: u8) -> Option<&'static str> {
    let (host_bits, all_ones) = match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX >> prefix;
            (u128::from(address.to_bits() & mask), Some(u128::from(mask)))
        }
        // Of a link between two (RFC 6164) and of a single host the first address is one like others.
        IpAddr::V6(address) => (address.to_bits() & u128::MAX.checked_shr(prefix.into()).unwrap_or(0), None),
    };
    let single = address.is_ipv6() && prefix >= 127;
    match address {
        _ if address.is_loopback() => Some("it is a loopback address"),
        _ if address.is_multicast() || address.is_unspecified() => Some("it is no unicast address"),
        IpAddr::V4(address) if address.octets()[0] >= 240 => Some("it is no unicast address"),
        IpAddr::V6(address) if address.to_ipv4().is_some() => Some("it is an IPv4 address in disguise"),
        IpAddr::V4(_) if host_bits == 0 => Some("it is the network's own address"),
        IpAddr::V6(_) if host_bits == 0 && !single => Some("it is that of every router of the network"),
        _ if all_ones == Some(host_bits) => Some("it is the network's broadcast address"),
        _ => None,
    }
}

pub(super) fn gateway(text: &str) -> Result<IpAddr, OptionError> {
    let why = "not an IP address; write it like 10.77.0.1 or fe80::1";
    text.trim().parse().map_err(|_| OptionError::Refused { option: format!("--gateway {text}"), why })
}

/// memcached's -I: bytes, or with k or m; 1 KiB to 1 GiB (memcached.c, option `I`). A unit is the last character.
pub(super) fn item_size(text: &str) -> Result<usize, OptionError> {
    let text = text.trim();
    let wrong = || OptionError::Size { value: text.to_owned() };
    let unit = match text.bytes().last() {
        Some(b'k' | b'K') => 1i64 << 10,
        Some(b'm' | b'M') => 1 << 20,
        Some(b'g' | b'G') => 1 << 30,
        _ => 1,
    };
    let bytes = integer(text).and_then(|(number, _)| number.checked_mul(unit)).ok_or_else(wrong)?;
    if (1 << 10..=1 << 30).contains(&bytes) { Ok(bytes as usize) } else { Err(wrong()) }
}
