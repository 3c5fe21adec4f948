//! Whether a NIC is needed by somebody else: it carries the default route, or a session of ssh.

use std::net::IpAddr;

use nic::link::{Link, kernel_addresses};

use super::machine::Machine;

/// Why the kernel needs the interface, in words that follow its name; `None` when nothing is known of that.
pub(super) fn needed(machine: &Machine, link: &Link) -> Option<String> {
    let addresses = kernel_addresses().unwrap_or_default();
    let addresses: Vec<_> = addresses.into_iter().map(|known| (known.address, known.link)).collect();
    needed_by(machine, &link.name, &addresses)
}

fn needed_by(machine: &Machine, link: &str, addresses: &[(IpAddr, String)]) -> Option<String> {
    let mut names = machine.uppers(link);
    names.push(link.to_owned());
    let over = |name: &str| if name == link { String::new() } else { format!(" (over {name})") };
    let find = |wanted: &str| names.iter().find(|name| *name == wanted);
    if let Some(name) = machine.default_routes().iter().find_map(|route| find(route)) {
        return Some(format!("carries the default route{}", over(name)));
    }
    let carrier = |address: IpAddr| {
        let found = addresses.iter().find(|(known, _)| *known == address)?;
        find(&found.1)
    };
    let session = machine.ssh_connection.as_deref().and_then(|text| text.split_whitespace().nth(2)?.parse().ok());
    if let Some(name) = session.and_then(carrier) {
        return Some(format!("carries this ssh session{}", over(name)));
    }
    let mut sessions = machine.ssh_addresses().into_iter();
    let (name, address) = sessions.find_map(|address| carrier(address).map(|name| (name, address)))?;
    Some(format!("carries a session of sshd at {address}{}", over(name)))
}

#[cfg(test)]
mod tests {
    use super::super::machine::tests::Root;
    use super::*;

    const ROUTE: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                         bond0\t00000000\t0101000A\t0003\t0\t0\t100\t00000000\n";

    #[test]
    fn the_default_route_is_found_below_a_bond_too() {
        let root = Root::of("route", &[("proc/self/net/route", ROUTE), ("sys/class/net/eth0/upper_bond0/name", "")]);
        let machine = Machine::at(&root.0);
        assert_eq!(needed_by(&machine, "bond0", &[]).as_deref(), Some("carries the default route"));
        assert_eq!(needed_by(&machine, "eth0", &[]).as_deref(), Some("carries the default route (over bond0)"));
        assert_eq!(needed_by(&machine, "eth1", &[]), None);
    }

    #[test]
    fn the_session_of_whoever_asks_is_found_by_its_address() {
        let root = Root::of("session", &[]);
        let mut machine = Machine::at(&root.0);
        machine.ssh_connection = Some("192.0.2.7 50022 10.4.0.3 22".to_owned());
        let addresses = [("10.4.0.3".parse().unwrap(), "eth0".to_owned())];
        assert_eq!(needed_by(&machine, "eth0", &addresses).as_deref(), Some("carries this ssh session"));
        assert_eq!(needed_by(&machine, "eth1", &addresses), None);
    }
}
