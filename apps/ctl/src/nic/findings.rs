//! What is of a NIC and its machine, and what it should be for the server.
//!
//! What is the NIC's own is changed; what is the machine's (governor, irqbalance, memory) is left to the operator. A NIC
//! that the kernel goes on using keeps its channels, its MTU and its interrupts.

use nic::link::Link;
use nic::settings::{Knobs, Setting};
use nic::xdp::MTU_MAX;
use nic::{FlowPrediction, IpFamily};

use super::cpus;
use super::finding::Finding;
use super::machine::{Cpu, Machine};

/// Drivers of Linux 6.18 and before that give AF_XDP zero copy. Whether one does is only seen when it is tried.
const ZERO_COPY: [&str; 14] = [
    "i40e",
    "ice",
    "ixgbe",
    "igc",
    "igb",
    "idpf",
    "mlx5_core",
    "stmmaceth",
    "fsl_dpaa2_eth",
    "tsnep",
    "nfp",
    "gve",
    "virtio_net",
    "am65-cpsw-nuss",
];

/// Features that merge frames in the NIC, which AF_XDP does not take.
const MERGING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

/// `CAP_IPC_LOCK`, by which memory is locked without a limit.
const IPC_LOCK: u64 = 1 << 14;

/// What the server is to have.
#[derive(Debug, Clone)]
pub(super) struct Wishes {
    /// Threads, and so queues.
    pub(super) threads: u16,
    /// CPUs that were asked for.
    pub(super) cpus: Vec<Cpu>,
    /// Whether the kernel goes on using the NIC.
    pub(super) shared: bool,
}

/// All but the table of the hash, in the order in which it is to be changed.
pub(super) fn all(machine: &Machine, link: &Link, knobs: &impl Knobs, wishes: &Wishes) -> Vec<Finding> {
    let mut found = vec![driver(link), mtu(link, wishes)];
    found.extend(MERGING.iter().filter_map(|name| merging(link, knobs, name)));
    found.push(channels(link, wishes));
    found.extend([IpFamily::V4, IpFamily::V6].into_iter().filter_map(|family| udp_hash(link, knobs, family)));
    let server = cpus::of_server(machine, link, wishes.threads, &wishes.cpus);
    found.push(node(machine, link, &server));
    if !wishes.shared {
        found.extend(interrupts(machine, link, &server));
    }
    found.extend([irqbalance(machine), locked_memory(machine), huge_pages(machine)]);
    found.push(governor(machine, &server));
    found
}

fn driver(link: &Link) -> Finding {
    let driver = if link.driver.is_empty() { "that has no name" } else { &link.driver };
    match ZERO_COPY.contains(&driver) {
        true => Finding::ok(format_args!("driver {driver}: known to give zero copy; the server says what it got")),
        false => Finding::note(format_args!("driver {driver}: not known to give zero copy; frames are copied then")),
    }
}

fn mtu(link: &Link, wishes: &Wishes) -> Finding {
    let is = format!("MTU {}", link.mtu);
    let should = format!("at most {MTU_MAX}, so that a frame fits a chunk, as zero copy needs");
    match link.mtu <= MTU_MAX {
        true => Finding::ok(is),
        false if wishes.shared => Finding::advice(is, should, format_args!("ip link set {} mtu 1500", link.name)),
        false => Finding::set(is, should, &link.name, Setting::Mtu, "1500"),
    }
}

fn merging(link: &Link, knobs: &impl Knobs, name: &str) -> Option<Finding> {
    let setting = Setting::Feature(name.to_owned());
    let value = read(knobs, &setting)?;
    let is = format!("{name} is {value}");
    Some(match value.as_str() {
        "off" => Finding::ok(is),
        _ => Finding::set(is, "off: AF_XDP takes frames as they are on the wire", &link.name, setting, "off"),
    })
}

fn channels(link: &Link, wishes: &Wishes) -> Finding {
    let threads = wishes.threads;
    let is = format!("{} receive and {} transmit queues for {threads} threads", link.rx_queues, link.tx_queues);
    if link.rx_queues == threads && link.tx_queues == threads {
        return Finding::ok(is);
    }
    if link.tx_queues_max < threads {
        let most = link.tx_queues_max;
        return Finding::note(format_args!(
            "{is}, {most} at most: threads without a queue get connections handed over"
        ));
    }
    let should = format!("{threads}, one a thread");
    if wishes.shared {
        return Finding::advice(is, should, link.command_for_queues(threads));
    }
    let value = match link.combined {
        0 => format!("rx {threads} tx {threads} combined 0"),
        _ => format!("rx 0 tx 0 combined {threads}"),
    };
    let change = Finding::set(is, should, &link.name, Setting::Channels, &value);
    change.by(link.command_for_queues(threads))
}

fn udp_hash(link: &Link, knobs: &impl Knobs, family: IpFamily) -> Option<Finding> {
    let setting = Setting::UdpHash(family);
    let value = read(knobs, &setting)?;
    let is = format!("UDP over {family} is hashed by {value}");
    let should = "sdfn: by addresses and ports, so that one client's datagrams spread";
    Some(match value.as_str() {
        "sdfn" => Finding::ok(is),
        _ => Finding::set(is, should, &link.name, setting, "sdfn"),
    })
}

/// The table of the hash, once the channels are as they should be: every queue should have the same share of it.
pub(super) fn table(link: &Link, knobs: &impl Knobs, wishes: &Wishes) -> Option<Finding> {
    let queues = usize::from(link.rx_queues);
    let table = read(knobs, &Setting::RssTable)?;
    let entries: Vec<usize> = table.split_whitespace().filter_map(|entry| entry.parse().ok()).collect();
    let mut shares = vec![0usize; queues];
    let mut foreign = 0;
    for entry in &entries {
        match shares.get_mut(*entry) {
            Some(share) => *share += 1,
            None => foreign += 1,
        }
    }
    let least = shares.iter().min().copied().unwrap_or(0);
    let even = foreign == 0 && shares.iter().all(|share| *share <= least + 1);
    let is = format!("a table of {} entries, by queue {shares:?}", entries.len());
    Some(match (even, FlowPrediction::of(link)) {
        (true, Ok(_)) => Finding::ok(format_args!("{is}, by which the server predicts the queue of a connection")),
        (true, Err(why)) => Finding::ok(format_args!("{is}; {why}")),
        (false, _) if wishes.shared => {
            Finding::advice(is, "the same for each queue", format_args!("ethtool -X {} equal {queues}", link.name))
        }
        (false, _) => {
            let value: Vec<String> = (0..entries.len()).map(|at| (at % queues.max(1)).to_string()).collect();
            let change = Finding::set(is, "the same for each queue", &link.name, Setting::RssTable, &value.join(" "));
            change.by(format!("ethtool -X {} equal {queues}", link.name))
        }
    })
}

fn node(machine: &Machine, link: &Link, server: &[Cpu]) -> Finding {
    let list: Vec<String> = server.iter().map(Cpu::to_string).collect();
    let list = list.join(",");
    let local = machine.cpu_list(format!("sys/class/net/{}/device/local_cpulist", link.name));
    let node = machine.of_link(link, "device/numa_node").filter(|node| !node.starts_with('-'));
    match (server.is_empty(), node) {
        (true, _) => Finding::note("fewer CPUs than threads: the server's threads are not all pinned"),
        (false, None) => Finding::ok(format_args!("CPUs {list}; the NIC is near to all of them")),
        (false, Some(node)) if local.is_empty() || server.iter().all(|cpu| local.contains(cpu)) => {
            Finding::ok(format_args!("CPUs {list}, of the NIC's own node {node}"))
        }
        (false, Some(node)) => {
            let near: Vec<String> = local.iter().take(server.len()).map(Cpu::to_string).collect();
            Finding::advice(
                format_args!("CPUs {list}, and the NIC is at node {node}"),
                "CPUs of that node",
                format_args!("--cpus {}", near.join(",")),
            )
        }
    }
}

fn interrupts(machine: &Machine, link: &Link, server: &[Cpu]) -> Vec<Finding> {
    let mut found = Vec::new();
    for interrupt in cpus::interrupts(machine, link) {
        if server.is_empty() {
            break;
        }
        // Queue i is polled by thread i modulo their number (nic/src/plan.rs).
        let polled_on = server[interrupt.queue % server.len()];
        let wanted = cpus::beside(machine, polled_on, server).to_string();
        let path = format!("proc/irq/{}/smp_affinity_list", interrupt.number);
        let Some(now) = machine.read(&path) else { continue };
        let is = format!("interrupt {} ({}) on CPUs {now}", interrupt.number, interrupt.name);
        let setting = Setting::File(format!("/{path}").into());
        found.push(match now == wanted {
            true => Finding::ok(is),
            false => {
                Finding::set(is, format_args!("{wanted}, beside thread on {polled_on}"), &link.name, setting, &wanted)
            }
        });
    }
    found
}

fn irqbalance(machine: &Machine) -> Finding {
    let is_it = |pid: &String| machine.read(format!("proc/{pid}/comm")).is_some_and(|name| name == "irqbalance");
    match machine.names("proc").iter().any(is_it) {
        true => Finding::advice(
            "irqbalance runs, and moves interrupts away again",
            "stopped, or told to leave them alone (IRQBALANCE_BANNED_CPULIST)",
            "systemctl stop irqbalance",
        ),
        false => Finding::ok("irqbalance does not run"),
    }
}

fn locked_memory(machine: &Machine) -> Finding {
    let status = machine.read("proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    if effective.is_some_and(|bits| bits & IPC_LOCK != 0) {
        return Finding::ok("memory may be locked without limit (CAP_IPC_LOCK)");
    }
    let limits = machine.read("proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max locked memory")?.split_whitespace().next());
    match limit {
        Some("unlimited") => Finding::ok("memory may be locked without limit"),
        Some(bytes) => Finding::advice(format_args!("{bytes} bytes may be locked"), "no limit", "ulimit -l unlimited"),
        None => Finding::note("how much memory may be locked is not known"),
    }
}

fn huge_pages(machine: &Machine) -> Finding {
    let memory = machine.read("proc/meminfo").unwrap_or_default();
    let value = |name: &str| memory.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    match value("HugePages_Total:") {
        None => Finding::note("this kernel has no huge pages"),
        Some("0") => Finding::note("no huge pages are reserved (vm.nr_hugepages); the server does without"),
        Some(count) => {
            Finding::ok(format_args!("{count} huge pages, {} free", value("HugePages_Free:").unwrap_or("?")))
        }
    }
}

fn governor(machine: &Machine, server: &[Cpu]) -> Finding {
    let of = |cpu: &Cpu| machine.read(format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor"));
    match server.iter().find_map(|cpu| of(cpu).filter(|name| name != "performance").map(|name| (cpu, name))) {
        Some((cpu, name)) => Finding::advice(
            format_args!("the governor of CPU {cpu} is {name}"),
            "performance",
            "cpupower frequency-set -g performance",
        ),
        None => Finding::ok("no CPU of the server's is slowed by a governor"),
    }
}

/// What a setting is, if there is such a setting.
fn read(knobs: &impl Knobs, setting: &Setting) -> Option<String> {
    knobs.read(setting).ok()
}

#[cfg(test)]
pub(super) mod tests;
