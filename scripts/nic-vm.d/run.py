"""What is tried in the machine, and what must come of it. Called by scripts/test-nic-vm, in the namespace of the clients.

    run.py FOLDER [OUT] [ONLY]   FOLDER has the machine's parts; OUT gets console.txt and table.md; ONLY: a pattern of names of trials
"""

import pathlib
import re
import subprocess
import sys

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
    """Addresses of both kernels on the cable."""
    command = ["ip", "address", "add", f"10.78.{net}.1/24", "dev", tap]
    subprocess.run(command, check=True, timeout=HANG_SECONDS)
    vm.run(f"ip address add 10.78.{net}.3/24 dev {link}; ip link set {link} up")
    # Its address of IPv6 is not what it will be until nobody else has claimed it.
    vm.run(f"for i in $(seq 150); do ip address show dev {link} | grep -q tentative || break; sleep 0.2; done")


def conformance(vm):
    """The suite of nic over the two NICs that are joined; returns its lines and whether it passed."""
    for link in PAIR:
        vm.run(f"ip link set {link} up; ethtool -L {link} combined 1", check=False)
    vm.run("sleep 5")
    said = vm.run(
        f"SIDESTEP_NIC_TEST_LINKS={','.join(PAIR)} conformance --nocapture --test-threads 1 2>&1; echo ended $?", limit=2400, check=False
    )
    return said.splitlines(), "ended 0" in said and "2 passed" in said


SUITE = "conformance on two igb"


def main(folder, out, only):
    """Boots, tries, prints the verdict."""
    vm = Vm(folder, devices())
    nics = [(IGB, "tap1", 1), (VIRTIO, "tap0", 2)]
    trials = [VmTrial(vm, nic, mode, *case) for nic in nics for mode, cases in MODES for case in cases]
    ways = [waits.WaitTrial(vm, link, DRIVERS[link], way, f"10.78.{net}") for link, _, net in nics for way in waits.WAYS]
    # Last, since it takes the NICs away.
    changed = [changes.ChangeTrial(vm, link, DRIVERS[link], f"10.78.{net}") for link, _, net in nics]
    trials, ways, changed = ([trial for trial in some if re.search(only, trial.name())] for some in (trials, ways, changed))
    lines, suite, passed = [], [], not re.search(only, SUITE)
    try:
        vm.boot()
        kernel = vm.run("uname -r")
        print(f"kernel {kernel}", flush=True)
        for nic in nics:
            prepare(vm, *nic)
        for trial in trials + ways:
            attempt(trial)
        if re.search(only, SUITE):
            suite, passed = conformance(vm)
            print(f"{SUITE}: {'yes' if passed else 'NO'}", flush=True)
        for trial in changed:
            attempt(trial)
        lines = [line for trial in trials + ways + changed for line in [f"== {trial.name()}", *trial.lines]]
        lines = [f"kernel {kernel}", *lines, "== suite", *suite]
    finally:
        vm.close()
        if out:
            text = f"{table(trials)}\n{waits.table(ways)}\n{changes.table(changed)}\n"
            text += f"The conformance suite of nic over two igb joined by a hub: {'yes' if passed else 'NO'}.\n"
            pathlib.Path(out, "table.md").write_text(text, encoding="utf-8")
            pathlib.Path(out, "console.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # virtio's quirks are the emulation's (docs/nic.md): it is tried for function, igb for all of it.
    wanted = [what for what in bad(trials + ways + changed) if what.startswith("igb")] + ([] if passed else [SUITE])
    print(f"nic-vm: {'all is well' if not wanted else 'NOT: ' + '; '.join(wanted)}")
    return 1 if wanted or not lines else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
