//! Frames: written from the segments of a script, and read back into such segments.

use std::net::IpAddr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::syntax::{Icmp, Segment, TcpOption};
use crate::lab::raw::{ACK, PSH, SYN};

/// The two ends of a conversation with a host that is played by frames: both addresses are of one family.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    pub peer_mac: [u8; 6],
    pub host_mac: [u8; 6],
    pub peer: IpAddr,
    pub host: IpAddr,
}

/// The byte at `offset` of what either side sends.
pub fn pattern(offset: usize) -> u8 {
    (offset % 251) as u8
}

/// What both sides of one connection have said so far, as far as numbers need it.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub peer_port: u16,
    pub host_port: u16,
    peer_isn: u32,
    /// The peer's first byte: behind its last SYN.
    peer_base: i64,
    last_syn: Option<i64>,
    host_isn: Option<u32>,
    /// The next SYN of the host begins its numbers anew.
    host_begins: bool,
    /// The host's last time stamp.
    host_time: u32,
}

impl Conversation {
    /// A conversation in which nothing has been said.
    pub fn new((peer_port, host_port): (u16, u16), peer_isn: u32) -> Self {
        Self {
            peer_port,
            host_port,
            peer_isn,
            peer_base: 1,
            last_syn: None,
            host_isn: None,
            host_begins: true,
            host_time: 0,
        }
    }

    /// The host's next SYN is of a new connection.
    pub fn host_connects(&mut self) {
        self.host_begins = true;
    }

    fn host_isn(&self) -> u32 {
        self.host_isn.unwrap_or(0)
    }

    /// The frame that carries `segment` from the peer.
    pub fn write(&mut self, ends: &Ends, segment: &Segment) -> Vec<u8> {
        if segment.flags & (SYN | ACK) == SYN && self.last_syn != Some(segment.seq) {
            self.last_syn = Some(segment.seq);
            self.host_begins = true;
            self.peer_base = segment.seq + 1;
        }
        if segment.flags & SYN != 0 {
            self.peer_base = segment.seq + 1;
        }
        let seq = self.peer_isn.wrapping_add(segment.seq as u32);
        let window = segment.win.unwrap_or(u16::MAX);
        let ethernet = PacketBuilder::ethernet2(ends.peer_mac, ends.host_mac);
        let ip = match (ends.peer, ends.host) {
            (IpAddr::V4(peer), IpAddr::V4(host)) => ethernet.ipv4(peer.octets(), host.octets(), 64),
            (IpAddr::V6(peer), IpAddr::V6(host)) => ethernet.ipv6(peer.octets(), host.octets(), 64),
            _ => panic!("two families: {ends:?}"),
        };
        let mut tcp = ip.tcp(self.peer_port, self.host_port, seq, window);
        if let Some(ack) = segment.ack {
            tcp = tcp.ack(self.host_isn().wrapping_add(ack as u32));
        }
        let has = |letter: u8| segment.flags & letter != 0;
        tcp = if has(1) { tcp.fin() } else { tcp };
        tcp = if has(2) { tcp.syn() } else { tcp };
        tcp = if has(4) { tcp.rst() } else { tcp };
        tcp = if has(8) { tcp.psh() } else { tcp };
        tcp = if has(32) { tcp.urg(1) } else { tcp };
        tcp = if has(64) { tcp.ece() } else { tcp };
        tcp = if has(128) { tcp.cwr() } else { tcp };
        let options = self.write_options(segment.options.as_deref().unwrap_or_default());
        let tcp = tcp.options_raw(&options).expect("40 bytes of options at most");
        let first = segment.seq + i64::from(has(SYN)) - self.peer_base;
        // What lies before the first byte is of no stream.
        let data: Vec<u8> = (0..segment.len as i64).map(|at| pattern((first + at).max(0) as usize)).collect();
        let mut frame = Vec::new();
        tcp.write(&mut frame, &data).expect("written to memory");
        frame
    }

    fn write_options(&self, options: &[TcpOption]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for option in options {
            match option {
                TcpOption::End => bytes.push(0),
                TcpOption::Nop => bytes.push(1),
                TcpOption::Mss(mss) => {
                    bytes.extend([2, 4]);
                    bytes.extend(mss.unwrap_or(1_460).to_be_bytes());
                }
                TcpOption::WindowScale(bits) => bytes.extend([3, 3, bits.unwrap_or(0)]),
                TcpOption::SackPermitted => bytes.extend([4, 2]),
                TcpOption::Sack(blocks) => {
                    bytes.extend([5, 2 + 8 * blocks.len() as u8]);
                    for edge in blocks.iter().flat_map(|&(from, to)| [from, to]) {
                        bytes.extend(self.host_isn().wrapping_add(edge as u32).to_be_bytes());
                    }
                }
                TcpOption::Timestamps { value, echo } => {
                    bytes.extend([8, 10]);
                    bytes.extend(value.unwrap_or(0).to_be_bytes());
                    bytes.extend(echo.unwrap_or(self.host_time).to_be_bytes());
                }
                TcpOption::Bytes(raw) => bytes.extend(raw),
            }
        }
        bytes
    }

    /// The frame by which a router tells the host of a segment of its that cannot go on.
    pub fn write_icmp(&self, ends: &Ends, icmp: &Icmp) -> Vec<u8> {
        let (IpAddr::V4(peer), IpAddr::V4(host)) = (ends.peer, ends.host) else {
            panic!("`icmp` is IPv4's; over IPv6 it is `icmpv6`");
        };
        let mut quoted = vec![0x45, 0];
        quoted.extend((40 + icmp.len as u16).to_be_bytes());
        quoted.extend([0, 1, 0x40, 0, 63, 6, 0, 0]);
        quoted.extend(host.octets());
        quoted.extend(peer.octets());
        quoted.extend(self.quoted_ports_and_number(icmp.seq));
        let [high, low] = icmp.mtu.to_be_bytes();
        let builder = PacketBuilder::ethernet2(ends.peer_mac, ends.host_mac)
            .ipv4(peer.octets(), host.octets(), 64)
            .icmpv4_raw(3, icmp.code, [0, 0, high, low]);
        let mut frame = Vec::new();
        builder.write(&mut frame, &quoted).expect("written to memory");
        frame
    }

    /// What an error of ICMPv6 quotes of a segment of the host's (RFC 4443 §2.4 (c)): its headers, without options.
    pub fn quote_v6(&self, ends: &Ends, seq: i64, len: usize) -> Vec<u8> {
        let (IpAddr::V6(peer), IpAddr::V6(host)) = (ends.peer, ends.host) else {
            panic!("`icmpv6` is IPv6's; over IPv4 it is `icmp`");
        };
        let mut quoted = vec![0x60, 0, 0, 0];
        quoted.extend((20 + len as u16).to_be_bytes());
        quoted.extend([6, 63]);
        quoted.extend(host.octets());
        quoted.extend(peer.octets());
        quoted.extend(self.quoted_ports_and_number(seq));
        // The peer's number, a header of 20 bytes, ACK, and the rest of it.
        quoted.extend(self.peer_isn.wrapping_add(1).to_be_bytes());
        quoted.extend([0x50, ACK, 0xff, 0xff, 0, 0, 0, 0]);
        quoted
    }

    fn quoted_ports_and_number(&self, seq: i64) -> Vec<u8> {
        let number = self.host_isn().wrapping_add(seq as u32);
        [&self.host_port.to_be_bytes()[..], &self.peer_port.to_be_bytes(), &number.to_be_bytes()].concat()
    }

    /// Reads a segment that the host has sent in this conversation as the script would write it.
    ///
    /// # Errors
    /// It carries other bytes than the application has written.
    pub fn read(&mut self, sent: &Sent, peer: u8) -> Result<Segment, String> {
        if sent.flags & SYN != 0 && self.host_begins {
            self.host_isn = Some(sent.seq);
            self.host_begins = false;
        }
        let ack = (sent.flags & ACK != 0).then(|| relative(sent.ack, self.peer_isn));
        // An RST for a segment without ACK has the number 0 (RFC 9293 §3.10.7.1).
        let seq = if sent.flags & 4 != 0 && sent.seq == 0 { 0 } else { relative(sent.seq, self.host_isn()) };
        let options = read_options(&sent.options, self.peer_isn);
        if let Some(TcpOption::Timestamps { value: Some(value), .. }) =
            options.iter().find(|option| matches!(option, TcpOption::Timestamps { .. }))
        {
            self.host_time = *value;
        }
        for (at, &byte) in sent.data.iter().enumerate() {
            // What lies before the first byte is of no stream: the octet of a keep-alive (RFC 9293 §3.8.4).
            let offset = seq - 1 + at as i64;
            if offset >= 0 && byte != pattern(offset as usize) {
                return Err(format!(
                    "byte {at} of {seq}:{}, {byte}, is not what was written",
                    seq + sent.data.len() as i64
                ));
            }
        }
        Ok(Segment {
            peer,
            flags: sent.flags,
            seq,
            len: sent.data.len(),
            ack,
            win: Some(sent.window),
            options: Some(options),
        })
    }
}

/// `number` counted from `first`.
fn relative(number: u32, first: u32) -> i64 {
    i64::from(number.wrapping_sub(first) as i32)
}

/// A segment that the host has sent, as it is.
#[derive(Debug, Clone)]
pub struct Sent {
    pub peer_port: u16,
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
    options: Vec<u8>,
    data: Vec<u8>,
}

impl Sent {
    /// Reads a frame; `None` when it is not TCP. Checks its sums.
    pub fn read(frame: &[u8]) -> Option<Self> {
        let sliced = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { return None };
        let sum = match &sliced.net {
            Some(NetSlice::Ipv4(ip)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum(), "the host's IPv4 checksum");
                tcp.calc_checksum_ipv4(header.source, header.destination)
            }
            Some(NetSlice::Ipv6(ip)) => {
                let header = ip.header().to_header();
                assert_eq!((header.hop_limit, header.traffic_class), (64, 0), "the host's IPv6 header");
                tcp.calc_checksum_ipv6(header.source, header.destination)
            }
            _ => return None,
        };
        // Either of the two zeros of ones' complement is right (RFC 1624 §2).
        assert_eq!(tcp.checksum() % u16::MAX, sum.expect("not too long") % u16::MAX, "the host's TCP checksum");
        Some(Self {
            peer_port: tcp.destination_port(),
            // The 14th byte of the header.
            flags: tcp.slice()[13],
            seq: tcp.sequence_number(),
            ack: tcp.acknowledgment_number(),
            window: tcp.window_size(),
            options: tcp.options().to_vec(),
            data: tcp.payload().to_vec(),
        })
    }
}

/// Options as they stand in a segment, without what only fills; `first` is what SACK blocks are counted from.
fn read_options(mut bytes: &[u8], first: u32) -> Vec<TcpOption> {
    let mut options = Vec::new();
    loop {
        bytes = match bytes {
            [] | [0, ..] => return options,
            [1, rest @ ..] => rest,
            [_, len, ..] if (2..=bytes.len()).contains(&usize::from(*len)) => {
                let (option, rest) = bytes.split_at(usize::from(*len));
                options.push(read_option(option, first));
                rest
            }
            rest => {
                options.push(TcpOption::Bytes(rest.to_vec()));
                return options;
            }
        };
    }
}

fn read_option(option: &[u8], first: u32) -> TcpOption {
    let word = |bytes: &[u8]| bytes.first_chunk::<4>().map_or(0, |four| u32::from_be_bytes(*four));
    match option {
        [2, 4, high, low] => TcpOption::Mss(Some(u16::from_be_bytes([*high, *low]))),
        [3, 3, bits] => TcpOption::WindowScale(Some(*bits)),
        [4, 2] => TcpOption::SackPermitted,
        [5, _, blocks @ ..] if blocks.len() % 8 == 0 => {
            let edges = |block: &[u8]| (relative(word(block), first), relative(word(&block[4..]), first));
            TcpOption::Sack(blocks.chunks(8).map(edges).collect())
        }
        [8, 10, times @ ..] => TcpOption::Timestamps { value: Some(word(times)), echo: Some(word(&times[4..])) },
        other => TcpOption::Bytes(other.to_vec()),
    }
}

/// Whether the host's segment `got` is the one that `wanted` describes. PSH says nothing about a stream (RFC 9293 §3.8.2)
/// and is not compared; the order of options and what fills between them neither.
pub fn fits(wanted: &Segment, got: &Segment) -> bool {
    let options = match (&wanted.options, &got.options) {
        (None, _) => true,
        (Some(wanted), Some(got)) => fit_options(wanted, got),
        (Some(_), None) => false,
    };
    wanted.peer == got.peer
        && wanted.flags & !PSH == got.flags & !PSH
        && wanted.seq == got.seq
        && wanted.len == got.len
        && wanted.ack == got.ack
        && (wanted.win.is_none() || wanted.win == got.win)
        && options
}

fn fit_options(wanted: &[TcpOption], got: &[TcpOption]) -> bool {
    let wanted: Vec<_> = wanted.iter().filter(|option| !matches!(option, TcpOption::Nop | TcpOption::End)).collect();
    wanted.len() == got.len() && wanted.iter().all(|wanted| got.iter().any(|got| fit_option(wanted, got)))
}

fn fit_option(wanted: &TcpOption, got: &TcpOption) -> bool {
    fn any<T: PartialEq>(wanted: &Option<T>, got: &Option<T>) -> bool {
        wanted.is_none() || wanted == got
    }
    match (wanted, got) {
        (TcpOption::Mss(wanted), TcpOption::Mss(got)) => any(wanted, got),
        (TcpOption::WindowScale(wanted), TcpOption::WindowScale(got)) => any(wanted, got),
        (
            TcpOption::Timestamps { value: wanted, echo: wanted_echo },
            TcpOption::Timestamps { value: got, echo: got_echo },
        ) => any(wanted, got) && any(wanted_echo, got_echo),
        (wanted, got) => wanted == got,
    }
}
