//! ethtool's questions about channels, hashing and offloads, as words of `linux/ethtool.h`.
//!
//! Every answer has a length that is known before it is asked for, or that the kernel told just before; buffers are made
//! of that length (S1 in SAFETY.md). Read first: kernel `net/ethtool/ioctl.c`.

use std::io;

use super::netdev::NetDevice;

/// `ETHTOOL_GDRVINFO`.
const GDRVINFO: u32 = 0x03;
/// `ETHTOOL_GRINGPARAM`.
const GRINGPARAM: u32 = 0x10;
/// `ETHTOOL_GRXFH` and `ETHTOOL_SRXFH`: by which fields of a frame the NIC hashes a kind of flow.
const GRXFH: u32 = 0x29;
const SRXFH: u32 = 0x2a;
/// `ETHTOOL_GCHANNELS`.
const GCHANNELS: u32 = 0x3c;
/// `ETHTOOL_GRSSH`: hash function, key and indirection table.
const GRSSH: u32 = 0x46;

/// Words of `struct ethtool_rxfh` before the table.
const RXFH_WORDS: usize = 6;
/// The most entries and key bytes that are believed: many times what any NIC has.
const RXFH_SIZE_MAX: u32 = 1 << 16;

/// Words of the buffer of commands whose answer has a fixed length: 256 bytes. The longest of them,
/// `struct ethtool_drvinfo`, has 196.
const FIXED_WORDS: usize = 64;

/// Channels of an interface: a combined one has a queue of each kind (`struct ethtool_channels`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Channels {
    /// Channels that only receive.
    pub(crate) rx: u32,
    /// Channels that only transmit.
    pub(crate) tx: u32,
    /// Channels that do both.
    pub(crate) combined: u32,
    /// Most that only transmit.
    pub(crate) tx_max: u32,
    /// Most that do both.
    pub(crate) combined_max: u32,
}

impl Channels {
    /// What is assumed of a driver that does not say.
    pub(crate) const ONE: Self = Self { rx: 1, tx: 1, combined: 0, tx_max: 1, combined_max: 0 };
}

/// How a NIC spreads frames over its queues (`struct ethtool_rxfh`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RawRss {
    /// The hash function, one bit each: 1 Toeplitz, 2 XOR, 4 CRC32.
    pub(crate) function: u8,
    /// What is done to the input before it is hashed; 0 for nothing.
    pub(crate) transform: u8,
    /// The indirection table: a queue an entry.
    pub(crate) table: Vec<u32>,
    /// The hash key.
    pub(crate) key: Vec<u8>,
}

/// A kind of flow that has hash fields of its own, as `linux/ethtool.h` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FlowKind {
    /// TCP over IPv4.
    Tcp4 = 0x01,
    /// UDP over IPv4.
    Udp4 = 0x02,
}

impl NetDevice {
    /// Channels in use, and how many there can be.
    pub(crate) fn channels(&self) -> io::Result<Channels> {
        // struct ethtool_channels: cmd, the maxima of rx, tx, other and combined, then their counts.
        let words = self.fixed(&[GCHANNELS])?;
        Ok(Channels { rx: words[5], tx: words[6], combined: words[8], tx_max: words[2], combined_max: words[4] })
    }

    /// Descriptors of the hardware's receive ring.
    pub(crate) fn rx_ring(&self) -> io::Result<u32> {
        // struct ethtool_ringparam: cmd, four maxima, then rx, mini, jumbo and tx pending.
        Ok(self.fixed(&[GRINGPARAM])?[5])
    }

    /// The driver's name.
    pub(crate) fn driver(&self) -> io::Result<String> {
        // struct ethtool_drvinfo: cmd, then 32 bytes of driver name.
        let words = self.fixed(&[GDRVINFO])?;
        let name = words[1..9].iter().flat_map(|word| word.to_ne_bytes()).take_while(|byte| *byte != 0);
        Ok(name.map(char::from).collect())
    }

    /// By which fields the NIC hashes a kind of flow, as `RXH_` bits of `ethtool.h`; `EOPNOTSUPP` where the driver has no
    /// hash.
    pub(crate) fn hash_fields(&self, kind: FlowKind) -> io::Result<u64> {
        // struct ethtool_rxnfc: cmd, flow type, then the fields in eight bytes.
        let words = self.fixed(&[GRXFH, kind as u32])?;
        let [a, b, c, d] = words[2].to_ne_bytes();
        let [e, f, g, h] = words[3].to_ne_bytes();
        Ok(u64::from_ne_bytes([a, b, c, d, e, f, g, h]))
    }

    /// Tells the NIC by which fields to hash a kind of flow. Needs CAP_NET_ADMIN.
    pub(crate) fn set_hash_fields(&self, kind: FlowKind, fields: u64) -> io::Result<()> {
        let [a, b, c, d, e, f, g, h] = fields.to_ne_bytes();
        let (low, high) = (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]));
        self.fixed(&[SRXFH, kind as u32, low, high]).map(drop)
    }

    /// Hash function, key and indirection table; `EOPNOTSUPP` where the driver has none.
    pub(crate) fn rss(&self) -> io::Result<RawRss> {
        // struct ethtool_rxfh: cmd, context, entries, key bytes, function and transform, reserved, then table and key.
        // Asked with no room, the kernel tells how much is needed; asked with any other than that, it refuses.
        let asked = self.fixed(&[GRSSH])?;
        let [entries, key_bytes] = [asked[2], asked[3]].map(|size| size.min(RXFH_SIZE_MAX) as usize);
        let mut words = vec![0; RXFH_WORDS + entries + key_bytes.div_ceil(4)];
        words[..4].copy_from_slice(&[GRSSH, 0, entries as u32, key_bytes as u32]);
        self.ethtool(&mut words)?;
        let [function, transform, ..] = words[4].to_ne_bytes();
        let (table, key) = words[RXFH_WORDS..].split_at(entries);
        let key = key.iter().flat_map(|word| word.to_ne_bytes()).take(key_bytes).collect();
        Ok(RawRss { function, transform, table: table.to_vec(), key })
    }

    /// A command with its first words, and an answer of a fixed length in the same buffer.
    fn fixed(&self, words: &[u32]) -> io::Result<[u32; FIXED_WORDS]> {
        let mut buffer = [0u32; FIXED_WORDS];
        for (place, word) in buffer.iter_mut().zip(words) {
            *place = *word;
        }
        self.ethtool(&mut buffer)?;
        Ok(buffer)
    }
}
