//! One client connection: smoltcp's ordinary interface with one socket, a script of bytes to send, the bytes that came.

use std::collections::VecDeque;
use std::time::Duration;

use etherparse::PacketBuilder;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Packet, TcpPacket};
use stack::Time;

use super::{PORT, THEM, US};

/// A connection of the rig, from the client's side.
pub struct Client {
    pub port: u16,
    device: Packets,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    /// Not yet in the socket's buffer.
    to_send: VecDeque<u8>,
    /// All that has come, until it is taken.
    pub received: Vec<u8>,
    /// Whether bytes that arrive are taken from the socket.
    pub reads: bool,
    /// Whether the client closes once the server has.
    pub follows: bool,
    closing: bool,
    /// The highest acknowledgement number that has come.
    acknowledged: u32,
    /// Acknowledgement number of the last packet sent.
    acknowledging: u32,
    /// What it was when something last moved.
    seen: u32,
    /// No probe before.
    probe_at: Time,
}

/// How long a client waits for an acknowledgement before its first probe.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two probes.
const PROBE_GAP: Duration = Duration::from_millis(500);

/// Acknowledgement number of a packet that is not damaged.
fn acknowledgement(packet: &[u8]) -> Option<u32> {
    let ip = Ipv4Packet::new_checked(packet).ok().filter(Ipv4Packet::verify_checksum)?;
    let (source, destination) = (ip.src_addr().into(), ip.dst_addr().into());
    let tcp = TcpPacket::new_checked(ip.payload()).ok().filter(|tcp| tcp.verify_checksum(&source, &destination))?;
    tcp.ack().then(|| tcp.ack_number().0 as u32)
}

fn instant(now: Time) -> Instant {
    Instant::from_micros(now.as_micros() as i64)
}

impl Client {
    /// A connection from `port`, whose SYN leaves with the next poll. `ring` is the size of its buffers, in bytes.
    pub fn new(port: u16, ring: usize, seed: u64) -> Self {
        let mut device = Packets::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(THEM), 24)).expect("there is room");
        });
        let mut socket = Socket::new(SocketBuffer::new(vec![0; ring]), SocketBuffer::new(vec![0; ring]));
        socket.set_nagle_enabled(false);
        socket.connect(interface.context(), (IpAddress::Ipv4(US), PORT), port).expect("a fresh socket");
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let (to_send, received) = (VecDeque::new(), Vec::new());
        Self {
            port,
            device,
            interface,
            sockets,
            handle,
            to_send,
            received,
            reads: true,
            follows: false,
            closing: false,
            acknowledged: 0,
            acknowledging: 0,
            seen: 0,
            probe_at: Time::ZERO,
        }
    }

    /// Bytes to be sent after all that were asked for before.
    pub fn send(&mut self, bytes: &[u8]) {
        assert!(!self.closing, "nothing is sent after the end");
        self.to_send.extend(bytes);
    }

    /// Closes the client's direction once everything is sent.
    pub fn close(&mut self) {
        self.closing = true;
    }

    /// Ends the connection with RST.
    pub fn abort(&mut self) {
        self.socket().abort();
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    pub fn state(&mut self) -> State {
        self.socket().state()
    }

    /// Where the connection is, for messages.
    pub fn status(&mut self) -> String {
        let (unsent, touched) = (self.to_send.len(), self.device.arrived.len());
        let socket = self.socket();
        let (state, out, waits) = (socket.state(), socket.send_queue(), socket.recv_queue());
        format!("{state}, {unsent} bytes not sent, {out} not acknowledged, {waits} not read, {touched} packets waiting")
    }

    /// Whether the server has closed its direction and all it sent was taken.
    pub fn peer_closed(&mut self) -> bool {
        let socket = self.socket();
        !socket.may_recv() && !matches!(socket.state(), State::SynSent)
    }

    /// Whether the connection is over.
    pub fn is_over(&mut self) -> bool {
        matches!(self.state(), State::Closed | State::TimeWait)
    }

    /// An IPv4 packet for this connection.
    pub fn arrive(&mut self, packet: &[u8]) {
        if let Some(ack) = acknowledgement(packet)
            && (self.acknowledged == 0 || ack.wrapping_sub(self.acknowledged) as i32 > 0)
        {
            self.acknowledged = ack;
        }
        self.device.arrived.push_back(packet.to_vec());
    }

    /// Takes what has arrived, sends what there is to send; packets go to `send`.
    pub fn poll(&mut self, now: Time, mut send: impl FnMut(&[u8])) {
        for _ in 0..2 {
            self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
            self.exchange();
        }
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
        for packet in self.device.leaving.drain(..) {
            self.acknowledging = acknowledgement(&packet).unwrap_or(self.acknowledging);
            send(&packet);
        }
        if self.socket().send_queue() == 0 || self.acknowledged != self.seen {
            self.seen = self.acknowledged;
            self.probe_at = now.after(PATIENCE);
        }
        if self.is_waiting() && now >= self.probe_at {
            self.probe_at = now.after(PROBE_GAP);
            send(&self.probe());
        }
    }

    /// Whether something is not acknowledged. smoltcp loses its timer when a window closes and opens and segments are
    /// lost meanwhile. No real client does, so the rig helps it on, as our stack does for its own part.
    fn is_waiting(&mut self) -> bool {
        self.socket().is_active() && self.socket().send_queue() > 0
    }

    /// An empty segment before the window: the server answers with its window.
    fn probe(&self) -> Vec<u8> {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(THEM.octets(), US.octets(), 64)
            .tcp(self.port, PORT, self.acknowledged.wrapping_sub(1), 16_384)
            .ack(self.acknowledging)
            .write(&mut packet, &[])
            .expect("written to memory");
        packet
    }

    fn exchange(&mut self) {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        while self.reads && socket.can_recv() {
            let received = &mut self.received;
            let take = |bytes: &mut [u8]| {
                received.extend_from_slice(bytes);
                (bytes.len(), ())
            };
            socket.recv(take).expect("bytes wait");
        }
        while !self.to_send.is_empty() && socket.can_send() {
            let sent = socket.send_slice(self.to_send.as_slices().0).expect("there is room");
            self.to_send.drain(..sent);
        }
        let closed = socket.state() == State::CloseWait && !socket.can_recv();
        if self.closing && self.to_send.is_empty() || self.follows && closed {
            socket.close();
        }
    }

    /// When to poll again if nothing arrives.
    pub fn next_deadline(&mut self, now: Time) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), &self.sockets);
        let at = at.map(|at| Time::from_micros(at.total_micros().max(0) as u64));
        at.into_iter().chain(self.is_waiting().then_some(self.probe_at)).min()
    }
}

/// Packets to and from one connection.
#[derive(Default)]
struct Packets {
    arrived: VecDeque<Vec<u8>>,
    leaving: Vec<Vec<u8>>,
}

impl Device for Packets {
    type RxToken<'a> = Arrived;
    type TxToken<'a> = Leaving<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Arrived, Leaving<'_>)> {
        let packet = self.arrived.pop_front()?;
        Some((Arrived(packet), Leaving(&mut self.leaving)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Leaving<'_>> {
        Some(Leaving(&mut self.leaving))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1_500;
        capabilities
    }
}

struct Arrived(Vec<u8>);

impl RxToken for Arrived {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

struct Leaving<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Leaving<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut packet = vec![0; len];
        let result = write(&mut packet);
        self.0.push(packet);
        result
    }
}
