//! A connection is a value: what smoltcp knows of it is taken out of one socket and put into another, of other rings.
//!
//! smoltcp can neither build a socket that is established nor give the bytes of a transmit ring back. Both are had by
//! playing its peer. [`Replay::take_out`] acknowledges what the old socket sends, until nothing is left in it;
//! [`Replay::put_in`] opens the new one by a SYN, with the peer's options, whose answer gets the ISN that is wanted
//! (`isn.rs`), and has it receive and send again what was in the rings, the frames of which are thrown away. About
//! 0.3 us, and as much again for each segment in the rings. Nothing is allocated.
//!
//! What does not come along: data behind a hole in the receive ring (who calls knows of none), a window that has opened
//! and was not told yet (who calls tells it), the duplicate ACKs counted, how far a timer has run. The tests compare a connection that was moved, at any moment, with one that was not.
//! Read first: `isn.rs`, RFC 9293 §3.10.

use std::time::Duration;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, State};
use smoltcp::time::Instant;
use smoltcp::wire::HardwareAddress;

use crate::block::FlowBlock;
use crate::clock::{FlowClock, Time};
use crate::flow_id::FlowKey;
use crate::isn::seed_for;
use crate::options::SynOptions;
use crate::ring_pool::LARGE;
use crate::segment::Sent;
use crate::wire::{ACK, FIN, IPV4_BYTES, PROTOCOL_TCP, SYN, TCP_BYTES};

/// Most bytes of either ring that come along.
pub(crate) const MOST_BYTES: usize = LARGE;

/// Longest IPv4 packet.
const MOST_PACKET: usize = 65_535;

/// Bytes of a segment by which received data is put in.
const PUT_IN: usize = 32_768;

/// No retransmission timer of smoltcp's takes longer (`RTTE_MAX_RTO`).
const LONGEST_TIMER: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(60);

/// Headers, with the options of a SYN.
const HEAD: usize = IPV4_BYTES + TCP_BYTES;
const SYN_OPTIONS: usize = 12;

/// What is to be known of a connection in ESTABLISHED or CLOSE-WAIT, beside the bytes in its rings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) key: FlowKey,
    /// SND.UNA and SND.NXT.
    pub(crate) snd_una: u32,
    pub(crate) snd_nxt: u32,
    /// Sequence number of the first byte in the receive ring.
    pub(crate) rcv_base: u32,
    /// The ACK number last sent.
    pub(crate) last_ack: u32,
    /// The peer's FIN has been received, behind the bytes in the receive ring.
    pub(crate) fin_received: bool,
    /// What the peer's SYN offered.
    pub(crate) options: SynOptions,
    /// The window field that smoltcp is to believe.
    pub(crate) window: u16,
    /// The round-trip time, which smoltcp takes from the handshake.
    pub(crate) round_trip: Duration,
}

/// The memory that a connection passes through.
pub(crate) struct Replay {
    rx: Vec<u8>,
    tx: Vec<u8>,
    packet: Vec<u8>,
    out: Vec<u8>,
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

/// An ACK of a flow's peer that says nothing new but, perhaps, the window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) key: FlowKey,
    /// The next sequence number of the peer's.
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) window: u16,
}

impl Told {
    /// The last ACK of the flow's peer, with the window that smoltcp is to believe, which the block notes.
    pub(crate) fn of(block: &mut FlowBlock) -> Self {
        block.told_window = block.peer_window.min(block.sending.field());
        Self { key: block.key, seq: block.rcv_nxt(), ack: block.highest_ack, window: block.told_window }
    }
}

impl Replay {
    pub(crate) fn new() -> Self {
        let room = Vec::with_capacity;
        Self { rx: room(MOST_BYTES), tx: room(MOST_BYTES), packet: room(MOST_PACKET), out: room(MOST_PACKET) }
    }

    /// Has the one socket of `set` believe the window of `told`.
    pub(crate) fn tell(&mut self, interface: &mut Interface, now: Instant, set: &mut SocketSet<'static>, told: Told) {
        let said = Said { flags: ACK, seq: told.seq, ack: told.ack, window: told.window };
        write_head(&mut self.packet, &told.key, said, &[], 0);
        self.out.clear();
        let mut device = Desk { packet: Some(&self.packet), out: &mut self.out, written: false };
        interface.poll_ingress_single(now, &mut device, set);
    }

    /// A packet with an octet that came before, which a socket answers with an ACK of where it is.
    pub(crate) fn old_octet(&mut self, told: Told) -> &[u8] {
        let said = Said { flags: ACK, seq: told.seq.wrapping_sub(1), ack: told.ack, window: told.window };
        write_head(&mut self.packet, &told.key, said, &[], 1);
        self.packet.push(0);
        &self.packet
    }

    /// Has the one socket of `set` receive `data`, which is what comes next. Its answer is thrown away.
    pub(crate) fn give(
        &mut self,
        interface: &mut Interface,
        now: Instant,
        set: &mut SocketSet<'static>,
        told: Told,
        data: &[u8],
    ) {
        let said = Said { flags: ACK, seq: told.seq, ack: told.ack, window: told.window };
        write_head(&mut self.packet, &told.key, said, &[], data.len());
        self.packet.extend_from_slice(data);
        self.out.clear();
        let mut device = Desk { packet: Some(&self.packet), out: &mut self.out, written: false };
        interface.poll_ingress_single(now, &mut device, set);
    }

    /// Has the one socket of `set` send its earliest segment again with the next poll, if it was sent: three duplicates of
    /// the last ACK do.
    pub(crate) fn have_sent_again(
        &mut self,
        interface: &mut Interface,
        now: Instant,
        set: &mut SocketSet<'static>,
        told: Told,
    ) {
        // Two windows: whatever the socket believes, one of them is news, which has it count from 0.
        self.tell(interface, now, set, Told { window: told.window ^ 1, ..told });
        for _ in 0..4 {
            self.tell(interface, now, set, told);
        }
    }

    /// Has the one socket of `set` send all that is in flight again, from the next poll on, if its retransmission timer runs:
    /// it is polled at a time when that has run out in any case, without room for a frame.
    pub(crate) fn rewind(&mut self, interface: &mut Interface, now: Instant, set: &mut SocketSet<'static>) {
        // A device that has written already has no more room.
        let mut device = Desk { packet: None, out: &mut self.out, written: true };
        interface.poll_egress(now + LONGEST_TIMER, &mut device, set);
    }

    /// Has the one socket of `set` send a segment, which is thrown away. Returns what it was.
    pub(crate) fn skip(
        &mut self,
        interface: &mut Interface,
        now: Instant,
        set: &mut SocketSet<'static>,
    ) -> Option<Sent> {
        self.out.clear();
        let mut device = Desk { packet: None, out: &mut self.out, written: false };
        interface.poll_egress(now, &mut device, set);
        let written = device.written;
        if written { Sent::of(&self.out) } else { None }
    }

    /// Whether all that the socket holds can come along. A FIN behind a full ring cannot: smoltcp takes it as beyond the
    /// window then, and with it the ACK that comes last.
    pub(crate) fn can_take(socket: &Socket<'_>) -> bool {
        let state = match socket.state() {
            State::Established => true,
            State::CloseWait => socket.recv_queue() < socket.recv_capacity(),
            _ => false,
        };
        state && socket.recv_queue() <= MOST_BYTES && socket.send_queue() <= MOST_BYTES
    }

    /// Takes what is in the rings of `handle`'s socket, in `set`, out of them. The socket is of no use afterwards, whatever
    /// is returned: whether all was found.
    pub(crate) fn take_out(
        &mut self,
        now: Time,
        record: &Record,
        set: &mut SocketSet<'static>,
        handle: SocketHandle,
    ) -> bool {
        let socket = set.get_mut::<Socket>(handle);
        socket.set_congestion_control(smoltcp::socket::tcp::CongestionControl::None);
        let waiting = socket.send_queue();
        self.rx.clear();
        self.tx.clear();
        while socket.can_recv() {
            let rx = &mut self.rx;
            let taken = socket.recv(|bytes| {
                rx.extend_from_slice(bytes);
                (bytes.len(), bytes.len())
            });
            if taken.unwrap_or(0) == 0 {
                return false;
            }
        }
        let seq = record.rcv_base.wrapping_add(self.rx.len() as u32 + u32::from(record.fin_received));
        let mut peer = Peer::new(self, FlowClock::instant(now), record, set, handle, 0);
        // Two windows: whatever the socket believes, one of them is news, which has it count duplicates from 0.
        let mut segment = Said { flags: ACK, seq, ack: record.snd_una, window: u16::MAX - 1 };
        peer.say(segment, &[], 0..0);
        segment.window = u16::MAX;
        peer.say(segment, &[], 0..0);
        let mut found = 0;
        while found < waiting {
            // Three duplicates make smoltcp send the earliest segment again, if it was sent before.
            for _ in 0..3 {
                peer.say(segment, &[], 0..0);
            }
            let Some((sent, from)) = peer.hear() else { return false };
            let bytes = peer.replay.out.len() - from;
            if sent.end != segment.ack.wrapping_add(bytes as u32) || bytes == 0 {
                return false;
            }
            peer.replay.tx.extend_from_slice(&peer.replay.out[from..]);
            found += bytes;
            segment.ack = sent.end;
            peer.say(segment, &[], 0..0);
        }
        found == waiting
    }

    /// Has the socket of `handle`, in `set`, which listens as if it had just been made, take the SYN that the connection of
    /// `record` began with, and answer it; the answer is thrown away. Returns it, `None` when it is another than was to be.
    ///
    /// The socket waits for the ACK of its answer then.
    pub(crate) fn begin(
        &mut self,
        now: Time,
        record: &Record,
        set: &mut SocketSet<'static>,
        handle: SocketHandle,
    ) -> Option<Sent> {
        let isn = record.snd_una.wrapping_sub(1);
        let mut peer = Peer::new(self, FlowClock::instant(now), record, set, handle, seed_for(isn));
        let options = syn_options(&record.options);
        let syn = Said { flags: SYN, seq: record.rcv_base.wrapping_sub(1), ack: 0, window: record.window };
        peer.say(syn, &options, 0..0);
        let (sent, _) = peer.hear()?;
        (sent.end == record.snd_una && peer.socket().state() == State::SynReceived).then_some(sent)
    }

    /// Puts the connection of `record`, of which nothing is in either ring, into the socket of `handle`, as
    /// [`put_in`](Self::put_in) does.
    pub(crate) fn put_in_empty(
        &mut self,
        now: Time,
        record: &Record,
        set: &mut SocketSet<'static>,
        handle: SocketHandle,
        ack_delay: Duration,
    ) -> bool {
        self.rx.clear();
        self.tx.clear();
        self.put_in(now, record, set, handle, ack_delay)
    }

    /// As [`put_in_empty`](Self::put_in_empty), in FIN-WAIT-2: the octet before SND.NXT is our FIN, which is acknowledged.
    pub(crate) fn put_in_closed(
        &mut self,
        now: Time,
        record: &Record,
        set: &mut SocketSet<'static>,
        handle: SocketHandle,
        ack_delay: Duration,
    ) -> bool {
        let before = record.snd_nxt.wrapping_sub(1);
        let open = Record { snd_una: before, snd_nxt: before, ..*record };
        if !self.put_in_empty(now, &open, set, handle, ack_delay) {
            return false;
        }
        set.get_mut::<Socket>(handle).close();
        let mut peer = Peer::new(self, FlowClock::instant(now), &open, set, handle, 0);
        let fin = peer.hear().is_some_and(|(sent, _)| sent.end == record.snd_nxt);
        peer.say(Said { flags: ACK, seq: record.rcv_base, ack: record.snd_nxt, window: record.window }, &[], 0..0);
        fin && peer.socket().state() == State::FinWait2
    }

    /// Puts the connection of `record`, with the bytes that were taken out, into the socket of `handle`, in `set`, which
    /// listens as if it had just been made. Returns whether it is there, as it was.
    ///
    /// `ack_delay` is what the socket is to keep to from then on.
    pub(crate) fn put_in(
        &mut self,
        now: Time,
        record: &Record,
        set: &mut SocketSet<'static>,
        handle: SocketHandle,
        ack_delay: Duration,
    ) -> bool {
        let socket = set.get_mut::<Socket>(handle);
        socket.set_congestion_control(smoltcp::socket::tcp::CongestionControl::None);
        socket.set_ack_delay(None);
        let (received, waiting) = (self.rx.len(), self.tx.len());
        let acknowledged_of_ring = record.last_ack.wrapping_sub(record.rcv_base) as i32;
        // What was taken by the application and not yet acknowledged comes first, as nothing: it asks for its ACK.
        let taken = acknowledged_of_ring.min(0).unsigned_abs() as usize;
        let acknowledged = acknowledged_of_ring.max(0) as usize;
        let first = record.rcv_base.wrapping_sub(taken as u32);
        let in_flight = record.snd_nxt.wrapping_sub(record.snd_una) as usize;
        if acknowledged > received + usize::from(record.fin_received) || in_flight > waiting {
            return false;
        }
        let later = FlowClock::instant(now);
        let at = later - FlowClock::span(record.round_trip).min(later - Instant::ZERO);
        let isn = record.snd_una.wrapping_sub(1);
        let mut peer = Peer::new(self, at, record, set, handle, seed_for(isn));
        let Some(mut segment) = peer.connect(record, first, later) else { return false };
        let fin_acknowledged = record.fin_received && acknowledged > received;
        segment.seq = peer.put(segment, 0..acknowledged.min(received));
        if fin_acknowledged {
            peer.say(Said { flags: ACK | FIN, ..segment }, &[], 0..0);
            segment.seq = segment.seq.wrapping_add(1);
        }
        // Without a delay there is one ACK for all that was received, and nothing else to send.
        if acknowledged > 0 && peer.hear().is_none() {
            return false;
        }
        if !peer.send_again(record, in_flight) {
            return false;
        }
        // From here on nothing is sent, so that what waits for its ACK still does.
        peer.socket().set_ack_delay(Some(FlowClock::span(ack_delay)));
        segment.seq = peer.put_nothing(segment, taken);
        if taken > 0 && segment.seq != record.rcv_base {
            return false;
        }
        segment.seq = peer.put(segment, acknowledged.min(received)..received);
        if record.fin_received && !fin_acknowledged {
            peer.say(Said { flags: ACK | FIN, ..segment }, &[], 0..0);
            segment.seq = segment.seq.wrapping_add(1);
        }
        peer.tell_window(segment, record.window);
        let state = if record.fin_received { State::CloseWait } else { State::Established };
        let socket = peer.socket();
        socket.state() == state && socket.recv_queue() == received && socket.send_queue() == waiting
    }
}

/// The options of the peer's SYN, as they were.
fn syn_options(options: &SynOptions) -> [u8; SYN_OPTIONS] {
    let mut bytes = [1; SYN_OPTIONS];
    if let Some(mss) = options.mss {
        let [high, low] = mss.to_be_bytes();
        bytes[..4].copy_from_slice(&[2, 4, high, low]);
    }
    if let Some(bits) = options.window_scale {
        bytes[4..7].copy_from_slice(&[3, 3, bits]);
    }
    if options.sack_permitted {
        bytes[8..10].copy_from_slice(&[4, 2]);
    }
    bytes
}

/// What the peer says in a header.
#[derive(Debug, Clone, Copy)]
struct Said {
    flags: u8,
    seq: u32,
    ack: u32,
    window: u16,
}

/// A socket's peer, played.
struct Peer<'a> {
    replay: &'a mut Replay,
    interface: Interface,
    now: Instant,
    key: FlowKey,
    set: &'a mut SocketSet<'static>,
    handle: SocketHandle,
}

impl<'a> Peer<'a> {
    fn new(
        replay: &'a mut Replay,
        now: Instant,
        record: &Record,
        set: &'a mut SocketSet<'static>,
        handle: SocketHandle,
        seed: u64,
    ) -> Self {
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut device = Desk { packet: None, out: &mut replay.out, written: false };
        let mut interface = Interface::new(config, &mut device, now);
        interface.set_any_ip(true);
        Self { replay, interface, now, key: record.key, set, handle }
    }

    /// Opens the connection of `record`, whose peer sends `first` next: the SYN now, the rest at `later`. Returns what the
    /// peer's segments are from then on; `None`: the socket is not where it was.
    fn connect(&mut self, record: &Record, first: u32, later: Instant) -> Option<Said> {
        let options = syn_options(&record.options);
        self.say(Said { flags: SYN, seq: first.wrapping_sub(1), ack: 0, window: u16::MAX }, &options, 0..0);
        self.hear().filter(|(sent, _)| sent.end == record.snd_una)?;
        self.now = later;
        // A window that lets out again what is in flight, be it all that a peer without a scale can allow.
        let segment = Said { flags: ACK, seq: first, ack: record.snd_una, window: u16::MAX };
        self.say(segment, &[], 0..0);
        (self.socket().state() == State::Established).then_some(segment)
    }

    /// Tells the socket the window as it was. It is news to it, which has the socket count duplicates from 0.
    fn tell_window(&mut self, segment: Said, window: u16) {
        // The socket has been told the largest all the time: another goes before it.
        if window == u16::MAX {
            self.say(Said { window: window - 1, ..segment }, &[], 0..0);
        }
        self.say(Said { window, ..segment }, &[], 0..0);
    }

    fn socket(&mut self) -> &mut Socket<'static> {
        self.set.get_mut(self.handle)
    }

    /// Has the socket receive a segment with the bytes of `range` of what was taken out; an answer is thrown away.
    fn say(&mut self, said: Said, options: &[u8], range: std::ops::Range<usize>) {
        let Replay { rx, packet, out, .. } = &mut *self.replay;
        write_head(packet, &self.key, said, options, range.len());
        packet.extend_from_slice(&rx[range]);
        out.clear();
        let mut device = Desk { packet: Some(packet), out, written: false };
        self.interface.poll_ingress_single(self.now, &mut device, self.set);
    }

    /// What the socket sends, and where in `out` its data begins; `None`: nothing.
    fn hear(&mut self) -> Option<(Sent, usize)> {
        let out = &mut self.replay.out;
        out.clear();
        let mut device = Desk { packet: None, out, written: false };
        self.interface.poll_egress(self.now, &mut device, self.set);
        if !device.written {
            return None;
        }
        let sent = Sent::of(out)?;
        let data = IPV4_BYTES + usize::from(out.get(IPV4_BYTES + 12)? >> 4) * 4;
        Some((sent, data))
    }

    /// Has the socket receive the bytes of `range` of what was taken out. Returns the sequence number after them.
    fn put(&mut self, mut segment: Said, range: std::ops::Range<usize>) -> u32 {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + PUT_IN);
            self.say(segment, &[], at..end);
            segment.seq = segment.seq.wrapping_add((end - at) as u32);
            at = end;
        }
        segment.seq
    }

    /// Has the socket receive so many bytes, which the application takes. Returns the sequence number after them.
    fn put_nothing(&mut self, mut segment: Said, mut bytes: usize) -> u32 {
        while bytes > 0 {
            let part = bytes.min(PUT_IN);
            let Replay { packet, out, .. } = &mut *self.replay;
            write_head(packet, &self.key, segment, &[], part);
            packet.resize(HEAD + part, 0);
            out.clear();
            let mut device = Desk { packet: Some(packet), out, written: false };
            self.interface.poll_ingress_single(self.now, &mut device, self.set);
            let socket = self.socket();
            // The ring was empty: what has come lies in one piece, or in two around its end.
            let mut taken = 0;
            for _ in 0..2 {
                taken += socket.recv(|bytes| (bytes.len(), bytes.len())).unwrap_or(0);
            }
            segment.seq = segment.seq.wrapping_add(taken as u32);
            if taken != part {
                break;
            }
            bytes -= part;
        }
        segment.seq
    }

    /// Writes what was taken out of the transmit ring into this one, and has the socket send the first `in_flight` bytes.
    fn send_again(&mut self, record: &Record, in_flight: usize) -> bool {
        let written = self.send(0..in_flight);
        let mut end = record.snd_una;
        while end != record.snd_nxt {
            let Some((sent, _)) = self.hear() else { return false };
            if sent.empty {
                return false;
            }
            end = sent.end;
        }
        written && self.send(in_flight..self.replay.tx.len())
    }

    fn send(&mut self, range: std::ops::Range<usize>) -> bool {
        let socket = self.set.get_mut::<Socket>(self.handle);
        range.is_empty() || socket.send_slice(&self.replay.tx[range.clone()]) == Ok(range.len())
    }
}

/// Writes the headers of an IPv4 packet from the peer of `key`; smoltcp verifies no sums.
fn write_head(packet: &mut Vec<u8>, key: &FlowKey, said: Said, options: &[u8], data: usize) {
    packet.clear();
    let total = (HEAD + options.len() + data) as u16;
    packet.extend_from_slice(&[0x45, 0]);
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0]);
    packet.extend_from_slice(&key.remote.octets());
    packet.extend_from_slice(&key.local.octets());
    packet.extend_from_slice(&key.remote_port.to_be_bytes());
    packet.extend_from_slice(&key.local_port.to_be_bytes());
    packet.extend_from_slice(&said.seq.to_be_bytes());
    packet.extend_from_slice(&said.ack.to_be_bytes());
    packet.extend_from_slice(&[((TCP_BYTES + options.len()) as u8 / 4) << 4, said.flags]);
    packet.extend_from_slice(&said.window.to_be_bytes());
    packet.extend_from_slice(&[0; 4]);
    packet.extend_from_slice(options);
}

/// smoltcp's device for all this: one packet in, at most one out, into plain memory.
struct Desk<'a> {
    packet: Option<&'a [u8]>,
    out: &'a mut Vec<u8>,
    written: bool,
}

impl Device for Desk<'_> {
    type RxToken<'b>
        = Read<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = Write<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(Read<'_>, Write<'_>)> {
        let packet = self.packet.take()?;
        Some((Read(packet), Write { out: self.out, written: &mut self.written }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Write<'_>> {
        (!self.written).then_some(Write { out: self.out, written: &mut self.written })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MOST_PACKET;
        capabilities.checksum = ChecksumCapabilities::ignored();
        capabilities
    }
}

struct Read<'b>(&'b [u8]);

impl RxToken for Read<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Write<'b> {
    out: &'b mut Vec<u8>,
    written: &'b mut bool,
}

impl TxToken for Write<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        *self.written = true;
        self.out.resize(len, 0);
        write(self.out)
    }
}

#[cfg(test)]
mod tests;
