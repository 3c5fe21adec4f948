//! Datagrams made by hand and read back, and a stack that hands them to a handler of the test's.

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice, VlanId};
use nic::{PortConfig, QueueId, Wire, WireQueue};
use sidestep_stack::{
    DatagramHandler, DatagramPeer, DatagramReplies, DropReason, Interest, NetStack, Poll, StackConfig, Time, Token,
};

use super::station::{Station, assert_no_frame_is_held};
use super::{OWN, PEER, PORT, THEM, US, config, secrets};

/// A datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Udp {
    pub peer_port: u16,
    pub our_port: u16,
    pub tag: Option<u16>,
    pub data: Vec<u8>,
}

impl Udp {
    /// One from the peer's port to the stack's.
    pub fn new(peer_port: u16, data: &[u8]) -> Self {
        Self { peer_port, our_port: PORT, tag: None, data: data.to_vec() }
    }

    /// The frame that carries it from the peer.
    pub fn frame(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(PEER.0, OWN.0);
        let (from, to) = (THEM.octets(), US.octets());
        let mut frame = Vec::new();
        let written = match self.tag {
            Some(tag) => {
                let tag = VlanId::try_new(tag).expect("in range");
                let builder = ethernet.single_vlan(tag).ipv4(from, to, 64).udp(self.peer_port, self.our_port);
                builder.write(&mut frame, &self.data)
            }
            None => ethernet.ipv4(from, to, 64).udp(self.peer_port, self.our_port).write(&mut frame, &self.data),
        };
        written.expect("written to memory");
        frame
    }

    /// Reads a frame that the stack sent to the peer; checks everything that it does not return.
    pub fn read(frame: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ethernet(frame).expect("a packet");
        let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (&sliced.net, &sliced.transport) else {
            panic!("not UDP over IPv4: {frame:02x?}");
        };
        assert_eq!((&frame[..6], &frame[6..12]), (&PEER.0[..], &OWN.0[..]));
        let header = ip.header().to_header();
        assert_eq!((header.source, header.destination), (US.octets(), THEM.octets()));
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.time_to_live, header.dont_fragment, header.more_fragments), (64, true, false));
        let udp_header = udp.to_header();
        let sum = udp_header.calc_checksum_ipv4(&header, udp.payload()).expect("not too long");
        assert_ne!(udp.checksum(), 0, "zero would mean that there is none");
        assert_eq!(udp.checksum(), sum);
        assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
        let link = if sliced.vlan().is_some() { 18 } else { 14 };
        assert_eq!(frame.len(), link + 28 + udp.payload().len(), "nothing behind the datagram");
        Self {
            peer_port: udp.destination_port(),
            our_port: udp.source_port(),
            tag: sliced.vlan_ids().first().map(|id| id.value()),
            data: udp.payload().to_vec(),
        }
    }
}

/// Settings that take datagrams on [`PORT`].
pub fn udp_config() -> StackConfig {
    let mut config = config();
    config.udp_ports = vec![PORT];
    config
}

/// Sends back what it gets.
pub struct Echo;

impl DatagramHandler for Echo {
    fn datagram(&mut self, _peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
        let sent = replies.send(payload.len(), |room| {
            room.copy_from_slice(payload);
            payload.len()
        });
        sent.expect("a frame is left");
    }
}

/// Calls a closure.
pub struct Call<F>(pub F);

impl<F: FnMut(&DatagramPeer, &[u8], &mut DatagramReplies<'_>)> DatagramHandler for Call<F> {
    fn datagram(&mut self, peer: &DatagramPeer, payload: &[u8], replies: &mut DatagramReplies<'_>) {
        self.0(peer, payload, replies);
    }
}

/// A stack, and a queue to throw frames at it.
pub struct UdpBench {
    pub wire: Wire,
    pub poll: Poll<WireQueue>,
    station: Station,
}

impl UdpBench {
    pub fn new() -> Self {
        Self::with(udp_config(), PortConfig::default())
    }

    pub fn with(config: StackConfig, port: PortConfig) -> Self {
        let queues = port.queues;
        let (wire, ours, theirs) = Wire::pair(port, PortConfig::default(), 1).expect("a wire");
        let stack = NetStack::new(config, secrets(1)).expect("a good configuration");
        let take = |id| ours.take_queue(QueueId(id)).expect("opened once");
        let mut poll = Poll::new(stack, (0..queues).map(take));
        poll.accept_each(Token(0), Interest::EDGE);
        let queue = theirs.take_queue(QueueId(0)).expect("opened once");
        Self { wire, poll, station: Station::new(queue) }
    }

    pub fn now(&self) -> Time {
        Time::from_duration(self.wire.clock().now())
    }

    /// Sends a frame. Allocates nothing.
    pub fn send(&mut self, bytes: &[u8]) {
        self.station.send(bytes);
    }

    /// Runs a turn and shows `look` what the stack sends. Allocates nothing.
    pub fn turn_with(&mut self, handler: &mut impl DatagramHandler, look: impl FnMut(&[u8])) {
        let now = self.now();
        self.poll.take_in_with(now, Some(handler));
        self.end_turn(look);
    }

    /// Flushes and transmits, and shows `look` what the stack sends. Allocates nothing.
    pub fn end_turn(&mut self, look: impl FnMut(&[u8])) {
        let now = self.now();
        self.poll.send(now).expect("a wire is never gone");
        self.station.receive(look);
    }

    /// Runs a turn and returns what the stack sends.
    pub fn turn(&mut self, handler: &mut impl DatagramHandler) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        self.turn_with(handler, |frame| frames.push(frame.to_vec()));
        frames
    }

    /// Sends a frame to an echo and returns what comes back.
    pub fn echo(&mut self, frame: &[u8]) -> Vec<Vec<u8>> {
        self.send(frame);
        self.turn(&mut Echo)
    }

    pub fn drops(&self, reason: DropReason) -> u64 {
        self.poll.stack().stats().drops.of(reason)
    }

    /// Checks that the stack holds no frame of the queues.
    pub fn assert_nothing_left(self) {
        assert_no_frame_is_held(self.poll.into_queues());
    }
}
