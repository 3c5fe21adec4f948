"""What is tried in the machine, and what must come of it. Called by scripts/test-nic-vm, in the namespace of the clients.

    run.py FOLDER [OUT] [ONLY]   FOLDER has the machine's parts; OUT gets console.txt and table.md; ONLY: a pattern of names of trials
"""

import pathlib
import re
import socket
import subprocess
import sys
import threading

import changes
import waits
from devices import IGB, PAIR, VIRTIO, devices
from trial import HANG_SECONDS, Trial, attempt, bad, table
from vm import Vm

# Queues and threads: as many, more queues, fewer.
CASES = [(2, 2), (2, 1), (1, 2)]
# A mode of --mode, and the cases in which it is tried on each NIC: the emulation is slow.
MODES = [("auto", CASES[:1]), ("zero-copy", CASES), ("copy", CASES[:1]), ("generic", CASES[:1])]
DRIVERS = {IGB: "igb", VIRTIO: "virtio_net"}


class VmTrial(Trial):
    """On a NIC of the machine, with a tap behind it."""

    def __init__(self, vm, nic, mode, queues, threads):
        link, _, net = nic
        super().__init__(vm, link, DRIVERS[link], mode, queues, threads, f"10.78.{net}")

    def run(self):
        self.host.run(f"ethtool -L {self.link} combined {self.queues}", check=False)
        super().run()
        self.host.run(f"ethtool -L {self.link} combined 2", check=False)


def prepare(vm, link, tap, net):
    """Addresses of both kernels on the cable, of IPv4 and IPv6. None is probed for, so that each is at once what it will be."""

    def here(command):
        subprocess.run(["sh", "-c", command], check=True, timeout=HANG_SECONDS)

    for run, name, host in ((here, tap, 1), (vm.run, link, 3)):
        settings = {"accept_dad": 0, "router_solicitations": 0, "accept_ra": 0, "disable_ipv6": 0}
        run("; ".join(f"echo {value} >/proc/sys/net/ipv6/conf/{name}/{setting}" for setting, value in settings.items()))
        run(f"ip address add 10.78.{net}.{host}/24 dev {name}; ip address add fd78:{net}::{host}/64 dev {name} nodad")
    vm.run(f"ip link set {link} up")
    # Its address of IPv6 comes with the carrier.
    vm.run(f"for i in $(seq 150); do ip -6 -o address show dev {link} scope link | grep -q inet6 && break; sleep 0.2; done")


def conformance(vm):
    """The suite of nic over the two NICs that are joined; returns its lines and whether it passed."""
    for link in PAIR:
        vm.run(f"ip link set {link} up; ethtool -L {link} combined 1", check=False)
    vm.run("sleep 5")
    said = vm.run(
        f"SIDESTEP_NIC_TEST_LINKS={','.join(PAIR)} conformance --nocapture --test-threads 1 2>&1; echo ended $?", limit=2400, check=False
    )
    return said.splitlines(), "ended 0" in said and "2 passed" in said


class Listener(threading.Thread):
    """A kernel's listener, which answers each connection's first byte and keeps it open."""

    def __init__(self, address, opens):
        super().__init__(daemon=True)
        self.socket = socket.create_server((address, 0), backlog=1024)
        self.port, self.opens = self.socket.getsockname()[1], opens

    def run(self):
        held = []
        while len(held) < self.opens:
            connection, _ = self.socket.accept()
            held.append(connection)
            if connection.recv(1):
                connection.sendall(b"y")


def opens(vm, link, tap, net):
    """Active opens from two cores on two queues; returns the test's lines and whether each answer came to the core that asked."""
    listener = Listener(f"10.78.{net}.1", OPENS)
    listener.start()
    mac = pathlib.Path(f"/sys/class/net/{tap}/address").read_text(encoding="ascii").strip()
    asked = f"{link} 10.78.{net}.2 10.78.{net}.1:{listener.port} {mac} {OPENS}"
    said = vm.run(f"SIDESTEP_STACK_TEST_OPENS='{asked}' opens --nocapture 2>&1; echo ended $?", limit=600, check=False)
    return said.splitlines(), "ended 0" in said and "1 passed" in said


SUITE, HOME = "conformance on two igb", "active opens on igb"
OPENS = 1000


def main(folder, out, only):
    """Boots, tries, prints the verdict."""
    vm = Vm(folder, devices())
    nics = [(IGB, "tap1", 1), (VIRTIO, "tap0", 2)]
    trials = [VmTrial(vm, nic, mode, *case) for nic in nics for mode, cases in MODES for case in cases]
    ways = [waits.WaitTrial(vm, link, DRIVERS[link], way, f"10.78.{net}") for link, _, net in nics for way in waits.WAYS]
    # Last, since it takes the NICs away.
    changed = [changes.ChangeTrial(vm, link, DRIVERS[link], f"10.78.{net}") for link, _, net in nics]
    trials, ways, changed = ([trial for trial in some if re.search(only, trial.name())] for some in (trials, ways, changed))
    lines, more, passed = [], [], {name: None for name in (SUITE, HOME) if re.search(only, name)}
    try:
        vm.boot()
        kernel = vm.run("uname -r")
        print(f"kernel {kernel}", flush=True)
        for nic in nics:
            prepare(vm, *nic)
        for trial in trials + ways:
            attempt(trial)
        for name, attempted in ((SUITE, lambda: conformance(vm)), (HOME, lambda: opens(vm, *nics[0]))):
            if name in passed:
                said, passed[name] = attempted()
                more += [f"== {name}", *said]
                print(f"{name}: {'yes' if passed[name] else 'NO'}", flush=True)
        for trial in changed:
            attempt(trial)
        lines = [line for trial in trials + ways + changed for line in [f"== {trial.name()}", *trial.lines]]
        lines = [f"kernel {kernel}", *lines, *more]
    finally:
        vm.close()
        if out:
            text = f"{table(trials)}\n{waits.table(ways)}\n{changes.table(changed)}\n"
            for name, what in ((SUITE, "The conformance suite of nic over two igb joined by a hub, drivers polled and not"),
                               (HOME, f"{OPENS} active opens of two cores on igb, each answer to the core that asked")):
                text += f"{what}: {'not run' if name not in passed else 'yes' if passed[name] else 'NO'}.\n"
            pathlib.Path(out, "table.md").write_text(text, encoding="utf-8")
            pathlib.Path(out, "console.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    wanted = bad(trials + ways + changed) + [name for name in passed if not passed[name]]
    print(f"nic-vm: {'all is well' if not wanted else 'NOT: ' + '; '.join(wanted)}")
    return 1 if wanted or not lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
