//! UDP as the application sees it: datagrams lent from their RX frames, replies written straight into TX frames.
//!
//! ```text
//! NetStack::ingest_datagrams ─► DatagramHandler::datagram(peer, payload, replies) ─► DatagramReplies::send
//!                                       └─ keeps the peer ─► NetStack::send_datagram, in a later turn
//! ```
//! What answers nobody leaves by [`NetStack::send_to`](crate::NetStack::send_to).
//!
//! Invariant: nothing is kept of a datagram once the handler has returned, unless the handler keeps it: its RX frame
//! goes back to the queue in the same turn, whatever became of the answer. A reply goes to the address, the port and
//! the station that the datagram came from, with the VLAN tag it came with. Read first: RFC 768, RFC 8085.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nic::{Frame, Queue, checksum};

use crate::classify::Datagram;
use crate::drop_reason::DropReason;
use crate::flow_id::Ends;
use crate::ipv6::{HOP_LIMIT, Head};
use crate::link::LinkHeader;
use crate::names::Names;
use crate::port::Outlet;
use crate::stats::StackStats;
use crate::wire::{IPV4_BYTES, IPV6_BYTES, LONGER_BYTES, PROTOCOL_UDP, UDP_BYTES};

/// The first port that an unprivileged program can have (RFC 6335 §6): below it are services that answer whatever
/// comes (echo, chargen, DNS), and an answer to them may start a circle.
const FIRST_USER_PORT: u16 = 1_024;

/// memcached's port: another cache would take an answer for a request.
const MEMCACHED_PORT: u16 = 11_211;

/// Length of the IPv4 and UDP headers, in bytes.
pub(crate) const HEADER_BYTES: usize = IPV4_BYTES + UDP_BYTES;

/// Who sent a datagram, and the way back to them: addresses, ports, link header, and the port of the turn by which it
/// came. Small; may be kept for answers in later turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DatagramPeer {
    ends: Ends,
    port: u16,
    link: LinkHeader,
}

impl DatagramPeer {
    /// Who is reached through the header `link` by the port numbered `port`.
    pub(crate) fn new(ends: Ends, port: u16, link: LinkHeader) -> Self {
        Self { ends, port, link }
    }

    /// The sender of `datagram`, which came in `frame` by the port numbered `port`.
    #[inline]
    pub(crate) fn of(datagram: &Datagram, frame: &[u8], port: usize, names: &Names) -> Self {
        Self {
            ends: names.ends(&datagram.key),
            port: port as u16,
            link: LinkHeader::answering(frame, usize::from(datagram.at)),
        }
    }

    /// The sender.
    #[inline]
    pub fn peer(&self) -> SocketAddr {
        self.ends.peer()
    }

    /// The address and port of ours to which the datagram was sent, and from which its answers come.
    #[inline]
    pub fn local(&self) -> SocketAddr {
        self.ends.own()
    }

    /// The number of the port by which it came and its answers leave.
    #[inline]
    pub(crate) fn port(&self) -> usize {
        usize::from(self.port)
    }

    /// Bytes of the headers of the packet that carries a datagram to the sender.
    #[inline]
    pub(crate) fn header_bytes(&self) -> usize {
        if self.ends.remote.is_ipv6() { HEADER_BYTES + LONGER_BYTES } else { HEADER_BYTES }
    }

    /// Writes the link, IP and UDP headers of a reply in front of its payload, which is the rest of `frame`.
    #[inline]
    fn write_headers(&self, frame: &mut [u8]) {
        self.link.write(frame);
        match (self.ends.remote, self.ends.local) {
            (IpAddr::V4(remote), IpAddr::V4(local)) => self.write_ipv4(frame, remote, local),
            (IpAddr::V6(remote), IpAddr::V6(local)) => self.write_ipv6(frame, remote, local),
            // Both ends are of one family.
            _ => {}
        }
    }

    fn write_ipv6(&self, frame: &mut [u8], remote: Ipv6Addr, local: Ipv6Addr) {
        let packet = frame.get_mut(self.link.len() - LONGER_BYTES..).unwrap_or_default();
        let Some((header, datagram)) = packet.split_first_chunk_mut::<IPV6_BYTES>() else { return };
        let head =
            Head { source: local, destination: remote, label: 0, next_header: PROTOCOL_UDP, hop_limit: HOP_LIMIT };
        head.write(header, datagram.len());
        self.write_udp(datagram, head.pseudo_sum(datagram.len()));
    }

    /// Writes the UDP header, `pseudo` being the sum of the pseudo-header.
    #[inline(always)]
    fn write_udp(&self, datagram: &mut [u8], pseudo: u64) {
        let len = datagram.len() as u16;
        datagram[..2].copy_from_slice(&self.ends.local_port.to_be_bytes());
        datagram[2..4].copy_from_slice(&self.ends.remote_port.to_be_bytes());
        datagram[4..6].copy_from_slice(&len.to_be_bytes());
        datagram[6..8].fill(0);
        let sum = match checksum::field(checksum::add(pseudo, datagram)) {
            // RFC 768: zero would mean that there is none.
            [0, 0] => [0xff, 0xff],
            sum => sum,
        };
        datagram[6..8].copy_from_slice(&sum);
    }

    #[inline(always)]
    fn write_ipv4(&self, frame: &mut [u8], remote: Ipv4Addr, local: Ipv4Addr) {
        let packet = &mut frame[self.link.len()..];
        // A packet is at most the MTU long, which `StackConfig::check` keeps below 65,536.
        let packet_len = packet.len() as u16;
        let (ip, datagram) = packet.split_at_mut(IPV4_BYTES);
        // As the segments of TCP: don't fragment (RFC 1191 §3), and so the identification says nothing and may be
        // anything (RFC 6864 §4.1).
        ip[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, PROTOCOL_UDP, 0, 0]);
        ip[2..4].copy_from_slice(&packet_len.to_be_bytes());
        ip[12..16].copy_from_slice(&local.octets());
        ip[16..20].copy_from_slice(&remote.octets());
        let sum = checksum::field(checksum::add(0, ip));
        ip[10..12].copy_from_slice(&sum);
        let len = packet_len - IPV4_BYTES as u16;
        let pseudo = checksum::pseudo_header(local.octets(), remote.octets(), PROTOCOL_UDP, len);
        self.write_udp(datagram, pseudo);
    }
}

/// What takes datagrams: given to [`NetStack::ingest_datagrams`](crate::NetStack::ingest_datagrams).
pub trait DatagramHandler {
    /// A burst of one port begins: what was foreseen of the last is no more.
    #[inline]
    fn begin_burst(&mut self) {}

    /// Told of every datagram of the burst before the first of them is handed over, in order, so that memory can be
    /// asked for what all of them will read. Told again of those that stay in the port for the next turn.
    #[inline]
    fn foresee(&mut self, _payload: &[u8]) {}

    /// A datagram, once. `payload` lies in its RX frame, which the link has back when this returns: what is to be
    /// answered later must be copied, and `peer` kept for [`NetStack::send_datagram`](crate::NetStack::send_datagram).
    fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>);
}

/// Where nobody takes datagrams.
pub(crate) enum NoDatagrams {}

impl DatagramHandler for NoDatagrams {
    fn datagram(&mut self, _peer: &DatagramPeer, _payload: &[u8], _replies: &mut DatagramReplies<'_>) {
        match *self {}
    }
}

/// No room for a datagram now: every TX frame is in flight, or it is longer than
/// [`max_payload`](DatagramReplies::max_payload), which no later turn changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no frame is left to send a datagram in; try again in the next turn")]
pub struct NoFrame;

/// Where the answers to one datagram go.
pub struct DatagramReplies<'a> {
    pub(crate) outlet: Outlet<'a, dyn Queue + 'a>,
    pub(crate) peer: &'a DatagramPeer,
    pub(crate) ip_mtu: usize,
    pub(crate) stats: &'a mut StackStats,
}

impl std::fmt::Debug for DatagramReplies<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatagramReplies").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl DatagramReplies<'_> {
    /// Sends one datagram to the sender. `write` is given room of exactly `len` bytes in a TX frame, which hold
    /// whatever was there before, and returns how many it has used; with 0 nothing is sent.
    ///
    /// # Errors
    /// [`NoFrame`], before `write` is called: no TX frame is left, or `len` is above
    /// [`max_payload`](Self::max_payload). The caller tries again in a later turn, or counts the loss.
    #[inline]
    pub fn send(&mut self, len: usize, write: impl FnOnce(&mut [u8]) -> usize) -> Result<(), NoFrame> {
        let sent = send(&mut self.outlet, self.peer, self.ip_mtu, len, write);
        count(self.stats, sent)
    }

    /// The longest payload of one datagram, in bytes: what the link's MTU leaves.
    #[inline]
    pub fn max_payload(&self) -> usize {
        self.ip_mtu - self.peer.header_bytes()
    }
}

/// Whether a datagram is for the application, which listens on `ports` and asks services at the ports `services`.
///
/// # Errors
/// Why not.
#[inline]
pub(crate) fn admit(datagram: &Datagram, ports: &[u16], services: &[u16]) -> Result<(), DropReason> {
    let source = datagram.key.remote_port;
    #[expect(clippy::manual_contains, reason = "one or two: a library's search for longer ones costs more")]
    let listens = |port| ports.iter().any(|&own| own == port);
    if !listens(datagram.key.local_port) {
        Err(DropReason::UdpNoListener)
    } else if source == 0 {
        Err(DropReason::UdpNoSource)
    } else if source < FIRST_USER_PORT || source == MEMCACHED_PORT || listens(source) {
        if services.contains(&source) { Ok(()) } else { Err(DropReason::UdpLoopPort) }
    } else {
        Ok(())
    }
}

/// Writes a datagram to `peer` into a TX frame and lines it up. Returns whether there was one: `write` may have had
/// nothing to say.
///
/// # Errors
/// As [`DatagramReplies::send`].
#[inline]
pub(crate) fn send<Q: Queue + ?Sized>(
    outlet: &mut Outlet<'_, Q>,
    peer: &DatagramPeer,
    ip_mtu: usize,
    len: usize,
    write: impl FnOnce(&mut [u8]) -> usize,
) -> Result<bool, NoFrame> {
    if len > ip_mtu - peer.header_bytes() || !outlet.has_room() {
        return Err(NoFrame);
    }
    let mut frame = outlet.take_frame().ok_or(NoFrame)?;
    let payload_at = peer.link.len() + HEADER_BYTES;
    if frame.resize(payload_at + len).is_err() {
        // A frame shorter than the link's MTU, which `NetStack::fits` would have told.
        outlet.return_frame(frame);
        return Err(NoFrame);
    }
    let used = write(&mut frame.bytes_mut()[payload_at..]).min(len);
    if used == 0 {
        outlet.return_frame(frame);
        return Ok(false);
    }
    finish(&mut frame, peer, payload_at + used);
    outlet.send(frame).then_some(true).ok_or(NoFrame)
}

/// Cuts the frame to what was written and puts the headers in front.
#[inline]
fn finish(frame: &mut Frame, peer: &DatagramPeer, len: usize) {
    // Never longer than it was, so that it cannot fail.
    let cut = frame.resize(len);
    debug_assert_eq!(cut, Ok(()));
    peer.write_headers(frame.bytes_mut());
}

/// Counts what came of a [`send`].
#[inline]
pub(crate) fn count(stats: &mut StackStats, sent: Result<bool, NoFrame>) -> Result<(), NoFrame> {
    match sent {
        Ok(sent) => {
            stats.datagrams_sent += u64::from(sent);
            Ok(())
        }
        Err(NoFrame) => {
            stats.datagrams_refused += 1;
            Err(NoFrame)
        }
    }
}
