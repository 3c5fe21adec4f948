//! `OneFrame`: the smoltcp device of exactly one received packet and at most one answer.
//!
//! The packet is read where it lies in its RX frame; the answer is written straight into a TX frame that was reserved
//! before, behind the flow's ready-made link header. Nothing is copied or allocated. A frame that is still here after
//! the call, written or not, is the caller's again: even if smoltcp should panic, no frame is lost.

use nic::Frame;
use smoltcp::phy::{Checksum, ChecksumCapabilities, Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

use crate::link::LinkHeader;

/// One packet in, at most one out.
#[derive(Debug)]
pub(crate) struct OneFrame<'a> {
    packet: Option<&'a [u8]>,
    reply: Reply,
    written: bool,
    link: LinkHeader,
    ip_mtu: usize,
}

/// Where an answer goes.
#[derive(Debug)]
pub(crate) enum Reply {
    /// Into this frame.
    Frame(Frame),
    /// Into plain memory, to be thrown away.
    Scratch(Vec<u8>),
}

impl<'a> OneFrame<'a> {
    /// A device that hands over the IPv4 packet `packet`, if any, and writes an answer into `frame` behind `link`.
    #[inline]
    pub(crate) fn new(packet: Option<&'a [u8]>, frame: Frame, link: LinkHeader, ip_mtu: usize) -> Self {
        Self { packet, reply: Reply::Frame(frame), written: false, link, ip_mtu }
    }

    /// A device that hands over `packet` and keeps an answer in plain memory. Allocates only if there is an answer.
    pub(crate) fn scratch(packet: &'a [u8], ip_mtu: usize) -> Self {
        let reply = Reply::Scratch(Vec::new());
        Self { packet: Some(packet), reply, written: false, link: LinkHeader::EMPTY, ip_mtu }
    }

    /// The frame, and whether an answer is in it.
    #[inline]
    pub(crate) fn into_frame(self) -> (Option<Frame>, bool) {
        match self.reply {
            Reply::Frame(frame) => (Some(frame), self.written),
            Reply::Scratch(_) => (None, self.written),
        }
    }

    /// What was written.
    #[cfg(test)]
    pub(crate) fn reply(&self) -> &Reply {
        &self.reply
    }
}

/// What every device of the stack can do: IPv4 packets, sums verified by `classify` on the way in and computed by
/// smoltcp on the way out. No burst size: it would clamp the window.
fn capabilities(ip_mtu: usize) -> DeviceCapabilities {
    let mut checksum = ChecksumCapabilities::default();
    checksum.ipv4 = Checksum::Tx;
    checksum.tcp = Checksum::Tx;
    let mut capabilities = DeviceCapabilities::default();
    capabilities.medium = Medium::Ip;
    capabilities.max_transmission_unit = ip_mtu;
    capabilities.max_burst_size = None;
    capabilities.checksum = checksum;
    capabilities
}

impl Device for OneFrame<'_> {
    type RxToken<'b>
        = OnePacket<'b>
    where
        Self: 'b;
    type TxToken<'b>
        = OneReply<'b>
    where
        Self: 'b;

    #[inline]
    fn receive(&mut self, _now: Instant) -> Option<(OnePacket<'_>, OneReply<'_>)> {
        let packet = self.packet.take()?;
        let reply = OneReply { reply: &mut self.reply, written: &mut self.written, link: &self.link };
        Some((OnePacket(packet), reply))
    }

    #[inline]
    fn transmit(&mut self, _now: Instant) -> Option<OneReply<'_>> {
        if self.written {
            return None;
        }
        Some(OneReply { reply: &mut self.reply, written: &mut self.written, link: &self.link })
    }

    #[inline]
    fn capabilities(&self) -> DeviceCapabilities {
        capabilities(self.ip_mtu)
    }
}

/// The packet.
#[derive(Debug)]
pub(crate) struct OnePacket<'b>(&'b [u8]);

impl RxToken for OnePacket<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

/// The right to write the answer.
#[derive(Debug)]
pub(crate) struct OneReply<'b> {
    reply: &'b mut Reply,
    written: &'b mut bool,
    link: &'b LinkHeader,
}

impl TxToken for OneReply<'_> {
    #[inline]
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, write: F) -> R {
        let header = self.link.bytes();
        match self.reply {
            Reply::Frame(frame) => {
                if frame.resize(header.len() + len).is_err() {
                    // A frame shorter than the link's MTU, which `NetStack::fits` would have told: written and lost.
                    return write(&mut vec![0; len]);
                }
                let bytes = frame.bytes_mut();
                bytes[..header.len()].copy_from_slice(header);
                let result = write(&mut bytes[header.len()..]);
                *self.written = true;
                result
            }
            Reply::Scratch(bytes) => {
                bytes.resize(len, 0);
                let result = write(bytes);
                *self.written = true;
                result
            }
        }
    }
}
