"""The table of docs/nic.md for what needs no NIC: a veth in each mode, a TAP. Called by scripts/nic-table in the client's namespace.

    nic_table.py NAMESPACE TOOLS [OUT]     NAMESPACE: the server's; TOOLS has the programs; OUT gets table.md and console.txt
"""

import pathlib
import subprocess
import sys
import tempfile

from lab_host import LabHost
from trial import PORT, Trial, attempt, bad, table

# Queues and threads: more queues, as many, fewer.
CASES = [(4, 2), (2, 2), (1, 2)]
# A mode of --mode, and the cases in which it is tried; generic mode has one queue on a veth, and so more of them are refused.
VETH = [("zero-copy", CASES), ("copy", CASES), ("generic", [*CASES, (1, 1)]), ("auto", CASES)]


def queues(link, count, host):
    """Gives a link so many queues."""
    host.run(f"ethtool -L {link} rx {count} tx {count}", check=False)
    found = host.run(f"ls -d /sys/class/net/{link}/queues/rx-* | wc -l")
    assert found == str(count), f"{link} has {found} queues, {count} were asked for"


class VethTrial(Trial):
    """On the lab's veth. A sender's queue is the receiver's, so that both ends get as many."""

    def __init__(self, host, here, mode, count, threads):
        super().__init__(host, "ss0", "veth", mode, count, threads, "10.77.0")
        self.here = here

    def run(self):
        # No more at the sender's end than at the receiver's, at any time.
        queues("sc0", 1, self.here)
        queues("ss0", self.queues, self.host)
        queues("sc0", self.queues, self.here)
        super().run()


class TapTrial(Trial):
    """On a TAP that is there before the server, whose kernel's end is in the client's namespace."""

    def __init__(self, here, count, threads):
        super().__init__(here, "sst9", "tap", "-", count, threads, "10.79.0")
        self.tools = here.tools

    def command(self):
        options = f"{self.addresses()} -p {PORT} -U {PORT} -m 64 -c 1024"
        device = f"--device tap:{self.link} --queues {self.queues} -t {self.threads}"
        return f"SIDESTEP_STATE={self.host.folder}/state {self.tools}/sidestep-cached {device} {options}"

    def run(self):
        self.host.run(f"ip tuntap add dev {self.link} mode tap multi_queue && ip link set {self.link} up")
        # Addresses that come with the carrier, as a server does, would be a difference.
        self.host.run(f"ip link set {self.link} addrgenmode none")
        # What this kernel says to itself goes by the loopback interface.
        self.host.run(f"for l in lo {self.link}; do echo 0 >/proc/sys/net/ipv6/conf/$l/disable_ipv6; done")
        for kernel, bits in zip(self.kernels, (24, 64), strict=True):
            self.host.run(f"ip address add {kernel}/{bits} dev {self.link} {'nodad' if bits == 64 else ''}")
        try:
            super().run()
            self.cells["the kernel answers meanwhile"] = "the kernel is the client"
        finally:
            self.host.run(f"ip link del {self.link}")


def main(namespace, tools, out):
    """Tries all of it, prints the verdict."""
    with tempfile.TemporaryDirectory(prefix="sidestep-nic-table-") as folder:
        host, here = LabHost(namespace, tools, folder), LabHost(None, tools, folder)
        trials = [VethTrial(host, here, mode, *case) for mode, cases in VETH for case in cases]
        trials += [TapTrial(here, *case) for case in CASES]
        # Its own address of IPv6 comes a moment after the link.
        host.run("for i in $(seq 100); do ip -6 -o address show dev ss0 scope link | grep -q inet6 && break; sleep 0.1; done")
        for trial in trials:
            attempt(trial)
    text = table(trials)
    print(text)
    if out:
        kernel = subprocess.run(["uname", "-r"], capture_output=True, text=True, check=True).stdout.strip()
        lines = [f"kernel {kernel}", *[line for trial in trials for line in [f"== {trial.name()}", *trial.lines]]]
        pathlib.Path(out, "table.md").write_text(text, encoding="utf-8")
        pathlib.Path(out, "console.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # What cannot be had says so, and only that.
    wanted = {trial.name() for trial in trials if trial.mode == "zero-copy" or (trial.mode == "generic" and trial.queues > 1)}
    refused = {trial.name() for trial in trials if trial.refusal}
    wrong = bad(trials) + [f"{name}: refused or not" for name in sorted(wanted ^ refused)]
    print(f"nic-table: {'all is well' if not wrong else 'NOT: ' + '; '.join(wrong)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
