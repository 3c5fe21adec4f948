//! Answers to ICMPv6 echo requests, and errors about packets that were not taken (RFC 4443 §3, §4.2): the frame becomes its
//! answer in place.

use std::net::Ipv6Addr;

use nic::{Frame, FrameTooShort, checksum};

use crate::classify::ipv6::{PARAMETER_PROBLEM, TIME_EXCEEDED, UNREACHABLE};
use crate::classify::{Message, Problem};
use crate::ipv6::{HOP_LIMIT, Head, LEAST_MTU};
use crate::link::turn_round;
use crate::wire::{IPV6_BYTES, PROTOCOL_ICMPV6};

const ECHO_REPLY: u8 = 129;
/// Length of an error's header, in bytes.
const ERROR_BYTES: usize = 8;
/// Bytes of a packet that an error may quote: as much as fits the least MTU (RFC 4443 §2.4 (c)).
pub(crate) const QUOTED_BYTES: usize = LEAST_MTU as usize - IPV6_BYTES - ERROR_BYTES;

/// What an error says of the packet that it quotes: its type and code, and the four bytes behind its sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Complaint {
    kind: u8,
    code: u8,
    word: u32,
}

impl Complaint {
    /// Nobody listens on the port.
    pub(crate) const NO_SUCH_PORT: Self = Self { kind: UNREACHABLE, code: 4, word: 0 };
    /// The rest of a packet has not come in time.
    pub(crate) const NOT_WHOLE: Self = Self { kind: TIME_EXCEEDED, code: 1, word: 0 };

    /// A parameter problem.
    pub(crate) fn of(problem: &Problem) -> Self {
        Self { kind: PARAMETER_PROBLEM, code: problem.code, word: problem.pointer.into() }
    }
}

/// Turns the echo request in `frame` into its answer. The data is not touched: the sum is patched by what changes, since
/// the ends of the pseudo-header only change places.
pub(crate) fn answer_echo(frame: &mut [u8], place: Message) {
    turn_round(frame);
    let Some(packet) = frame.get_mut(usize::from(place.at)..usize::from(place.to)) else { return };
    let Some((header, message)) = packet.split_first_chunk_mut::<IPV6_BYTES>() else { return };
    header[7] = HOP_LIMIT;
    let (source, destination) = header[8..].split_at_mut(16);
    source.swap_with_slice(destination);
    if let [kind, code, high, low, ..] = message {
        let sum = checksum::changed([*high, *low], &[*kind, *code], &[ECHO_REPLY, *code]);
        *kind = ECHO_REPLY;
        [*high, *low] = sum;
    }
}

/// Who sent the packet that begins `at` in `frame`.
pub(crate) fn sender(frame: &[u8], at: usize) -> Ipv6Addr {
    frame.get(at + 8..).and_then(|rest| rest.first_chunk::<16>()).copied().unwrap_or_default().into()
}

/// Turns the frame of a packet that was checked by `classify`, which begins `at`, into an error about it.
///
/// # Errors
/// The frame has no room for the answer.
pub(crate) fn complain(frame: &mut Frame, at: usize, says: Complaint) -> Result<(), FrameTooShort> {
    // What is behind the packet is nobody's.
    let payload_len =
        frame.bytes().get(at + 4..at + 6).map_or(0, |len| usize::from(u16::from_be_bytes([len[0], len[1]])));
    let quoted = frame.len().saturating_sub(at).min(IPV6_BYTES + payload_len).min(QUOTED_BYTES);
    let behind = at + IPV6_BYTES + ERROR_BYTES;
    frame.resize(behind + quoted)?;
    let bytes = frame.bytes_mut();
    bytes.copy_within(at..at + quoted, behind);
    turn_round(bytes);
    let Some((header, message)) = bytes[at..].split_first_chunk_mut::<IPV6_BYTES>() else { return Ok(()) };
    let [asker, own] =
        [8, 24].map(|from| Ipv6Addr::from(header[from..].first_chunk::<16>().copied().unwrap_or_default()));
    let head = Head { source: own, destination: asker, label: 0, next_header: PROTOCOL_ICMPV6, hop_limit: HOP_LIMIT };
    head.write(header, message.len());
    message[..4].copy_from_slice(&[says.kind, says.code, 0, 0]);
    message[4..ERROR_BYTES].copy_from_slice(&says.word.to_be_bytes());
    let sum = checksum::field(checksum::add(head.pseudo_sum(message.len()), message));
    message[2..4].copy_from_slice(&sum);
    Ok(())
}
