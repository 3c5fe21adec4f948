//! `OneFrame`: the smoltcp device of exactly one received packet and at most one answer.
//!
//! The packet is read where it lies in its RX frame; the answer is written straight into a TX frame of the port's
//! reserve, behind the flow's ready-made link header. Nothing is copied or allocated, and where nothing is answered no
//! frame is touched. A frame that is in the device after the call, written or not, is the caller's again: even if smoltcp
//! should panic, no frame is lost.

use nic::Frame;
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::link::LinkHeader;

/// One packet in, at most one out.
#[derive(Debug)]
pub(crate) struct OneFrame<'a> {
    packet: Option<&'a [u8]>,
    /// Where the frame of an answer comes from.
    reserve: &'a mut Vec<Frame>,
    reply: Option<Frame>,
    written: bool,
    link: &'a LinkHeader,
    ip_mtu: usize,
}

/// What a device was left with.
#[derive(Debug)]
pub(crate) enum Reply {
    /// smoltcp had nothing to say.
    None,
    /// It has written this frame.
    Written(Frame),
    /// It took this frame and has not written it: it panicked, or the frame was too short.
    Unwritten(Frame),
}

impl<'a> OneFrame<'a> {
    /// A device that hands over the IPv4 packet `packet`, if any, and writes an answer behind `link` into a frame of
    /// `reserve`, which has one.
    #[inline]
    pub(crate) fn new(
        packet: Option<&'a [u8]>,
        reserve: &'a mut Vec<Frame>,
        link: &'a LinkHeader,
        ip_mtu: usize,
    ) -> Self {
        Self { packet, reserve, reply: None, written: false, link, ip_mtu }
    }

    /// What has become of the answer.
    #[inline]
    pub(crate) fn into_reply(self) -> Reply {
        match self.reply {
            None => Reply::None,
            Some(frame) if self.written => Reply::Written(frame),
            Some(frame) => Reply::Unwritten(frame),
        }
    }
}

/// What every device of the stack can do: IPv4 packets, whose sums are verified by `classify` on the way in and written
/// by `segment::write_checksums` on the way out. No burst size: it would clamp the window.
pub(crate) fn capabilities(ip_mtu: usize) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    checksum.ipv4 = Checksum::None;
    checksum.tcp = Checksum::None;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = ip_mtu;
    capabilities.max_burst_size = None;
    capabilities.checksum = checksum;
    capabilities
}

impl<'a> Device for OneFrame<'a> {
    type RxToken<'b>
        = OnePacket<'a>
    where
        Self: 'b;
    type TxToken<'b>
        = OneReply<'b, 'a>
    where
        Self: 'b;

    #[inline]
    fn receive(&mut self, _now: Instant) -> Option<(OnePacket<'a>, OneReply<'_, 'a>)> {
        let packet = self.packet.take()?;
        Some((OnePacket(packet), OneReply(self)))
    }

    #[inline]
    fn transmit(&mut self, _now: Instant) -> Option<OneReply<'_, 'a>> {
        if self.reply.is_some() || self.reserve.is_empty() {
            return None;
        }
        Some(OneReply(self))
    }

    #[inline]
    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.ip_mtu)
    }
}

/// The packet.
#[derive(Debug)]
pub(crate) struct OnePacket<'a>(&'a [u8]);

impl RxToken for OnePacket<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// The right to write the answer.
#[derive(Debug)]
pub(crate) struct OneReply<'b, 'a>(&'b mut OneFrame<'a>);

impl TxToken for OneReply<'_, '_> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let device = self.0;
        let at = device.link.len();
        let Some(frame) = device.reserve.pop() else { return write(&mut vec![0; len]) };
        let frame = device.reply.insert(frame);
        if frame.resize(at + len).is_err() {
            // A frame shorter than the link's MTU, which `NetStack::fits` would have told: the answer is lost.
            return write(&mut vec![0; len]);
        }
        let bytes = frame.bytes_mut();
        device.link.write(bytes);
        let result = write(&mut bytes[at..]);
        device.written = true;
        result
    }
}

/// A device of one received packet whose answer is kept in plain memory. Allocates only if there is an answer.
#[derive(Debug)]
pub(crate) struct Scratch<'a> {
    packet: Option<&'a [u8]>,
    reply: Vec<u8>,
    ip_mtu: usize,
}

impl<'a> Scratch<'a> {
    /// A device that hands over the IPv4 packet `packet`.
    pub(crate) fn new(packet: &'a [u8], ip_mtu: usize) -> Self {
        Self { packet: Some(packet), reply: Vec::new(), ip_mtu }
    }

    /// What was written.
    #[cfg(test)]
    pub(crate) fn reply(&self) -> &[u8] {
        &self.reply
    }
}

impl<'a> Device for Scratch<'a> {
    type RxToken<'b>
        = OnePacket<'a>
    where
        Self: 'b;
    type TxToken<'b>
        = ScratchReply<'b>
    where
        Self: 'b;

    fn receive(&mut self, _now: Instant) -> Option<(OnePacket<'a>, ScratchReply<'_>)> {
        let packet = self.packet.take()?;
        Some((OnePacket(packet), ScratchReply(&mut self.reply)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<ScratchReply<'_>> {
        Some(ScratchReply(&mut self.reply))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.ip_mtu)
    }
}

/// The right to write an answer that is thrown away.
#[derive(Debug)]
pub(crate) struct ScratchReply<'b>(&'b mut Vec<u8>);

impl TxToken for ScratchReply<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        self.0.resize(len, 0);
        write(self.0)
    }
}
