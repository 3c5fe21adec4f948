//! `VlanTags`: whether frames of a VLAN come, and the XDP program sees their 802.1Q tags.
//!
//! A NIC may take the tag off a frame and hand its number over beside it, where no XDP program reads it: the frame looks
//! as if it had none, and goes to the kernel. And it may drop frames of VLANs for which the kernel has no interface, before
//! anybody sees them. Control side only. Read first: `ethtool(8)`, "rxvlan" and "rx-vlan-filter".

use std::fmt;
use std::io;

use crate::guard::Guard;
use crate::link::Link;
use crate::settings::{Knobs, NicKnobs, Setting};

/// The kernel's names of the features: `rxvlan` for short, and the filter.
const TAKES_TAGS_OFF: &str = "rx-vlan-hw-parse";
const DROPS_UNKNOWN: &str = "rx-vlan-filter";

/// What became of a feature that stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Feature {
    /// It was off, or the driver has none.
    Off,
    /// It is off now.
    SwitchedOff,
    /// It is on, and why it stays so.
    On(String),
}

/// What a NIC does with the tags of frames. For the operator: print it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VlanTags {
    link: String,
    driver: String,
    number: u16,
    /// It takes tags off.
    takes_off: Feature,
    /// It drops frames of VLANs that the kernel does not have.
    drops: Feature,
}

impl VlanTags {
    /// Has the NIC hand over frames of the VLAN `number` with their tags, and says what came of it; `guard` saves what it was
    /// and gives it back. `known`: whether the kernel has an interface of the VLAN, whose frames no NIC drops.
    pub fn see_to(link: &Link, number: u16, known: bool, guard: &mut Guard) -> Self {
        let read = |name: &str| NicKnobs::of(link)?.read(&Setting::Feature(name.to_owned()));
        let mut change = |name: &str| {
            let changed = guard.change(&Setting::Feature(name.to_owned()), "off");
            changed.map(drop).map_err(|error| error.to_string())
        };
        Self::of(link, number, known, &read, &mut change)
    }

    fn of(
        link: &Link,
        number: u16,
        known: bool,
        read: &dyn Fn(&str) -> io::Result<String>,
        change: &mut dyn FnMut(&str) -> Result<(), String>,
    ) -> Self {
        let mut off = |name: &str| match read(name) {
            Ok(value) if value == "on" => change(name).map_or_else(Feature::On, |()| Feature::SwitchedOff),
            // A driver without the feature does nothing of the kind.
            _ => Feature::Off,
        };
        // What a veth is told of tags changes nothing: its other end decides.
        let takes_off = if link.driver == "veth" { Feature::Off } else { off(TAKES_TAGS_OFF) };
        let drops = if known { Feature::Off } else { off(DROPS_UNKNOWN) };
        Self { link: link.name.clone(), driver: link.driver.clone(), number, takes_off, drops }
    }
}

impl fmt::Display for VlanTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { link, driver, number, .. } = self;
        match &self.takes_off {
            _ if driver == "veth" => f.write_str(
                "a veth carries a tag beside the frame, where it is not seen, unless the other end puts it in: `ethtool -K OTHER-END txvlan off` there",
            ),
            Feature::Off => f.write_str("the NIC leaves tags in frames"),
            Feature::SwitchedOff => write!(
                f,
                "the NIC took tags off frames before they were seen, and has been told to leave them; {link} gets it back at the end"
            ),
            Feature::On(why) => write!(
                f,
                "the NIC takes tags off frames before they are seen, and nobody of this VLAN is answered, since it cannot be told to leave them: {why}; try `ethtool -K {link} rxvlan off`"
            ),
        }?;
        match &self.drops {
            Feature::Off => Ok(()),
            Feature::SwitchedOff => {
                write!(
                    f,
                    "; it dropped frames of VLANs that the kernel has not, and has been told not to, until the end"
                )
            }
            Feature::On(why) => write!(
                f,
                "; it drops frames of VLANs that the kernel has not, and cannot be told not to: {why}; make an interface of the VLAN, and nobody is left out: `ip link add link {link} name {link}.{number} type vlan id {number}`"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::Mac;

    fn link(driver: &str) -> Link {
        Link {
            name: "eth7".to_owned(),
            index: 7,
            mac: Mac([2, 0, 0, 0, 0, 7]),
            mtu: 1500,
            up: true,
            rx_queues: 1,
            tx_queues: 1,
            tx_queues_max: 1,
            combined: 1,
            rx_ring: None,
            driver: driver.to_owned(),
        }
    }

    /// What is said of a NIC of which both features are on, or neither is; which of them `fixed` cannot be switched off; and what
    /// was switched off.
    fn said(driver: &str, known: bool, value: &str, fixed: &[&str]) -> (String, Vec<String>) {
        let mut switched = Vec::new();
        let mut change = |name: &str| {
            if fixed.contains(&name) {
                return Err("it is fixed".to_owned());
            }
            switched.push(name.to_owned());
            Ok(())
        };
        let tags = VlanTags::of(&link(driver), 100, known, &|_| Ok(value.to_owned()), &mut change);
        (tags.to_string(), switched)
    }

    #[test]
    fn a_nic_that_leaves_tags_and_drops_nothing_is_left_alone() {
        assert_eq!(said("igb", false, "off", &[]), ("the NIC leaves tags in frames".to_owned(), vec![]));
    }

    #[test]
    fn what_stands_in_the_way_is_switched_off_and_given_back() {
        let (words, switched) = said("igb", false, "on", &[]);
        assert_eq!(switched, [TAKES_TAGS_OFF, DROPS_UNKNOWN]);
        assert!(words.contains("eth7 gets it back at the end; it dropped frames of VLANs"), "{words}");
    }

    #[test]
    fn a_vlan_of_which_the_kernel_has_an_interface_is_not_filtered() {
        assert_eq!(said("igb", true, "on", &[]).1, [TAKES_TAGS_OFF]);
    }

    #[test]
    fn what_cannot_be_switched_off_is_said_with_what_to_do() {
        let (words, switched) = said("igb", false, "on", &[TAKES_TAGS_OFF, DROPS_UNKNOWN]);
        assert_eq!(switched, Vec::<String>::new());
        for said in
            ["it is fixed; try `ethtool -K eth7 rxvlan off`", "`ip link add link eth7 name eth7.100 type vlan id 100`"]
        {
            assert!(words.contains(said), "{words}");
        }
    }

    #[test]
    fn of_a_veth_its_other_end_decides() {
        let (words, switched) = said("veth", true, "on", &[]);
        assert!(words.contains("OTHER-END txvlan off") && switched.is_empty(), "{words}");
    }
}
