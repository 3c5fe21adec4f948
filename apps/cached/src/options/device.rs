//! The device that is served on, and what of the network's options it can do.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nic::tap::TAP_QUEUES_MAX;
use nic::xdp::XskName;
use nic::{DeviceName, IpFamily, Route};
use stack::OwnAddress;

use super::error::OptionError;
use super::flags::Flags;
use super::read::{Mode, Steering};

/// What `--interface` and `--device` name, of which clap takes exactly one; and its name alone.
///
/// # Errors
/// The device cannot do what else is asked of it.
pub(super) fn device_of(flags: &mut Flags) -> Result<(DeviceName, String), OptionError> {
    let (device, name) = match flags.device.take() {
        Some(DeviceName::Tap(name)) => (DeviceName::Tap(name.clone()), name),
        Some(DeviceName::Xdp(name)) => (DeviceName::Xdp(name.clone()), name.link),
        // `read::device` refuses the other kinds.
        _ => {
            let link = flags.interface.take().unwrap_or_default();
            (DeviceName::Xdp(XskName { link: link.clone(), first_queue: 0 }), link)
        }
    };
    if matches!(device, DeviceName::Tap(_)) {
        check_tap(&name, flags)?;
    }
    Ok((device, name))
}

/// Checks that a TAP can do what is asked of it.
fn check_tap(name: &str, flags: &Flags) -> Result<(), OptionError> {
    let refused =
        |option: &str, why| Err(OptionError::Refused { option: format!("--device tap:{name} {option}"), why });
    if flags.steering != Steering::Own {
        return refused("--steering", "every frame of a TAP is the server's; leave --steering out");
    }
    if !flags.allow.is_empty() {
        return refused(
            "--allow",
            "no XDP program stands before a TAP; filter on the kernel's side of it (nft), or leave it out",
        );
    }
    if flags.mode != Mode::Auto {
        return refused("--mode", "the kernel copies every frame of a TAP; leave --mode out");
    }
    if flags.ring_size.is_some() {
        return refused("--ring-size", "the rings of a TAP are not shared with the kernel; leave --ring-size out");
    }
    // Otherwise it has one for each core, of which there are fewer.
    if flags.queues.is_some_and(|queues| queues > usize::from(TAP_QUEUES_MAX)) {
        return refused("--queues", "a TAP has 256 queues at most");
    }
    Ok(())
}

/// Most addresses of the server's: so many has the XDP program room for.
const ADDRESSES_MAX: usize = 64;

/// Checks that the server's addresses are several, not one several times.
pub(super) fn check_addresses(own: &[OwnAddress]) -> Result<(), OptionError> {
    let refused = |option: &dyn Display, why| Err(OptionError::Refused { option: format!("--address {option}"), why });
    if own.len() > ADDRESSES_MAX {
        return refused(&format_args!("({} times)", own.len()), "64 addresses at most can be served");
    }
    let is_twice = |place: usize| own.iter().take(place).any(|before| before.address == own[place].address);
    match (0..own.len()).find(|&place| is_twice(place)) {
        Some(place) => refused(&own[place], "this address is given twice; give each once"),
        None => Ok(()),
    }
}

/// The routers to other networks, of which a family has one; each must be on the subnet of an address of the server's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gateways {
    /// Of IPv4; `None`: as the kernel's routes say.
    pub v4: Option<Ipv4Addr>,
    /// Of IPv6; likewise.
    pub v6: Option<Ipv6Addr>,
}

impl Gateways {
    /// Whether there is one of that family.
    pub(crate) fn has(self, family: IpFamily) -> bool {
        match family {
            IpFamily::V4 => self.v4.is_some(),
            IpFamily::V6 => self.v6.is_some(),
        }
    }

    /// The kernel's routes, which are of the other families, and the default routes by these.
    pub(crate) fn beside(self, kernels: Vec<Route>) -> impl Iterator<Item = Route> {
        let own = [self.v4.map(IpAddr::V4), self.v6.map(IpAddr::V6)];
        kernels.into_iter().chain(own.into_iter().flatten().map(Route::default_by))
    }
}

/// Reads them.
pub(super) fn gateways(asked: &[IpAddr], own: &[OwnAddress], steering: Steering) -> Result<Gateways, OptionError> {
    let mut gateways = Gateways::default();
    for &gateway in asked {
        let refused = |why| Err(OptionError::Refused { option: format!("--gateway {gateway}"), why });
        if steering == Steering::Shared {
            return refused(
                "at a shared address ARP and neighbour discovery are the kernel's, and each client is answered the way it came; leave --gateway out",
            );
        }
        if own.iter().any(|own| own.address == gateway) {
            return refused("this is the server's own address; name the router's");
        }
        if !own.iter().any(|own| own.address.is_ipv4() == gateway.is_ipv4()) {
            return refused("the server has no address of this family; give --address of it, or leave --gateway out");
        }
        if !own.iter().any(|own| is_neighbor(gateway, *own)) {
            return refused("not a host of the network of --address; name the router's address on that network");
        }
        let twice = match gateway {
            IpAddr::V4(gateway) => gateways.v4.replace(gateway).is_some(),
            IpAddr::V6(gateway) => gateways.v6.replace(gateway).is_some(),
        };
        if twice {
            return refused(
                "the second router of its family; the kernel's routes of the interface may name several: leave --gateway out",
            );
        }
    }
    Ok(gateways)
}

/// Whether a host of the network of `own` may have `address`; of IPv6, a router has an address on every link too.
fn is_neighbor(address: IpAddr, own: OwnAddress) -> bool {
    match (address, own.address) {
        (IpAddr::V4(address), IpAddr::V4(ours)) => {
            let host_bits = u32::MAX.checked_shr(own.prefix_len.into()).unwrap_or(0);
            let host = address.to_bits() & host_bits;
            (address.to_bits() ^ ours.to_bits()) & !host_bits == 0 && host != 0 && host != host_bits
        }
        (IpAddr::V6(address), IpAddr::V6(ours)) => {
            let host_bits = u128::MAX.checked_shr(own.prefix_len.into()).unwrap_or(0);
            address.is_unicast_link_local() || (address.to_bits() ^ ours.to_bits()) & !host_bits == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(address: &str, prefix_len: u8) -> OwnAddress {
        OwnAddress::new(address.parse::<IpAddr>().expect("an address"), prefix_len)
    }

    #[test]
    fn a_router_is_another_host_of_the_servers_network() {
        let ours = [own("10.77.0.2", 24), own("2001:db8:77::2", 64)];
        let of = |asked: &[&str], steering| {
            let asked: Vec<IpAddr> = asked.iter().map(|one| one.parse().expect("an address")).collect();
            gateways(&asked, &ours, steering).map_err(|error| error.to_string())
        };
        assert_eq!(of(&[], Steering::Shared), Ok(Gateways::default()));
        let both =
            Gateways { v4: Some([10, 77, 0, 1].into()), v6: Some("2001:db8:77::1".parse().expect("an address")) };
        assert_eq!(of(&["10.77.0.1", "2001:db8:77::1"], Steering::Own), Ok(both));
        assert!(of(&["fe80::1"], Steering::Own).is_ok_and(|gateways| gateways.v4.is_none() && gateways.v6.is_some()));
        for (wrong, said) in [
            (&["10.77.0.2"][..], "the server's own address"),
            (&["10.77.1.1"], "not a host of the network"),
            (&["10.77.0.0"], "not a host of the network"),
            (&["10.77.0.255"], "not a host of the network"),
            (&["2001:db8:77::2"], "the server's own address"),
            (&["2001:db8:78::1"], "not a host of the network"),
            (&["10.77.0.1", "10.77.0.3"], "the second router of its family"),
        ] {
            let error = of(wrong, Steering::Own).expect_err("it is none");
            assert!(error.starts_with("--gateway ") && error.contains(said), "{error}");
        }
        assert!(of(&["10.77.0.1"], Steering::Shared).is_err_and(|why| why.contains("leave --gateway out")));
        let alone = gateways(&["fe80::1".parse().expect("an address")], &ours[..1], Steering::Own);
        assert!(alone.is_err_and(|why| why.to_string().contains("no address of this family")));
    }

    #[test]
    fn an_address_is_given_once() {
        let one = own("10.77.0.2", 24);
        assert_eq!(check_addresses(&[one, own("10.77.0.3", 24), own("2001:db8::2", 64)]), Ok(()));
        let error = check_addresses(&[one, own("2001:db8::2", 64), own("2001:db8:0:0::2", 48)]).expect_err("twice");
        assert_eq!(error.to_string(), "--address 2001:db8::2/48: this address is given twice; give each once");
        let many: Vec<_> = (1..=65).map(|last| OwnAddress::new([10, 77, 0, last], 24)).collect();
        assert!(check_addresses(&many[..64]).is_ok());
        assert!(check_addresses(&many).is_err_and(|why| why.to_string().contains("64 addresses at most")));
    }
}
