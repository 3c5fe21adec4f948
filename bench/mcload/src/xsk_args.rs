//! The options of our own stack over AF_XDP.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use nic::DeviceName;
use nic::xdp::{AttachMode, XskName};

/// Most addresses of one run: what the XDP program has room for.
pub const MAX_ADDRESSES: u32 = 64;

/// `--interface` and what goes with it; a command line without any of it has none, hence `required = false`.
#[derive(Debug, Clone, clap::Args)]
pub struct XskArgs {
    /// Our own stack instead of kernel sockets, over AF_XDP: xdp:LINK, or xdp:LINK@QUEUE for the first worker's queue; or
    /// over a TAP: tap:LINK, which is made if there is none of that name
    #[arg(
        short = 'i',
        long,
        visible_alias = "device",
        value_name = "PORT",
        required = false,
        requires = "address",
        help_heading = "Own stack"
    )]
    pub interface: Port,
    /// Our addresses, which the kernel must not have: `FIRST[-LAST][/PREFIX]`, the prefix being 24 unless given, of IPv6 64
    #[arg(long, value_name = "RANGE", required = false, requires = "interface", help_heading = "Own stack")]
    pub address: Addresses,
    /// The router, for a server beyond the subnet
    #[arg(long, value_name = "ADDR", requires = "interface", help_heading = "Own stack")]
    pub gateway: Option<IpAddr>,
    /// Where the XDP program runs: auto, native or generic
    #[arg(long, value_name = "ATTACH", default_value = "auto", help_heading = "Own stack")]
    pub mode: AttachMode,
    /// The CPU of each worker, separated by commas; a worker beyond them is not pinned
    #[arg(long, value_name = "CPUS", value_delimiter = ',', requires = "interface", help_heading = "Own stack")]
    pub cpu: Vec<usize>,
    /// Microseconds for which a worker without work looks for frames before it sleeps: for a generator that shares its CPU with
    /// others. It never sleeps unless this is given, and is late by less
    #[arg(long, value_name = "MICROS", requires = "interface", help_heading = "Own stack")]
    pub spin: Option<u64>,
    /// Microseconds for which a worker without work stays away, whatever is due or arrives meanwhile: for connections whose
    /// latencies nobody reads, which then take little of a CPU that others are on
    #[arg(long, value_name = "MICROS", requires = "interface", conflicts_with = "spin", help_heading = "Own stack")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub rest: Option<u64>,
}

/// What our own stack is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// Queues of an interface over AF_XDP, from this one on.
    Xdp(XskName),
    /// A TAP interface.
    Tap(String),
}

impl FromStr for Port {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse() {
            Ok(DeviceName::Xdp(name)) => Ok(Self::Xdp(name)),
            Ok(DeviceName::Tap(name)) => Ok(Self::Tap(name)),
            Ok(DeviceName::Wire) => {
                Err("a wire joins ports of one process, and no server is on it; give xdp:LINK or tap:LINK")
            }
            Ok(DeviceName::Pcap(_)) => Err("requests are made, not played; `sidestep replay FILE` plays a capture"),
            Err(_) => Err("it must be xdp:LINK, xdp:LINK@QUEUE or tap:LINK, such as xdp:eth0"),
        }
    }
}

/// Addresses in one row, and the subnet that they are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// The first.
    pub first: IpAddr,
    /// How many there are from it on.
    pub count: u32,
    /// Leading one bits of the subnet mask.
    pub prefix: u8,
}

impl FromStr for Addresses {
    type Err = &'static str;

    fn from_str(range: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "it must be FIRST, FIRST-LAST, or either with /PREFIX, such as 10.77.0.16-10.77.0.19/24 or \
                            fd77::10-fd77::13/64, and at most 64 addresses";
        let (ends, prefix) = match range.split_once('/') {
            Some((ends, prefix)) => (ends, Some(prefix.parse::<u8>().map_err(|_| FORM)?)),
            None => (range, None),
        };
        let (first, last) = ends.split_once('-').unwrap_or((ends, ends));
        let [first, last]: [Result<IpAddr, _>; 2] = [first, last].map(str::parse);
        let (first, last) = (first.map_err(|_| FORM)?, last.map_err(|_| FORM)?);
        let (more, longest) = match (first, last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => (last.to_bits().checked_sub(first.to_bits()).map(u128::from), 32),
            (IpAddr::V6(first), IpAddr::V6(last)) => (last.to_bits().checked_sub(first.to_bits()), 128),
            _ => return Err(FORM),
        };
        let more = more.filter(|more| *more < u128::from(MAX_ADDRESSES)).ok_or(FORM)?;
        let prefix = prefix.unwrap_or(if longest == 32 { 24 } else { 64 });
        if prefix > longest { Err(FORM) } else { Ok(Self { first, count: more as u32 + 1, prefix }) }
    }
}

impl Addresses {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let first = self.first;
        (0..self.count).map(move |nth| match first {
            IpAddr::V4(first) => Ipv4Addr::from_bits(first.to_bits().saturating_add(nth)).into(),
            IpAddr::V6(first) => Ipv6Addr::from_bits(first.to_bits().saturating_add(u128::from(nth))).into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_an_interface_or_a_tap_and_the_others_say_what_to_do() {
        assert_eq!("xsk:c0@2".parse(), Ok(Port::Xdp(XskName { link: "c0".to_owned(), first_queue: 2 })));
        assert_eq!("tap:t0".parse(), Ok(Port::Tap("t0".to_owned())));
        for (wrong, said) in [("wire:", "give xdp:LINK"), ("pcap:x", "sidestep replay"), ("c0", "it must be xdp:LINK")]
        {
            assert!(wrong.parse::<Port>().expect_err(wrong).contains(said), "{wrong}");
        }
    }

    #[test]
    fn addresses_are_one_or_a_range_with_a_prefix_or_without() {
        let first = IpAddr::from([10, 77, 0, 16]);
        for (range, count, prefix) in
            [("10.77.0.16", 1, 24), ("10.77.0.16-10.77.0.19", 4, 24), ("10.77.0.16-10.77.0.79/16", 64, 16)]
        {
            assert_eq!(range.parse(), Ok(Addresses { first, count, prefix }));
        }
        let first: IpAddr = "fd77::10".parse().unwrap();
        for (range, count, prefix) in
            [("fd77::10", 1, 64), ("fd77::10-fd77::13", 4, 64), ("fd77::10-fd77::4f/48", 64, 48)]
        {
            assert_eq!(range.parse(), Ok(Addresses { first, count, prefix }));
        }
        let all: Vec<_> = "fd77::ffff-fd77::1:0".parse::<Addresses>().unwrap().all().collect();
        assert_eq!(all, ["fd77::ffff", "fd77::1:0"].map(|address| address.parse::<IpAddr>().unwrap()));
        for wrong in ["", "10.77.0", "10.77.0.16-", "10.77.0.16-10.77.0.15", "10.77.0.16-10.77.0.80", "10.77.0.1/33"]
            .into_iter()
            .chain(["fd77::10-fd77::f", "fd77::10-fd77::50", "fd77::10/129", "fd77::10-10.77.0.16", "fd77::10/"])
        {
            assert!(wrong.parse::<Addresses>().is_err(), "{wrong}");
        }
    }
}
