//! `FlowPrediction`: on which queue a NIC's hash puts a connection, by what the NIC itself says of key, table and fields.
//!
//! A prediction is what the driver claims, not what the hardware does: whoever uses it counts what arrives where. Control
//! side makes it; any thread may ask it. Read first: `rss.rs`; kernel `Documentation/networking/scaling.rst`, "RSS".

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::hash_fields::{ADDRESSES, ADDRESSES_AND_PORTS};
use crate::link::Link;
use crate::queue::QueueId;
use crate::rss::{RSS_KEY_BYTES, Rss};
use crate::sys::ethtool::{FlowKind, RawRss};
use crate::sys::netdev::NetDevice;

/// `ETH_RSS_HASH_TOP` of `linux/ethtool.h`: Toeplitz.
const TOEPLITZ: u8 = 1;

/// What of a frame is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HashedBy {
    /// Both addresses and both ports.
    Ports,
    /// Both addresses.
    Addresses,
}

impl HashedBy {
    fn of(fields: u64) -> Option<Self> {
        match fields {
            ADDRESSES_AND_PORTS => Some(Self::Ports),
            ADDRESSES => Some(Self::Addresses),
            _ => None,
        }
    }
}

impl fmt::Display for HashedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ports => "addresses and ports",
            Self::Addresses => "addresses",
        })
    }
}

/// Predicts the queue of TCP connections. Never changes; a NIC that is set anew needs a new one.
#[derive(Debug, Clone)]
pub struct FlowPrediction {
    rss: Rss,
    tcp: HashedBy,
    /// Over IPv6.
    tcp6: HashedBy,
    entries: usize,
}

/// Why nothing can be predicted of a link. For the operator: print it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unpredictable {
    /// Everything comes by one queue.
    #[error("one queue takes all connections")]
    OneQueue,
    /// The driver has no hash, or does not tell of it.
    #[error("the driver ({driver}) tells of no hash ({source}); what arrives by which queue is counted")]
    NoHash {
        /// The driver's name.
        driver: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// It has one, of another kind than can be computed here.
    #[error("the driver ({driver}) {what}, which is not computed here; what arrives by which queue is counted")]
    OtherHash {
        /// The driver's name.
        driver: String,
        /// What is different.
        what: String,
    },
}

impl FlowPrediction {
    /// By a key, a table and what is hashed of TCP; for a link in memory, or a test.
    pub fn new(rss: Rss, tcp: HashedBy, entries: usize) -> Self {
        Self { rss, tcp, tcp6: tcp, entries }
    }

    /// By what the NIC says now.
    ///
    /// # Errors
    /// [`Unpredictable`]: there is nothing to predict, or the NIC does not say how it hashes, or hashes otherwise.
    pub fn of(link: &Link) -> Result<Self, Unpredictable> {
        if link.rx_queues == 1 {
            return Err(Unpredictable::OneQueue);
        }
        let no_hash = |source| Unpredictable::NoHash { driver: link.driver.clone(), source };
        let device = NetDevice::new(&link.name).map_err(no_hash)?;
        let rss = device.rss().map_err(no_hash)?;
        let tcp = device.hash_fields(FlowKind::Tcp4).map_err(no_hash)?;
        // Some drivers tell of IPv4 alone.
        let tcp6 = device.hash_fields(FlowKind::Tcp6).unwrap_or(tcp);
        Self::of_answers(rss, tcp, tcp6)
            .map_err(|what| Unpredictable::OtherHash { driver: link.driver.clone(), what: what.to_owned() })
    }

    fn of_answers(rss: RawRss, tcp: u64, tcp6: u64) -> Result<Self, &'static str> {
        if rss.function & TOEPLITZ == 0 {
            return Err("hashes by another function than Toeplitz");
        }
        if rss.transform != 0 {
            return Err("changes what it hashes (symmetric hashing)");
        }
        // Longer keys are for longer inputs than addresses and ports.
        let key = rss.key.first_chunk::<RSS_KEY_BYTES>().ok_or("has a key shorter than 40 bytes")?;
        let [tcp, tcp6] = [tcp, tcp6].map(HashedBy::of);
        let (tcp, tcp6) = tcp.zip(tcp6).ok_or("hashes TCP neither by addresses nor by addresses and ports")?;
        let queues = rss.table.iter().map(|&queue| u16::try_from(queue).map(QueueId)).collect::<Result<Vec<_>, _>>();
        let queues = queues.map_err(|_| "has an indirection table with impossible queues")?;
        let entries = queues.len();
        let rss =
            Rss::with_table(key, queues).map_err(|_| "has an indirection table whose length is no power of two")?;
        Ok(Self { rss, tcp, tcp6, entries })
    }

    /// The queue on which segments from `peer` to `own` should arrive.
    pub fn queue_of(&self, peer: SocketAddr, own: SocketAddr) -> QueueId {
        match if own.is_ipv4() { self.tcp } else { self.tcp6 } {
            HashedBy::Ports => self.rss.queue_for_flow(peer, own),
            HashedBy::Addresses => self.rss.queue_for_addresses(peer.ip(), own.ip()),
        }
    }
}

impl fmt::Display for FlowPrediction {
    /// One line for the operator.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tcp, tcp6, entries, .. } = self;
        let over_ipv6 = if tcp6 == tcp { String::new() } else { format!(" ({tcp6} over IPv6)") };
        write!(
            f,
            "the NIC says that it spreads connections by a Toeplitz hash of {tcp}{over_ipv6} and a table of {entries} entries; what arrives is compared with that"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rss::RSS_DEFAULT_KEY;

    fn raw() -> RawRss {
        RawRss { function: 1, transform: 0, table: (0..128).map(|at| at % 2).collect(), key: RSS_DEFAULT_KEY.to_vec() }
    }

    #[test]
    fn a_nic_that_hashes_as_rss_does_is_predicted_by_its_fields() {
        let own: SocketAddr = "10.77.0.2:11211".parse().unwrap();
        let peer = |port| SocketAddr::new("10.77.0.1".parse().unwrap(), port);
        let by_ports = FlowPrediction::of_answers(raw(), 0xf0, 0x30).unwrap();
        let longer = RawRss { key: [raw().key, vec![7; 12]].concat(), ..raw() };
        let by_addresses = FlowPrediction::of_answers(longer, 0x30, 0xf0);
        let by_addresses = by_addresses.unwrap();
        let mut queues = [0; 2];
        for port in 1_000..1_064 {
            assert_eq!(by_ports.queue_of(peer(port), own), Rss::new(2).queue_for_flow(peer(port), own));
            queues[usize::from(by_ports.queue_of(peer(port), own).0)] += 1;
            assert_eq!(by_addresses.queue_of(peer(port), own), by_addresses.queue_of(peer(1), own));
        }
        assert!(queues.iter().all(|&flows| flows > 16), "{queues:?}");
        // Each family by fields of its own.
        let own: SocketAddr = "[2001:db8:77::2]:11211".parse().unwrap();
        let peer = |port| SocketAddr::new("2001:db8:77::1".parse().unwrap(), port);
        for port in 1_000..1_064 {
            assert_eq!(by_ports.queue_of(peer(port), own), by_ports.queue_of(peer(1), own));
            assert_eq!(by_addresses.queue_of(peer(port), own), Rss::new(2).queue_for_flow(peer(port), own));
        }
        let said = by_ports.to_string();
        assert!(said.contains("of addresses and ports (addresses over IPv6) and a table of 128 entries"), "{said}");
        let alike = FlowPrediction::of_answers(raw(), 0xf0, 0xf0).unwrap().to_string();
        assert!(alike.contains("of addresses and ports and a table of 128 entries"), "{alike}");
    }

    #[test]
    fn what_is_not_computed_here_is_said_instead_of_predicted() {
        for (rss, tcp, said) in [
            (RawRss { function: 2, ..raw() }, 0xf0, "another function"),
            (RawRss { transform: 1, ..raw() }, 0xf0, "symmetric"),
            (RawRss { key: vec![1; 39], ..raw() }, 0xf0, "shorter than 40"),
            (RawRss { table: vec![0, 1, 2], ..raw() }, 0xf0, "no power of two"),
            (RawRss { table: vec![0, 1 << 16], ..raw() }, 0xf0, "impossible queues"),
            (raw(), 0x10, "hashes TCP neither"),
        ] {
            let error = FlowPrediction::of_answers(rss, tcp, 0xf0).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
