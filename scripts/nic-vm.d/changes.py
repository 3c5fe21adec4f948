"""What is done to a NIC while a server runs on it: what is said, how soon, and whether old connections and new ones are served."""

import datetime
import re

from trial import Trial, TrialError

OPEN = 8
# What the kernel tells of a change, as `ip monitor` shows it: of channels and hash it tells nothing.
TOLD = {
    "is down": lambda line: "UP" not in flags(line),
    "is up again": lambda line: "LOWER_UP" in flags(line),
    "has an MTU of 1400": lambda line: " mtu 1400 " in line,
    "has an MTU of 1500 bytes again": lambda line: " mtu 1500 " in line,
}
# What is done, what the server says of it (None: the kernel refuses it, and nothing changes), and how it is undone.
DONE = [
    ("link down", "ip link set {0} down", "is down", "ip link set {0} up", "is up again"),
    ("MTU lowered", "ip link set {0} mtu 1400", "has an MTU of 1400", "ip link set {0} mtu 1500", "has an MTU of 1500 bytes again"),
    ("queue taken away", "ethtool -L {0} combined 1", None, None, None),
    ("RSS table changed", "ethtool -X {0} equal 1", "by another key", "ethtool -X {0} {1}", "as at the start again"),
]
# As the driver makes it by itself.
TABLE = {"igb": "weight 1 1", "virtio_net": "equal 2"}


def flags(line):
    """Of an interface, between angle brackets."""
    return re.search(r"<(\S*)>", line)[1].split(",")


class ChangeTrial(Trial):
    """A NIC with two queues and two threads, to which all of it happens; removed at the end."""

    def __init__(self, host, link, driver, net):
        super().__init__(host, link, driver, "auto", 2, 2, net)

    def name(self):
        return f"{self.driver} changed"

    def command(self):
        return f"{super().command()} -v"

    def said(self, words):
        """A command that counts how often the server has said that of its interface."""
        return f"grep -c 'interface {self.link}.*{words}' {self.host.folder}/said"

    def until_said(self, command, words):
        """Does it, and waits until the server says that of its interface once more than before: seconds, by the host's clock."""
        loop = f"for i in $(seq 0 300); do [ $({self.said(words)}) -gt $n ] && break; sleep 0.05; done"
        times = f"n=$({self.said(words)}); read a _ </proc/uptime; {command}; {loop}; read b _ </proc/uptime; echo $i $a $b"
        tries, begin, end = self.host.run(times, check=False).split()[-3:]
        if tries == "300":
            raise TrialError(f"{self.name()}: {words}: not said: {self.host.run(f'cat {self.host.folder}/said')}")
        return float(end) - float(begin)

    def told_to_line(self, words):
        """Seconds from the kernel's word of a change to the server's line, both by the host's clock."""
        told, is_so = None, False
        for line in self.host.run(f"cat {self.host.folder}/told").splitlines():
            if time := re.match(r"\[(\S+)\] .*<\S*>", line):
                # The first word of each stretch of them.
                if (before := is_so) != (is_so := TOLD[words](line)) and not before:
                    told = datetime.datetime.fromisoformat(time[1])
        if told is None:
            raise TrialError(f"{self.name()}: {words}: the kernel did not tell")
        line = self.host.run(f"grep 'interface {self.link}.*{words}' {self.host.folder}/said | tail -n 1")
        said = datetime.datetime.fromisoformat(re.search(r"\d{4}-\S+T[\d:.]+(?=Z)", line)[0])
        return (said - told).total_seconds()

    def all_answer(self, open_ones):
        """Whether each connection is answered, and a new one."""
        for number, connection in enumerate([*open_ones, self.connect()]):
            connection.sendall(b"get flow%d\r\n" % (number % OPEN))
            said = b""
            while not said.endswith(b"END\r\n"):
                part = connection.recv(4096)
                if not part:
                    return False
                said += part
            if b"\r\nx\r\n" not in said:
                return False
        return True

    def run(self):
        said = self.start()
        if "\nready: " not in "\n" + said:
            raise TrialError(f"{self.name()}: it did not start: {said}")
        self.host.run(f"ip -ts -o monitor link dev {self.link} >{self.host.folder}/told 2>&1 </dev/null & ")
        open_ones = [self.connect() for _ in range(OPEN)]
        for number, connection in enumerate(open_ones):
            connection.sendall(b"set flow%d 0 0 1\r\nx\r\n" % number)
            assert connection.recv(64) == b"STORED\r\n"
        for what, change, words, undo, back in DONE:
            self.change(what, change.format(self.link), words, open_ones)
            if undo:
                self.change(f"{what}, undone", undo.format(self.link, TABLE[self.driver]), back, open_ones)
        # The kernel's own way to take a device away.
        device = self.host.run(f"realpath /sys/class/net/{self.link}/device")
        device = re.search(r".*/[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f]", device)[0]
        self.host.run(f"echo 1 >{device}/remove")
        closing = self.ended()
        self.lines += closing.splitlines()[-30:]
        gone = f"interface {self.link} was removed" in closing or "could not go on" in closing
        self.note("device removed", gone and "\nexit 0" not in closing, closing.splitlines()[-1])

    def change(self, what, command, words, open_ones):
        """Does it, and looks what becomes of it."""
        if words is None:
            refused = self.host.run(f"{command} && echo done", check=False)
            self.note(what, not refused.endswith("done") and self.all_answer(open_ones), "the kernel refuses it; all are served")
            self.lines += refused.splitlines()
            return
        seconds = self.until_said(command, words)
        # While it is down nobody is served.
        served = words == "is down" or self.all_answer(open_ones)
        told = f", {self.told_to_line(words):.3f} s after the kernel told of it" if words in TOLD else ""
        self.note(what, served, f"said after {seconds:.2f} s{told}")


def table(trials):
    """The trials as a table of Markdown."""
    cells = list(dict.fromkeys(cell for trial in trials for cell in trial.cells))
    rows = ["| NIC | " + " | ".join(cells) + " |", "|---" * (1 + len(cells)) + "|"]
    for trial in trials:
        rows.append(f"| {trial.driver} | " + " | ".join(trial.cells.get(cell, "-") for cell in cells) + " |")
    return "\n".join(rows) + "\n"
