//! smoltcp's ordinary interface as the other end: one interface, one set of all its sockets, on a wire queue behind a
//! fixed Ethernet header.

use std::hash::Hasher;

use nic::{Queue, RxBurst, TxBurst, WireQueue};
use sidestep_stack::Time;
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::family::{self, FAMILY, Family};
use super::{OWN, PEER, PORT, THEM, US};

/// The other end.
pub struct Peer {
    pub device: PeerDevice,
    interface: Interface,
    pub sockets: SocketSet<'static>,
    next_port: u16,
}

fn instant(now: Time) -> Instant {
    Instant::from_micros(now.as_micros() as i64)
}

impl Peer {
    pub fn new(queue: WireQueue, seed: u64) -> Self {
        let mut header = OWN.0.to_vec();
        header.extend(PEER.0);
        header.extend([8, 0]);
        let mut device = PeerDevice { queue, rx: RxBurst::default(), header, digest: Digest::default(), frames: 0 };
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv4(THEM), 24)).expect("there is room");
        });
        Self { device, interface, sockets: SocketSet::new(Vec::new()), next_port: 1_024 }
    }

    /// Puts an 802.1Q tag on everything sent.
    pub fn tag(&mut self, tag: u16) {
        self.device.header.truncate(12);
        self.device.header.extend([0x81, 0]);
        self.device.header.extend(tag.to_be_bytes());
        self.device.header.extend([8, 0]);
    }

    pub fn connect(&mut self, ring: usize) -> SocketHandle {
        self.connect_to(PORT, ring)
    }

    pub fn connect_to(&mut self, port: u16, ring: usize) -> SocketHandle {
        let mut socket = Socket::new(SocketBuffer::new(vec![0; ring]), SocketBuffer::new(vec![0; ring]));
        socket.set_nagle_enabled(false);
        self.next_port += 1;
        let local = self.next_port;
        socket.connect(self.interface.context(), (IpAddress::Ipv4(US), port), local).expect("a fresh socket");
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// One poll. Says whether anything may have happened.
    pub fn poll(&mut self, now: Time) -> bool {
        let before = self.device.frames;
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
        self.device.frames != before
    }

    pub fn next_deadline(&mut self, now: Time) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        Some(Time::from_micros(at.total_micros().max(0) as u64))
    }
}

/// FNV-1a over all frames seen, with their lengths.
#[derive(Debug, Clone, Copy)]
pub struct Digest(pub u64);

impl Default for Digest {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Digest {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }
}

pub struct PeerDevice {
    pub queue: WireQueue,
    rx: RxBurst,
    header: Vec<u8>,
    pub digest: Digest,
    pub frames: u64,
}

impl PeerDevice {
    /// Sends a whole frame.
    pub fn send(&mut self, bytes: &[u8]) {
        if FAMILY == Family::Ipv6 {
            return self.send_on_wire(&family::to_wire(bytes));
        }
        self.send_on_wire(bytes);
    }

    fn send_on_wire(&mut self, bytes: &[u8]) {
        self.frames += 1;
        self.digest.write(bytes);
        let mut frame = self.queue.tx_alloc().expect("a frame is free");
        frame.resize(bytes.len()).expect("it fits");
        frame.bytes_mut().copy_from_slice(bytes);
        let mut burst = TxBurst::with_capacity(1);
        burst.push(frame).expect("room for one");
        assert_eq!(self.queue.tx_burst(&mut burst), 1);
        self.queue.flush().expect("a wire is never gone");
    }

    /// Takes a whole frame.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.rx.is_empty() {
            self.queue.rx_burst(&mut self.rx);
        }
        let frame = self.rx.pop()?;
        let bytes = frame.bytes().to_vec();
        self.queue.free(frame);
        self.queue.flush().expect("a wire is never gone");
        self.frames += 1;
        self.digest.write(&bytes);
        Some(if FAMILY == Family::Ipv6 { family::from_wire(&bytes) } else { bytes })
    }
}

impl Device for PeerDevice {
    type RxToken<'a> = Received;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received, ToSend<'_>)> {
        let link = self.header.len();
        loop {
            let frame = self.take()?;
            if frame[..6] == PEER.0 && frame[12..link] == self.header[12..] {
                return Some((Received(frame[link..].to_vec()), ToSend(self)));
            }
        }
    }

    fn transmit(&mut self, _now: Instant) -> Option<ToSend<'_>> {
        Some(ToSend(self))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1_500;
        capabilities
    }
}

pub struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(&self.0)
    }
}

pub struct ToSend<'a>(&'a mut PeerDevice);

impl TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let mut frame = self.0.header.clone();
        let link = frame.len();
        frame.resize(link + len, 0);
        let result = write(&mut frame[link..]);
        self.0.send(&frame);
        result
    }
}
