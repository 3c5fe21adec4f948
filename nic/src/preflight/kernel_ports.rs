//! `KernelPort`: ports that sockets of the kernel have, which a shared address must not take from them.
//!
//! Read first: `proc_net_tcp.rst` of the kernel's documentation.

use std::fs;
use std::net::Ipv4Addr;

use crate::xdp::Transport;

/// States of a TCP socket that has ended as far as its application knows (`include/net/tcp_states.h`).
const TIME_WAIT: u8 = 6;
const CLOSE: u8 = 7;

/// A port that a socket of the kernel has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelPort {
    /// Its transport.
    pub transport: Transport,
    /// The address it is bound to; `None` for all.
    pub address: Option<Ipv4Addr>,
    /// The port.
    pub port: u16,
}

impl KernelPort {
    /// Whether a packet to `address` and `port` is for this socket, as far as the receiver's end says.
    pub(super) fn takes(&self, transport: Transport, address: Ipv4Addr, port: u16) -> bool {
        self.transport == transport && self.port == port && self.address.is_none_or(|bound| bound == address)
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
    // Words of the machine's order; the last is the IPv4 address, or that which an IPv6 one maps.
    let (before, last) = address.split_at_checked(address.len().checked_sub(8)?)?;
    let ipv4 = Ipv4Addr::from(u32::from_str_radix(last, 16).ok()?.to_ne_bytes());
    let mapped = before.is_empty() || before == "0000000000000000FFFF0000";
    let any = ipv4.is_unspecified() && before.bytes().all(|digit| digit == b'0');
    match (any, mapped) {
        (true, _) => Some(KernelPort { transport, address: None, port }),
        (false, true) => Some(KernelPort { transport, address: Some(ipv4), port }),
        // Of IPv6 alone.
        (false, false) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernels_table_tells_where_a_socket_listens() {
        let on = |address, port| Some(KernelPort { transport: Transport::Tcp, address, port });
        let read = |line| socket(Transport::Tcp, line);
        let listens = "   0: 03004D0A:2BCB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0 0 1 1 0";
        assert_eq!(read(listens), on(Some(Ipv4Addr::new(10, 77, 0, 3)), 11211));
        assert_eq!(read("   1: 00000000:0016 00000000:0000 0A"), on(None, 22));
        assert_eq!(read("   1: 03004D0A:2BCB 01004D0A:9C40 06"), None, "TIME-WAIT");
        let any = "   0: 00000000000000000000000000000000:0016 00000000000000000000000000000000:0000 0A";
        assert_eq!(read(any), on(None, 22), "of both kinds, unless it says otherwise, which is not told here");
        let mapped = "   0: 0000000000000000FFFF000003004D0A:2BCB 0000000000000000FFFF000001004D0A:9C40 01";
        assert_eq!(read(mapped), on(Some(Ipv4Addr::new(10, 77, 0, 3)), 11211));
        assert_eq!(read("   0: 000080FE00000000FF005450B6AD1DFE:0016 00000000000000000000000000000000:0000 0A"), None);
        assert_eq!(read("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt"), None);
        assert_eq!(read(""), None);
    }

    #[test]
    fn a_listener_of_this_process_is_found() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let ports = kernel_ports();
        let takes = |address| ports.iter().any(|kernel| kernel.takes(Transport::Tcp, address, port));
        assert!(takes(Ipv4Addr::LOCALHOST) && !takes(Ipv4Addr::new(127, 0, 0, 2)));
    }
}
