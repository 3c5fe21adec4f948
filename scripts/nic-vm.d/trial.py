"""One server on one NIC: started by the launcher, asked by a stock client, killed, started again. Each thing seen is a cell.

A host is where the server runs: the virtual machine (vm.py) or a namespace of the lab (lab_host.py). It has
`run(command, check)`, which gives what a shell command says there, `server_pids()`, `launcher`, and `folder` for files.
"""

import re
import socket

from pymemcache.client.base import Client

PORT = 11211
FLOWS = 64
# How long anything may take before it counts as hung: an emulation is slow, and others may use the machine.
HANG_SECONDS = 120


def family(address):
    """That of a socket for it."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class TrialError(Exception):
    """What was asked for did not come about."""


class Trial:
    """A NIC of the host, in a mode, with so many queues and threads."""

    def __init__(self, host, link, driver, mode, queues, threads, net):
        self.host, self.link, self.driver, self.mode = host, link, driver, mode
        self.queues, self.threads = queues, threads
        _, second, third = net.split(".")
        # Of IPv4 and of IPv6.
        self.servers = [f"{net}.2", f"fd{second}:{third}::2"]
        self.kernels = [f"{net}.3", f"fd{second}:{third}::3"]
        self.cells, self.lines, self.refusal = {}, [], None
        # Of the last end: whether the interface had no program once server and data plane were gone, and how many seconds after the
        # signal they were, and the launcher.
        self.let_go, self.gone_after, self.ended_after = None, None, None

    def name(self):
        """What it is called in the table."""
        return f"{self.driver} {self.mode} {self.queues} queues {self.threads} threads"

    def note(self, cell, good, detail=""):
        """Fills a cell of the table."""
        self.cells[cell] = ("yes" if good else "NO") + (f" ({detail})" if detail else "")
        print(f"{self.name()}: {cell}: {self.cells[cell]}", flush=True)

    def settings(self):
        """What the guard answers for. What a feature of a TAP is wanted to be is up to who opens it; what it is is compared."""
        link = self.link
        commands = f"ethtool -l {link}; ethtool -x {link}; ethtool -n {link} rx-flow-hash udp4; ethtool -n {link} rx-flow-hash udp6"
        commands += f"; ethtool -k {link} | sed 's/ .requested on.//'"
        irqs = f"for f in /sys/class/net/{link}/device/msi_irqs/* /sys/class/net/{link}/device/../msi_irqs/*; do"
        irqs += ' n=${f##*/}; [ ! -e /proc/irq/$n/smp_affinity_list ] || echo "irq $n $(cat /proc/irq/$n/smp_affinity_list)"; done'
        files = " ".join(f"/sys/class/net/{link}/{name}" for name in ("mtu", "napi_defer_hard_irqs", "gro_flush_timeout"))
        rest = f"ip -o address show dev {link}; cat {files} /proc/sys/net/ipv4/ip_local_reserved_ports"
        return self.host.run(f"{commands}; {irqs}; {rest}", check=False)

    def addresses(self):
        """The options of both families' addresses."""
        return f"--address {self.servers[0]}/24 --address {self.servers[1]}/64"

    def command(self):
        """The launcher and its server. It changes the channels only where there are to be as many as threads."""
        options = f"{self.addresses()} -p {PORT} -U {PORT} -m 64 -c 1024 --mode {self.mode}"
        shared = "" if self.queues == self.threads else "--shared "
        return f"{self.host.launcher} {self.link} {shared}--threads {self.threads} --carrier 60 -- {options}"

    def start(self):
        """Starts it; returns what it said until it was ready, or has ended."""
        said, ended = f"{self.host.folder}/said", f"{self.host.folder}/ended"
        # What ends is told in the same file, since a job's end is told to nobody.
        self.host.run(f"rm -f {said} {ended}")
        self.host.run(f"({self.command()}; echo $? >{ended}) >{said} 2>&1 </dev/null &")
        self.host.run(f"for i in $(seq 600); do grep -q '^ready: ' {said} && break; [ ! -e {ended} ] || break; sleep 0.2; done")
        return self.host.run(f"cat {said}")

    def end(self, signal):
        """Sends the server a signal; returns what was said from start to end, once the launcher has ended."""
        pids = " ".join(map(str, self.host.server_pids()))
        # A process of which no thread is left has let go of all that it had, whether or not somebody has asked how it ended: the
        # kernel closes its files first (do_exit in kernel/exit.c), and what is looked at then is looked at once.
        count = "$(grep -cE '^(State:.Z|Threads:.[01]$)' /proc/$p/status 2>/dev/null)"
        gone = f'for i in $(seq 6000); do [ -e /proc/$p/status ] && [ "{count}" != 2 ] || break; sleep 0.02; done'
        clock = "read now _ </proc/uptime; echo time $now"
        said = self.host.run(f"{clock}; kill -{signal} {pids}; for p in {pids}; do {gone}; done; {clock}; ip -o link show {self.link}")
        begun, gone = re.findall(r"^time (\S+)$", said, re.M)
        self.let_go, self.gone_after = "prog/xdp" not in said, float(gone) - float(begun)
        text = self.ended()
        self.ended_after = float(self.host.run(clock).split()[1]) - float(begun)
        return text

    def ended(self):
        """What was said from start to end, once the launcher has ended."""
        ended = f"{self.host.folder}/ended"
        self.host.run(f"for i in $(seq 2400); do [ ! -e {ended} ] || break; sleep 0.05; done; [ -e {ended} ]")
        return self.host.run(f"cat {self.host.folder}/said; echo exit $(cat {ended})")

    def connect(self, server=None):
        """A connection of the kernel's."""
        return socket.create_connection((server or self.servers[0], PORT), timeout=HANG_SECONDS)

    def stock_client(self):
        """pymemcache, on this machine's kernel, over IPv4 and IPv6."""
        good = True
        for server in self.servers:
            client = Client((server, PORT), connect_timeout=HANG_SECONDS, timeout=HANG_SECONDS)
            value = bytes(range(256)) * 40
            client.set("key", value, noreply=False)
            good = good and client.get("key") == value and client.get("none") is None
            client.close()
        return good

    def flows(self, server):
        """Connections from many ports; by queue, how many came and how many were predicted there."""
        before = self.stats(server)
        open_ones = []
        for number in range(FLOWS):
            connection = self.connect(server)
            connection.sendall(b"set flow%d 0 0 1\r\nx\r\n" % number)
            assert connection.recv(64) == b"STORED\r\n"
            open_ones.append(connection)
        # The connection that asks is one more.
        after = self.stats(server)
        for connection in open_ones:
            connection.close()
        return {name: after[name] - before.get(name, 0) for name in after}

    def stats(self, server):
        """The counts by queue, without the connection that asks for them."""
        connection = self.connect(server)
        connection.sendall(b"stats sidestep\r\n")
        text = b""
        while not text.endswith(b"END\r\n"):
            text += connection.recv(65536)
        connection.close()
        return {name: int(value) for name, value in re.findall(r"STAT (queue:\S+) (\d+)", text.decode())}

    def datagrams(self, server):
        """Requests over UDP from many ports: how many are answered."""
        answered = 0
        for number in range(FLOWS):
            with socket.socket(family(server), socket.SOCK_DGRAM) as asker:
                asker.settimeout(10)
                request = b"%c%c\0\0\0\1\0\0get flow%d\r\n" % (0, number, number)
                # UDP may lose one; the second is not lost for the same reason.
                for _ in range(3):
                    asker.sendto(request, (server, PORT))
                    try:
                        answered += b"VALUE" in asker.recv(2048)
                        break
                    except TimeoutError:
                        continue
        return answered

    def kernel_answers(self):
        """Whether the host's own kernel answers on the NIC, over both."""
        # Nobody listens, so that what answers is the kernel's TCP.
        answers = 0
        for kernel in self.kernels:
            try:
                socket.create_connection((kernel, 9), timeout=HANG_SECONDS)
            except ConnectionRefusedError:
                answers += 1
            except OSError:
                pass
        return answers == len(self.kernels)

    def predicted_as_arrived(self, said):
        """Compares what arrived with what was predicted, over each; says why where nothing is."""
        why = re.search(r"^rss: (.*)$", said, re.M)[1]
        cell, good, shown = "predicted = arrived", True, []
        for server in self.servers:
            counts = self.flows(server)
            came = [value for name, value in sorted(counts.items()) if name.endswith(":connections")]
            predicted = [value for name, value in sorted(counts.items()) if name.endswith(":as_predicted")]
            # One connection asked for the counts of the beginning, and is counted after it.
            total, agreed = sum(came), sum(predicted)
            good = good and total >= FLOWS and agreed == total
            shown.append(f"{agreed} of {total}, by queue {came}" if predicted else f"by queue {came}")
        if not came and self.queues < self.threads:
            self.cells[cell] = "threads outnumber queues: a connection's core is its own hash's"
        elif not predicted:
            self.cells[cell] = f"not predicted: {why}" + (f"; arrived {'; IPv6 '.join(shown)}" if came else "")
        else:
            self.note(cell, good, "; IPv6 ".join(shown))

    def run(self):
        """Everything, in order."""
        before = self.settings()
        said = self.start()
        self.lines += [line for line in said.splitlines() if re.match("link |rss: |udp|ipv6: |plan: |change |note |advice |ok ", line)]
        if "\nready: " not in "\n" + said:
            self.refused(said, before)
            return
        self.note("starts", True, re.search(r"^link \S+: ([^(;\n]*)", said, re.M)[1].strip())
        self.note("serves a stock client", self.stock_client())
        self.predicted_as_arrived(said)
        answered = [self.datagrams(server) for server in self.servers]
        self.note("answers datagrams", answered == [FLOWS, FLOWS], f"{answered[0]} of {FLOWS}; IPv6 {answered[1]} of {FLOWS}")
        self.note("the kernel answers meanwhile", self.kernel_answers())
        self.lines += self.end("KILL").splitlines()[-8:]
        restored = self.settings() == before
        kernels = self.let_go and self.kernel_answers()
        gone, back = f"let go of with its last process, after {self.gone_after:.2f} s", f"killed, after {self.ended_after:.2f} s"
        if not restored:
            self.lines += ["before:", *before.splitlines(), "after:", *self.settings().splitlines()]
        again = self.start()
        if "\nready: " not in "\n" + again:
            raise TrialError(f"{self.name()}: it did not start again: {again}")
        self.note("survives kill -9", kernels and self.stock_client(), gone)
        closing = self.end("TERM")
        self.lines += closing.splitlines()[-12:]
        restored = restored and self.settings() == before
        self.note("restores", restored and "\nexit 0" in closing, f"{back}; asked to end")

    def refused(self, said, before):
        """It has not started: the line that says why, and that all is as it was."""
        line = [line for line in said.splitlines() if line.startswith("sidestep-cached: ")]
        self.refusal = line[-1].removeprefix("sidestep-cached: ") if line else said.splitlines()[-1]
        self.cells["starts"] = f"refused: {self.refusal}"
        print(f"{self.name()}: {self.cells['starts']}", flush=True)
        self.note("restores", self.settings() == before)


COLUMNS = ["starts", "serves a stock client", "survives kill -9", "restores", "predicted = arrived", "answers datagrams",
           "the kernel answers meanwhile"]


def table(trials):
    """The trials as a table of Markdown."""
    rows = ["| back-end | `--mode` | queues, cores | " + " | ".join(COLUMNS) + " |", "|---" * (3 + len(COLUMNS)) + "|"]
    for trial in trials:
        cells = [trial.cells.get(column, "-") for column in COLUMNS]
        rows.append(f"| {trial.driver} | {trial.mode} | {trial.queues}, {trial.threads} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def attempt(trial):
    """Runs it; what goes wrong is a cell too."""
    try:
        trial.run()
    except Exception as error:  # pylint: disable=broad-except  # A client's own kinds among them: each is one cell.
        trial.note("runs to its end", False, f"{type(error).__name__}: {error}"[-2000:].replace("\n", " / "))
    finally:
        # The launcher sees its server's end, and gives the NIC back, before the next one wants it.
        for pid in trial.host.server_pids():
            trial.host.run(f"kill -9 {pid}", check=False)
        trial.host.run(f"for i in $(seq 300); do [ -e {trial.host.folder}/ended ] && break; sleep 0.2; done", check=False)


def bad(trials):
    """What is not as it should be."""
    return [f"{trial.name()}: {cell}" for trial in trials for cell, value in trial.cells.items() if value.startswith("NO")]
