//! ICMP echo: a request becomes its answer in place (RFC 792, "Echo or Echo Reply Message").

use std::net::Ipv4Addr;

use nic::checksum;

use crate::link::turn_round;
use crate::wire::IPV4_BYTES;

/// Who sent the echo request whose IPv4 packet begins `at` in `frame`.
pub(crate) fn sender(frame: &[u8], at: usize) -> Ipv4Addr {
    frame.get(at + 12..).and_then(|rest| rest.first_chunk::<4>()).copied().unwrap_or_default().into()
}

/// Turns the echo request `at` in `frame`, `len` bytes from its IPv4 header on and checked by `classify`, into its
/// answer. The data is not touched: both checksums are patched by what changes.
pub(crate) fn answer(frame: &mut [u8], at: usize, len: usize) {
    turn_round(frame);
    let Some(packet) = frame.get_mut(at..at + len) else { return };
    let (ip, icmp) = packet.split_at_mut(IPV4_BYTES);
    let old = [ip[8], ip[9]];
    ip[8] = 64;
    let sum = checksum::changed([ip[10], ip[11]], &old, &[ip[8], ip[9]]);
    ip[10..12].copy_from_slice(&sum);
    let (source, destination) = ip[12..20].split_at_mut(4);
    source.swap_with_slice(destination);
    if let [kind, code, high, low, ..] = icmp {
        let sum = checksum::changed([*high, *low], &[*kind, *code], &[0, *code]);
        *kind = 0;
        [*high, *low] = sum;
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Icmpv4Type, NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

    use super::*;
    use crate::classify::{Class, Local};
    use crate::link::Mac;

    #[test]
    fn a_request_becomes_an_answer_with_right_checksums() {
        let (own, peer) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        for data in [&b""[..], b"x", b"twelve bytes"] {
            let mut frame = Vec::new();
            let builder = PacketBuilder::ethernet2(peer, own).ipv4([10, 0, 0, 1], [10, 0, 0, 2], 3);
            builder.icmpv4_echo_request(7, 9).write(&mut frame, data).expect("written to memory");
            let Class::Echo { at, len } = Local::new([10, 0, 0, 2].into(), 24, Mac(own)).classify(&frame) else {
                panic!("not an echo request");
            };
            answer(&mut frame, at, len);
            let sliced = SlicedPacket::from_ethernet(&frame).expect("a packet");
            let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("not IPv4") };
            let header = ip.header().to_header();
            assert_eq!((header.source, header.destination), ([10, 0, 0, 2], [10, 0, 0, 1]));
            assert_eq!((header.time_to_live, header.header_checksum), (64, header.calc_header_checksum()));
            let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else { panic!("not ICMP") };
            assert!(matches!(icmp.icmp_type(), Icmpv4Type::EchoReply(echo) if echo.id == 7 && echo.seq == 9));
            assert_eq!(icmp.icmp_type().calc_checksum(data), icmp.checksum());
            assert_eq!(icmp.payload(), data);
        }
    }
}
