//! An odd segment, written for whichever host it goes to, and an answer, read as either host might have written it.

use std::fmt;

use crate::lab::odd::{padded, sum_body, sum_ip, with_ip_options};
use crate::lab::raw::{ACK, Ends, FIN, PSH, RST, SYN, Tcp};

/// What a link or a middle box has done to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bend {
    Plain,
    Padded,
    TcpChecksum,
    IpChecksum,
    IpNops,
    IpRecordRoute,
    IpSourceRoute,
    IpBroken,
}

pub const BENDS: [Bend; 8] = [
    Bend::Plain,
    Bend::Padded,
    Bend::TcpChecksum,
    Bend::IpChecksum,
    Bend::IpNops,
    Bend::IpRecordRoute,
    Bend::IpSourceRoute,
    Bend::IpBroken,
];

/// A segment from the peer.
#[derive(Debug, Clone)]
pub struct Segment {
    pub ports: (u16, u16),
    pub flags: u8,
    pub seq: u32,
    pub ack: u32,
    pub options: &'static [u8],
    pub len: usize,
    pub bend: Bend,
}

impl Segment {
    /// The frame that carries it.
    pub fn frame(&self, ends: &Ends) -> Vec<u8> {
        let mut tcp = Vec::new();
        tcp.extend(self.ports.0.to_be_bytes());
        tcp.extend(self.ports.1.to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.extend([((5 + self.options.len() / 4) << 4) as u8, self.flags]);
        tcp.extend([0xea, 0x60, 0, 0, 0, 0]);
        tcp.extend(self.options);
        tcp.resize(tcp.len() + self.len, b'x');
        let mut frame = [&ends.host_mac[..], &ends.peer_mac, &[8, 0, 0x45, 0]].concat();
        frame.extend((20 + tcp.len() as u16).to_be_bytes());
        frame.extend([0, 1, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(ends.peer.octets());
        frame.extend(ends.host.octets());
        sum_ip(&mut frame[14..34]);
        sum_body(&frame[14..34], &mut tcp);
        frame.extend(tcp);
        match self.bend {
            Bend::Plain => {}
            Bend::Padded => return padded(&frame, 9),
            Bend::TcpChecksum => frame[50] ^= 0x40,
            Bend::IpChecksum => frame[24] ^= 0x40,
            Bend::IpNops => return with_ip_options(&frame, &[1, 1, 1, 1]),
            Bend::IpRecordRoute => return with_ip_options(&frame, &[7, 7, 4, 0, 0, 0, 0, 0]),
            Bend::IpSourceRoute => return with_ip_options(&frame, &[131, 7, 4, 10, 77, 0, 9, 0]),
            Bend::IpBroken => return with_ip_options(&frame, &[7, 0, 4, 1]),
        }
        frame
    }
}

/// A host's answer, in numbers that do not depend on its first sequence number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub flags: u8,
    /// From the host's first sequence number on; `None` for an RST that has none (RFC 9293 §3.10.7.1).
    pub seq: Option<i32>,
    /// From the peer's first sequence number on, if it acknowledges anything.
    pub ack: Option<i32>,
    pub len: usize,
}

impl Answer {
    /// Reads an answer of a host that began at `host_isn` to a peer that began at `peer_isn`.
    pub fn of(tcp: &Tcp, host_isn: u32, peer_isn: u32) -> Self {
        let flags = tcp.flags & !PSH;
        Self {
            flags,
            seq: (flags & RST == 0 || tcp.seq != 0).then(|| tcp.seq.wrapping_sub(host_isn) as i32),
            ack: (flags & ACK != 0).then(|| tcp.ack.wrapping_sub(peer_isn) as i32),
            len: tcp.data.len(),
        }
    }

    /// Whether it says nothing but what has been received.
    pub fn is_bare_ack(&self) -> bool {
        self.flags == ACK && self.len == 0
    }
}

pub const URG: u8 = 32;

/// The flags as letters.
pub fn letters(flags: u8) -> String {
    let named = [(SYN, 'S'), (FIN, 'F'), (RST, 'R'), (PSH, 'P'), (ACK, 'A'), (URG, 'U')];
    let letters: String = named.iter().filter(|(flag, _)| flags & flag != 0).map(|&(_, letter)| letter).collect();
    if letters.is_empty() { "-".to_owned() } else { letters }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&letters(self.flags))?;
        match self.seq {
            Some(seq) => write!(f, ":{seq}")?,
            None => f.write_str(":none")?,
        }
        if let Some(ack) = self.ack {
            write!(f, "/{ack}")?;
        }
        if self.len > 0 {
            write!(f, "+{}", self.len)?;
        }
        Ok(())
    }
}
