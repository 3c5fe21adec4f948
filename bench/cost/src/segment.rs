//! `Segment`: the client's TCP segments over IPv4 and Ethernet, written and read by hand.
//!
//! Nothing here is measured. Checksums are computed when writing; reading verifies the TCP one, so that a stack that
//! saved its cost by leaving it out would be found out. Read first: RFC 9293 §3.1.

use std::net::Ipv4Addr;

/// No more from the sender.
pub const FIN: u8 = 0x01;
/// Synchronises sequence numbers.
pub const SYN: u8 = 0x02;
/// Resets the connection.
pub const RST: u8 = 0x04;
/// Pushes the data to the application.
pub const PSH: u8 = 0x08;
/// The acknowledgement number counts.
pub const ACK: u8 = 0x10;

/// The Ethernet address of the stack that is measured.
pub const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
/// The Ethernet address of all clients.
pub const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The IPv4 address of the stack that is measured.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Its port.
pub const SERVER_PORT: u16 = 11_211;

pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const IPV4_BYTES: usize = 20;
const TCP_AT: usize = ETHERNET_BYTES + IPV4_BYTES;
const HEADER_BYTES: usize = TCP_AT + 20;
/// Offers a segment size of 1,460 bytes, as a client on a link of 1,500 does.
const MSS_OPTION: [u8; 4] = [2, 4, (1_460u16 >> 8) as u8, 1_460u16 as u8];

/// A segment between a client and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The client's address.
    pub client: Ipv4Addr,
    /// The client's port.
    pub port: u16,
    /// Sequence number of the first byte.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// `SYN`, `ACK` and so on.
    pub flags: u8,
    /// The data.
    pub data: &'a [u8],
}

/// Adds the 16-bit words of `bytes` (RFC 1071).
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    let (words, last) = bytes.as_chunks::<2>();
    let whole: u64 = words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum();
    whole + last.first().map_or(0, |byte| u64::from(*byte) << 8)
}

/// The sum in sixteen bits, carries added back.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

impl<'a> Segment<'a> {
    /// Writes the frame that the client sends into `frame`, replacing what is there.
    pub fn write(&self, frame: &mut Vec<u8>) {
        let options: &[u8] = if self.flags & SYN != 0 { &MSS_OPTION } else { &[] };
        let tcp_bytes = 20 + options.len() + self.data.len();
        frame.clear();
        frame.extend(SERVER_MAC);
        frame.extend(CLIENT_MAC);
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(((IPV4_BYTES + tcp_bytes) as u16).to_be_bytes());
        // No identification, do not fragment, 64 hops, TCP.
        frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
        frame.extend(self.client.octets());
        frame.extend(SERVER.octets());
        let header_sum = !fold(sum(&frame[ETHERNET_BYTES..]));
        frame[24..26].copy_from_slice(&header_sum.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(SERVER_PORT.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        frame.extend([((20 + options.len()) as u8 / 4) << 4, self.flags, 0xff, 0xff, 0, 0, 0, 0]);
        frame.extend(options);
        frame.extend(self.data);
        let pseudo = sum(&frame[26..34]) + 6 + tcp_bytes as u64;
        let tcp_sum = !fold(pseudo + sum(&frame[TCP_AT..]));
        frame[TCP_AT + 16..TCP_AT + 18].copy_from_slice(&tcp_sum.to_be_bytes());
    }

    /// Reads a frame of the server; `None` when it is not a whole TCP segment with a right checksum.
    pub fn read(frame: &'a [u8]) -> Option<Self> {
        let header = frame.first_chunk::<HEADER_BYTES>()?;
        let end = ETHERNET_BYTES + usize::from(u16::from_be_bytes([header[16], header[17]]));
        let data_at = TCP_AT + usize::from(header[TCP_AT + 12] >> 4) * 4;
        let tcp = frame.get(TCP_AT..end)?;
        let pseudo = sum(&frame[26..34]) + 6 + tcp.len() as u64;
        let tcp_over_ipv4 = header[12..15] == [0x08, 0x00, 0x45] && header[23] == 6;
        if !tcp_over_ipv4 || header[26..30] != SERVER.octets() || fold(pseudo + sum(tcp)) != 0xffff {
            return None;
        }
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        Some(Self {
            client: Ipv4Addr::from_bits(word(30)),
            port: u16::from_be_bytes([header[TCP_AT + 2], header[TCP_AT + 3]]),
            seq: word(TCP_AT + 4),
            ack: word(TCP_AT + 8),
            flags: header[TCP_AT + 13],
            data: frame.get(data_at..end)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_follow_the_example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    #[test]
    fn a_damaged_segment_is_not_read() {
        let client = Ipv4Addr::new(10, 1, 0, 9);
        let mut frame = Vec::new();
        Segment { client, port: 4_321, seq: 7, ack: 9, flags: ACK, data: b"abc" }.write(&mut frame);
        // As the server would send it: addresses and ports change places, which no checksum notices.
        let (source, destination) = (client.octets(), SERVER.octets());
        frame[26..30].copy_from_slice(&destination);
        frame[30..34].copy_from_slice(&source);
        frame[34..36].copy_from_slice(&SERVER_PORT.to_be_bytes());
        frame[36..38].copy_from_slice(&4_321u16.to_be_bytes());
        let read = Segment::read(&frame).unwrap();
        assert_eq!(read, Segment { client, port: 4_321, seq: 7, ack: 9, flags: ACK, data: b"abc" });
        for at in 34..frame.len() {
            frame[at] ^= 4;
            assert_eq!(Segment::read(&frame), None, "byte {at}");
            frame[at] ^= 4;
        }
    }
}
