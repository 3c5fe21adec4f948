use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::mac::Mac;
use crate::xdp::{CopyMode, Transport};

const OURS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const KERNELS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);

fn kernels(address: impl Into<IpAddr>) -> KernelAddress {
    KernelAddress { link: "ss0".to_owned(), address: address.into(), duplicate: false }
}

fn facts() -> Facts {
    Facts {
        link: Link {
            name: "ss0".to_owned(),
            index: 7,
            mac: Mac([2, 0, 0, 0, 0, 7]),
            mtu: 1500,
            up: true,
            rx_queues: 2,
            tx_queues: 2,
            tx_queues_max: 2,
            combined: 0,
            rx_ring: None,
            driver: "veth".to_owned(),
        },
        kernel_addresses: vec![kernels(KERNELS)],
        kernel_ports: Vec::new(),
        ipv6_off: false,
        missing_capabilities: Vec::new(),
        lockable_bytes: None,
    }
}

fn config() -> XdpConfig {
    XdpConfig::new("ss0", OURS)
}

/// The line for `config` and `facts`, which must be wrong.
fn line(config: &XdpConfig, facts: &Facts) -> String {
    let line = check(config, facts).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

#[test]
fn a_right_use_passes() {
    check(&config(), &facts()).unwrap();
    check(&XdpConfig { queues: Some(vec![QueueId(1)]), ..shared() }, &facts()).unwrap();
}

#[test]
fn an_address_that_the_kernel_has_is_refused_with_its_interface() {
    let config = XdpConfig::new("ss0", KERNELS);
    assert!(line(&config, &facts()).starts_with("the kernel already has 10.77.0.3, on ss0; take it away"));
}

/// Shares the kernel's address, for a TCP port.
fn shared() -> XdpConfig {
    let (addresses, ports) = (vec![(KERNELS.into(), AddressMode::Shared)], vec![(Transport::Tcp, 11211)]);
    XdpConfig { addresses, ports, ..config() }
}

#[test]
fn a_shared_port_that_a_socket_of_the_host_has_is_refused() {
    let port = |transport, address| KernelPort { transport, address, port: 11211 };
    let with = |port| Facts { kernel_ports: vec![port], ..facts() };
    for address in [None, Some(KERNELS.into()), Some(Ipv4Addr::UNSPECIFIED.into())] {
        let line = line(&shared(), &with(port(Transport::Tcp, address)));
        let wanted = "a socket of this host has TCP port 11211 of 10.77.0.3 already; stop its process (ss -tanp 'sport = 11211')";
        assert!(line.starts_with(wanted), "{line}");
    }
    check(&shared(), &with(port(Transport::Udp, None))).unwrap();
    check(&shared(), &with(port(Transport::Tcp, Some(OURS.into())))).unwrap();
    check(&config(), &with(port(Transport::Tcp, None))).unwrap();
}

#[test]
fn an_address_is_not_shared_with_a_kernel_that_gets_no_frame() {
    let line = line(&XdpConfig { dedicated: true, ..shared() }, &facts());
    assert!(line.starts_with("10.77.0.3 cannot be shared with the kernel on dedicated queues"), "{line}");
    check(&XdpConfig { dedicated: true, ..config() }, &facts()).unwrap();
}

#[test]
fn what_is_allowed_must_be_networks_and_not_too_many() {
    let allow = |networks: &[(&str, u8)]| XdpConfig {
        allow: networks.iter().map(|(address, len)| (address.parse().unwrap(), *len)).collect(),
        ..config()
    };
    let right = [("0.0.0.0", 0), ("10.77.0.0", 16), ("10.77.0.2", 32), ("::", 0), ("2001:db8::", 32), ("fe80::1", 128)];
    check(&allow(&right), &facts()).unwrap();
    for (network, example) in [
        (("10.77.0.2", 24), "10.77.0.0/16"),
        (("10.77.0.2", 33), "10.77.0.0/16"),
        (("10.0.0.0", 6), "10.77.0.0/16"),
        (("2001:db8::1", 64), "2001:db8::/32"),
        (("::", 129), "2001:db8::/32"),
    ] {
        let line = line(&allow(&[network]), &facts());
        let (address, prefix_len) = network;
        assert!(line.starts_with(&format!("{address}/{prefix_len} is no network; give its first address")), "{line}");
        assert!(line.ends_with(example), "{line}");
    }
    let line = line(&allow(&[("10.77.0.2", 32); 257]), &facts());
    assert_eq!(line, "257 allowed networks given, it must be 1 to 256");
}

#[test]
fn a_shared_address_that_the_kernel_lacks_is_refused() {
    let config = XdpConfig {
        addresses: vec![(OURS.into(), AddressMode::Shared)],
        ports: vec![(Transport::Tcp, 11211)],
        ..config()
    };
    assert!(line(&config, &facts()).starts_with("10.77.0.2 is to be shared with the kernel"));
}

#[test]
fn an_ipv6_address_is_shared_with_a_kernel_that_speaks_it_and_uses_that_address() {
    let address: Ipv6Addr = "2001:db8::3".parse().unwrap();
    let config = XdpConfig { addresses: vec![(address.into(), AddressMode::Shared)], ..shared() };
    let with = |kernels: Vec<KernelAddress>| Facts { kernel_addresses: kernels, ..facts() };
    check(&config, &with(vec![kernels(address)])).unwrap();
    assert!(line(&config, &facts()).starts_with("2001:db8::3 is to be shared with the kernel, which does not have it"));
    let off = line(&config, &Facts { ipv6_off: true, ..facts() });
    assert!(
        off.starts_with("2001:db8::3 is to be shared with the kernel, whose IPv6 is off on ss0; turn it on"),
        "{off}"
    );
    let duplicate = line(&config, &with(vec![KernelAddress { duplicate: true, ..kernels(address) }]));
    assert!(
        duplicate.starts_with("another station has 2001:db8::3, so that the kernel does not use it on"),
        "{duplicate}"
    );
    // What is not shared does not need the kernel's IPv6.
    let own = XdpConfig::new("ss0", address);
    check(&own, &Facts { ipv6_off: true, ..facts() }).unwrap();
    // Nor has a socket on IPv6 a port of this address that is of IPv4 alone.
    let ipv4 = KernelPort { transport: Transport::Tcp, address: Some(Ipv4Addr::UNSPECIFIED.into()), port: 11211 };
    let kernel_ports = vec![ipv4, KernelPort { address: Some(KERNELS.into()), ..ipv4 }];
    check(&config, &Facts { kernel_ports, ..with(vec![kernels(address)]) }).unwrap();
    let kernel_ports = vec![KernelPort { address: Some(address.into()), ..ipv4 }];
    let taken = line(&config, &Facts { kernel_ports, ..with(vec![kernels(address)]) });
    assert!(taken.starts_with("a socket of this host has TCP port 11211 of 2001:db8::3 already"), "{taken}");
}

#[test]
fn missing_permission_names_the_capabilities() {
    let facts = Facts { missing_capabilities: missing(CapabilitySet::NET_ADMIN), ..facts() };
    assert!(line(&config(), &facts).contains("CAP_NET_RAW, CAP_BPF, CAP_PERFMON missing"));
    assert!(missing(CapabilitySet::all()).is_empty());
    assert_eq!(missing(CapabilitySet::SYS_ADMIN), ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
}

#[test]
fn too_little_lockable_memory_is_refused_with_both_numbers() {
    let facts = Facts { lockable_bytes: Some(65_536), ..facts() };
    // Two queues of 4096 frames for receiving and 2176 for sending, 2048 bytes each.
    let line = line(&config(), &facts);
    assert!(line.contains("25690112 bytes") && line.contains("65536 bytes"), "{line}");
}

#[test]
fn an_mtu_beyond_a_chunk_is_refused_where_no_frame_comes_in_several() {
    let link = |mtu| Link { mtu, ..facts().link };
    let said = check_chunks(&link(9000), false).expect_err("frames would be lost").to_string();
    assert!(said.contains("an MTU of 9000 bytes") && said.contains("no frame of one above 3822"), "{said}");
    assert!(said.ends_with("ip link set ss0 mtu 1500") && !said.contains('\n'), "{said}");
    check_chunks(&link(9000), true).expect("they come");
    check_chunks(&link(MTU_MAX), false).expect("it fits");
    check(&config(), &Facts { link: link(9000), ..facts() }).expect("it depends on what the kernel grants");
    let zero_copy = XdpConfig { copy: CopyMode::ZeroCopy, ..config() };
    let said = line(&zero_copy, &Facts { link: link(9000), ..facts() });
    assert!(said.contains("in zero copy veth loses frames of one above 3822"), "{said}");
}

#[test]
fn an_mtu_whose_frames_zero_copy_would_lose_is_refused_where_zero_copy_is_asked_for() {
    let mut facts = facts();
    facts.link = Link { mtu: 3055, driver: "igb".to_owned(), ..facts.link };
    let asked = XdpConfig { copy: CopyMode::ZeroCopy, ..config() };
    let said = line(&asked, &facts);
    assert!(said.contains("an MTU of 3055 bytes, and in zero copy igb loses frames of one above 3054"), "{said}");
    check(&config(), &facts).unwrap();
    facts.link.mtu = 3054;
    check(&asked, &facts).unwrap();
}

#[test]
fn a_link_that_is_down_is_refused() {
    let mut facts = facts();
    facts.link.up = false;
    assert!(line(&config(), &facts).starts_with("interface ss0 is down"));
}

#[test]
fn queues_out_of_range_or_twice_or_none_are_refused() {
    let with = |queues: &[u16]| {
        let queues = queues.iter().map(|queue| QueueId(*queue)).collect();
        line(&XdpConfig { queues: Some(queues), ..config() }, &facts())
    };
    assert_eq!(with(&[0, 2]), "interface ss0 has no queue 2: its queues are 0 to 1");
    assert_eq!(with(&[1, 1]), "queue 1 is listed twice");
    assert_eq!(with(&[]), "0 queues given, it must be 1 to 2");
}

#[test]
fn rings_that_are_no_power_of_two_or_out_of_range_are_refused() {
    for size in [0, 32, 100, 65_536] {
        let receive = line(&XdpConfig { rx_ring: size, ..config() }, &facts());
        assert!(receive.starts_with(&format!("a receive ring of {size} descriptors")), "{receive}");
        assert!(line(&XdpConfig { tx_ring: size, ..config() }, &facts()).starts_with("a transmit ring"));
    }
}

#[test]
fn an_address_that_no_host_can_have_is_refused() {
    for address in [
        "0.0.0.0",
        "255.255.255.255",
        "127.0.0.1",
        "224.0.0.1",
        "::",
        "::1",
        "ff02::1",
        "::ffff:10.77.0.2",
        "::10.77.0.2",
    ] {
        let address: IpAddr = address.parse().unwrap();
        assert!(line(&XdpConfig::new("ss0", address), &facts()).contains("is no address that a host can have"));
    }
    for address in ["10.77.0.2", "2001:db8::2", "fe80::2"] {
        check(&XdpConfig::new("ss0", address.parse::<IpAddr>().unwrap()), &facts()).unwrap();
    }
}

#[test]
fn several_addresses_of_both_families_pass_and_one_given_twice_does_not() {
    let own = |address: &str| (address.parse().unwrap(), AddressMode::Own);
    let of = |addresses: &[&str]| XdpConfig { addresses: addresses.iter().map(|&one| own(one)).collect(), ..config() };
    check(&of(&["10.77.0.2", "10.78.0.2", "2001:db8::2"]), &facts()).unwrap();
    let twice = line(&of(&["10.77.0.2", "2001:db8::2", "2001:db8:0::2"]), &facts());
    assert_eq!(twice, "2001:db8::2 is given twice; give each address once");
    let kernels = Facts { kernel_addresses: vec![kernels(Ipv6Addr::from_bits(7 << 64))], ..facts() };
    let taken = line(&of(&["10.77.0.2", "0:0:0:7::"]), &kernels);
    assert!(taken.starts_with("the kernel already has 0:0:0:7::, on ss0; take it away (ip address del"), "{taken}");
}

#[test]
fn no_address_and_no_port_for_a_shared_one_are_refused() {
    let none = XdpConfig { addresses: Vec::new(), ..config() };
    assert_eq!(line(&none, &facts()), "0 addresses given, it must be 1 to 64");
    let portless = XdpConfig { addresses: vec![(KERNELS.into(), AddressMode::Shared)], ..config() };
    assert_eq!(line(&portless, &facts()), "0 ports of shared addresses given, it must be 1 to 256");
}

#[test]
fn more_addresses_and_ports_than_the_maps_hold_are_refused() {
    let many = XdpConfig { addresses: vec![(OURS.into(), AddressMode::Own); 65], ..config() };
    assert_eq!(line(&many, &facts()), "65 addresses given, it must be 1 to 64");
    let ports = XdpConfig { ports: vec![(Transport::Tcp, 1); 257], ..shared() };
    assert_eq!(line(&ports, &facts()), "257 ports of shared addresses given, it must be 1 to 256");
}

#[test]
fn the_kernels_refusals_are_explained() {
    let facts = facts();
    let bind = |code| explain_bind(&config(), &facts.link, QueueId(1), io::Error::from_raw_os_error(code)).to_string();
    assert!(bind(libc::EBUSY).starts_with("queue 1 of ss0 is already bound by another socket"));
    assert!(bind(libc::EPERM).contains("CAP_NET_RAW"));
    assert!(bind(libc::ENOBUFS).contains("12845056 bytes of locked memory"));
    assert!(bind(libc::ENOMEM).starts_with("no memory for 12845056 bytes"));
    assert!(bind(libc::ENODEV).starts_with("cannot bind an AF_XDP socket to queue 1 of ss0"));
}

/// The kernel's refusal to attach the program in native mode.
fn attach(code: i32) -> ProgramFault {
    ProgramFault::Attach { mode: Attach::Native, source: io::Error::from_raw_os_error(code) }
}

#[test]
fn the_kernels_refusals_of_the_program_are_explained() {
    let link = facts().link;
    let said = |fault| explain_program(&link, fault).to_string();
    for code in [libc::EINVAL, libc::EOPNOTSUPP] {
        let line = said(attach(code));
        let wanted = "the driver of ss0 (veth) cannot run an XDP program in native mode: ";
        assert!(line.starts_with(wanted) && line.ends_with("choose another mode, such as auto"), "{line}");
    }
    for code in [libc::EBUSY, libc::EEXIST] {
        let line = said(attach(code));
        assert!(
            line.starts_with("another XDP program is attached to ss0; stop its owner (bpftool net list)"),
            "{line}"
        );
    }
    for code in [libc::EPERM, libc::EACCES] {
        assert!(said(attach(code)).starts_with("no permission for AF_XDP: CAP_NET_ADMIN missing"));
    }
    let mtu = said(attach(libc::ERANGE));
    assert!(mtu.starts_with("the driver of ss0 cannot run an XDP program with this MTU (1500 bytes here;"), "{mtu}");
    let load = |code| {
        ProgramFault::Load(aya::EbpfError::FileError { path: "x".into(), error: io::Error::from_raw_os_error(code) })
    };
    assert!(said(load(libc::EPERM)).starts_with("no permission for AF_XDP: CAP_BPF missing"));
    // The verifier's word for a program that it does not take.
    assert!(said(load(libc::EACCES)).starts_with("cannot load the XDP program: "));
    assert!(said(attach(libc::ENODEV)).starts_with("cannot attach the XDP program in native mode: "));
    assert!(said(ProgramFault::NoLink).contains("Linux 5.9 or later is needed"));
    assert!(said(ProgramFault::Missing("map sockets")).ends_with("rebuild sidestep-nic"));
}

#[test]
fn more_receive_than_transmit_queues_are_refused_with_the_command_that_mends_it() {
    let link = |rx_queues, tx_queues, tx_queues_max, combined| Link {
        rx_queues,
        tx_queues,
        tx_queues_max,
        combined,
        ..facts().link
    };
    let said = |link| line(&config(), &Facts { link, ..facts() });
    let raised = said(link(4, 1, 4, 0));
    assert!(raised.contains("4 receive queues and 1 transmit queue"), "{raised}");
    assert!(raised.ends_with("ethtool -L ss0 rx 4 tx 4"), "{raised}");
    let lowered = said(link(4, 2, 2, 0));
    assert!(lowered.ends_with("ethtool -L ss0 rx 2 tx 2"), "{lowered}");
    let mixed = said(link(4, 2, 2, 2));
    assert!(mixed.ends_with("ethtool -L ss0 rx 0 tx 0 combined 2"), "{mixed}");
    // Fewer is fine: every receive queue has a socket.
    check(&config(), &Facts { link: link(2, 4, 4, 0), ..facts() }).unwrap();
    // Who asks for some queues takes what comes by them.
    let some = XdpConfig { queues: Some(vec![QueueId(0)]), ..config() };
    check(&some, &Facts { link: link(4, 1, 4, 0), ..facts() }).unwrap();
}

/// docs/nic.md has a row for each, with tests; `the same` are those of the row before.
#[test]
fn every_refusal_is_in_the_document_with_a_test_that_provokes_it() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in the tree");
    let read = |path: &std::path::Path| std::fs::read_to_string(path).expect("it is there");
    let document = read(&root.join("docs/nic.md"));
    let source = include_str!("../preflight.rs");
    let (_, kinds) = source.split_once("pub enum OpenError {").expect("it is defined there");
    let (kinds, _) = kinds.split_once("\n}\n").expect("it ends");
    let kinds: Vec<&str> = kinds.lines().filter_map(variant).collect();
    assert!(kinds.len() > 20, "{kinds:?}");
    let folders = ["nic/src/preflight", "nic/tests", "apps/cached/src", "apps/cached/src/options", "scripts/e2e"];
    let folders = folders.map(|folder| root.join(folder));
    let files = folders.iter().flat_map(|folder| std::fs::read_dir(folder).expect("it is there")).flatten();
    let tests: String = files.filter(|file| file.path().is_file()).map(|file| read(&file.path())).collect();
    for kind in kinds {
        let row = document.lines().find(|line| line.starts_with(&format!("| `{kind}`")));
        let named =
            row.unwrap_or_else(|| panic!("docs/nic.md has no row for {kind}")).rsplit('|').nth(1).expect("cells");
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty() || named.trim() == "the same", "no test provokes {kind}");
        for name in names {
            assert!(tests.contains(&format!(" {name}(")), "docs/nic.md names the test {name}, which is not there");
        }
    }
}

/// The name that a line of an enum begins, if it does.
fn variant(line: &str) -> Option<&str> {
    let name = line.strip_prefix("    ")?.split(['(', ' ', ',']).next()?;
    name.starts_with(|first: char| first.is_ascii_uppercase()).then_some(name)
}
