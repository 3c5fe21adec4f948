//! The values of options, each read with its limits.

use std::net::Ipv4Addr;
use std::path::Path;
use std::str::FromStr;

use cache::{Network, User};

use super::number::{Number, decimal, integer};
use super::{ListenPort, OptionError, users};

/// The TCP port unless `-p` or `-U` says otherwise, as in memcached.
pub(super) const TCP_PORT: &str = "11211";

/// Threads unless `-t` says otherwise, as in memcached.
pub(super) const THREADS: usize = 4;

/// Least memory of a shard, in bytes, beside room for two of the largest items.
const SHARD_LEAST_BYTES: usize = 1 << 20;

/// Threads for a store of `memory_bytes`: the default, or as many as have room for a shard of their own.
pub(super) fn threads_for(memory_bytes: usize, item_size_bytes: usize, notes: &mut Vec<String>) -> usize {
    let least = SHARD_LEAST_BYTES.max(2 * item_size_bytes);
    let threads = (memory_bytes / least).clamp(1, THREADS);
    if threads < THREADS {
        let (megabytes, least) = (memory_bytes >> 20, least >> 20);
        notes.push(format!(
            "-m {megabytes}: {threads} of {THREADS} threads, a shard needs {least} MB at -I 1m; -t decides otherwise"
        ));
    }
    threads
}

pub(super) fn cpus(list: Option<&str>, threads: usize) -> Result<Vec<usize>, OptionError> {
    let number = Number::new("--cpus", "a CPU number", 0, 4095).hint("; separate them by commas");
    let cpu = |cpu| number.read_whole(cpu).map(|cpu| cpu as usize);
    let cpus = list.map_or(Ok(Vec::new()), |list| list.split(',').map(cpu).collect::<Result<Vec<_>, _>>())?;
    if !cpus.is_empty() && cpus.len() < threads {
        return Err(OptionError::Cpus { named: cpus.len(), threads });
    }
    Ok(cpus)
}

/// The port of `-p` or `-U`, or `listen`, that of `-l`, which is for both if they are not off.
pub(super) fn port(
    option: &'static str,
    text: &str,
    unit: &'static str,
    listen: Option<u16>,
    notes: &mut Vec<String>,
) -> Result<ListenPort, OptionError> {
    const HINT: &str = ", or 0 for none, or -1 for any";
    let port = match integer(text) {
        Some((0, "")) => return Ok(ListenPort::Off),
        Some((-1, "")) => ListenPort::Any,
        // Every port fits 16 bits: `read` has checked it.
        _ => ListenPort::Number(Number::new(option, unit, 1, 65_535).hint(HINT).read(text, notes)? as u16),
    };
    Ok(listen.map_or(port, ListenPort::Number))
}

/// The port that `-l` names, if it does.
pub(super) fn listen_port(listen: Option<&str>, own: Ipv4Addr) -> Result<Option<u16>, OptionError> {
    let Some(listen) = listen else { return Ok(None) };
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

/// A network of `--udp-trust`; an address alone is one.
pub(super) fn network(text: &str) -> Result<Network, OptionError> {
    let (address, prefix) = text.trim().split_once('/').unwrap_or((text.trim(), "32"));
    let network = Ipv4Addr::from_str(address).ok().zip(u8::from_str(prefix).ok());
    let network = network.and_then(|(address, prefix)| Network::new(address, prefix));
    network.ok_or(OptionError::Network { value: text.to_owned() })
}

pub(super) fn word(
    option: &'static str,
    text: String,
    known: &[&'static str],
    words: &'static str,
) -> Result<&'static str, OptionError> {
    let found = known.iter().copied().find(|known| *known == text.trim());
    found.ok_or(OptionError::Word { option, value: text, words })
}

pub(super) fn slab_factor(text: &str) -> Result<f64, OptionError> {
    match decimal(text) {
        Some((factor, _)) if factor > 1.0 && factor <= 1000.0 => Ok(factor),
        _ => Err(OptionError::Refused { option: format!("-f {text}"), why: "not a factor above 1 and up to 1000" }),
    }
}

/// The first character counts, as in memcached.
pub(super) fn delimiter(text: String) -> Result<u8, OptionError> {
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
