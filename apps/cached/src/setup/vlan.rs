//! An interface of the kernel's for one VLAN, such as eth0.100: what is served on is its parent, and the tag.
//!
//! Such an interface has no queues of its own that AF_XDP could be bound to; its frames come by those of the parent, with
//! their tag. Its routes and its MTU are the VLAN's.

use nic::DeviceName;
use nic::link::{Link, VlanLink};
use nic::preflight::OpenError;
use nic::xdp::XskName;

use super::error::SetupError;
use crate::options::{OptionError, Options};

/// The same options, with the parent of an interface of a VLAN in its place.
///
/// # Errors
/// The tag is another than `--vlan` says, or nothing is known of the parent.
pub(super) fn on_parent(options: &Options) -> Result<Options, SetupError> {
    let vlan = match &options.device {
        DeviceName::Xdp(device) => Link::vlan(&device.link).ok().flatten(),
        _ => None,
    };
    // An interface that there is not is told of by who opens it.
    let Some(vlan) = vlan else { return Ok(options.clone()) };
    let parent = Link::by_index(vlan.parent).map_err(|error| Box::new(OpenError::from(error)))?;
    Ok(placed(options.clone(), vlan, parent.name)?)
}

/// The same options, with `parent` in place of the interface of `vlan` that stands on it.
fn placed(mut options: Options, vlan: VlanLink, parent: String) -> Result<Options, OptionError> {
    let number = vlan.number;
    if let Some(asked) = options.vlan.filter(|&asked| asked != number) {
        let option = format!("--vlan {asked} --interface {}", options.interface);
        let why = "the interface is of another VLAN; leave --vlan out, or name the interface that it stands on";
        return Err(OptionError::Refused { option, why });
    }
    let own = std::mem::replace(&mut options.interface, parent.clone());
    options.notes.push(format!("{own} is VLAN {number} of {parent}, of which the frames with that tag are taken"));
    options.device = DeviceName::Xdp(XskName { link: parent, first_queue: 0 });
    (options.vlan, options.vlan_link) = (Some(number), Some(vlan));
    Ok(options)
}

/// Longest packet of the VLAN, or of `link` where none is served.
pub(super) fn mtu(options: &Options, link: &Link) -> u32 {
    let own = options.vlan_link.and_then(|vlan| Link::by_index(vlan.index).ok());
    own.map_or(link.mtu, |own| own.mtu.min(link.mtu))
}

/// The index of the interface whose routes are the server's; `None` where that is none of the kernel's.
pub(crate) fn routes_of(options: &Options, link: &Link) -> Option<u32> {
    match (options.vlan, options.vlan_link) {
        (None, _) => Some(link.index),
        (Some(_), own) => own.map(|own| own.index),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(more: &[&str]) -> Options {
        let always = ["sidestep-cached", "--interface", "eth0.100", "--address", "10.77.0.2/24"];
        Options::read(always.iter().chain(more)).expect("it is right")
    }

    #[test]
    fn an_interface_of_a_vlan_is_its_parent_and_the_tag() {
        let vlan = VlanLink { index: 9, parent: 2, number: 100 };
        for more in [&[][..], &["--vlan", "100"]] {
            let placed = placed(options(more), vlan, "eth0".to_owned()).expect("nothing contradicts it");
            assert_eq!((placed.interface.as_str(), placed.device.to_string()), ("eth0", "xdp:eth0".to_owned()));
            assert_eq!((placed.vlan, placed.vlan_link), (Some(100), Some(vlan)));
            assert!(
                placed.notes.iter().any(|note| note.contains("eth0.100 is VLAN 100 of eth0")),
                "{:?}",
                placed.notes
            );
        }
        let error =
            placed(options(&["--vlan", "7"]), vlan, "eth0".to_owned()).expect_err("which of the two?").to_string();
        assert!(error.contains("--vlan 7 --interface eth0.100") && error.contains("leave --vlan out"), "{error}");
    }
}
