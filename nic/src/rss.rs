//! `Rss`: which queue of a NIC a frame arrives on, by the Toeplitz hash and the indirection table.
//!
//! What hardware does, in software: the in-memory wire steers by it, and a program may predict by it. The input is the
//! frame as it is on the wire, nothing is checked beyond its lengths, and any frame gives some queue. Read first:
//! "RSS Hashing Functions" and "Verifying the RSS Hash Calculation" (Microsoft, Windows driver documentation).

use std::net::{IpAddr, SocketAddr};

use crate::queue::QueueId;

/// Bytes of an RSS key.
pub const RSS_KEY_BYTES: usize = 40;

/// The key of Microsoft's test vectors, the default of many drivers.
pub const RSS_DEFAULT_KEY: [u8; RSS_KEY_BYTES] = [
    0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b,
    0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac,
    0x01, 0xfa,
];

/// Entries of the indirection table made by [`Rss::new`]: what most NICs have.
pub const RSS_TABLE_ENTRIES: usize = 128;

/// Longest hash input, in bytes: two IPv6 addresses and two ports.
const INPUT_BYTES_MAX: usize = 36;

/// The Toeplitz hash of one key, with a table per input byte so that a byte costs one look-up.
#[derive(Clone)]
pub struct Toeplitz {
    tables: Box<[[u32; 256]; INPUT_BYTES_MAX]>,
}

impl Toeplitz {
    /// The hash of a key.
    pub fn new(key: &[u8; RSS_KEY_BYTES]) -> Self {
        let mut tables = Box::new([[0; 256]; INPUT_BYTES_MAX]);
        for (position, table) in tables.iter_mut().enumerate() {
            for (byte, entry) in table.iter_mut().enumerate() {
                *entry = (0..8)
                    .filter(|bit| byte & (0x80 >> bit) != 0)
                    .fold(0, |hash, bit| hash ^ key_window(key, position * 8 + bit));
            }
        }
        Self { tables }
    }

    /// Hashes at most 36 bytes; those beyond are left out.
    pub fn hash(&self, input: &[u8]) -> u32 {
        input.iter().zip(self.tables.iter()).fold(0, |hash, (&byte, table)| hash ^ table[usize::from(byte)])
    }
}

impl std::fmt::Debug for Toeplitz {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Toeplitz").finish_non_exhaustive()
    }
}

/// The 32 bits of the key that start at bit `from`, which is at most 287.
fn key_window(key: &[u8; RSS_KEY_BYTES], from: usize) -> u32 {
    (from..from + 32).fold(0, |window, bit| {
        let set = key.get(bit / 8).is_some_and(|byte| byte & (0x80 >> (bit % 8)) != 0);
        window << 1 | u32::from(set)
    })
}

/// Steering by hash: a key and an indirection table. Never changes after it is made; any thread may read it.
#[derive(Debug, Clone)]
pub struct Rss {
    toeplitz: Toeplitz,
    table: Vec<QueueId>,
}

/// An indirection table whose length is no power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an indirection table of {entries} entries: the number must be a power of two")]
pub struct RssTableError {
    /// Entries given.
    pub entries: usize,
}

impl Rss {
    /// The default key, and a table of 128 entries that gives all of `queues` (at least one) the same share.
    pub fn new(queues: u16) -> Self {
        let table = (0..queues.max(1)).cycle().take(RSS_TABLE_ENTRIES).map(QueueId).collect();
        Self { toeplitz: Toeplitz::new(&RSS_DEFAULT_KEY), table }
    }

    /// A key and a table of one's own, such as those read from a NIC.
    ///
    /// # Errors
    /// The length of the table is no power of two.
    pub fn with_table(key: &[u8; RSS_KEY_BYTES], table: Vec<QueueId>) -> Result<Self, RssTableError> {
        if !table.len().is_power_of_two() {
            return Err(RssTableError { entries: table.len() });
        }
        Ok(Self { toeplitz: Toeplitz::new(key), table })
    }

    /// The queue of a frame: by addresses and ports for TCP and UDP, by addresses for other IP and for fragments,
    /// queue 0's table entry for what is not IP or too short to tell.
    pub fn queue_for(&self, frame: &[u8]) -> QueueId {
        self.queue_of_hash(HashInput::of_frame(frame).map_or(0, |input| self.toeplitz.hash(input.bytes())))
    }

    /// The queue on which TCP and UDP frames of a flow arrive, `source` being the peer. Addresses of two families give
    /// what a NIC gives for no IP.
    pub fn queue_for_flow(&self, source: SocketAddr, destination: SocketAddr) -> QueueId {
        self.queue_of_hash(self.hash_flow(source, destination).unwrap_or(0))
    }

    /// The queue of frames that are hashed by their addresses alone, with the same rule for two families.
    pub fn queue_for_addresses(&self, source: IpAddr, destination: IpAddr) -> QueueId {
        let input = HashInput::of_addresses(source, destination);
        self.queue_of_hash(input.map_or(0, |input| self.toeplitz.hash(input.bytes())))
    }

    /// The hash of a flow's addresses and ports; `None` for addresses of two families.
    pub fn hash_flow(&self, source: SocketAddr, destination: SocketAddr) -> Option<u32> {
        let mut input = HashInput::of_addresses(source.ip(), destination.ip())?;
        input.push(&source.port().to_be_bytes());
        input.push(&destination.port().to_be_bytes());
        Some(self.toeplitz.hash(input.bytes()))
    }

    /// The queue of a hash: its low bits index the table.
    fn queue_of_hash(&self, hash: u32) -> QueueId {
        // The table's length is a power of two, so the mask keeps the index within.
        self.table[hash as usize & (self.table.len() - 1)]
    }
}

/// What is hashed of a frame.
struct HashInput {
    bytes: [u8; INPUT_BYTES_MAX],
    len: usize,
}

impl HashInput {
    fn empty() -> Self {
        Self { bytes: [0; INPUT_BYTES_MAX], len: 0 }
    }

    fn of_addresses(source: IpAddr, destination: IpAddr) -> Option<Self> {
        let mut input = Self::empty();
        match (source, destination) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                input.push(&from.octets());
                input.push(&to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                input.push(&from.octets());
                input.push(&to.octets());
            }
            _ => return None,
        }
        Some(input)
    }

    fn push(&mut self, field: &[u8]) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + field.len()) {
            place.copy_from_slice(field);
            self.len += field.len();
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn of_frame(frame: &[u8]) -> Option<Self> {
        let (ether_type, packet) = network_layer(frame)?;
        match ether_type {
            ETHER_TYPE_IPV4 => Self::of_ipv4(packet),
            ETHER_TYPE_IPV6 => Self::of_ipv6(packet),
            _ => None,
        }
    }

    /// RFC 791 §3.1.
    fn of_ipv4(packet: &[u8]) -> Option<Self> {
        let header = packet.get(..20)?;
        let header_bytes = usize::from(header[0] & 0x0f) * 4;
        let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        let mut input = Self::empty();
        input.push(&header[12..20]);
        if has_ports(header[9]) && !fragment {
            input.push(packet.get(header_bytes..header_bytes + 4).unwrap_or_default());
        }
        Some(input)
    }

    /// RFC 8200 §3; a packet with extension headers is hashed by addresses.
    fn of_ipv6(packet: &[u8]) -> Option<Self> {
        let header = packet.get(..40)?;
        let mut input = Self::empty();
        input.push(&header[8..40]);
        if has_ports(header[6]) {
            input.push(packet.get(40..44).unwrap_or_default());
        }
        Some(input)
    }
}

/// EtherType of IPv4.
pub(crate) const ETHER_TYPE_IPV4: u16 = 0x0800;

/// EtherType of IPv6.
pub(crate) const ETHER_TYPE_IPV6: u16 = 0x86dd;

/// Whether the protocol is TCP or UDP.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, 6 | 17)
}

/// The EtherType behind at most two VLAN tags, and what follows it.
pub(crate) fn network_layer(frame: &[u8]) -> Option<(u16, &[u8])> {
    let mut at = 12;
    for _ in 0..=2 {
        let ether_type = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        at += 2;
        match ether_type {
            0x8100 | 0x88a8 => at += 2,
            _ => return Some((ether_type, &frame[at..])),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Source, destination, hash of the addresses, hash with the ports ("Verifying the RSS Hash Calculation").
    const VECTORS: [(&str, &str, u32, u32); 8] = [
        ("66.9.149.187:2794", "161.142.100.80:1766", 0x323e_8fc2, 0x51cc_c178),
        ("199.92.111.2:14230", "65.69.140.83:4739", 0xd718_262a, 0xc626_b0ea),
        ("24.19.198.95:12898", "12.22.207.184:38024", 0xd2d0_a5de, 0x5c2b_394a),
        ("38.27.205.30:48228", "209.142.163.6:2217", 0x8298_9176, 0xafc7_327f),
        ("153.39.163.191:44251", "202.188.127.2:1303", 0x5d18_09c5, 0x10e8_28a2),
        ("[3ffe:2501:200:1fff::7]:2794", "[3ffe:2501:200:3::1]:1766", 0x2cc1_8cd5, 0x4020_7d3d),
        ("[3ffe:501:8::260:97ff:fe40:efab]:14230", "[ff02::1]:4739", 0x0f0c_461c, 0xdde5_1bbf),
        ("[3ffe:1900:4545:3:200:f8ff:fe21:67cf]:44251", "[fe80::200:f8ff:fe21:67cf]:38024", 0x4b61_e985, 0x02d1_feef),
    ];

    /// An Ethernet frame of a flow, with `tags` VLAN tags.
    fn frame(source: SocketAddr, destination: SocketAddr, protocol: u8, tags: usize) -> Vec<u8> {
        let mut frame = vec![2; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0x00, 0x00, 0x05]);
        }
        match (source.ip(), destination.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, protocol, 0, 0]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, protocol, 64]);
                frame.extend(from.octets());
                frame.extend(to.octets());
            }
            _ => panic!("two families"),
        }
        frame.extend(source.port().to_be_bytes());
        frame.extend(destination.port().to_be_bytes());
        frame.extend([0; 16]);
        frame
    }

    #[test]
    fn the_hash_agrees_with_microsofts_test_vectors() {
        let rss = Rss::new(4);
        for (source, destination, addresses, with_ports) in VECTORS {
            let (source, destination): (SocketAddr, SocketAddr) =
                (source.parse().unwrap(), destination.parse().unwrap());
            assert_eq!(rss.hash_flow(source, destination), Some(with_ports), "{source} {destination}");
            for tags in 0..=2 {
                let tcp = HashInput::of_frame(&frame(source, destination, 6, tags)).unwrap();
                assert_eq!(rss.toeplitz.hash(tcp.bytes()), with_ports, "{source} {destination}");
                let other = HashInput::of_frame(&frame(source, destination, 1, tags)).unwrap();
                assert_eq!(rss.toeplitz.hash(other.bytes()), addresses, "{source} {destination}");
                let queue = rss.queue_for_addresses(source.ip(), destination.ip());
                assert_eq!(queue, rss.queue_of_hash(addresses), "{source} {destination}");
            }
        }
    }

    #[test]
    fn a_frame_and_its_flow_meet_on_one_queue_and_flows_spread() {
        let rss = Rss::new(4);
        let destination: SocketAddr = "10.77.0.2:11211".parse().unwrap();
        let mut seen = [0; 4];
        for port in 40_000..40_256 {
            let source = SocketAddr::new("10.77.0.1".parse().unwrap(), port);
            let queue = rss.queue_for_flow(source, destination);
            assert_eq!(rss.queue_for(&frame(source, destination, 6, 0)), queue);
            seen[usize::from(queue.0)] += 1;
        }
        assert!(seen.iter().all(|&flows| flows >= 32), "{seen:?}");
    }

    #[test]
    fn fragments_of_a_datagram_meet_on_one_queue() {
        let rss = Rss::new(4);
        for last_octet in 1..=32 {
            let source = SocketAddr::new(IpAddr::from([10, 77, 0, last_octet]), 5353);
            let mut first = frame(source, "10.77.0.200:11211".parse().unwrap(), 17, 0);
            first[20] = 0x20; // more fragments
            let mut second = first.clone();
            second[20] = 0;
            second[21] = 185; // offset
            second[34..38].copy_from_slice(&[9, 9, 9, 9]);
            assert_eq!(rss.queue_for(&first), rss.queue_for(&second));
        }
    }

    #[test]
    fn what_is_no_ip_goes_to_queue_0_and_any_length_gives_a_queue() {
        let rss = Rss::new(3);
        let mut arp = vec![0xff; 42];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(rss.queue_for(&arp), QueueId(0));
        let whole = frame("10.0.0.1:1".parse().unwrap(), "10.0.0.2:2".parse().unwrap(), 6, 2);
        for len in 0..=whole.len() {
            assert!(rss.queue_for(&whole[..len]).0 < 3);
        }
        assert_eq!(rss.queue_for(&[0x81; 64]), QueueId(0));
    }

    #[test]
    fn a_table_that_is_no_power_of_two_is_refused() {
        for entries in [0, 3, 100] {
            let error = Rss::with_table(&RSS_DEFAULT_KEY, vec![QueueId(0); entries]).unwrap_err();
            assert_eq!(error, RssTableError { entries });
        }
        let one = Rss::with_table(&RSS_DEFAULT_KEY, vec![QueueId(7)]).unwrap();
        assert_eq!(one.queue_for(&[]), QueueId(7));
    }
}
