//! TCP segments without data, written by hand: RST, and ACKs that smoltcp would not send.

use nic::{Frame, FrameTooShort, checksum};

use crate::classify::Segment;
use crate::flow_id::FlowKey;
use crate::link::LinkHeader;
use crate::wire::{ACK, IPV4_BYTES, PROTOCOL_TCP, RST, SYN, TCP_BYTES};

/// A segment of nothing but a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) flags: u8,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
}

impl Control {
    /// The RST that answers a segment of no connection (RFC 9293 §3.10.7.1). Never for an RST.
    pub(crate) fn rst_for(segment: &Segment) -> Self {
        if segment.has(ACK) {
            Self { flags: RST, seq: segment.ack, ack: 0, window: 0 }
        } else {
            let ack = segment.seq.wrapping_add(segment.sequence_len());
            Self { flags: RST | ACK, seq: 0, ack, window: 0 }
        }
    }

    /// Writes the segment into `frame`, to the peer of `key`, behind `link`.
    ///
    /// # Errors
    /// The frame has no room for 58 bytes.
    pub(crate) fn write(&self, frame: &mut Frame, link: &LinkHeader, key: &FlowKey) -> Result<(), FrameTooShort> {
        self.write_with(frame, link, key, &[])
    }

    /// As [`write`](Self::write), a SYN-ACK that offers segments of `mss` bytes and nothing else (RFC 9293 §3.7.1).
    ///
    /// # Errors
    /// The frame has no room for 62 bytes.
    pub(crate) fn write_with_mss(
        &self,
        frame: &mut Frame,
        link: &LinkHeader,
        key: &FlowKey,
        mss: u16,
    ) -> Result<(), FrameTooShort> {
        let [high, low] = mss.to_be_bytes();
        self.write_with(frame, link, key, &[2, 4, high, low])
    }

    /// As [`write`](Self::write), with the octet of no meaning that a keep-alive may have for the sake of peers that answer
    /// none without (RFC 9293 §3.8.4).
    ///
    /// # Errors
    /// The frame has no room for 59 bytes.
    pub(crate) fn write_keep_alive(
        &self,
        frame: &mut Frame,
        link: &LinkHeader,
        key: &FlowKey,
    ) -> Result<(), FrameTooShort> {
        self.write_behind(frame, link, key, &[], &[0])
    }

    /// As [`write`](Self::write), with `options`, a multiple of four bytes.
    ///
    /// # Errors
    /// The frame has no room for 58 bytes and the options.
    pub(crate) fn write_with(
        &self,
        frame: &mut Frame,
        link: &LinkHeader,
        key: &FlowKey,
        options: &[u8],
    ) -> Result<(), FrameTooShort> {
        self.write_behind(frame, link, key, options, &[])
    }

    fn write_behind(
        &self,
        frame: &mut Frame,
        link: &LinkHeader,
        key: &FlowKey,
        options: &[u8],
        data: &[u8],
    ) -> Result<(), FrameTooShort> {
        frame.resize(link.len() + IPV4_BYTES + TCP_BYTES + options.len() + data.len())?;
        let bytes = frame.bytes_mut();
        link.write(bytes);
        self.write_packet(&mut bytes[link.len()..], key, options, data);
        Ok(())
    }

    /// Writes the IPv4 packet, of 40 bytes, the options and the data.
    fn write_packet(&self, packet: &mut [u8], key: &FlowKey, options: &[u8], data: &[u8]) {
        let header_bytes = TCP_BYTES + options.len();
        let tcp_bytes = header_bytes + data.len();
        let (ip, tcp) = packet.split_at_mut(IPV4_BYTES);
        ip.fill(0);
        ip[0] = 0x45;
        ip[3] = (IPV4_BYTES + tcp_bytes) as u8;
        // Don't fragment (RFC 1191 §3).
        ip[6] = 0x40;
        ip[8] = 64;
        ip[9] = PROTOCOL_TCP;
        ip[12..16].copy_from_slice(&key.local.octets());
        ip[16..20].copy_from_slice(&key.remote.octets());
        let sum = checksum::field(checksum::add(0, ip));
        ip[10..12].copy_from_slice(&sum);
        tcp.fill(0);
        tcp[0..2].copy_from_slice(&key.local_port.to_be_bytes());
        tcp[2..4].copy_from_slice(&key.remote_port.to_be_bytes());
        tcp[4..8].copy_from_slice(&self.seq.to_be_bytes());
        tcp[8..12].copy_from_slice(&self.ack.to_be_bytes());
        tcp[12] = (header_bytes as u8 / 4) << 4;
        tcp[13] = self.flags;
        tcp[14..16].copy_from_slice(&self.window.to_be_bytes());
        tcp[TCP_BYTES..header_bytes].copy_from_slice(options);
        tcp[header_bytes..].copy_from_slice(data);
        let pseudo = checksum::pseudo_header(key.local.octets(), key.remote.octets(), PROTOCOL_TCP, tcp_bytes as u16);
        let sum = checksum::field(checksum::add(pseudo, tcp));
        tcp[16..18].copy_from_slice(&sum);
    }
}

/// What left in a segment, read back from the packet that smoltcp wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) flags: u8,
    /// The sequence number after the segment's last.
    pub(crate) end: u32,
    /// It takes no sequence number: only its ACK counts.
    pub(crate) empty: bool,
    pub(crate) ack: u32,
    pub(crate) window: u16,
}

impl Sent {
    /// Reads the IPv4 packet of one of our own segments.
    #[inline]
    pub(crate) fn of(packet: &[u8]) -> Option<Self> {
        let tcp = packet.get(IPV4_BYTES..)?.first_chunk::<TCP_BYTES>()?;
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        let header_len = usize::from(tcp[12] >> 4) * 4;
        let payload = packet.len().saturating_sub(IPV4_BYTES + header_len) as u32;
        let flags = tcp[13];
        let control = u32::from(flags & SYN != 0) + u32::from(flags & crate::wire::FIN != 0);
        Some(Self {
            flags,
            end: seq.wrapping_add(payload + control),
            empty: payload + control == 0,
            ack: u32::from_be_bytes([tcp[8], tcp[9], tcp[10], tcp[11]]),
            window: u16::from_be_bytes([tcp[14], tcp[15]]),
        })
    }
}

/// Writes another sequence number into the IPv4 packet of one of our own segments, whose checksum is yet to be written.
pub(crate) fn write_seq(packet: &mut [u8], seq: u32) {
    if let Some(place) = packet.get_mut(IPV4_BYTES + 4..IPV4_BYTES + 8) {
        place.copy_from_slice(&seq.to_be_bytes());
    }
}

/// Writes both checksums of the IPv4 packet of a segment, in whose place is 0: smoltcp leaves them to its device.
#[inline]
pub(crate) fn write_checksums(packet: &mut [u8]) {
    let Some((ip, tcp)) = packet.split_first_chunk_mut::<IPV4_BYTES>() else { return };
    let addresses = checksum::add(0, &ip[12..]);
    let sum = checksum::add(addresses, &ip[..12]);
    ip[10..12].copy_from_slice(&checksum::field(sum));
    let rest_of_pseudo_header = checksum::pseudo_header([0; 4], [0; 4], PROTOCOL_TCP, tcp.len() as u16);
    let sum = checksum::add(addresses + rest_of_pseudo_header, tcp);
    if let Some(place) = tcp.get_mut(16..18) {
        place.copy_from_slice(&checksum::field(sum));
    }
}

/// As [`write_checksums`], of the IPv4 header alone.
#[cold]
pub(crate) fn write_ip_checksum(packet: &mut [u8]) {
    let Some(ip) = packet.first_chunk_mut::<IPV4_BYTES>() else { return };
    let sum = checksum::add(0, ip);
    ip[10..12].copy_from_slice(&checksum::field(sum));
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::classify::{Class, Local};
    use crate::link::{ETHERTYPE_IPV4, Mac};
    use crate::wire::FIN;

    const OWN: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEER: Mac = Mac([2, 0, 0, 0, 0, 2]);

    /// The packet that the peer of `key` would send.
    fn packet_from_peer(key: &FlowKey, control: Control) -> Vec<u8> {
        let turned =
            FlowKey { remote: key.local, local: key.remote, remote_port: key.local_port, local_port: key.remote_port };
        let mut packet = vec![0; IPV4_BYTES + TCP_BYTES];
        control.write_packet(&mut packet, &turned, &[], &[]);
        packet
    }

    pub(crate) fn syn_packet(key: &FlowKey, seq: u32) -> Vec<u8> {
        packet_from_peer(key, Control { flags: SYN, seq, ack: 0, window: 65_535 })
    }

    fn classified(control: Control) -> Segment {
        let key = FlowKey {
            remote: Ipv4Addr::new(10, 0, 0, 1),
            local: Ipv4Addr::new(10, 0, 0, 2),
            remote_port: 1_234,
            local_port: 80,
        };
        let mut frame = LinkHeader::new(OWN, PEER, None, ETHERTYPE_IPV4).start()[..14].to_vec();
        frame.extend(packet_from_peer(&key, control));
        match Local::new(key.local, 24, OWN).classify(&frame) {
            Class::Tcp(segment) => segment,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_written_is_classified_as_what_it_is() {
        let control = Control { flags: ACK | FIN, seq: 7, ack: 0xffff_fff0, window: 9 };
        let segment = classified(control);
        assert_eq!((segment.flags, segment.seq, segment.ack, segment.window), (ACK | FIN, 7, 0xffff_fff0, 9));
        assert_eq!(segment.sequence_len(), 1);
    }

    #[test]
    fn an_rst_acknowledges_only_what_did_not_acknowledge() {
        let syn = classified(Control { flags: SYN, seq: 10, ack: 0, window: 1 });
        assert_eq!(Control::rst_for(&syn), Control { flags: RST | ACK, seq: 0, ack: 11, window: 0 });
        let ack = classified(Control { flags: ACK, seq: 10, ack: 99, window: 1 });
        assert_eq!(Control::rst_for(&ack), Control { flags: RST, seq: 99, ack: 0, window: 0 });
    }
}
