//! `KernelPort`: ports that sockets of the kernel have, which a shared address must not take from them.
//!
//! Read first: `proc_net_tcp.rst` of the kernel's documentation.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use crate::xdp::Transport;

/// States of a TCP socket that has ended as far as its application knows (`include/net/tcp_states.h`).
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;

/// A port that a socket of the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelPort {
    /// Its transport.
    pub transport: Transport,
    /// The address it is bound to; `None` for all of both families, 0.0.0.0 for all of IPv4.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl KernelPort {
    /// Whether a packet to `address` and `port` is for this socket, as far as the receiver's end says.
    pub(super) fn takes(&self, transport: Transport, address: IpAddr, port: u16) -> bool {
        let there = |bound: IpAddr| bound == address || (bound == Ipv4Addr::UNSPECIFIED && address.is_ipv4());
        self.transport == transport && self.port == port && self.address.is_none_or(there)
    }
}

/// Those of the calling thread's network namespace; none where the kernel does not tell.
pub(super) fn kernel_ports() -> Vec<KernelPort> {
    let tables = [(Transport::Tcp, "tcp"), (Transport::Tcp, "tcp6"), (Transport::Udp, "udp"), (Transport::Udp, "udp6")];
    let read = |(transport, name)| {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default();
        table.lines().filter_map(move |line| socket(transport, line)).collect::<Vec<_>>()
    };
    tables.into_iter().flat_map(read).collect()
}

/// A line of such a table: number, local address and port, remote ones, state.
fn socket(transport: Transport, line: &str) -> Option<KernelPort> {
    let mut words = line.split_whitespace();
    let (_, local, _, state) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (address, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let state = u8::from_str_radix(state, 16).ok()?;
    if transport == Transport::Tcp && matches!(state, TIME_WAIT | CLOSE) {
        return None;
    }
    // Words of the machine's order: one of an IPv4 address, four of an IPv6 one, which may map an IPv4 one.
    let word = |at: usize| u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok().map(u32::to_ne_bytes);
    let address = match address.len() {
        8 => IpAddr::from(word(0)?),
        32 => {
            let mut bytes = [0; 16];
            for (at, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(at)?);
            }
            IpAddr::from(bytes).to_canonical()
        }
        _ => return None,
    };
    // Whether one of all IPv6 addresses is of IPv6 alone (IPV6_V6ONLY) is not told here.
    let address = Some(address).filter(|address| address.is_ipv4() || !address.is_unspecified());
    Some(KernelPort { transport, address, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_tells_where_a_socket_listens() {
        let on = |address, port| Some(KernelPort { transport: Transport::Tcp, address, port });
        let read = |line| socket(Transport::Tcp, line);
        let listens = "   0: 03004D0A:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1 1 0";
        let ipv4 = IpAddr::from([10, 77, 0, 3]);
        assert_eq!(read(listens), on(Some(ipv4), 11211));
        assert_eq!(read("   1: 00000000:0016 00000000:0000 0A"), on(Some(Ipv4Addr::UNSPECIFIED.into()), 22));
        assert_eq!(read("   1: 03004D0A:2BCB 01004D0A:9C40 06"), None, "TIME-WAIT");
        let any = "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A";
        assert_eq!(read(any), on(None, 22));
        let mapped = "   0: 0000000000000000FFFF000003004D0A:2BCB 0000000000000000FFFF000001004D0A:9C40 01";
        assert_eq!(read(mapped), on(Some(ipv4), 11211));
        let local = "   0: 000080FE00000000FF005450B6AD1DFE:0016 00000000000000000000000000000000:0000 0A";
        assert_eq!(read(local), on(Some("fe80::5054:ff:fe1d:adb6".parse().unwrap()), 22));
        assert_eq!(read("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_socket_of_all_addresses_of_ipv4_takes_none_of_ipv6() {
        let (ipv4, ipv6) = (IpAddr::from([10, 77, 0, 3]), "2001:db8::3".parse::<IpAddr>().unwrap());
        let takes = |bound: Option<IpAddr>| {
            let kernel = KernelPort { transport: Transport::Tcp, address: bound, port: 11211 };
            [ipv4, ipv6].map(|address| kernel.takes(Transport::Tcp, address, 11211))
        };
        assert_eq!(takes(None), [true, true]);
        assert_eq!(takes(Some(Ipv4Addr::UNSPECIFIED.into())), [true, false]);
        assert_eq!(takes(Some(ipv6)), [false, true]);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = kernel_ports();
        let takes = |address| ports.iter().any(|kernel| kernel.takes(Transport::Tcp, address, port));
        assert!(takes(Ipv4Addr::LOCALHOST.into()) && !takes([127, 0, 0, 2].into()));
    }
}
