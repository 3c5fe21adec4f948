//! The values of options, each read with its limits by a function that clap calls.

use std::convert::Infallible;
use std::fmt;
use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use cache::{Network, Protocol, User};
use nic::DeviceName;
use nic::wait_mode::WaitMode;

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

/// All addresses of `-l` as one list; several `-l` add up, and one that is a part of those before adds nothing (memcached.c,
/// `case 'l'`).
pub(super) fn listen_list(given: Vec<String>) -> Option<String> {
    given.into_iter().reduce(|list, next| if list.contains(&next) { list } else { format!("{list},{next}") })
}

/// The port that the addresses of `-l` name, if they do: there is one port, so that all name the same.
pub(super) fn listen_port(listen: Option<&str>, own: Ipv4Addr) -> Result<Option<u16>, OptionError> {
    let Some(list) = listen else { return Ok(None) };
    let mut addresses = list.split([',', ';']).filter(|address| !address.is_empty());
    let port = port_of_address(addresses.next().unwrap_or(list), own)?;
    for next in addresses {
        if port_of_address(next, own)? != port {
            let why = "its port is not that of the address before, and there is one listener";
            return Err(OptionError::Listen { value: next.to_owned(), why, own: own.to_string() });
        }
    }
    Ok(port)
}

fn port_of_address(listen: &str, own: Ipv4Addr) -> Result<Option<u16>, OptionError> {
    let wrong = |why| OptionError::Listen { value: listen.to_owned(), why, own: own.to_string() };
    let listen = listen.trim();
    let place = listen.strip_prefix("tcp:").unwrap_or(listen);
    let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
    match Ipv4Addr::from_str(host) {
        Ok(address) if address == own || address.is_unspecified() => {}
        Ok(_) => return Err(wrong("this is another address")),
        Err(_) => return Err(wrong("this is no IPv4 address")),
    }
    match port.map(u16::from_str) {
        None => Ok(None),
        Some(Ok(port)) if port > 0 => Ok(Some(port)),
        Some(_) => Err(wrong("what follows the colon is no port")),
    }
}

/// A network of `--udp-trust`, with its text for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trusted {
    pub(super) network: Network,
    pub(super) text: String,
}

/// Address and prefix length. An address alone is a network too.
fn network(text: &str) -> Option<(Ipv4Addr, u8)> {
    let (address, prefix) = text.trim().split_once('/').unwrap_or((text.trim(), "32"));
    let network = Ipv4Addr::from_str(address).ok().zip(u8::from_str(prefix).ok());
    network.filter(|&(address, prefix)| Network::new(address, prefix).is_some())
}

pub(super) fn trusted(text: &str) -> Result<Trusted, OptionError> {
    match network(text).and_then(|(address, prefix)| Network::new(address, prefix)) {
        Some(network) => Ok(Trusted { network, text: text.to_owned() }),
        None => Err(OptionError::Network { option: "--udp-trust", value: text.to_owned() }),
    }
}

pub(super) fn allowed(text: &str) -> Result<(Ipv4Addr, u8), OptionError> {
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

pub(super) fn host_address(text: &str) -> Result<(Ipv4Addr, u8), OptionError> {
    let wrong = || OptionError::Address { value: text.to_owned() };
    let (address, prefix) = text.trim().split_once('/').ok_or_else(wrong)?;
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

pub(super) fn gateway(text: &str) -> Result<Ipv4Addr, OptionError> {
    let why = "not an IPv4 address; write it like 10.77.0.1";
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
