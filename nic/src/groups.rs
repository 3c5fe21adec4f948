//! `SolicitedGroups`: the groups by which neighbours solicit addresses that only the stack has (RFC 4291 §2.7.1), joined in
//! the kernel, so that frames to them come in.
//!
//! A NIC takes in frames to the groups that its driver has been told of, and a switch that follows listeners (RFC 4541)
//! hands on those that somebody has reported. The kernel does both for a socket that has joined; what comes in still goes
//! where the XDP program sends it. The groups are left when the sockets close, at the latest when the process ends, however
//! it does. Control side only; sees the network namespace of the calling thread. Read first: `packet(7)`,
//! "PACKET_ADD_MEMBERSHIP"; `ipv6(7)`, "IPV6_ADD_MEMBERSHIP".

use std::fmt;
use std::io;
use std::net::Ipv6Addr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use crate::link::Link;
use crate::mac::Mac;
use crate::sys::packet;

/// Memberships of a link, for as long as this lives.
#[derive(Debug)]
pub struct SolicitedGroups {
    /// Has the NIC take in the frames.
    _filter: OwnedFd,
    /// Has the kernel report them to switches; or why it does not.
    reports: io::Result<OwnedFd>,
    groups: usize,
}

impl SolicitedGroups {
    /// Joins the groups of `addresses` on `link`, and reports them by the interface of index `reported_by`, which is the link
    /// itself or one of a VLAN that stands on it; `None` where the kernel has no interface of the VLAN. `Ok(None)` without
    /// addresses.
    ///
    /// # Errors
    /// The link is gone, or the process may not (`CAP_NET_RAW`). That nothing is reported is no error, and said.
    pub fn join(link: &Link, reported_by: Option<u32>, addresses: &[Ipv6Addr]) -> io::Result<Option<Self>> {
        let mut groups: Vec<Ipv6Addr> = addresses.iter().map(|&address| solicited_group(address)).collect();
        groups.sort_unstable();
        groups.dedup();
        if groups.is_empty() {
            return Ok(None);
        }
        // Protocol 0: no frame arrives.
        let filter = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        for group in &groups {
            packet::hear_group(filter.as_fd(), link.index, group_mac(*group).0)?;
        }
        let no_interface = || io::Error::other("the kernel has no interface of this VLAN");
        let reports = reported_by.ok_or_else(no_interface).and_then(|index| report(index, &groups));
        Ok(Some(Self { _filter: filter, reports, groups: groups.len() }))
    }
}

impl fmt::Display for SolicitedGroups {
    /// One line for the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups = match self.groups {
            1 => "the group by which neighbours solicit its address is joined".to_owned(),
            many => format!("the {many} groups by which neighbours solicit its addresses are joined"),
        };
        match &self.reports {
            Ok(_) => write!(f, "{groups}, and reported to switches by the kernel"),
            Err(error) => write!(f, "{groups}, and not reported to switches that ask for listeners: {error}"),
        }
    }
}

fn report(index: u32, groups: &[Ipv6Addr]) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    for group in groups {
        sockopt::set_ipv6_add_membership(&socket, group, index)?;
    }
    Ok(socket)
}

/// The group by which `address` is solicited: a fixed prefix, and its last 24 bits.
fn solicited_group(address: Ipv6Addr) -> Ipv6Addr {
    const PREFIX: u128 = 0xff02_0000_0000_0000_0000_0001_ff00_0000;
    Ipv6Addr::from_bits(PREFIX | (address.to_bits() & 0xff_ffff))
}

/// The Ethernet address of a group: 33:33 and its last four bytes (RFC 2464 §7).
fn group_mac(group: Ipv6Addr) -> Mac {
    let [.., a, b, c, d] = group.octets();
    Mac([0x33, 0x33, a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_solicited_by_its_last_24_bits() {
        let group = |text: &str| solicited_group(text.parse().expect("an address"));
        assert_eq!(group("4037::1:800:200e:8c6c").to_string(), "ff02::1:ff0e:8c6c", "RFC 4291 §2.7.1's own example");
        assert_eq!(group("2001:db8::2"), group("fe80::2"));
        assert_eq!(group_mac(group("2001:db8::ab:cdef:1234")).0, [0x33, 0x33, 0xff, 0xef, 0x12, 0x34]);
    }

    #[test]
    fn without_addresses_nothing_is_joined() {
        let link = Link {
            name: "no-such".to_owned(),
            index: u32::MAX >> 1,
            mac: Mac([2; 6]),
            mtu: 1500,
            up: true,
            rx_queues: 1,
            tx_queues: 1,
            tx_queues_max: 1,
            combined: 1,
            rx_ring: None,
            driver: String::new(),
        };
        assert!(SolicitedGroups::join(&link, None, &[]).expect("nothing is asked for").is_none());
        assert!(SolicitedGroups::join(&link, None, &[Ipv6Addr::LOCALHOST]).is_err(), "there is no such link");
    }
}
