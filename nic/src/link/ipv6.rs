//! What the kernel's IPv6 is told, and has found out, on an interface: whether it speaks it at all, whom it takes for a router, and
//! which of its addresses another station has.
//!
//! Control side only; sees the network namespace of the calling thread. Read first: `ip-sysctl.rst` of the kernel's
//! documentation, "conf/interface"; RFC 4862 §5.4.

use std::fs;
use std::net::Ipv6Addr;

/// `IFA_F_DADFAILED` (`linux/if_addr.h`).
const DAD_FAILED: u32 = 0x08;

/// Whether the kernel speaks no IPv6 on the interface of that name; true of a kernel that has none.
pub fn ipv6_is_off(link: &str) -> bool {
    setting(link, "disable_ipv6") != Some(0)
}

/// Whether the kernel makes routes of what routers advertise on the interface of that name.
pub fn takes_routers(link: &str) -> bool {
    !ipv6_is_off(link) && accepts(setting(link, "accept_ra"), setting(link, "forwarding"))
}

/// By the settings of those names.
fn accepts(accept_ra: Option<i32>, forwarding: Option<i32>) -> bool {
    match accept_ra {
        // Whoever forwards is a router itself.
        Some(1) => forwarding == Some(0),
        Some(2) => true,
        _ => false,
    }
}

fn setting(link: &str, name: &str) -> Option<i32> {
    fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{link}/{name}")).ok()?.trim().parse().ok()
}

/// The kernel's addresses that it does not use, since another station has them.
pub(super) fn duplicates() -> Vec<Ipv6Addr> {
    let table = fs::read_to_string("/proc/thread-self/net/if_inet6").unwrap_or_default();
    table.lines().filter_map(duplicate).collect()
}

/// Of a line of that table: address, index, length of its prefix, scope, flags, name; all but the last in hexadecimal.
fn duplicate(line: &str) -> Option<Ipv6Addr> {
    let mut words = line.split_whitespace();
    let address = u128::from_str_radix(words.next()?, 16).ok()?;
    let flags = u32::from_str_radix(words.nth(3)?, 16).ok()?;
    (flags & DAD_FAILED != 0).then(|| Ipv6Addr::from_bits(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_another_station_has_is_told_by_its_flag() {
        let line = |flags| format!("fd770000000000000000000000000009 07 40 00 {flags}      ss0");
        let ours: Ipv6Addr = "fd77::9".parse().expect("an address");
        assert_eq!(duplicate(&line("c8")), Some(ours), "permanent, tentative, and failed");
        assert_eq!((duplicate(&line("80")), duplicate(&line("c0"))), (None, None), "in use, and being probed");
        assert_eq!((duplicate(""), duplicate("fd77 07 40 00 zz ss0")), (None, None));
    }

    #[test]
    fn who_forwards_takes_no_router_unless_it_is_told_to() {
        let takes = [(1, 0), (2, 0), (2, 1)];
        let takes_none = [(0, 0), (1, 1), (0, 1)];
        assert!(takes.iter().all(|&(ra, forwarding)| accepts(Some(ra), Some(forwarding))));
        assert!(!takes_none.iter().any(|&(ra, forwarding)| accepts(Some(ra), Some(forwarding))));
        assert!(!accepts(None, None), "a kernel without IPv6");
        assert!(ipv6_is_off("no-such-link") && !takes_routers("no-such-link"));
    }
}
