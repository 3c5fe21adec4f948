"""What is tried in the machine, and what must come of it. Called by scripts/test-nic-vm, in the namespace of the clients.

    run.py FOLDER [OUT]      FOLDER has the machine's parts; OUT gets console.txt and table.md
"""

import pathlib
import re
import socket
import subprocess
import sys

from devices import IGB, PAIR, VIRTIO, devices
from pymemcache.client.base import Client
from vm import Vm, VmError

PORT = 11211
FLOWS = 64
# How long anything may take before it counts as hung: the emulation is slow, and others may use the machine.
HANG_SECONDS = 120


class Trial:
    """One NIC of the machine, the tap behind it, and what was seen."""

    def __init__(self, vm, link, tap, net, name):
        self.vm, self.link, self.tap, self.net, self.name = vm, link, tap, net, name
        self.server, self.kernel = f"10.78.{net}.2", f"10.78.{net}.3"
        self.cells, self.lines = {}, []

    def note(self, cell, good, detail=""):
        """Fills a cell of the table."""
        self.cells[cell] = ("yes" if good else "NO") + (f" ({detail})" if detail else "")
        print(f"{self.name}: {cell}: {self.cells[cell]}", flush=True)

    def prepare(self):
        """Addresses of both kernels on the cable."""
        command = ["ip", "address", "add", f"10.78.{self.net}.1/24", "dev", self.tap]
        subprocess.run(command, check=True, timeout=HANG_SECONDS)
        self.vm.run(f"ip address add {self.kernel}/24 dev {self.link}; ip link set {self.link} up")

    def settings(self):
        """What the guard answers for."""
        link = self.link
        commands = f"ethtool -l {link}; ethtool -x {link}; ethtool -n {link} rx-flow-hash udp4; ethtool -k {link}"
        irqs = f"for f in /sys/class/net/{link}/device/msi_irqs/* /sys/class/net/{link}/device/../msi_irqs/*; do"
        irqs += ' n=${f##*/}; [ ! -e /proc/irq/$n/smp_affinity_list ] || echo "irq $n $(cat /proc/irq/$n/smp_affinity_list)"; done'
        return self.vm.run(f"{commands}; {irqs}; cat /sys/class/net/{link}/mtu", check=False)

    def start(self):
        """The launcher with a server of two threads; returns what it said until the server was ready."""
        options = f"--address {self.server}/24 -p {PORT} -U {PORT} -m 64 -c 1024"
        # What ends is told in the same file, since a job's end is told to nobody.
        self.vm.run("rm -f /tmp/said /tmp/ended")
        self.vm.run(f"(run-on-nic {self.link} --threads 2 --carrier 60 -- {options}; echo $? >/tmp/ended) >/tmp/said 2>&1 &")
        self.vm.run(f"for i in $(seq 600); do grep -q '^ready: ' /tmp/said && break; [ ! -e /tmp/ended ] || break; sleep 0.2; done")
        said = self.vm.run("cat /tmp/said")
        if "\nready: " not in said:
            raise VmError(f"{self.name}: the server did not start: {said}")
        return said

    def end(self, signal):
        """Sends the server a signal; returns what was said from start to end, once the launcher has ended."""
        self.vm.run(f"kill -{signal} $(pidof sidestep-cached)")
        self.vm.run("for i in $(seq 600); do [ ! -e /tmp/ended ] || break; sleep 0.2; done; [ -e /tmp/ended ]")
        return self.vm.run("cat /tmp/said; echo exit $(cat /tmp/ended)")

    def stock_client(self):
        """pymemcache, on this machine's kernel."""
        client = Client((self.server, PORT), connect_timeout=HANG_SECONDS, timeout=HANG_SECONDS)
        value = bytes(range(256)) * 40
        client.set("key", value, noreply=False)
        good = client.get("key") == value and client.get("none") is None
        client.close()
        return good

    def flows(self):
        """Connections from many ports; by queue, how many came and how many were predicted there."""
        before = self.stats()
        open_ones = []
        for number in range(FLOWS):
            connection = socket.create_connection((self.server, PORT), timeout=HANG_SECONDS)
            connection.sendall(b"set flow%d 0 0 1\r\nx\r\n" % number)
            assert connection.recv(64) == b"STORED\r\n"
            open_ones.append(connection)
        # The connection that asks is one more.
        after = self.stats()
        for connection in open_ones:
            connection.close()
        return {name: after[name] - before.get(name, 0) for name in after}

    def stats(self):
        """The counts by queue, without the connection that asks for them."""
        connection = socket.create_connection((self.server, PORT), timeout=HANG_SECONDS)
        connection.sendall(b"stats sidestep\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += connection.recv(65536)
        connection.close()
        return {name: int(value) for name, value in re.findall(r"STAT (queue:\S+) (\d+)", text.decode())}

    def datagrams(self):
        """Requests over UDP from many ports: how many are answered."""
        answered = 0
        for number in range(FLOWS):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
                asker.settimeout(10)
                request = b"%c%c\0\0\0\1\0\0get flow%d\r\n" % (0, number, number)
                # UDP may lose one; the second is not lost for the same reason.
                for _ in range(3):
                    asker.sendto(request, (self.server, PORT))
                    try:
                        answered += b"VALUE" in asker.recv(2048)
                        break
                    except TimeoutError:
                        continue
        return answered

    def kernel_answers(self):
        """Whether the machine's own kernel answers on the NIC."""
        # Nobody listens, so that what answers is the kernel's TCP.
        try:
            socket.create_connection((self.kernel, 9), timeout=HANG_SECONDS)
        except ConnectionRefusedError:
            return True
        except OSError:
            pass
        return False

    def predicted_as_arrived(self):
        """Compares what arrived with what was predicted, in two cells: connections, and their spread."""
        counts = self.flows()
        came = [value for name, value in sorted(counts.items()) if name.endswith(":connections")]
        predicted = [value for name, value in sorted(counts.items()) if name.endswith(":as_predicted")]
        # One connection asked for the counts of the beginning, and is counted after it.
        total, agreed = sum(came), sum(predicted)
        detail = f"{agreed} of {total}, by queue {came}"
        self.note("predicted = arrived", bool(predicted) and total >= FLOWS and agreed == total, detail)
        return all(came)

    def run(self):
        """Everything, in order."""
        self.prepare()
        before = self.settings()
        said = self.start()
        self.lines += [line for line in said.splitlines() if re.match("link |rss: |udp: |plan: |change |note |advice |ok ", line)]
        mode = re.search(r"^link \S+: (.*)$", said, re.M)[1]
        self.note("starts", True, mode)
        self.note("zero copy", "zero copy (" in mode)
        self.note("serves a stock client", self.stock_client())
        spread = self.predicted_as_arrived()
        self.note("both queues are used", spread)
        answered = self.datagrams()
        self.note("answers datagrams", answered == FLOWS, f"{answered} of {FLOWS}")
        self.note("the kernel answers meanwhile", self.kernel_answers())
        self.lines += self.end("KILL").splitlines()[-8:]
        program = self.vm.run(f"ip -o link show {self.link}")
        self.note("survives kill -9", "prog/xdp" not in program and self.kernel_answers())
        after = self.settings()
        self.note("restores after kill -9", after == before)
        if after != before:
            self.lines += ["before:", *before.splitlines(), "after:", *after.splitlines()]
        self.start()
        self.note("starts again", self.stock_client())
        closing = self.end("TERM")
        self.lines += closing.splitlines()[-12:]
        self.note("restores when asked to end", self.settings() == before and "\nexit 0" in closing)


def conformance(vm):
    """The suite of nic over the two NICs that are joined; returns its lines and whether it passed."""
    for link in PAIR:
        vm.run(f"ip link set {link} up; ethtool -L {link} combined 1", check=False)
    vm.run("sleep 5")
    said = vm.run(
        f"SIDESTEP_NIC_TEST_LINKS={','.join(PAIR)} conformance --nocapture 2>&1; echo ended $?", limit=1200, check=False
    )
    return said.splitlines(), "ended 0" in said and "1 passed" in said


def main(folder, out):
    """Boots, tries, prints the verdict."""
    vm = Vm(folder, devices())
    trials, lines, passed = [], [], False
    try:
        vm.boot()
        kernel = vm.run("uname -r")
        print(f"kernel {kernel}", flush=True)
        trials = [Trial(vm, IGB, "tap1", 1, "igb"), Trial(vm, VIRTIO, "tap0", 2, "virtio_net")]
        for trial in trials:
            try:
                trial.run()
            except (VmError, OSError, AssertionError) as error:
                trial.note("runs to its end", False, str(error)[-2000:].replace("\n", " | "))
                trial.vm.run("kill -9 $(pidof sidestep-cached); cat /tmp/said", check=False)
        lines, passed = conformance(vm)
        print(f"conformance on two igb: {'yes' if passed else 'NO'}", flush=True)
        lines = [f"kernel {kernel}", *[line for trial in trials for line in [f"== {trial.name}", *trial.lines]], "== suite", *lines]
    finally:
        vm.close()
        if out:
            table = [f"| {trial.name} | {cell} | {value} |" for trial in trials for cell, value in trial.cells.items()]
            table.append(f"| two igb | conformance suite of nic | {'yes' if passed else 'NO'} |")
            text = "| NIC | what | seen |\n|---|---|---|\n" + "\n".join(table) + "\n"
            pathlib.Path(out, "table.md").write_text(text, encoding="utf-8")
            pathlib.Path(out, "console.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    bad = [f"{trial.name}: {cell}" for trial in trials for cell, value in trial.cells.items() if value.startswith("NO")]
    # virtio's quirks are the emulation's (docs/nic.md): it is tried for function, igb for all of it.
    wanted = [what for what in bad if what.startswith("igb")] + ([] if passed else ["conformance on two igb"])
    print(f"nic-vm: {'all is well' if not wanted else 'NOT: ' + '; '.join(wanted)}")
    return 1 if wanted or not trials else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""))
