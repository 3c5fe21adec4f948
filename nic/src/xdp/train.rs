//! `TrainSender`: in copy mode on a veth, segments of one connection that follow each other leave as one packet, which
//! the kernel cuts again, late or never.
//!
//! In copy mode the kernel makes a buffer of each frame and takes it through the whole of its send and receive path by
//! itself: half a microsecond of work for the bytes and one and a half for the frame. A packet socket takes a packet of
//! up to 64 kB with the length at which it is to be cut (`PACKET_VNET_HDR`), as the kernel's own TCP hands it down: where
//! both ends of the veth have segmentation offload the packet reaches the other end's TCP uncut, else it is cut as the
//! last thing before the link. What leaves is the same segments, in the same order.
//!
//! ```text
//! frames   |head 1|payload 1| |head 2|payload 2| |head 3|payload 3|
//! packet   |vnet header|head 1 of the whole|payload 1|payload 2|payload 3|      gathered by one system call
//! ```
//!
//! A train is of TCP over IPv4 or IPv6, without options, further headers or tag, of at least [`LEAST`] frames that differ
//! only in what cutting makes anew: lengths, sequence numbers, checksums, and PSH at the last. Frames that go by the ring are
//! sent before a train that follows them, so that none of them overtakes another.
//! Read first: `packet(7)`, `PACKET_VNET_HDR`; kernel `segmentation-offloads.rst`; `struct virtio_net_hdr`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{AddressFamily, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType};

use crate::burst::{BURST, TxBurst};
use crate::checksum;
use crate::link::Link;
use crate::sys::packet;

/// Frames that are worth a system call of their own.
const LEAST: usize = 3;

/// Bytes of the headers of Ethernet, IPv4 and TCP, without tag and options.
const HEAD_BYTES: usize = TCP_AT + 20;
const IP_AT: usize = 14;
const TCP_AT: usize = IP_AT + 20;

/// The same over IPv6.
const MOST_HEAD_BYTES: usize = IP_AT + 40 + 20;

/// Longest packet.
const MOST_PACKET_BYTES: usize = 65_535;

/// Space for packets on their way: some hundred of the longest.
const SEND_BUFFER_BYTES: i32 = 16 << 20;

/// The header of `struct virtio_net_hdr`, and what it says: the checksum is to be completed, the packet is TCP over IPv4 or IPv6.
const VNET_BYTES: usize = 10;
const NEEDS_CHECKSUM: u8 = 1;
const TCP_OVER_IPV4: u8 = 1;
const TCP_OVER_IPV6: u8 = 4;

/// TCP's number as a protocol over IPv4, and its flags (RFC 9293 §3.1).
const TCP: u8 = 6;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Sends the trains of one queue. Belongs to one core.
#[derive(Debug)]
pub(super) struct TrainSender {
    socket: OwnedFd,
}

/// The frames at the front of a burst that make a train.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Train {
    shape: Shape,
    /// How many.
    pub(super) frames: usize,
    /// Bytes of their payloads together, and of each but the last, at which it is cut.
    payload: usize,
    cut: usize,
    /// Whether the last has PSH.
    pushes: bool,
}

impl TrainSender {
    /// A sender on `link`; `None` where trains are of no use: on a link that is no veth (nothing was measured there), and
    /// where the kernel would choose one of several queues, which another core of the other end may poll.
    ///
    /// # Errors
    /// The kernel is too old, or the process may not (`CAP_NET_RAW`).
    pub(super) fn open(link: &Link) -> io::Result<Option<Self>> {
        if link.driver != "veth" || link.tx_queues != 1 {
            return Ok(None);
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
        packet::take_vnet_headers(socket.as_fd())?;
        packet::set_send_buffer(socket.as_fd(), SEND_BUFFER_BYTES)?;
        packet::bind_to_send(socket.as_fd(), link.index)?;
        Ok(Some(Self { socket }))
    }

    /// Sends the train at the front of `frames`. Returns false when the kernel does not take it: the frames are as they were.
    pub(super) fn send(&mut self, frames: &TxBurst, train: Train) -> bool {
        let mut parts = [IoSlice::new(&[]); BURST + 2];
        let first = frames.iter().next().and_then(|frame| Segment::of(frame.bytes()));
        let Some(first) = first else { return false };
        let (vnet, head) = (train.shape.vnet_header(train.cut), head_of(&first, train));
        let Some(head) = head.get(..train.shape.head) else { return false };
        (parts[0], parts[1]) = (IoSlice::new(&vnet), IoSlice::new(head));
        let mut used = 2;
        for (part, frame) in parts[2..].iter_mut().zip(frames.iter().take(train.frames)) {
            let Some(segment) = Segment::of(frame.bytes()) else { return false };
            *part = IoSlice::new(segment.payload);
            used += 1;
        }
        let parts = &parts[..used];
        self.send_parts(parts)
    }

    /// Sends what [`Queue::send_train`](crate::Queue::send_train) does. Returns the segments of it, and how long they are
    /// together; `None` when the kernel does not take it.
    pub(super) fn send_packet(&mut self, packet: &[u8], cut: u16) -> Option<Segments> {
        let shape = Shape::of(packet)?;
        let payload = packet.len().checked_sub(shape.head)?;
        let frames = payload.div_ceil(usize::from(cut.max(1)));
        let vnet = shape.vnet_header(cut.into());
        let taken = self.send_parts(&[IoSlice::new(&vnet), IoSlice::new(packet)]);
        taken.then_some(Segments { frames: frames as u64, bytes: (payload + frames * shape.head) as u64 })
    }

    fn send_parts(&self, parts: &[IoSlice<'_>]) -> bool {
        rustix::net::sendmsg(&self.socket, parts, &mut SendAncillaryBuffer::default(), SendFlags::DONTWAIT).is_ok()
    }
}

/// What a packet was cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segments {
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

/// Where in a packet the TCP header begins and ends, and what the kernel calls such a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    kind: u8,
    tcp_at: usize,
    head: usize,
}

impl Shape {
    /// Of a packet of TCP over IPv4 without options, or over IPv6 without further headers.
    fn of(packet: &[u8]) -> Option<Self> {
        let (kind, tcp_at) = match packet.get(12..15)? {
            [8, 0, 0x45] => (TCP_OVER_IPV4, TCP_AT),
            [0x86, 0xdd, version] if version >> 4 == 6 => (TCP_OVER_IPV6, IP_AT + 40),
            _ => return None,
        };
        let head = tcp_at + usize::from(packet.get(tcp_at + 12)? >> 4) * 4;
        Some(Self { kind, tcp_at, head })
    }

    /// What the kernel is told of the packet, which is to be cut at `cut` bytes of payload.
    fn vnet_header(self, cut: usize) -> [u8; VNET_BYTES] {
        let mut header = [0; VNET_BYTES];
        (header[0], header[1]) = (NEEDS_CHECKSUM, self.kind);
        // Length of the headers, where it is cut, where the sum begins and where it is to be written from there on.
        for (place, value) in header[2..].chunks_exact_mut(2).zip([self.head, cut, self.tcp_at, 16]) {
            place.copy_from_slice(&(value as u16).to_ne_bytes());
        }
        header
    }
}

/// How many frames at the front of `frames`, behind the first `skipped`, belong together: as many as cannot be part of a
/// train, or one that is long enough.
pub(super) fn next_train(frames: &TxBurst, skipped: usize) -> Result<Train, usize> {
    let mut frames = frames.iter().skip(skipped).map(|frame| Segment::of(frame.bytes()));
    let Some(Some(first)) = frames.next() else { return Err(1) };
    let cut = first.payload.len();
    let mut train = Train { shape: first.shape, frames: 1, payload: cut, cut, pushes: first.pushes() };
    let mut next = first.end();
    for segment in frames {
        let Some(segment) = segment else { break };
        let full = !train.pushes && train.payload == train.frames * cut;
        let fits = train.payload + segment.payload.len() + first.shape.head - IP_AT <= MOST_PACKET_BYTES;
        if !full || !fits || segment.payload.len() > cut || segment.seq() != next || !segment.goes_with(&first) {
            break;
        }
        next = segment.end();
        train.frames += 1;
        train.payload += segment.payload.len();
        train.pushes = segment.pushes();
    }
    if train.frames < LEAST { Err(train.frames) } else { Ok(train) }
}

/// Whether it is worth looking for trains: `frames` has as many as one needs, and the first could be one of a large flight.
#[inline]
pub(super) fn may_have_trains(frames: &TxBurst) -> bool {
    frames.len() >= LEAST && frames.iter().take(LEAST).any(|frame| frame.len() > 512)
}

/// A frame that may be part of a train.
#[derive(Debug, Clone, Copy)]
struct Segment<'a> {
    shape: Shape,
    /// All before the TCP header, and that.
    ip: &'a [u8],
    tcp: &'a [u8; 20],
    payload: &'a [u8],
}

impl<'a> Segment<'a> {
    /// Reads a frame; `None` when it cannot be part of a train.
    fn of(frame: &'a [u8]) -> Option<Self> {
        let shape = Shape::of(frame)?;
        let (ip, rest) = frame.split_at_checked(shape.tcp_at)?;
        let (tcp, payload) = rest.split_first_chunk()?;
        // The length that the packet has by its header, its protocol, and whether it is no fragment: of IPv4's field nothing
        // but "do not fragment" is set.
        let (length, protocol, whole) = match shape.kind {
            TCP_OVER_IPV4 => (usize::from(be16(ip, 16)), ip[23], ip[20] & !0x40 == 0 && ip[21] == 0),
            _ => (usize::from(be16(ip, 18)) + 40, ip[20], true),
        };
        let plain = protocol == TCP && whole && length == frame.len() - IP_AT && tcp[12] == 0x50;
        let data = tcp[13] & !PSH == ACK && !payload.is_empty();
        (plain && data).then_some(Self { shape, ip, tcp, payload })
    }

    fn seq(&self) -> u32 {
        u32::from_be_bytes([self.tcp[4], self.tcp[5], self.tcp[6], self.tcp[7]])
    }

    /// The sequence number behind its payload.
    fn end(&self) -> u32 {
        // A frame is at most 32,768 bytes long.
        self.seq().wrapping_add(self.payload.len() as u32)
    }

    fn pushes(&self) -> bool {
        self.tcp[13] & PSH != 0
    }

    /// Whether nothing differs but what cutting makes anew.
    fn goes_with(&self, first: &Self) -> bool {
        // Stations, type of service, flow label; fragment's field, time to live, protocol; addresses.
        let same = match self.shape.kind {
            TCP_OVER_IPV4 => [0..16, 20..24, 26..TCP_AT],
            _ => [0..18, 20..22, 22..IP_AT + 40],
        };
        // Ports; ACK number; window; urgent pointer.
        self.shape == first.shape
            && same.into_iter().all(|range| self.ip[range.clone()] == first.ip[range])
            && [0..4, 8..12, 14..16, 18..20].into_iter().all(|range| self.tcp[range.clone()] == first.tcp[range])
    }
}

/// Two bytes of a header.
fn be16(header: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

/// The headers of the whole, made of those of its first frame. The TCP checksum is that of the pseudo-header, as the kernel
/// has it of what it is to complete.
fn head_of(first: &Segment<'_>, train: Train) -> [u8; MOST_HEAD_BYTES] {
    let (tcp_at, mut head) = (train.shape.tcp_at, [0; MOST_HEAD_BYTES]);
    head[..tcp_at].copy_from_slice(first.ip);
    head[tcp_at..tcp_at + 20].copy_from_slice(first.tcp);
    // `next_train` keeps it below 65,536, with the IP header too.
    let length = (train.payload + first.tcp.len()) as u16;
    let pseudo = if train.shape.kind == TCP_OVER_IPV4 {
        head[IP_AT + 2..IP_AT + 4].copy_from_slice(&(length + 20).to_be_bytes());
        head[IP_AT + 10..IP_AT + 12].fill(0);
        let sum = checksum::field(checksum::add(0, &head[IP_AT..TCP_AT]));
        head[IP_AT + 10..IP_AT + 12].copy_from_slice(&sum);
        checksum::add(checksum::pseudo_header([0; 4], [0; 4], TCP, length), &head[IP_AT + 12..TCP_AT])
    } else {
        head[IP_AT + 4..IP_AT + 6].copy_from_slice(&length.to_be_bytes());
        let rest = checksum::pseudo_header_v6([0; 16], [0; 16], TCP, length.into());
        checksum::add(rest, &head[IP_AT + 8..IP_AT + 40])
    };
    if train.pushes {
        head[tcp_at + 13] |= PSH;
    }
    head[tcp_at + 16..tcp_at + 18].copy_from_slice(&checksum::fold(pseudo).to_ne_bytes());
    head
}

/// The sum of the pseudo-header of a segment that has these headers and whose frame is as long as this.
fn pseudo_header(head: &[u8; HEAD_BYTES], frame_bytes: usize) -> u64 {
    let addresses = checksum::add(0, &head[IP_AT + 12..TCP_AT]);
    // A packet is shorter than 64 kB.
    addresses + checksum::pseudo_header([0; 4], [0; 4], TCP, (frame_bytes - TCP_AT) as u16)
}

/// Writes the TCP checksum of a frame that leaves by itself, if it is a segment over IPv4, without tag and without options of
/// IPv4, whose checksum is 0: it was left to the queue, or comes out as 0 again.
pub(crate) fn complete_checksum(frame: &mut [u8]) {
    let Some(head) = frame.first_chunk::<HEAD_BYTES>() else { return };
    if head[12..15] != [8, 0, 0x45] || head[IP_AT + 9] != TCP || head[TCP_AT + 16..TCP_AT + 18] != [0, 0] {
        return;
    }
    let sum = checksum::field(checksum::add(pseudo_header(head, frame.len()), &frame[TCP_AT..]));
    frame[TCP_AT + 16..TCP_AT + 18].copy_from_slice(&sum);
}

#[cfg(test)]
mod tests;
