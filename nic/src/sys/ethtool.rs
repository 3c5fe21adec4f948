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
/// `ETHTOOL_GSTRINGS` and `ETHTOOL_GSSET_INFO`: a set of names, and how many it has.
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
/// `ETH_SS_FEATURES`: the names of features.
const FEATURE_NAMES: u32 = 4;
/// `ETH_GSTRING_LEN`: bytes of a name.
const NAME_BYTES: usize = 32;
/// `ETHTOOL_GFEATURES` and `ETHTOOL_SFEATURES`.
const GFEATURES: u32 = 0x3a;
const SFEATURES: u32 = 0x3b;
/// `ETHTOOL_GCHANNELS` and `ETHTOOL_SCHANNELS`.
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;
/// `ETHTOOL_GRSSH` and `ETHTOOL_SRSSH`: hash function, key and indirection table.
const GRSSH: u32 = 0x46;
const SRSSH: u32 = 0x47;
/// `ETH_RXFH_INDIR_NO_CHANGE`.
const SAME_TABLE: u32 = 0xffff_ffff;
/// The most features for which there is room: thirty times what kernels have.
const FEATURES_MAX: u32 = 1 << 12;

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

/// A feature of an interface, such as `rx-gro`: an offload that can be on or off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Feature {
    /// ethtool's name for it (`ethtool -k`).
    pub(crate) name: String,
    /// Whether it is on.
    pub(crate) active: bool,
    /// Whether it can be set.
    pub(crate) settable: bool,
}

/// A kind of flow that has hash fields of its own, as `linux/ethtool.h` numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FlowKind {
    /// TCP over IPv4.
    Tcp4 = 0x01,
    /// UDP over IPv4.
    Udp4 = 0x02,
    /// TCP over IPv6.
    Tcp6 = 0x05,
    /// UDP over IPv6.
    Udp6 = 0x06,
}

impl NetDevice {
    /// Channels in use, and how many there can be.
    pub(crate) fn channels(&self) -> io::Result<Channels> {
        // struct ethtool_channels: cmd, the maxima of rx, tx, other and combined, then their counts.
        let words = self.fixed(&[GCHANNELS])?;
        Ok(Channels { rx: words[5], tx: words[6], combined: words[8], tx_max: words[2], combined_max: words[4] })
    }

    /// Sets how many channels there are; the driver may stop and start the link for it. Needs CAP_NET_ADMIN.
    pub(crate) fn set_channels(&self, rx: u32, tx: u32, combined: u32) -> io::Result<()> {
        let mut words = self.fixed(&[GCHANNELS])?;
        (words[0], words[5], words[6], words[8]) = (SCHANNELS, rx, tx, combined);
        self.ethtool(&mut words)
    }

    /// All features, in the kernel's order.
    pub(crate) fn features(&self) -> io::Result<Vec<Feature>> {
        let names = self.feature_names()?;
        let blocks = names.len().div_ceil(32);
        // struct ethtool_gfeatures: cmd, blocks, then a block for each 32: available, requested, active, never changed.
        let mut words = vec![0; 2 + 4 * blocks];
        words[..2].copy_from_slice(&[GFEATURES, blocks as u32]);
        self.ethtool(&mut words)?;
        let bit = |number: usize, kind: usize| words[2 + number / 32 * 4 + kind] >> (number % 32) & 1 == 1;
        let feature = |(number, name)| Feature { name, active: bit(number, 2), settable: bit(number, 0) };
        Ok(names.into_iter().enumerate().map(feature).collect())
    }

    /// Asks for a feature to be on or off; whether it then is has to be read. Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: there is no such feature; or the kernel refused.
    pub(crate) fn set_feature(&self, name: &str, on: bool) -> io::Result<()> {
        let names = self.feature_names()?;
        let unknown = || io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        let number = names.iter().position(|known| known == name).ok_or_else(unknown)?;
        let blocks = names.len().div_ceil(32);
        // struct ethtool_sfeatures: cmd, blocks, then a block for each 32: valid, requested.
        let mut words = vec![0; 2 + 2 * blocks];
        words[..2].copy_from_slice(&[SFEATURES, blocks as u32]);
        let (block, bit) = (2 + number / 32 * 2, 1 << (number % 32));
        words[block] = bit;
        words[block + 1] = if on { bit } else { 0 };
        self.ethtool(&mut words)
    }

    fn feature_names(&self) -> io::Result<Vec<String>> {
        // struct ethtool_sset_info: cmd, reserved, a mask of sets in eight bytes, then how many names each has. The
        // kernel writes as many names as it has: their number never changes while it runs.
        let (low, high) = mask_words(1 << FEATURE_NAMES);
        let count = self.fixed(&[GSSET_INFO, 0, low, high])?[4];
        if count > FEATURES_MAX {
            return Err(io::Error::from_raw_os_error(libc::EOVERFLOW));
        }
        let mut words = vec![0; 3 + FEATURES_MAX as usize * NAME_BYTES / 4];
        words[..3].copy_from_slice(&[GSTRINGS, FEATURE_NAMES, count]);
        self.ethtool(&mut words)?;
        let bytes: Vec<u8> = words[3..].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let name = |bytes: &[u8]| bytes.iter().take_while(|byte| **byte != 0).map(|&byte| char::from(byte)).collect();
        Ok(bytes.chunks_exact(NAME_BYTES).take(count as usize).map(name).collect())
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
        let (low, high) = mask_words(fields);
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

    /// Sets the indirection table, the key, or both, of the lengths that [`rss`](Self::rss) gives. Needs CAP_NET_ADMIN.
    ///
    /// # Errors
    /// `EINVAL`: another length, or a queue that is not there; or the driver refused.
    pub(crate) fn set_rss(&self, table: Option<&[u32]>, key: Option<&[u8]>) -> io::Result<()> {
        let now = self.rss()?;
        let wrong = |given: usize, wanted: usize| given != wanted;
        if table.is_some_and(|table| wrong(table.len(), now.table.len()) || table.is_empty())
            || key.is_some_and(|key| wrong(key.len(), now.key.len()))
        {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let key_bytes = key.map_or(0, <[u8]>::len) as u32;
        // No hash function means the one that is there; the transform is repeated, since older kernels want zeroes there.
        let kept = u32::from_ne_bytes([0, now.transform, 0, 0]);
        let entries = table.map_or(SAME_TABLE, |table| table.len() as u32);
        let mut words = vec![SRSSH, 0, entries, key_bytes, kept, 0];
        words.extend(table.unwrap_or_default());
        for part in key.unwrap_or_default().chunks(4) {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            words.push(u32::from_ne_bytes(word));
        }
        self.ethtool(&mut words)
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

/// Eight bytes of a structure as the two words that lie there.
fn mask_words(value: u64) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = value.to_ne_bytes();
    (u32::from_ne_bytes([a, b, c, d]), u32::from_ne_bytes([e, f, g, h]))
}
