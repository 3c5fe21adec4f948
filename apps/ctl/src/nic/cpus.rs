//! Which CPUs the server's threads get, and on which the NIC's interrupts are served beside them.

use nic::link::Link;

use super::machine::{Cpu, Machine};

/// One CPU for each of `threads` threads: those that were asked for, or the first ones of the NIC's own node, or the first
/// ones there are. Empty where there are too few: the server then decides.
pub(super) fn of_server(machine: &Machine, link: &Link, threads: u16, asked: &[Cpu]) -> Vec<Cpu> {
    let online = machine.cpu_list("sys/devices/system/cpu/online");
    let local = machine.cpu_list(format!("sys/class/net/{}/device/local_cpulist", link.name));
    let local: Vec<Cpu> = local.into_iter().filter(|cpu| online.contains(cpu)).collect();
    let threads = usize::from(threads);
    let candidates = [asked, &local, &online];
    let enough = candidates.into_iter().find(|cpus| cpus.len() >= threads);
    enough.map_or(Vec::new(), |cpus| cpus[..threads].to_vec())
}

/// An interrupt of the NIC, and the queue whose frames it tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Interrupt {
    /// Its number.
    pub(super) number: u32,
    /// As /proc/interrupts calls it.
    pub(super) name: String,
    /// The queue.
    pub(super) queue: usize,
}

/// The interrupts of the NIC's receive queues.
pub(super) fn interrupts(machine: &Machine, link: &Link) -> Vec<Interrupt> {
    let device = format!("sys/class/net/{}/device", link.name);
    // That of a virtio device is its parent's.
    let mut numbers = machine.names(format!("{device}/msi_irqs"));
    if numbers.is_empty() {
        numbers = machine.names(format!("{device}/../msi_irqs"));
    }
    let table = machine.read("proc/interrupts").unwrap_or_default();
    let named = |line: &str| {
        let (number, rest) = line.trim_start().split_once(':')?;
        let name = rest.split_whitespace().last()?;
        let queue = queue_of(name)?;
        numbers.iter().any(|known| known == number).then_some(())?;
        Some(Interrupt { number: number.parse().ok()?, name: name.to_owned(), queue })
    };
    table.lines().filter_map(named).collect()
}

/// The queue of an interrupt that tells of received frames: `eth1-TxRx-0`, `eth1-rx-0`, `virtio0-input.0`,
/// `mlx5_comp0@pci:0000:01:00.0`.
fn queue_of(name: &str) -> Option<usize> {
    let name = name.split('@').next().unwrap_or(name).to_ascii_lowercase();
    let receives = ["rx", "input", "comp"].iter().any(|kind| name.contains(kind));
    let digits = name.len() - name.trim_end_matches(|last: char| last.is_ascii_digit()).len();
    (receives && digits > 0).then(|| name[name.len() - digits..].parse().ok()).flatten()
}

/// Where to serve the interrupts of a queue that is polled on `cpu`: on the other half of its core, if no thread of the
/// server has that, since both use the same caches; else on `cpu` itself.
pub(super) fn beside(machine: &Machine, cpu: Cpu, server: &[Cpu]) -> Cpu {
    let siblings = machine.cpu_list(format!("sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"));
    siblings.into_iter().find(|sibling| !server.contains(sibling)).unwrap_or(cpu)
}

#[cfg(test)]
mod tests {
    use super::super::findings::tests::link;
    use super::super::machine::tests::Root;
    use super::*;

    #[test]
    fn the_cpus_of_the_nics_own_node_come_first_unless_others_are_asked_for() {
        let files = [("sys/devices/system/cpu/online", "0-7"), ("sys/class/net/eth7/device/local_cpulist", "4-7\n")];
        let root = Root::of("cpus", &files);
        let machine = Machine::at(&root.0);
        assert_eq!(of_server(&machine, &link(), 2, &[]), [4, 5]);
        assert_eq!(of_server(&machine, &link(), 2, &[1, 3]), [1, 3]);
        assert_eq!(of_server(&machine, &link(), 6, &[1, 3]), [0, 1, 2, 3, 4, 5]);
        assert!(of_server(&machine, &link(), 9, &[]).is_empty());
    }

    #[test]
    fn interrupts_of_receive_queues_are_found_and_put_beside_their_core() {
        let interrupts_text = "            CPU0       CPU1\n\
             \x20 24:          1          0  PCI-MSIX-0000:01:00.0    0-edge      eth7\n\
             \x20 25:          1          0  PCI-MSIX-0000:01:00.0    1-edge      eth7-TxRx-0\n\
             \x20 26:          1          0  PCI-MSIX-0000:01:00.0    2-edge      eth7-TxRx-1\n\
             \x20 27:          1          0  PCI-MSIX-0000:02:00.0    2-edge      eth8-TxRx-1\n\
             LOC:          1          0   Local timer interrupts\n";
        let root = Root::of(
            "irqs",
            &[
                ("proc/interrupts", interrupts_text),
                ("sys/class/net/eth7/device/msi_irqs/24", ""),
                ("sys/class/net/eth7/device/msi_irqs/25", ""),
                ("sys/class/net/eth7/device/msi_irqs/26", ""),
                ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4"),
                ("sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "1"),
            ],
        );
        let machine = Machine::at(&root.0);
        let found = interrupts(&machine, &link());
        assert_eq!(found.iter().map(|one| (one.number, one.queue)).collect::<Vec<_>>(), [(25, 0), (26, 1)]);
        assert_eq!(
            [beside(&machine, 0, &[0, 1]), beside(&machine, 0, &[0, 4]), beside(&machine, 1, &[0, 1])],
            [4, 0, 1]
        );
    }

    #[test]
    fn the_queue_of_an_interrupt_is_in_its_name() {
        assert_eq!(queue_of("virtio0-input.1"), Some(1));
        assert_eq!(queue_of("mlx5_comp12@pci:0000:01:00.0"), Some(12));
        assert_eq!(queue_of("eth0-rx-3"), Some(3));
        for none in ["virtio0-output.1", "eth0-tx-1", "eth0", "virtio0-config", "mlx5_async0@pci:0000:01:00.0"] {
            assert_eq!(queue_of(none), None, "{none}");
        }
    }
}
