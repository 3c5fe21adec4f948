//! `Faults`: what goes wrong on one direction of the in-memory wire, by a seed.
//!
//! The faults of a frame are drawn in one fixed order, from a generator of the direction's own, so that the same seed
//! and the same frames give the same faults. The order: blackhole and flap, MTU hole, rate limit, loss, burst loss,
//! corruption, cutting, duplication, reordering, delay. Read first: `wire.rs`.

use std::ops::Range;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{RngCore, SeedableRng};

use crate::rss::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6, network_layer};

/// Two addresses and a type: what is not the packet's.
const ETHERNET_HEADER_BYTES: usize = 14;

/// Longest burst of flipped bits: the Internet checksum detects every burst of up to 15 bits (RFC 1071 sums modulo
/// 65535, and a burst of n bits changes the sum by less than 2^n, rotated).
pub const CORRUPT_BITS_MAX: u8 = 15;

/// What goes wrong in one direction. The default is a perfect cable without delay. Probabilities are from 0 to 1.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faults {
    /// Probability that a frame is lost.
    pub loss: f64,
    /// Losses in bursts.
    pub burst_loss: Option<BurstLoss>,
    /// Probability that a frame arrives twice.
    pub duplicate: f64,
    /// Frames that later ones overtake.
    pub reorder: Option<Reorder>,
    /// Frames with flipped bits.
    pub corrupt: Option<Corrupt>,
    /// Time a frame takes.
    pub delay: Duration,
    /// Up to this much is added to the delay, evenly spread. Jitter does not reorder: a frame never arrives before
    /// one that was sent earlier.
    pub jitter: Duration,
    /// Bandwidth.
    pub rate: Option<RateLimit>,
    /// Times between which every frame that is sent is lost.
    pub blackholes: Vec<Range<Duration>>,
    /// A link that goes down again and again.
    pub flap: Option<Flap>,
    /// The longest packet that passes, in bytes without the Ethernet header; a longer one is lost, and nobody is told.
    pub mtu_hole: Option<usize>,
    /// Probability that the end of a frame is missing.
    pub cut: f64,
}

/// A link that goes down again and again: at the end of each period, every frame that is sent is lost for a while.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Flap {
    /// How long a period is, at least a nanosecond.
    pub every: Duration,
    /// For how much of it, at its end, the link is down.
    pub down: Duration,
}

/// Losses in bursts: the Gilbert model, a good state without loss and a bad one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BurstLoss {
    /// Probability that a frame enters the bad state.
    pub enter: f64,
    /// Probability that a frame leaves it.
    pub leave: f64,
    /// Probability that a frame is lost in the bad state.
    pub loss: f64,
}

/// Frames that later ones overtake.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reorder {
    /// Probability that a frame is held back.
    pub probability: f64,
    /// It is held back until 1 to this many (evenly spread) later frames have overtaken it.
    pub depth: u32,
    /// It is held back no longer than this, for want of later frames.
    pub hold: Duration,
}

/// Frames with flipped bits: one burst a frame, in an IPv4 or IPv6 packet, always such that one of its checksums
/// (IPv4 header, TCP, UDP, ICMP) detects it.
///
/// Frames of other protocols, which have no checksum but Ethernet's, are lost instead, as a NIC would do. The bytes
/// that say *what* a checksum covers (version and header length, IPv6 and UDP lengths) are left alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Corrupt {
    /// Probability that a frame is corrupted.
    pub probability: f64,
    /// Longest burst, in bits: 1 to [`CORRUPT_BITS_MAX`].
    pub bits: u8,
}

/// Bandwidth with a drop-tail queue before it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimit {
    /// Bits a second, at least 1.
    pub bits_per_second: u64,
    /// Most bytes that wait; a frame that finds more waiting is lost.
    pub queue_bytes: usize,
}

/// A fault that cannot be had.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FaultError {
    /// Not a probability.
    #[error("{fault}: {value} is no probability; it must be from 0 to 1")]
    Probability {
        /// Which one.
        fault: &'static str,
        /// What was given.
        value: f64,
    },
    /// A number out of range.
    #[error("{fault}: {value} is out of range; it must be from {min} to {max}")]
    Range {
        /// Which one.
        fault: &'static str,
        /// What was given.
        value: u64,
        /// Least.
        min: u64,
        /// Most.
        max: u64,
    },
}

impl Faults {
    /// Checks every field.
    ///
    /// # Errors
    /// [`FaultError`]: which field is out of range, and what the range is.
    pub fn check(&self) -> Result<(), FaultError> {
        let mut probabilities = vec![("loss", self.loss), ("duplicate", self.duplicate), ("cut", self.cut)];
        if let Some(burst) = self.burst_loss {
            probabilities.extend([
                ("burst_loss.enter", burst.enter),
                ("burst_loss.leave", burst.leave),
                ("burst_loss.loss", burst.loss),
            ]);
        }
        probabilities.extend(self.reorder.map(|reorder| ("reorder.probability", reorder.probability)));
        probabilities.extend(self.corrupt.map(|corrupt| ("corrupt.probability", corrupt.probability)));
        for (fault, value) in probabilities {
            if !(0.0..=1.0).contains(&value) {
                return Err(FaultError::Probability { fault, value });
            }
        }
        let in_range = |fault, value: u64, min, max| match (min..=max).contains(&value) {
            true => Ok(()),
            false => Err(FaultError::Range { fault, value, min, max }),
        };
        if let Some(reorder) = self.reorder {
            in_range("reorder.depth", u64::from(reorder.depth), 1, 1024)?;
        }
        if let Some(corrupt) = self.corrupt {
            in_range("corrupt.bits", u64::from(corrupt.bits), 1, u64::from(CORRUPT_BITS_MAX))?;
        }
        if let Some(rate) = self.rate {
            in_range("rate.bits_per_second", rate.bits_per_second, 1, u64::MAX)?;
        }
        if let Some(flap) = self.flap {
            let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            in_range("flap.every in nanoseconds", nanos(flap.every), 1, u64::MAX)?;
            in_range("flap.down in nanoseconds", nanos(flap.down), 0, nanos(flap.every))?;
        }
        Ok(())
    }

    /// Whether a link that flaps is down just now.
    fn is_down(&self, now: Duration) -> bool {
        self.flap
            .is_some_and(|flap| now.as_nanos() % flap.every.as_nanos().max(1) >= (flap.every - flap.down).as_nanos())
    }
}

/// What is to become of a frame that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It goes on its way; see the other fields of [`Drawn`].
    Passed,
    /// Sent within a blackhole, or while the link was down.
    Blackholed,
    /// Its packet was too long for the MTU hole.
    TooLong,
    /// Found the queue of the rate limit full.
    RateDropped,
    /// Lost on its own.
    Lost,
    /// Lost in a burst.
    BurstLost,
    /// To be corrupted, but with no checksum that would detect it.
    CorruptDropped,
}

/// What was drawn for a frame.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drawn {
    /// Whether it goes on at all.
    pub(crate) fate: Fate,
    /// First flipped bit and how many bits the burst spans, when it was corrupted.
    pub(crate) corrupted: Option<(usize, u8)>,
    /// How many of its bytes are left, when its end is missing.
    pub(crate) cut_to: Option<usize>,
    /// Whether it arrives twice.
    pub(crate) duplicated: bool,
    /// How many frames overtake it, and how long it waits for them.
    pub(crate) held_back: Option<(u32, Duration)>,
    /// When it arrives, before it is put behind those sent earlier.
    pub(crate) due: Duration,
}

/// The faults of one direction and where they stand.
#[derive(Debug)]
pub(crate) struct Injector {
    faults: Faults,
    random: Xoshiro256PlusPlus,
    in_burst: bool,
    /// When the rate limit lets the next frame start.
    link_free: Duration,
}

impl Injector {
    /// Faults that were checked, by a seed.
    pub(crate) fn new(faults: Faults, seed: u64) -> Self {
        Self { faults, random: Xoshiro256PlusPlus::seed_from_u64(seed), in_burst: false, link_free: Duration::ZERO }
    }

    /// Replaces the faults, which were checked; the generator goes on where it is.
    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        self.in_burst = false;
        self.link_free = Duration::ZERO;
    }

    /// Draws what becomes of a frame sent at `now`, and corrupts its bytes if that is drawn.
    pub(crate) fn draw(&mut self, now: Duration, frame: &mut [u8]) -> Drawn {
        let mut drawn =
            Drawn { fate: Fate::Passed, corrupted: None, cut_to: None, duplicated: false, held_back: None, due: now };
        if self.faults.blackholes.iter().any(|window| window.contains(&now)) || self.faults.is_down(now) {
            drawn.fate = Fate::Blackholed;
            return drawn;
        }
        if self.faults.mtu_hole.is_some_and(|mtu| frame.len() > ETHERNET_HEADER_BYTES + mtu) {
            drawn.fate = Fate::TooLong;
            return drawn;
        }
        match self.serialise(now, frame.len()) {
            Some(sent) => drawn.due = sent,
            None => drawn.fate = Fate::RateDropped,
        }
        if drawn.fate != Fate::Passed {
            return drawn;
        }
        if self.chance(self.faults.loss) {
            drawn.fate = Fate::Lost;
            return drawn;
        }
        if self.burst_lost() {
            drawn.fate = Fate::BurstLost;
            return drawn;
        }
        if let Some(corrupt) = self.faults.corrupt
            && self.chance(corrupt.probability)
        {
            drawn.corrupted = self.corrupt(frame, corrupt.bits);
            if drawn.corrupted.is_none() {
                drawn.fate = Fate::CorruptDropped;
                return drawn;
            }
        }
        if self.chance(self.faults.cut) && frame.len() > ETHERNET_HEADER_BYTES {
            let rest = frame.len() - ETHERNET_HEADER_BYTES;
            drawn.cut_to = Some(ETHERNET_HEADER_BYTES + self.below(rest as u64) as usize);
        }
        drawn.duplicated = self.chance(self.faults.duplicate);
        if let Some(reorder) = self.faults.reorder
            && self.chance(reorder.probability)
        {
            let overtakers = 1 + self.below(u64::from(reorder.depth)) as u32;
            drawn.held_back = Some((overtakers, reorder.hold));
        }
        let jitter = u64::try_from(self.faults.jitter.as_nanos()).unwrap_or(u64::MAX);
        let jitter = if jitter == 0 { 0 } else { self.below(jitter.saturating_add(1)) };
        drawn.due = drawn.due.saturating_add(self.faults.delay).saturating_add(Duration::from_nanos(jitter));
        drawn
    }

    /// When the last bit of the frame has left, or `None` when the queue before the link is full.
    fn serialise(&mut self, now: Duration, bytes: usize) -> Option<Duration> {
        let Some(rate) = self.faults.rate else { return Some(now) };
        let waiting = self.link_free.saturating_sub(now);
        let waiting_bytes = waiting.as_nanos() * u128::from(rate.bits_per_second) / 8 / 1_000_000_000;
        if waiting_bytes > rate.queue_bytes as u128 {
            return None;
        }
        let nanos = bytes as u128 * 8 * 1_000_000_000 / u128::from(rate.bits_per_second);
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.link_free = self.link_free.max(now).saturating_add(Duration::from_nanos(nanos));
        Some(self.link_free)
    }

    fn burst_lost(&mut self) -> bool {
        let Some(burst) = self.faults.burst_loss else { return false };
        let change = if self.in_burst { burst.leave } else { burst.enter };
        if self.chance(change) {
            self.in_burst = !self.in_burst;
        }
        self.in_burst && self.chance(burst.loss)
    }

    /// Flips a burst of bits: the first and the last for certain, those between by chance. `None`, and no change, when
    /// no checksum of the frame would detect it.
    fn corrupt(&mut self, frame: &mut [u8], bits_max: u8) -> Option<(usize, u8)> {
        let span = 1 + self.below(u64::from(bits_max)) as usize;
        let (_, packet) = network_layer(frame)?;
        let start = frame.len() - packet.len();
        let covered = covered_bytes(frame, start)?;
        let bits = covered.len() * 8;
        if bits < span {
            return None;
        }
        let first = covered.start * 8 + self.below((bits - span + 1) as u64) as usize;
        let pattern = self.random.next_u64();
        let flip = |frame: &mut [u8]| {
            for bit in 0..span {
                if bit == 0 || bit == span - 1 || pattern >> bit & 1 == 1 {
                    frame[(first + bit) / 8] ^= 0x80 >> ((first + bit) % 8);
                }
            }
        };
        let checksum = udp_checksum_at(frame, start);
        if checksum.is_some_and(|at| first < at * 8 && first + span > (at - 2) * 8) {
            return None; // The length field.
        }
        flip(frame);
        if checksum.is_some_and(|at| frame[at..at + 2] == [0, 0]) {
            // A zero says "no checksum" (RFC 768), so the burst would go unnoticed.
            flip(frame);
            return None;
        }
        Some((first, span as u8))
    }

    /// True with the given probability; draws nothing for 0.
    fn chance(&mut self, probability: f64) -> bool {
        // 53 bits are what a double holds.
        probability > 0.0 && ((self.random.next_u64() >> 11) as f64) / ((1u64 << 53) as f64) < probability
    }

    /// An even draw from 0 to `limit - 1`; `limit` is at least 1.
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.random.next_u64()) * u128::from(limit)) >> 64) as u64
    }
}

/// The bytes of a frame in which every burst is detected by a checksum, its packet starting at `start`.
fn covered_bytes(frame: &[u8], start: usize) -> Option<Range<usize>> {
    let packet = frame.get(start..)?;
    let ether_type = u16::from_be_bytes([*frame.get(start.checked_sub(2)?)?, *frame.get(start - 1)?]);
    let (skip, packet_bytes, protocol) = match ether_type {
        // Not the version and header length; RFC 791 §3.1.
        ETHER_TYPE_IPV4 if packet.len() >= 20 => {
            (1, usize::from(u16::from_be_bytes([packet[2], packet[3]])), packet[9])
        }
        // Not what is before the addresses: the hop limit and the flow label are under no checksum; RFC 8200 §3, §8.1.
        ETHER_TYPE_IPV6 if packet.len() >= 40 => {
            let payload = usize::from(u16::from_be_bytes([packet[4], packet[5]]));
            (8, 40 + payload, packet[6])
        }
        _ => return None,
    };
    if !matches!(protocol, 1 | 6 | 17 | 58) || packet_bytes > packet.len() || packet_bytes <= skip {
        return None;
    }
    Some(start + skip..start + packet_bytes)
}

/// Where the checksum of a UDP datagram is, the packet starting at `start`.
fn udp_checksum_at(frame: &[u8], start: usize) -> Option<usize> {
    let packet = frame.get(start..)?;
    let (protocol, header_bytes) = match packet.first()? >> 4 {
        4 => (*packet.get(9)?, usize::from(packet.first()? & 0x0f) * 4),
        6 => (*packet.get(6)?, 40),
        _ => return None,
    };
    let at = start + header_bytes + 6;
    (protocol == 17 && at + 2 <= frame.len()).then_some(at)
}

#[cfg(test)]
mod tests;
