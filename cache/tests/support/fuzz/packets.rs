//! Replies of the binary protocol: whole packets, each to a request that was made, in the order of the requests.

use super::{ITEM_MAX, Transcript};

const HEADER: usize = 24;

/// Every status of protocol_binary.h that a server without SASL answers with.
const STATUSES: [u16; 10] = [0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x20, 0x81, 0x82];

/// STAT: one request, many packets.
const STAT: u8 = 0x10;

/// The opcode and opaque of a packet, and its length.
fn packet(bytes: &[u8]) -> Option<((u8, [u8; 4]), usize)> {
    let header: &[u8; HEADER] = bytes.first_chunk()?;
    let &[_, opcode, _, _, _, _, _, _, b0, b1, b2, b3, o0, o1, o2, o3, ..] = header;
    Some(((opcode, [o0, o1, o2, o3]), (HEADER as u64 + u64::from(u32::from_be_bytes([b0, b1, b2, b3]))) as usize))
}

/// What was asked for: every header, as far as one follows the other.
fn requests(mut sent: &[u8]) -> Vec<(u8, [u8; 4])> {
    let mut requests = Vec::new();
    while let (Some(0x80), Some((request, len))) = (sent.first(), packet(sent)) {
        requests.push(request);
        sent = sent.get(len..).unwrap_or_default();
    }
    requests
}

/// Checks the replies of one connection.
pub(super) fn check(transcript: &Transcript) -> Result<(), super::lines::Wrong> {
    let requests = requests(&transcript.sent);
    let (mut at, mut asked) = (0, 0);
    let mut previous = None;
    while at < transcript.received.len() {
        let wrong = |why: String| Err((at, why));
        let bytes = &transcript.received[at..];
        let Some((reply, len)) = packet(bytes).filter(|&(_, len)| len <= bytes.len()) else {
            return if transcript.torn { Ok(()) } else { wrong("a packet without its end".to_owned()) };
        };
        let (key, extras) = (usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), usize::from(bytes[4]));
        let status = u16::from_be_bytes([bytes[6], bytes[7]]);
        if bytes[0] != 0x81 || bytes[5] != 0 || !STATUSES.contains(&status) {
            return wrong(format!("magic {:#x}, data type {:#x}, status {status:#x}", bytes[0], bytes[5]));
        }
        if HEADER + key + extras > len || key > 250 || len > HEADER + 250 + ITEM_MAX + 4 {
            return wrong(format!("key of {key}, extras of {extras}, {len} bytes in all"));
        }
        let again = reply.0 == STAT && previous == Some(reply);
        if !again {
            match requests[asked..].iter().position(|&request| request == reply) {
                Some(ahead) => asked += ahead + 1,
                None => return wrong(format!("opcode {:#x} opaque {:x?} was not asked for here", reply.0, reply.1)),
            }
        }
        previous = Some(reply);
        at += len;
    }
    Ok(())
}
