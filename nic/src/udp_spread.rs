//! `UdpSpread`: whether the datagrams of one host spread over a link's queues by their ports.
//!
//! Many drivers hash TCP by addresses and ports, and UDP by addresses alone, so that fragments stay together: all
//! sockets of one client then come to one queue, thus to one core. Control side only. Read first: `ethtool(8)`,
//! "rx-flow-hash"; kernel `include/uapi/linux/ethtool.h`, `ETHTOOL_SRXFH`.

use std::fmt;
use std::io;

use crate::family::IpFamily;
use crate::guard::Guard;
use crate::hash_fields::{ADDRESSES_AND_PORTS, letters};
use crate::link::Link;
use crate::settings::{Setting, udp_kind};
use crate::sys::netdev::NetDevice;

/// How UDP of one family spreads over the queues of a link. For the operator: print it.
#[derive(Debug)]
#[non_exhaustive]
pub enum UdpSpread {
    /// There is one queue: nothing to spread over.
    OneQueue,
    /// The NIC hashed by addresses and ports already.
    ByPorts,
    /// The NIC hashed by less, and hashes by addresses and ports now.
    Set {
        /// The link.
        link: String,
        /// By what it hashed before, in ethtool's letters.
        before: String,
    },
    /// The driver has no hash to set: the link itself decides, as a veth does by its peer's queue.
    NoHash {
        /// The driver's name.
        driver: String,
    },
    /// The driver hashes by less and cannot be told otherwise.
    Refused {
        /// What would tell it.
        setting: Setting,
        /// The link.
        link: String,
        /// The driver's name.
        driver: String,
        /// What it said; or that it said yes and did not do it.
        source: io::Error,
    },
}

impl fmt::Display for UdpSpread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OneQueue => f.write_str("one queue takes all datagrams"),
            Self::ByPorts => f.write_str("the NIC spreads datagrams by addresses and ports"),
            Self::Set { link, before } => write!(
                f,
                "the NIC has been told to spread datagrams by addresses and ports; by `{before}` before, which {link} gets back at the end"
            ),
            Self::NoHash { driver } => write!(
                f,
                "the driver ({driver}) has no hash to set; a datagram is answered by the core of whichever queue it comes by"
            ),
            Self::Refused { setting, link, driver, source } => write!(
                f,
                "the driver ({driver}) does not spread datagrams by ports: {source}; all of one client's may come to one core; try `ethtool -N {link} {setting} sdfn`"
            ),
        }
    }
}

/// Has the NIC spread UDP of `family` by addresses and ports, where it does not yet, and says what came of it; `guard`
/// saves what it was and gives it back. Nothing that is wrong here keeps a server from serving: every core answers what
/// comes to it.
pub fn spread_udp(link: &Link, family: IpFamily, guard: &mut Guard) -> UdpSpread {
    match NetDevice::new(&link.name) {
        Ok(device) => spread(link, family, &mut Guarded { device, family, guard }),
        Err(source) => refused(link, family, source),
    }
}

fn refused(link: &Link, family: IpFamily, source: io::Error) -> UdpSpread {
    let setting = Setting::UdpHash(family);
    UdpSpread::Refused { setting, link: link.name.clone(), driver: link.driver.clone(), source }
}

/// By which fields of a frame a NIC hashes UDP of a family, as bits of `ethtool.h`.
trait UdpHash {
    fn fields(&self) -> io::Result<u64>;
    fn set_fields(&mut self, fields: u64) -> io::Result<()>;
}

struct Guarded<'a> {
    device: NetDevice,
    family: IpFamily,
    guard: &'a mut Guard,
}

impl UdpHash for Guarded<'_> {
    fn fields(&self) -> io::Result<u64> {
        self.device.hash_fields(udp_kind(self.family))
    }

    fn set_fields(&mut self, fields: u64) -> io::Result<()> {
        self.guard.change(&Setting::UdpHash(self.family), &letters(fields)).map(drop).map_err(io::Error::other)
    }
}

fn spread(link: &Link, family: IpFamily, hash: &mut impl UdpHash) -> UdpSpread {
    if link.rx_queues == 1 {
        return UdpSpread::OneQueue;
    }
    let refused = |source| refused(link, family, source);
    let before = match hash.fields() {
        Ok(ADDRESSES_AND_PORTS) => return UdpSpread::ByPorts,
        Ok(fields) => fields,
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
            return UdpSpread::NoHash { driver: link.driver.clone() };
        }
        Err(source) => return refused(source),
    };
    if let Err(source) = hash.set_fields(ADDRESSES_AND_PORTS) {
        return refused(source);
    }
    // Some drivers accept an order and then do only the part of it that they can.
    match hash.fields() {
        Ok(ADDRESSES_AND_PORTS) => UdpSpread::Set { link: link.name.clone(), before: letters(before) },
        Ok(fields) => {
            let source = format!("it was told to and hashes by `{}` all the same", letters(fields));
            refused(io::Error::other(source))
        }
        Err(source) => refused(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    /// A driver: what it hashes by, and what it makes of an order.
    struct Driver {
        fields: Result<u64, i32>,
        obeys: fn(u64) -> Result<u64, i32>,
        orders: u32,
    }

    impl UdpHash for Driver {
        fn fields(&self) -> io::Result<u64> {
            self.fields.map_err(io::Error::from_raw_os_error)
        }

        fn set_fields(&mut self, fields: u64) -> io::Result<()> {
            self.orders += 1;
            self.fields = Ok((self.obeys)(fields).map_err(io::Error::from_raw_os_error)?);
            Ok(())
        }
    }

    fn said(queues: u16, fields: Result<u64, i32>, obeys: fn(u64) -> Result<u64, i32>) -> (String, u32) {
        let link = Link {
            name: "eth7".to_owned(),
            index: 7,
            mac: Mac([2; 6]),
            mtu: 1500,
            up: true,
            rx_queues: queues,
            tx_queues: queues,
            tx_queues_max: queues,
            combined: queues,
            rx_ring: None,
            driver: "igb".to_owned(),
        };
        let mut driver = Driver { fields, obeys, orders: 0 };
        let outcome = spread(&link, IpFamily::V6, &mut driver);
        (outcome.to_string(), driver.orders)
    }

    #[test]
    fn a_driver_that_hashes_by_addresses_alone_is_told_and_looked_at_again() {
        let (text, orders) = said(2, Ok(0x30), Ok);
        assert!(text.contains("told to spread") && text.contains("by `sd` before, which eth7 gets back"), "{text}");
        assert_eq!(orders, 1);
        let (text, _) = said(2, Ok(0x30), |_| Ok(0x30));
        assert!(text.contains("hashes by `sd` all the same") && text.contains("one core"), "{text}");
        let (text, _) = said(2, Ok(0x30), |_| Err(libc::EINVAL));
        assert!(text.contains("(igb) does not spread") && text.contains("Invalid argument"), "{text}");
        assert!(text.ends_with("try `ethtool -N eth7 rx-flow-hash udp6 sdfn`"), "{text}");
    }

    #[test]
    fn what_is_as_wanted_or_cannot_be_set_is_left_alone() {
        for (queues, fields, wanted) in [
            (1, Ok(0x30), "one queue"),
            (2, Ok(0xf0), "spreads datagrams by addresses and ports"),
            (2, Err(libc::EOPNOTSUPP), "(igb) has no hash to set"),
            (2, Err(libc::EPERM), "Operation not permitted"),
        ] {
            let (text, orders) = said(queues, fields, Ok);
            assert!(text.contains(wanted), "{text}");
            assert_eq!(orders, 0);
        }
    }
}
