//! `-l`, as memcached's `server_sockets` reads it.
//!
//! One port is listened on, at all of the server's addresses: the list may say which these are, and not leave one out.

use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use stack::OwnAddress;

use super::error::OptionError;

/// What an address of `-l` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Every address: `*`.
    All,
    /// One, or by the unspecified one all of its family.
    Address(IpAddr),
}

impl Named {
    fn covers(self, own: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Address(address) if address.is_unspecified() => address.is_ipv4() == own.is_ipv4(),
            Self::Address(address) => address == own,
        }
    }
}

/// All addresses of `-l` as one list; several `-l` add up, and one that is there adds nothing (memcached.c, `case 'l'`, which
/// takes 10.77.0.2 to be there where 10.77.0.22 is).
pub(super) fn listen_list(given: Vec<String>) -> Option<String> {
    let is_there = |list: &str, next: &str| listed(list).any(|before| before == next);
    given.into_iter().reduce(|list, next| if is_there(&list, &next) { list } else { format!("{list},{next}") })
}

/// The addresses of such a list, as they were typed.
fn listed(list: &str) -> impl Iterator<Item = &str> {
    list.split([',', ';']).filter(|address| !address.is_empty())
}

/// The same as addresses, of a list that [`listen_port`] has read; `*` is the unspecified one of IPv4.
pub(super) fn addresses(list: &str) -> Vec<IpAddr> {
    let address = |typed: &str| match read(typed.trim()) {
        Ok((Named::Address(address), _)) => Some(address),
        Ok((Named::All, _)) => Some(Ipv4Addr::UNSPECIFIED.into()),
        Err(_) => None,
    };
    listed(list).filter_map(address).collect()
}

/// The port that the addresses of `-l` name, if they do: there is one port, so that all name the same.
pub(super) fn listen_port(listen: Option<&str>, own: &[OwnAddress]) -> Result<Option<u16>, OptionError> {
    let Some(list) = listen else { return Ok(None) };
    let wrong = |value: &str, why: String| {
        let own = own.iter().map(|own| own.address.to_string()).collect::<Vec<_>>().join(", ");
        Err(OptionError::Listen { value: value.to_owned(), why, own })
    };
    let mut named = Vec::new();
    let mut port = None;
    for typed in listed(list) {
        let (address, its_port) = match read(typed.trim()) {
            Ok(read) => read,
            Err(why) => return wrong(typed, why.to_owned()),
        };
        if !own.iter().any(|own| address.covers(own.address)) {
            return wrong(typed, "this is another address".to_owned());
        }
        if port.replace(its_port).is_some_and(|before| before != its_port) {
            return wrong(typed, "its port is not that of the address before, and there is one listener".to_owned());
        }
        named.push(address);
    }
    if named.is_empty() {
        return wrong(list, "this is no address".to_owned());
    }
    match own.iter().find(|own| !named.iter().any(|named| named.covers(own.address))) {
        Some(left_out) => wrong(list, format!("{} is left out, and every --address is listened on", left_out.address)),
        None => Ok(port.flatten()),
    }
}

/// An address, with its port if it has one: `HOST`, `HOST:PORT`, `[HOST]`, `[HOST]:PORT`, an IPv6 one without brackets and port.
fn read(typed: &str) -> Result<(Named, Option<u16>), &'static str> {
    let place = typed.strip_prefix("tcp:").unwrap_or(typed);
    let (host, rest) = match place.strip_prefix('[') {
        Some(inside) => inside.split_once(']').ok_or("it has no closing bracket")?,
        None => match place.split_once(':') {
            // More than one colon: of IPv6, without a port.
            Some((_, behind)) if behind.contains(':') => (place, ""),
            Some((host, _)) => place.split_at(host.len()),
            None => (place, ""),
        },
    };
    let named = match host {
        "*" => Named::All,
        host => Named::Address(IpAddr::from_str(host).map_err(|_| "this is no IP address")?),
    };
    let port = match rest.strip_prefix(':').map(u16::from_str) {
        None if rest.is_empty() => None,
        Some(Ok(port)) if port > 0 => Some(port),
        _ => return Err("what follows the address is no port"),
    };
    Ok((named, port))
}
