//! What is said of a NIC that is a value, on a machine that is a folder.

use std::collections::BTreeMap;
use std::io;

use nic::Mac;

use super::super::machine::tests::Root;
use super::*;

/// A NIC as it comes: eight combined channels.
pub(crate) fn link() -> Link {
    Link {
        name: "eth7".to_owned(),
        index: 7,
        mac: Mac([2; 6]),
        mtu: 1500,
        up: true,
        rx_queues: 8,
        tx_queues: 8,
        tx_queues_max: 8,
        combined: 8,
        rx_ring: None,
        driver: "igb".to_owned(),
    }
}

struct Fake(BTreeMap<&'static str, &'static str>);

impl Knobs for Fake {
    fn read(&self, setting: &Setting) -> io::Result<String> {
        let value = self.0.get(setting.to_string().as_str());
        value.map(|value| (*value).to_owned()).ok_or_else(|| io::Error::from(io::ErrorKind::Unsupported))
    }

    fn write(&mut self, _: &Setting, _: &str) -> io::Result<()> {
        panic!("findings change nothing");
    }
}

fn wishes(threads: u16, shared: bool) -> Wishes {
    Wishes { threads, cpus: Vec::new(), shared }
}

fn lines(found: &[Finding]) -> Vec<String> {
    found.iter().map(Finding::to_string).collect()
}

fn has(lines: &[String], wanted: &str) {
    assert!(lines.iter().any(|line| line == wanted), "no line '{wanted}' in {lines:#?}");
}

#[test]
fn each_finding_says_what_is_what_it_should_be_and_the_command() {
    let root = Root::of(
        "findings",
        &[
            ("sys/devices/system/cpu/online", "0-3"),
            ("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "powersave"),
            ("proc/912/comm", "irqbalance\n"),
            ("proc/meminfo", "HugePages_Total:       0\nHugePages_Free:        0\n"),
            ("proc/self/status", "CapEff:\t0000000000000000\n"),
            ("proc/self/limits", "Max locked memory         8388608              8388608              bytes\n"),
            ("proc/interrupts", "  25:  1  0  PCI-MSIX  1-edge  eth7-TxRx-0\n"),
            ("sys/class/net/eth7/device/msi_irqs/25", ""),
            ("proc/irq/25/smp_affinity_list", "0-3\n"),
        ],
    );
    let machine = Machine::at(&root.0);
    let knobs = Fake(
        [
            ("feature rx-lro", "on"),
            ("feature rx-gro-hw", "off"),
            ("rx-flow-hash udp4", "sd"),
            ("rx-flow-hash udp6", "sdfn"),
        ]
        .into(),
    );
    let said = lines(&all(&machine, &Link { mtu: 9000, ..link() }, &knobs, &wishes(2, false)));
    for line in [
        "ok     driver igb: known to give zero copy; the server says what it got",
        "change MTU 9000; should be at most 3822, so that a frame fits a chunk, as zero copy needs: ip link set eth7 mtu 1500",
        "change rx-lro is on; should be off: AF_XDP takes frames as they are on the wire: ethtool -K eth7 rx-lro off",
        "ok     rx-gro-hw is off",
        "change 8 receive and 8 transmit queues for 2 threads; should be 2, one a thread: ethtool -L eth7 combined 2",
        "change UDP over IPv4 is hashed by sd; should be sdfn: by addresses and ports, so that one client's datagrams spread: ethtool -N eth7 rx-flow-hash udp4 sdfn",
        "ok     UDP over IPv6 is hashed by sdfn",
        "ok     CPUs 0,1; the NIC is near to all of them",
        "change interrupt 25 (eth7-TxRx-0) on CPUs 0-3; should be 0, beside thread on 0: echo 0 >/proc/irq/25/smp_affinity_list",
        "advice irqbalance runs, and moves interrupts away again; should be stopped, or told to leave them alone (IRQBALANCE_BANNED_CPULIST): systemctl stop irqbalance",
        "advice 8388608 bytes may be locked; should be no limit: ulimit -l unlimited",
        "note   no huge pages are reserved (vm.nr_hugepages); the server does without",
        "advice the governor of CPU 1 is powersave; should be performance: cpupower frequency-set -g performance",
    ] {
        has(&said, line);
    }
}

#[test]
fn datagrams_of_both_families_are_spread_by_ports_each_by_a_setting_of_its_own() {
    let knobs = |v4, v6| Fake([("rx-flow-hash udp4", v4), ("rx-flow-hash udp6", v6)].into());
    let wanted = |knobs: &Fake| {
        let found = [IpFamily::V4, IpFamily::V6].map(|family| udp_hash(&link(), knobs, family).expect("it is known"));
        found.map(|finding| finding.wanted().map(|(setting, value)| format!("{setting} {value}")))
    };
    assert_eq!(wanted(&knobs("sdfn", "sdfn")), [None, None]);
    assert_eq!(wanted(&knobs("sdfn", "sd")), [None, Some("rx-flow-hash udp6 sdfn".to_owned())]);
    assert_eq!(wanted(&knobs("sd", "sdfn")), [Some("rx-flow-hash udp4 sdfn".to_owned()), None]);
    // A driver that tells of IPv4 alone.
    assert!(udp_hash(&link(), &Fake([("rx-flow-hash udp4", "sd")].into()), IpFamily::V6).is_none());
}

#[test]
fn a_nic_that_the_kernel_uses_too_keeps_its_channels_mtu_and_interrupts() {
    let root = Root::of(
        "shared",
        &[
            ("sys/devices/system/cpu/online", "0-3"),
            ("proc/interrupts", "  25:  1  0  PCI-MSIX  1-edge  eth7-TxRx-0\n"),
            ("sys/class/net/eth7/device/msi_irqs/25", ""),
            ("proc/irq/25/smp_affinity_list", "0-3\n"),
        ],
    );
    let (machine, knobs) = (Machine::at(&root.0), Fake(BTreeMap::new()));
    let found = all(&machine, &Link { mtu: 9000, ..link() }, &knobs, &wishes(2, true));
    assert!(found.iter().all(|finding| finding.wanted().is_none()), "{:#?}", lines(&found));
    let said = lines(&found);
    has(
        &said,
        "advice 8 receive and 8 transmit queues for 2 threads; should be 2, one a thread: ethtool -L eth7 combined 2",
    );
    assert!(said.iter().any(|line| line.starts_with("advice MTU 9000")), "{said:#?}");
}

#[test]
fn queues_that_cannot_be_had_are_said_and_left() {
    let few = Link { tx_queues_max: 4, ..link() };
    let finding = channels(&few, &wishes(6, false));
    assert!(finding.wanted().is_none() && finding.to_string().contains("4 at most"), "{finding}");
    let apart = Link { combined: 0, rx_queues: 1, tx_queues: 1, ..link() };
    let finding = channels(&apart, &wishes(2, false));
    assert_eq!(finding.wanted(), Some((&Setting::Channels, "rx 2 tx 2 combined 0")));
    assert!(finding.to_string().ends_with(": ethtool -L eth7 rx 2 tx 2"), "{finding}");
}

#[test]
fn a_table_that_leaves_a_queue_out_is_made_even() {
    let two = Link { rx_queues: 2, ..link() };
    for (text, even) in [("0 1 0 1", true), ("0 1 0", true), ("0 0 0 0", false), ("0 1 2 3", false), ("0 0 0 1", false)]
    {
        let knobs = Fake([("rss-table", text)].into());
        let finding = table(&two, &knobs, &wishes(2, false)).expect("there is a table");
        assert_eq!(finding.wanted().is_none(), even, "{text}: {finding}");
    }
    let knobs = Fake([("rss-table", "0 0 0 0")].into());
    let finding = table(&two, &knobs, &wishes(2, false)).expect("there is a table");
    assert_eq!(finding.wanted(), Some((&Setting::RssTable, "0 1 0 1")));
    assert!(
        finding.to_string().contains("by queue [4, 0]") && finding.to_string().ends_with("ethtool -X eth7 equal 2")
    );
    assert!(table(&two, &Fake(BTreeMap::new()), &wishes(2, false)).is_none(), "a veth has none");
}

#[test]
fn cpus_far_from_the_nic_are_said_with_those_that_are_near() {
    let files = [
        ("sys/devices/system/cpu/online", "0-3"),
        ("sys/class/net/eth7/device/local_cpulist", "2-3"),
        ("sys/class/net/eth7/device/numa_node", "1"),
    ];
    let root = Root::of("node", &files);
    let machine = Machine::at(&root.0);
    assert_eq!(node(&machine, &link(), &[2, 3]).to_string(), "ok     CPUs 2,3, of the NIC's own node 1");
    let far = node(&machine, &link(), &[0, 1]).to_string();
    assert_eq!(far, "advice CPUs 0,1, and the NIC is at node 1; should be CPUs of that node: --cpus 2,3");
}
