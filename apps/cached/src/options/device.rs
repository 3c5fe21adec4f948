//! The device that is served on, and what of the network's options it can do.

use std::net::Ipv4Addr;

use nic::DeviceName;
use nic::tap::TAP_QUEUES_MAX;
use nic::xdp::XskName;

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

/// The router to other networks, which must be on the subnet of the server's own address.
pub(super) fn gateway(
    asked: Option<Ipv4Addr>,
    (own, prefix): (Ipv4Addr, u8),
    steering: Steering,
) -> Result<Option<Ipv4Addr>, OptionError> {
    let Some(gateway) = asked else { return Ok(None) };
    let host_bits = u32::MAX >> prefix;
    let host = gateway.to_bits() & host_bits;
    let why = if steering == Steering::Shared {
        "at a shared address ARP is the kernel's, and each client is answered the way it came; leave --gateway out"
    } else if gateway == own {
        "this is the server's own address; name the router's"
    } else if (gateway.to_bits() ^ own.to_bits()) & !host_bits != 0 || host == 0 || host == host_bits {
        "not a host of the network of --address; name the router's address on that network"
    } else {
        return Ok(Some(gateway));
    };
    Err(OptionError::Refused { option: format!("--gateway {gateway}"), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_is_another_host_of_the_servers_network() {
        let own = (Ipv4Addr::new(10, 77, 0, 2), 24);
        let router = Ipv4Addr::new(10, 77, 0, 1);
        assert_eq!(gateway(None, own, Steering::Shared), Ok(None));
        assert_eq!(gateway(Some(router), own, Steering::Own), Ok(Some(router)));
        for (wrong, said) in [
            ([10, 77, 0, 2], "the server's own address"),
            ([10, 77, 1, 1], "not a host of the network"),
            ([10, 77, 0, 0], "not a host of the network"),
            ([10, 77, 0, 255], "not a host of the network"),
        ] {
            let error = gateway(Some(wrong.into()), own, Steering::Own).expect_err("it is none").to_string();
            assert!(error.starts_with("--gateway 10.77.") && error.contains(said), "{error}");
        }
        assert!(
            gateway(Some(router), own, Steering::Shared)
                .is_err_and(|why| why.to_string().contains("leave --gateway out"))
        );
    }
}
