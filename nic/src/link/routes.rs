//! `Routes`: the next hops of an interface, as the kernel's main table has them, and what becomes of them.
//!
//! The kernel tells of each change over the multicast groups of IPv4 and IPv6 routes, so that a look at a machine with a million
//! routes costs nothing while they stay; then the routes of this interface alone are asked for. Routes that vanish with
//! their interface vanish without a word, so who watches asks anew when the state of the interface has changed. Control
//! side only; sees the network namespace of the calling thread. Read first: `rtnetlink(7)`, "RTM_GETROUTE".

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DecodeError, ErrorBuffer, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::family::IpFamily;
use crate::route::Route;

/// `RTM_NEWROUTE`, the kind of each answer, and `RTM_GETROUTE` (`linux/rtnetlink.h`).
const NEWROUTE: u16 = 24;
const GETROUTE: u16 = 26;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// `RTNLGRP_IPV4_ROUTE` and `RTNLGRP_IPV6_ROUTE`.
const IPV4_ROUTES: u32 = 7;
const IPV6_ROUTES: u32 = 11;
/// `AF_INET`, `AF_INET6`, `RT_TABLE_MAIN`, `RTN_UNICAST`.
const INET: u8 = 2;
const INET6: u8 = 10;
const MAIN: u8 = 254;
const UNICAST: u8 = 1;
/// `RTNH_F_DEAD | RTNH_F_LINKDOWN`, of a route or of one of its hops.
const DEAD: u8 = 1 | 16;
/// Bytes of `struct nlmsghdr`, of `struct rtmsg` and of `struct rtnexthop`.
const MESSAGE_BYTES: usize = 16;
const ROUTE_BYTES: usize = 12;
const HOP_BYTES: usize = 8;
/// `RTA_DST`, `RTA_OIF`, `RTA_GATEWAY`, `RTA_PRIORITY`, `RTA_MULTIPATH`, `RTA_TABLE`.
const DESTINATION: u16 = 1;
const INTERFACE: u16 = 4;
const GATEWAY: u16 = 5;
const PRIORITY: u16 = 6;
const MULTIPATH: u16 = 9;
const TABLE: u16 = 15;
/// Bits of an attribute's kind that say how it is encoded (`NLA_F_NESTED`, `NLA_F_NET_BYTEORDER`).
const KIND_FLAGS: u16 = 0xc000;
/// Messages taken off the multicast group in one look: what is more is there in the next.
const TOLD_AT_ONCE: usize = 4_096;

/// Watches the routes of one interface.
#[derive(Debug)]
pub struct Routes {
    index: u32,
    families: Vec<IpFamily>,
    /// Where the kernel tells that routes have changed; `None`: it would not, and each look asks.
    told: Option<Socket>,
    /// Whether to ask whatever is told.
    stale: bool,
    last: Vec<Route>,
}

impl Routes {
    /// Those of `families` of the interface of that index. The first look tells all of them.
    pub fn new(index: u32, families: Vec<IpFamily>) -> Self {
        Self { index, told: listen(&families).ok(), families, stale: true, last: Vec::new() }
    }

    /// Has the next look ask, as after the interface was down.
    pub fn doubt(&mut self) {
        self.stale = true;
    }

    /// All routes, if they are others than at the last look: of each network the one of the least metric, of each family the
    /// longest prefixes first, at most [`Route::MOST`].
    ///
    /// # Errors
    /// The kernel refused; the next look asks again.
    pub fn look(&mut self) -> io::Result<Option<Vec<Route>>> {
        let told = self.told.as_ref().is_none_or(has_told);
        if !told && !self.stale {
            return Ok(None);
        }
        self.stale = true;
        let routes = routes_of(self.index, &self.families)?;
        self.stale = false;
        if routes == self.last {
            return Ok(None);
        }
        self.last.clone_from(&routes);
        Ok(Some(routes))
    }
}

fn listen(families: &[IpFamily]) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    for family in families {
        socket.add_membership(match family {
            IpFamily::V4 => IPV4_ROUTES,
            IpFamily::V6 => IPV6_ROUTES,
        })?;
    }
    socket.set_non_blocking(true)?;
    Ok(socket)
}

/// Whether the kernel has told of any change since it was asked last.
fn has_told(socket: &Socket) -> bool {
    let mut buffer = Vec::with_capacity(4_096);
    for read in 0..TOLD_AT_ONCE {
        buffer.clear();
        match socket.recv(&mut buffer, libc::MSG_TRUNC) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return read > 0,
            // It has told more than the socket holds (ENOBUFS).
            Err(_) => return true,
        }
    }
    true
}

/// The routes of the main table that leave by the interface of that index, sorted.
fn routes_of(index: u32, families: &[IpFamily]) -> io::Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in families {
        // A kernel without IPv6 tells of IPv4 instead, which `read` tells apart.
        let number = match family {
            IpFamily::V4 => INET,
            IpFamily::V6 => INET6,
        };
        routes.extend(sorted(routes_of_family(number, index)?));
    }
    Ok(routes)
}

fn routes_of_family(family: u8, index: u32) -> io::Result<Vec<(u32, Route)>> {
    let socket = Socket::new(NETLINK_ROUTE)?;
    // Before Linux 4.20 it tells of all interfaces, which `read` tells apart as well.
    let _ = socket.set_netlink_get_strict_chk(true);
    // To the kernel: its port is 0.
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family, index), 0)?;
    let mut found = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full()?;
        if read(&answer, family, index, &mut found)? {
            return Ok(found);
        }
    }
}

/// A request for the routes of a family, of the main table, by that interface.
fn request(family: u8, index: u32) -> Vec<u8> {
    let attribute = |kind: u16, value: u32| {
        let mut bytes = [8u16.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value.to_ne_bytes());
        bytes
    };
    let attributes = [attribute(TABLE, MAIN.into()), attribute(INTERFACE, index)].concat();
    let length = (MESSAGE_BYTES + ROUTE_BYTES + attributes.len()) as u32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend(GETROUTE.to_ne_bytes());
    bytes.extend(DUMP.to_ne_bytes());
    // Sequence number and port.
    bytes.extend([0; 8]);
    bytes.push(family);
    bytes.extend([0; ROUTE_BYTES - 1]);
    bytes.extend(attributes);
    bytes
}

/// Reads one datagram of a dump into `found`, each route with its metric. Returns whether it was the last.
fn read(mut datagram: &[u8], family: u8, index: u32, found: &mut Vec<(u32, Route)>) -> io::Result<bool> {
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(invalid)?;
        match message.message_type() {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = ErrorBuffer::new_checked(message.payload()).map_err(invalid)?;
                // The kernel gives the error number negated.
                return Err(io::Error::from_raw_os_error(error.code().map_or(0, |code| -code.get())));
            }
            NEWROUTE => found.extend(route(message.payload(), family, index)?),
            _ => {}
        }
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    Ok(false)
}

/// The address of an attribute of that family.
fn address(family: u8, value: &[u8]) -> Option<IpAddr> {
    match family {
        INET => value.first_chunk::<4>().map(|&bytes| IpAddr::from(bytes)),
        _ => value.first_chunk::<16>().map(|&bytes| IpAddr::from(bytes)),
    }
}

/// A route of the family's main table by that interface, with its metric.
fn route(payload: &[u8], asked: u8, index: u32) -> io::Result<Option<(u32, Route)>> {
    let Some((header, attributes)) = payload.split_first_chunk::<ROUTE_BYTES>() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let [family, prefix_len, source_len, tos, mut table, _, _, kind, flags, ..] = *header;
    // A route for packets of some sources or kinds only is none of ours.
    if family != asked || kind != UNICAST || source_len != 0 || tos != 0 {
        return Ok(None);
    }
    let (any, most) = match family {
        INET => (Ipv4Addr::UNSPECIFIED.into(), 32),
        _ => (Ipv6Addr::UNSPECIFIED.into(), 128),
    };
    let mut route = Route { network: any, prefix_len, gateway: None };
    let (mut interface, mut metric, mut hops) = (None, 0, None);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.map_err(invalid)?;
        let word = attribute.value().first_chunk::<4>().copied();
        match (attribute.kind() & !KIND_FLAGS, word) {
            (DESTINATION, _) => route.network = address(family, attribute.value()).unwrap_or(any),
            (GATEWAY, _) => route.gateway = address(family, attribute.value()),
            (INTERFACE, Some(word)) => interface = Some(u32::from_ne_bytes(word)),
            (PRIORITY, Some(word)) => metric = u32::from_ne_bytes(word),
            // A table's number of 256 and more is only here.
            (TABLE, Some(word)) => table = u8::try_from(u32::from_ne_bytes(word)).unwrap_or(0),
            (MULTIPATH, _) => hops = Some(attribute.value().to_vec()),
            _ => {}
        }
    }
    if table != MAIN || prefix_len > most {
        return Ok(None);
    }
    if let Some(hops) = hops {
        let Some(gateway) = hop(&hops, family, index)? else { return Ok(None) };
        return Ok(Some((metric, Route { gateway, ..route })));
    }
    let ours = interface == Some(index) && flags & DEAD == 0;
    Ok(ours.then_some((metric, route)))
}

/// The gateway of the first of several hops that leaves by that interface and is not dead.
fn hop(mut hops: &[u8], family: u8, index: u32) -> io::Result<Option<Option<IpAddr>>> {
    while let Some(header) = hops.first_chunk::<HOP_BYTES>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let interface = u32::from_ne_bytes([header[4], header[5], header[6], header[7]]);
        let attributes = hops.get(HOP_BYTES..length).ok_or(io::ErrorKind::InvalidData)?;
        if interface == index && header[2] & DEAD == 0 {
            let mut gateway = None;
            for attribute in NlasIterator::new(attributes) {
                let attribute = attribute.map_err(invalid)?;
                if attribute.kind() & !KIND_FLAGS == GATEWAY {
                    gateway = address(family, attribute.value());
                }
            }
            return Ok(Some(gateway));
        }
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(None)
}

/// Of each network the route of the least metric; the longest prefixes first. Of too many those of the shortest prefixes,
/// which lead furthest.
fn sorted(mut found: Vec<(u32, Route)>) -> Vec<Route> {
    found.sort_by_key(|(metric, route)| (route.prefix_len, route.network, *metric));
    found.dedup_by_key(|(_, route)| (route.prefix_len, route.network));
    found.truncate(Route::MOST);
    found.into_iter().rev().map(|(_, route)| route).collect()
}

fn invalid(error: DecodeError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: u32 = 7;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A message of a dump: table, kind and flags, prefix length, and attributes.
    fn message(what: (u8, u8, u8), prefix_len: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        message_of(INET, what, prefix_len, attributes)
    }

    fn message_of(family: u8, (table, kind, flags): (u8, u8, u8), prefix_len: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let mut bytes = ((MESSAGE_BYTES + ROUTE_BYTES + attributes.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend(NEWROUTE.to_ne_bytes());
        bytes.extend([2, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend([family, prefix_len, 0, 0, table, 3, 0, kind, flags, 0, 0, 0]);
        bytes.extend(attributes);
        bytes
    }

    fn done() -> Vec<u8> {
        let mut bytes = 20u32.to_ne_bytes().to_vec();
        bytes.extend(NLMSG_DONE.to_ne_bytes());
        bytes.extend([0; 14]);
        bytes
    }

    fn by(index: u32) -> Vec<u8> {
        attribute(INTERFACE, &index.to_ne_bytes())
    }

    fn via(last: u8) -> Vec<u8> {
        attribute(GATEWAY, &[10, 77, 0, last])
    }

    fn routes(messages: &[Vec<u8>]) -> Vec<Route> {
        let mut found = Vec::new();
        let datagram = [messages.concat(), done()].concat();
        assert!(read(&datagram, INET, OURS, &mut found).expect("it is well formed"));
        sorted(found)
    }

    fn route_of(network: [u8; 4], prefix_len: u8, gateway: Option<u8>) -> Route {
        let gateway = gateway.map(|last| [10, 77, 0, last].into());
        Route { network: network.into(), prefix_len, gateway }
    }

    #[test]
    fn the_routes_of_the_interface_are_told_by_length_and_the_least_metric_wins() {
        const PLAIN: (u8, u8, u8) = (MAIN, UNICAST, 0);
        let metric = |metric: u32| attribute(PRIORITY, &metric.to_ne_bytes());
        let to = |network: [u8; 4]| attribute(DESTINATION, &network);
        let found = routes(&[
            message(PLAIN, 0, &[by(OURS), via(1), metric(200)]),
            message(PLAIN, 0, &[by(OURS), via(2), metric(100)]),
            message(PLAIN, 24, &[to([10, 77, 0, 0]), by(OURS)]),
            message(PLAIN, 16, &[to([10, 9, 0, 0]), by(OURS), via(3)]),
            // Another interface, another table, a dead hop, a route that throws packets away.
            message(PLAIN, 8, &[to([10, 0, 0, 0]), by(8), via(4)]),
            message((255, UNICAST, 0), 32, &[to([10, 77, 0, 3]), by(OURS)]),
            message(PLAIN, 8, &[to([10, 0, 0, 0]), by(OURS), via(4), attribute(TABLE, &1_000u32.to_ne_bytes())]),
            message((MAIN, UNICAST, 16), 8, &[to([10, 0, 0, 0]), by(OURS), via(4)]),
            message((MAIN, 6, 0), 8, &[to([10, 0, 0, 0]), by(OURS)]),
        ]);
        let wanted = [
            route_of([10, 77, 0, 0], 24, None),
            route_of([10, 9, 0, 0], 16, Some(3)),
            route_of([0, 0, 0, 0], 0, Some(2)),
        ];
        assert_eq!(found, wanted);
    }

    /// As the kernel tells of them: the link's prefix, a default route that a router has advertised, and two hops.
    #[test]
    fn routes_of_ipv6_are_read_like_those_of_ipv4_and_each_family_by_itself() {
        const PLAIN: (u8, u8, u8) = (MAIN, UNICAST, 0);
        let ipv6 = |text: &str| text.parse::<Ipv6Addr>().expect("an address");
        let octets = |kind, text: &str| attribute(kind, &ipv6(text).octets());
        let metric = attribute(PRIORITY, &1_024u32.to_ne_bytes());
        let hop = |index: u32, router: &str| {
            let gateway = octets(GATEWAY, router);
            let mut bytes = ((HOP_BYTES + gateway.len()) as u16).to_ne_bytes().to_vec();
            bytes.extend([0, 0]);
            bytes.extend(index.to_ne_bytes());
            bytes.extend(gateway);
            bytes
        };
        let datagram = [
            message_of(INET6, PLAIN, 0, &[by(OURS), octets(GATEWAY, "fe80::1"), metric]),
            message_of(INET6, PLAIN, 64, &[octets(DESTINATION, "2001:db8::"), by(OURS)]),
            message_of(
                INET6,
                PLAIN,
                48,
                &[
                    octets(DESTINATION, "2001:db8:7::"),
                    attribute(MULTIPATH, &[hop(8, "fe80::8"), hop(OURS, "fe80::7")].concat()),
                ],
            ),
            message_of(INET6, (255, 5, 0), 8, &[octets(DESTINATION, "ff00::"), by(OURS)]),
            message(PLAIN, 24, &[attribute(DESTINATION, &[10, 77, 0, 0]), by(OURS)]),
            done(),
        ]
        .concat();
        let read = |family| {
            let mut found = Vec::new();
            assert!(read(&datagram, family, OURS, &mut found).expect("it is well formed"));
            sorted(found).iter().map(Route::to_string).collect::<Vec<_>>()
        };
        assert_eq!(read(INET6), ["2001:db8::/64", "2001:db8:7::/48 via fe80::7", "default via fe80::1"]);
        assert_eq!(read(INET), ["10.77.0.0/24"]);
    }

    #[test]
    fn of_several_hops_the_first_that_leaves_by_the_interface_and_lives_is_taken() {
        let hop = |index: u32, flags: u8, last: u8| {
            let gateway = via(last);
            let mut bytes = ((HOP_BYTES + gateway.len()) as u16).to_ne_bytes().to_vec();
            bytes.extend([flags, 0]);
            bytes.extend(index.to_ne_bytes());
            bytes.extend(gateway);
            bytes
        };
        let several =
            |hops: &[Vec<u8>]| routes(&[message((MAIN, UNICAST, 0), 0, &[attribute(MULTIPATH, &hops.concat())])]);
        let default = |last| vec![route_of([0, 0, 0, 0], 0, Some(last))];
        assert_eq!(several(&[hop(8, 0, 1), hop(OURS, 1, 2), hop(OURS, 0, 3)]), default(3));
        assert_eq!(several(&[hop(8, 0, 1)]), []);
        let mut cut = hop(OURS, 0, 3);
        cut.truncate(12);
        let cut = message((MAIN, UNICAST, 0), 0, &[attribute(MULTIPATH, &cut)]);
        assert!(read(&cut, INET, OURS, &mut Vec::new()).is_err(), "a hop that is cut short");
    }

    #[test]
    fn of_too_many_routes_those_that_lead_furthest_are_kept() {
        let host = |n: u32| Route { network: Ipv4Addr::from_bits(n).into(), prefix_len: 32, gateway: None };
        let many = (0..2_000).map(|n| (0, host(n)));
        let default = route_of([0, 0, 0, 0], 0, Some(1));
        let kept = sorted(many.chain([(0, default)]).collect());
        assert_eq!((kept.len(), kept.last()), (Route::MOST, Some(&default)));
    }

    #[test]
    fn the_kernel_is_asked_once_while_nothing_changes() {
        // An interface that there is not has no routes, and its first look tells of none.
        let mut routes = Routes::new(0x7fff_fff0, vec![IpFamily::V4, IpFamily::V6]);
        assert_eq!(routes.look().expect("every namespace can be asked"), None);
        assert!(!routes.stale);
        routes.doubt();
        assert!(routes.stale);
    }
}
