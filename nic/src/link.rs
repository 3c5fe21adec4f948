//! `Link`: what there is to know of a network interface before using it.
//!
//! Control side only; sees the network namespace of the calling thread. Read first: `netdevice(7)`.

use std::io;
use std::net::IpAddr;

use crate::mac::Mac;
use crate::sys::ethtool::Channels;
use crate::sys::netdev::{NetDevice, interface_addresses};
pub use ipv6::{ipv6_is_off, takes_routers};
pub use news::LinkNews;
pub use routes::Routes;
use rtnetlink::LinkRecord;
pub use rtnetlink::{LinkCounts, LinkState, VlanLink};

/// What the kernel's IPv6 is told, and has found out.
mod ipv6;
/// What the kernel tells as it happens.
mod news;
/// The next hops of an interface.
mod routes;
/// Interfaces by any of their names, or by index.
mod rtnetlink;

/// How often an interface is asked about by its index, if it is given another name at every try.
const TRIES: usize = 4;

/// An Ethernet interface as it was when asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Name, such as `eth0`, by which it could be asked about; another when it has been given another.
    pub name: String,
    /// Index: which interface this is, whatever it is called, for as long as it exists in its network namespace.
    pub index: u32,
    /// Ethernet address.
    pub mac: Mac,
    /// Longest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it is up (administratively; the cable may be out).
    pub up: bool,
    /// Receive queues in use, at least 1.
    pub rx_queues: u16,
    /// Transmit queues in use, at least 1.
    pub tx_queues: u16,
    /// Most transmit queues there can be, at least as many as are in use.
    pub tx_queues_max: u16,
    /// Channels that have a queue of each kind; 0 where the driver counts the kinds apart.
    pub combined: u16,
    /// Descriptors of the hardware's receive ring; `None` where the driver does not say.
    pub rx_ring: Option<u32>,
    /// The driver's name, such as `veth` or `igb`; empty where there is none.
    pub driver: String,
}

/// Drivers of links that carry frames of this machine's kernels, or of its host's, with no wire in between (`ethtool -i`).
const SOFTWARE_DRIVERS: [&str; 9] =
    ["veth", "macvlan", "ipvlan", "bridge", "802.1Q VLAN Support", "bonding", "team", "tun", "virtio_net"];

impl Link {
    /// Whether a kernel may hand over TCP and UDP on this link with checksums that it has left to offload: on a veth and
    /// on what stands on one (macvlan, bridge, VLAN and the like) no device ever finishes them, and generic receive
    /// offload below leaves what it has merged so too. A NIC never delivers such a frame as a good one.
    pub fn leaves_checksums(&self) -> bool {
        leaves_checksums(&self.driver)
    }
}

fn leaves_checksums(driver: &str) -> bool {
    SOFTWARE_DRIVERS.contains(&driver)
}

/// Why nothing could be learnt of a link.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// There is no such interface.
    #[error("there is no interface {name}; there are: {}", list(.known))]
    NotFound {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: Vec<String>,
    },
    /// The interface of an index has gone.
    #[error("there is no interface of index {index} any more")]
    Gone {
        /// The index asked for.
        index: u32,
    },
    /// It is no Ethernet.
    #[error("interface {name} is no Ethernet; AF_XDP and this stack need one")]
    NotEthernet {
        /// The name asked for.
        name: String,
    },
    /// The kernel did not say.
    #[error("cannot learn about interface {name}: {source}")]
    Kernel {
        /// The name asked for.
        name: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl Link {
    /// Asks the kernel about the interface that has `name` as its name or as an alternative name.
    ///
    /// # Errors
    /// [`LinkError`]: there is none of that name, it is no Ethernet, or the kernel refused.
    pub fn by_name(name: &str) -> Result<Self, LinkError> {
        let refused = |source: io::Error| match source.raw_os_error() {
            Some(libc::ENODEV) => LinkError::NotFound { name: name.to_owned(), known: names().unwrap_or_default() },
            _ => LinkError::Kernel { name: name.to_owned(), source },
        };
        let record = LinkRecord::by_name(name).map_err(refused)?;
        Self::read(record.name).map_err(refused)?.ok_or_else(|| LinkError::NotEthernet { name: name.to_owned() })
    }

    /// Asks the kernel about the interface of that index, whatever it is called now.
    ///
    /// # Errors
    /// [`LinkError`]: there is none of that index, or the kernel refused.
    pub fn by_index(index: u32) -> Result<Self, LinkError> {
        let mut last = None;
        for _ in 0..TRIES {
            let name = LinkRecord::by_index(index).map_err(|source| unnamed(index, source))?.name;
            match Self::read(name.clone()) {
                Ok(Some(link)) if link.index == index => return Ok(link),
                Ok(Some(_)) => {}
                Ok(None) => return Err(LinkError::NotEthernet { name }),
                // Given another name since; if it has gone, the next round says so.
                Err(source) if source.raw_os_error() == Some(libc::ENODEV) => last = Some(source),
                Err(source) => return Err(LinkError::Kernel { name, source }),
            }
        }
        // It was there every time, under another name.
        let source = last.unwrap_or_else(|| io::Error::from(io::ErrorKind::Interrupted));
        Err(LinkError::Kernel { name: format!("of index {index}"), source })
    }

    /// Whether `name` is an interface of the kernel's for one VLAN, of an 802.1Q tag, and which.
    ///
    /// # Errors
    /// [`LinkError`]: there is none of that name, or the kernel refused.
    pub fn vlan(name: &str) -> Result<Option<VlanLink>, LinkError> {
        LinkRecord::by_name(name).map(|record| record.vlan).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV) => LinkError::NotFound { name: name.to_owned(), known: names().unwrap_or_default() },
            _ => LinkError::Kernel { name: name.to_owned(), source },
        })
    }

    /// What the kernel and the driver have counted of the interface of that index since it was made.
    ///
    /// # Errors
    /// [`LinkError`]: there is none of that index, or the kernel refused.
    pub fn counts(index: u32) -> Result<LinkCounts, LinkError> {
        LinkRecord::by_index(index).map(|record| record.counts).map_err(|source| unnamed(index, source))
    }

    /// What the interface of that index can carry just now, and which XDP programs see its frames.
    ///
    /// # Errors
    /// [`LinkError`]: there is none of that index, or the kernel refused.
    pub fn state(index: u32) -> Result<LinkState, LinkError> {
        LinkRecord::by_index(index).map(|record| record.state).map_err(|source| unnamed(index, source))
    }

    /// The command that gives the link so many receive and as many transmit queues.
    pub fn command_for_queues(&self, queues: u16) -> String {
        let name = &self.name;
        match self.combined {
            0 => format!("ethtool -L {name} rx {queues} tx {queues}"),
            combined if self.rx_queues == combined && self.tx_queues == combined => {
                format!("ethtool -L {name} combined {queues}")
            }
            _ => format!("ethtool -L {name} rx 0 tx 0 combined {queues}"),
        }
    }

    /// Asks the kernel about an interface by its name proper; `None` when it is no Ethernet.
    fn read(name: String) -> io::Result<Option<Self>> {
        let device = NetDevice::new(&name)?;
        let Some(mac) = device.mac()? else { return Ok(None) };
        // Drivers with one queue need not implement the question.
        let channels = device.channels().unwrap_or(Channels::ONE);
        let Channels { rx, tx, combined, tx_max, combined_max } = channels;
        let (rx_queues, tx_queues) = (queues(rx, combined), queues(tx, combined));
        Ok(Some(Self {
            mac: Mac(mac),
            mtu: device.mtu()?,
            up: device.is_up()?,
            rx_queues,
            tx_queues,
            tx_queues_max: queues(tx_max, combined_max).max(tx_queues),
            combined: u16::try_from(combined).unwrap_or(u16::MAX),
            rx_ring: device.rx_ring().ok().filter(|ring| *ring > 0),
            driver: device.driver().unwrap_or_default(),
            // Last, so that the name still meant the same interface when the rest was asked.
            index: device.index()?,
            name,
        }))
    }
}

/// Names of all interfaces, in the kernel's order.
///
/// # Errors
/// The kernel refused.
pub fn names() -> io::Result<Vec<String>> {
    let entries = interface_addresses()?;
    Ok(entries.into_iter().filter(|entry| entry.address.is_none()).map(|entry| entry.name).collect())
}

/// An IP address that the kernel has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelAddress {
    /// The interface that carries it.
    pub link: String,
    /// The address.
    pub address: IpAddr,
    /// Whether the kernel does not use it, since another station of the link has it (RFC 4862 §5.4.5).
    pub duplicate: bool,
}

/// IP addresses that the kernel has, on any interface; of IPv6 also those that it still probes, and those of which it has found
/// that another station has them.
///
/// # Errors
/// The kernel refused.
pub fn kernel_addresses() -> io::Result<Vec<KernelAddress>> {
    let (entries, duplicates) = (interface_addresses()?, ipv6::duplicates());
    let is_duplicate = |address| matches!(address, IpAddr::V6(address) if duplicates.contains(&address));
    let address = |entry: crate::sys::netdev::InterfaceAddress| {
        let (address, link) = (entry.address?, entry.name);
        Some(KernelAddress { link, address, duplicate: is_duplicate(address) })
    };
    Ok(entries.into_iter().filter_map(address).collect())
}

/// Why nothing is known of the interface of an index.
fn unnamed(index: u32, source: io::Error) -> LinkError {
    match source.raw_os_error() {
        Some(libc::ENODEV) => LinkError::Gone { index },
        _ => LinkError::Kernel { name: format!("of index {index}"), source },
    }
}

/// Queues of a kind: those of its own and those of combined channels; at least one.
fn queues(own: u32, combined: u32) -> u16 {
    u16::try_from(own.saturating_add(combined)).unwrap_or(u16::MAX).max(1)
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_does_not_exist_names_those_that_do() {
        let error = Link::by_name("no-such-link").unwrap_err();
        let LinkError::NotFound { name, known } = &error else { panic!("{error}") };
        assert_eq!(name, "no-such-link");
        assert!(known.contains(&"lo".to_owned()), "{known:?}");
        assert!(error.to_string().starts_with("there is no interface no-such-link; there are: "));
    }

    #[test]
    fn a_name_that_no_interface_can_have_is_not_found() {
        for name in ["", "a-name-longer-than-fifteen", "nul\0", &"x".repeat(200)] {
            assert!(matches!(Link::by_name(name), Err(LinkError::NotFound { .. })), "{name:?}");
        }
    }

    #[test]
    fn the_loopback_link_is_no_ethernet() {
        assert!(matches!(Link::by_name("lo"), Err(LinkError::NotEthernet { .. })));
        assert!(matches!(Link::by_index(1), Err(LinkError::NotEthernet { .. })));
    }

    #[test]
    fn an_index_that_no_interface_has_is_gone() {
        assert!(matches!(Link::by_index(0x7fff_fff0), Err(LinkError::Gone { index: 0x7fff_fff0 })));
    }

    #[test]
    fn only_links_without_a_wire_leave_checksums_to_offload() {
        for driver in ["veth", "macvlan", "ipvlan", "bridge", "802.1Q VLAN Support", "bonding", "team", "tun"] {
            assert!(leaves_checksums(driver), "{driver}");
        }
        for driver in ["igb", "ixgbe", "mlx5_core", "ena", ""] {
            assert!(!leaves_checksums(driver), "{driver}");
        }
    }
}
