//! IPv6 made by hand and read back: packets, segments, messages of ICMPv6 and NDP.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use nic::checksum;
use sidestep_stack::{Mac, OwnAddress, StackConfig};

use super::bench::Bench;
use super::raw::{ACK, PSH, SYN, Tcp};
use super::{App, OWN, PEER, PORT, US};

pub use super::raw::US6;
pub const THEM6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Next headers.
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const FRAGMENT: u8 = 44;
pub const ICMP: u8 = 58;

/// Another station of the link.
pub const OTHER: Mac = Mac([2, 0, 0, 0, 0, 66]);

/// Both families.
pub fn config() -> StackConfig {
    let mut config = StackConfig::new(US, 24, OWN);
    config.ports = vec![PORT];
    config.others.push(OwnAddress::new(US6, 64));
    config
}

/// A host with the address [`US6`] and no other.
pub fn config_alone() -> StackConfig {
    let mut config = StackConfig::new(US6, 64, OWN);
    config.ports = vec![PORT];
    config
}

/// A stack whose addresses are in use, and that is quiet.
pub fn settled(config: StackConfig) -> Bench {
    let mut bench = Bench::with(config, App::Echo);
    for _ in 0..160 {
        bench.turn();
        bench.wire.clock().advance(Duration::from_millis(100));
    }
    bench
}

/// A segment from the peer's port over IPv6.
pub fn tcp6(peer_port: u16, flags: u8, seq: u32, ack: u32) -> Tcp {
    Tcp::new(peer_port, flags, seq, ack).from(THEM6)
}

/// The segment in a frame that the stack has sent, if it is one over IPv6.
pub fn tcp(frame: &[u8]) -> Option<Tcp> {
    let of_ipv6 = frame[12..14] == [0x86, 0xdd] && frame[20] == TCP;
    if !of_ipv6 {
        return None;
    }
    assert_eq!((&frame[22..38], frame[21]), (&US6.octets()[..], 64));
    let payload_len = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    assert_eq!(frame.len(), 54 + payload_len, "nothing behind the packet");
    Some(Tcp::read(frame))
}

/// The segments among frames.
pub fn segments(frames: &[Vec<u8>]) -> Vec<Tcp> {
    frames.iter().filter_map(|frame| tcp(frame)).collect()
}

/// A connection that a peer has opened, as the peer sees it.
#[derive(Debug, Clone, Copy)]
pub struct Talk {
    pub peer: IpAddr,
    pub port: u16,
    pub seq: u32,
    pub ack: u32,
    pub label: u32,
}

impl Talk {
    /// Opens one from the usual peer.
    pub fn open(bench: &mut Bench, port: u16) -> Self {
        Self::open_from(bench, THEM6, port)
    }

    /// Opens one.
    #[track_caller]
    pub fn open_from(bench: &mut Bench, peer: impl Into<IpAddr>, port: u16) -> Self {
        let peer = peer.into();
        let answers = segments(&bench.frame(&tcp6(port, SYN, 100, 0).from(peer).frame()));
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((answer.flags, answer.ack, answer.peer, answer.peer_port), (SYN | ACK, 101, peer, port));
        let talk = Self { peer, port, seq: 101, ack: answer.seq.wrapping_add(1), label: answer.label };
        assert_eq!(segments(&bench.frame(&talk.segment(ACK, b""))), []);
        talk
    }

    /// The frame of the next segment.
    pub fn segment(&self, flags: u8, data: &[u8]) -> Vec<u8> {
        tcp6(self.port, flags, self.seq, self.ack).from(self.peer).with(data).frame()
    }

    /// Sends `data` and returns the data of the answer, which the peer acknowledges with what it sends next.
    #[track_caller]
    pub fn ask(&mut self, bench: &mut Bench, data: &[u8]) -> Vec<u8> {
        let answers = segments(&bench.frame(&self.segment(ACK | PSH, data)));
        self.seq = self.seq.wrapping_add(data.len() as u32);
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((answer.ack, answer.seq, answer.label), (self.seq, self.ack, self.label));
        self.ack = self.ack.wrapping_add(answer.data.len() as u32);
        answer.data.clone()
    }
}

/// The group in which the holder of `address` is asked for.
pub fn group_of(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]))
}

/// The frame of a packet from an address at a station, to the station of its destination: a group's own (RFC 2464 §7), or ours.
pub fn packet_from(
    (source, station): (Ipv6Addr, Mac),
    destination: Ipv6Addr,
    (next, hop_limit): (u8, u8),
    body: &[u8],
) -> Vec<u8> {
    let [.., a, b, c, d] = destination.octets();
    let mut frame = if destination.is_multicast() { vec![0x33, 0x33, a, b, c, d] } else { OWN.0.to_vec() };
    frame.extend(station.0);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
    frame.extend((body.len() as u16).to_be_bytes());
    frame.extend([next, hop_limit]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(body);
    frame
}

/// The same from the peer's station.
pub fn packet(source: Ipv6Addr, destination: Ipv6Addr, next: u8, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    packet_from((source, PEER), destination, (next, hop_limit), body)
}

/// The same as [`packet_from`] with a right checksum, whose place in `body` is given.
pub fn summed(from: (Ipv6Addr, Mac), destination: Ipv6Addr, kind: (u8, u8), body: &[u8], sum_at: usize) -> Vec<u8> {
    let mut body = body.to_vec();
    body[sum_at..sum_at + 2].fill(0);
    let pseudo = checksum::pseudo_header_v6(from.0.octets(), destination.octets(), kind.0, body.len() as u32);
    let sum = checksum::field(checksum::add(pseudo, &body));
    body[sum_at..sum_at + 2].copy_from_slice(&sum);
    packet_from(from, destination, kind, &body)
}

/// A datagram from `source`, between these ports.
pub fn datagram(source: Ipv6Addr, (from, to): (u16, u16), data: &[u8]) -> Vec<u8> {
    let head = [from.to_be_bytes(), to.to_be_bytes(), (8 + data.len() as u16).to_be_bytes(), [0, 0]].concat();
    summed((source, PEER), US6, (UDP, 64), &[&head, data].concat(), 6)
}

/// A message of ICMPv6 with its sum.
pub fn icmp(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    summed((source, PEER), destination, (ICMP, hop_limit), body, 2)
}

/// The type, code and word of the ICMPv6 error in a frame that the stack has sent to the peer, about the packet in `asked`.
/// Checks all else of it.
#[track_caller]
pub fn error(answer: &[u8], asked: &[u8]) -> (u8, u8, u32) {
    let (header, body) = answer[14..].split_first_chunk::<40>().expect("a packet of IPv6");
    assert_eq!((&answer[..6], &answer[6..14]), (&asked[6..12], &[&OWN.0[..], &[0x86, 0xdd]].concat()[..]));
    assert_eq!((&header[8..24], &header[24..]), (&US6.octets()[..], &asked[22..38]));
    assert_eq!((header[6], header[7], usize::from(u16::from_be_bytes([header[4], header[5]]))), (58, 64, body.len()));
    let pseudo = checksum::pseudo_header_v6(US6.octets(), asked[22..38].try_into().expect("16"), 58, body.len() as u32);
    assert!(checksum::is_right(checksum::add(pseudo, body)), "{answer:02x?}");
    assert_eq!(body[8..], asked[14..asked.len().min(14 + 1_232)], "it quotes as much as may be");
    (body[0], body[1], u32::from_be_bytes([body[4], body[5], body[6], body[7]]))
}

/// A message of NDP: its first eight bytes, an address if it has one, and options.
pub fn message(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    head: &[u8; 8],
    about: Option<Ipv6Addr>,
    options: &[u8],
) -> Vec<u8> {
    let mut body = head.to_vec();
    body.extend(about.iter().flat_map(|address| address.octets()));
    body.extend(options);
    icmp(source, destination, 255, &body)
}

/// An option that says where somebody is: of the sender (1) or the target (2).
pub fn station_option(kind: u8, station: Mac) -> [u8; 8] {
    let [a, b, c, d, e, f] = station.0;
    [kind, 1, a, b, c, d, e, f]
}

/// An option that says which network is on the link.
pub fn prefix_option(prefix: Ipv6Addr, len: u8, secs: u32) -> Vec<u8> {
    let mut option = vec![3, 4, len, 0xc0];
    option.extend(secs.to_be_bytes());
    option.extend(secs.to_be_bytes());
    option.extend([0; 4]);
    option.extend(prefix.octets());
    option
}

/// Who has `target`?
pub fn solicitation(source: Ipv6Addr, destination: Ipv6Addr, target: Ipv6Addr, station: Option<Mac>) -> Vec<u8> {
    let option = station.map(|station| station_option(1, station).to_vec()).unwrap_or_default();
    message(source, destination, &[135, 0, 0, 0, 0, 0, 0, 0], Some(target), &option)
}

/// A router says that `to` is better reached by `target`, at `station`.
pub fn redirect(router: Ipv6Addr, target: Ipv6Addr, to: Ipv6Addr, station: Mac) -> Vec<u8> {
    let rest = [&to.octets()[..], &station_option(2, station)].concat();
    message(router, US6, &[137, 0, 0, 0, 0, 0, 0, 0], Some(target), &rest)
}

/// `target` is at `station`.
pub fn advertisement(
    source: Ipv6Addr,
    destination: Ipv6Addr,
    target: Ipv6Addr,
    station: Option<Mac>,
    solicited: bool,
) -> Vec<u8> {
    let option = station.map(|station| station_option(2, station).to_vec()).unwrap_or_default();
    let flags = 0x20 | u8::from(solicited) << 6;
    message(source, destination, &[136, 0, 0, 0, flags, 0, 0, 0], Some(target), &option)
}

/// A router takes packets for so many seconds.
pub fn router_advertisement(source: Ipv6Addr, lifetime: u16, options: &[u8]) -> Vec<u8> {
    let [high, low] = lifetime.to_be_bytes();
    let rest = [&[0; 8][..], options].concat();
    message(source, ALL_NODES, &[134, 0, 0, 0, 64, 0, high, low], None, &rest)
}

/// A router asks which groups somebody listens in (RFC 3810 §5.1).
pub fn group_query(source: Ipv6Addr) -> Vec<u8> {
    let query = icmp(source, ALL_NODES, 1, &[&[130][..], &[0; 27]].concat());
    let payload = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &query[54..]].concat();
    packet(source, ALL_NODES, 0, 1, &payload)
}

/// The frame from another station.
pub fn from_station(frame: &[u8], station: Mac) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[6..12].copy_from_slice(&station.0);
    frame
}

/// The frame with another hop limit, of which no sum knows.
pub fn with_hop_limit(frame: &[u8], hop_limit: u8) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[21] = hop_limit;
    frame
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Solicitation,
    Advertisement,
    RouterSolicitation,
    Report,
}

/// A message that the stack has sent about its link.
#[derive(Debug, Clone, Copy)]
pub struct Message {
    pub kind: Kind,
    /// The station that it went to.
    pub to: Mac,
    pub source: Ipv6Addr,
    pub destination: Ipv6Addr,
    pub target: Ipv6Addr,
    pub station: Option<Mac>,
    pub solicited: bool,
    pub overrides: bool,
    /// The first groups of a report.
    pub groups: [Ipv6Addr; 2],
}

/// Reads a frame of NDP, or a report of groups; its sum and its hop limit are checked.
pub fn ndp(frame: &[u8]) -> Option<Message> {
    if frame[12..14] != [0x86, 0xdd] || !matches!(frame[20], 0 | 58) {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 16] = frame.get(at..at + 16).unwrap_or(&[0; 16]).try_into().expect("sixteen");
        Ipv6Addr::from(octets)
    };
    let (source, destination) = (address(22), address(38));
    let report = frame[20] == 0;
    let body = &frame[if report { 62 } else { 54 }..];
    let pseudo = checksum::pseudo_header_v6(source.octets(), destination.octets(), 58, body.len() as u32);
    assert!(checksum::is_right(checksum::add(pseudo, body)), "{frame:02x?}");
    assert_eq!(usize::from(u16::from_be_bytes([frame[18], frame[19]])), frame.len() - 54, "{frame:02x?}");
    let kind = match body[0] {
        133 => Kind::RouterSolicitation,
        135 => Kind::Solicitation,
        136 => Kind::Advertisement,
        143 => Kind::Report,
        _ => return None,
    };
    assert_eq!((frame[21], &frame[6..12]), (if report { 1 } else { 255 }, &OWN.0[..]), "{frame:02x?}");
    let option = body.get(24..32).filter(|option| matches!(option[..2], [1 | 2, 1]));
    let station = option.map(|option| Mac(option[2..].try_into().expect("six")));
    let groups = if report { [address(62 + 12), address(62 + 32)] } else { [Ipv6Addr::UNSPECIFIED; 2] };
    let flags = body[4];
    Some(Message {
        kind,
        to: Mac(frame[..6].try_into().expect("six")),
        source,
        destination,
        target: address(62),
        station,
        solicited: kind == Kind::Advertisement && flags & 0x40 != 0,
        overrides: kind == Kind::Advertisement && flags & 0x20 != 0,
        groups,
    })
}
