//! Trains on the wire: cut into segments as the kernel does it (`tcp_gso_segment` in kernel `net/ipv4/tcp_offload.c`).

use crate::checksum;
use crate::memory_rings::MemoryRings;

/// FIN and PSH, which the last segment alone has.
const ONLY_LAST: u8 = 0x01 | 0x08;

/// Puts the segments of `packet`, each with `size` bytes of payload, into the transmit ring. Returns whether all have room
/// and a frame there; otherwise none is sent.
pub(super) fn send_cut(rings: &mut MemoryRings, packet: &[u8], size: u16) -> bool {
    let size = usize::from(size.max(1));
    let Some((ip_at, tcp_at)) = places(packet) else { return false };
    let Some(head) = packet.get(tcp_at + 12).map(|offset| tcp_at + usize::from(offset >> 4) * 4) else { return false };
    let Some(payload) = packet.get(head..) else { return false };
    let count = payload.len().div_ceil(size);
    if rings.room() < count || rings.pool.free_frames() < count {
        return false;
    }
    for (number, part) in payload.chunks(size).enumerate() {
        let Some(mut frame) = rings.pool.alloc() else { return false };
        if frame.resize(head + part.len()).is_err() {
            rings.free(frame);
            return false;
        }
        let bytes = frame.bytes_mut();
        bytes[..head].copy_from_slice(&packet[..head]);
        bytes[head..].copy_from_slice(part);
        write_head(bytes, packet, (ip_at, tcp_at), number * size, number + 1 == count);
        rings.push(frame);
    }
    rings.stats.tx_trains += 1;
    true
}

/// Where the IP packet and its TCP header begin.
fn places(packet: &[u8]) -> Option<(usize, usize)> {
    match packet.get(12..15)? {
        [8, 0, 0x45] => Some((14, 34)),
        [0x86, 0xdd, _] => Some((14, 54)),
        _ => None,
    }
}

/// Makes the headers of `whole`, in front of a segment in `frame`, those of the segment, which begins `at` in the payload.
fn write_head(frame: &mut [u8], whole: &[u8], (ip_at, tcp_at): (usize, usize), at: usize, last: bool) {
    let ipv4 = tcp_at - ip_at == 20;
    let (length_at, counted_from) = if ipv4 { (ip_at + 2, ip_at) } else { (ip_at + 4, tcp_at) };
    let [before, after] =
        [whole.len() - counted_from, frame.len() - counted_from].map(|len| (len as u16).to_be_bytes());
    frame[length_at..length_at + 2].copy_from_slice(&after);
    if ipv4 {
        let sum = checksum::changed([frame[ip_at + 10], frame[ip_at + 11]], &before, &after);
        frame[ip_at + 10..ip_at + 12].copy_from_slice(&sum);
    }
    let tcp = &mut frame[tcp_at..];
    let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(at as u32);
    tcp[4..8].copy_from_slice(&seq.to_be_bytes());
    if !last {
        tcp[13] &= !ONLY_LAST;
    }
    // What stands there is the sum of the pseudo-header of the whole.
    let pseudo = checksum::sum_changed([tcp[16], tcp[17]], &before, &after);
    tcp[16..18].copy_from_slice(&pseudo);
    let sum = checksum::field(checksum::add(0, tcp));
    tcp[16..18].copy_from_slice(&sum);
}
