"""The ways to wait on a NIC (`--wait`): what each sets, what is served, how many interrupts come for it, what is given back."""

import re
import time

from pymemcache.client.base import Client
from trial import HANG_SECONDS, PORT, Trial, TrialError

WAYS = ["auto", "irq", "spin"]
GETS = 400


class WaitTrial(Trial):
    """A NIC with two queues and two threads that wait in one way: killed once, and asked to end once."""

    def __init__(self, host, link, driver, way, net):
        super().__init__(host, link, driver, "auto", 2, 2, net)
        self.way = way

    def name(self):
        return f"{self.driver} --wait {self.way}"

    def command(self):
        return f"{super().command()} --wait {self.way}"

    def interrupts(self):
        """How many interrupts of the NIC's queues there have been: for what was received, and for what was sent."""
        # igb names them by the interface, virtio_net by its own number; each line counts by processor, and there are two.
        said = self.host.run("cat /proc/interrupts").splitlines()
        names = {"igb": (f"{self.link}-rx", f"{self.link}-tx"), "virtio_net": ("-input", "-output")}[self.driver]
        return [sum(int(count) for line in said if name in line for count in line.split()[1:3]) for name in names]

    def saved(self):
        """What the server has saved of the interrupts of its queues, and what it found once it had set them."""
        text = self.host.run(f"cat /run/sidestep/{self.link}.*.toml", check=False)
        return re.findall(r'setting = "napi (\d+)"\s+before = "([^"]*)"\s+set = "([^"]*)"', text)

    def gets(self):
        """Gets one after the other; the median in microseconds."""
        times = []
        client = Client((self.servers[0], PORT), connect_timeout=HANG_SECONDS, timeout=HANG_SECONDS)
        client.set("key", b"value", noreply=False)
        for _ in range(GETS):
            begin = time.monotonic()
            assert client.get("key") == b"value"
            times.append(time.monotonic() - begin)
        client.close()
        return round(sorted(times)[GETS // 2] * 1e6)

    def begin(self):
        """Starts it; returns what it said and what it has saved."""
        said = self.start()
        if "\nready: " not in "\n" + said:
            raise TrialError(f"{self.name()}: it did not start: {said}")
        return said, self.saved()

    def left(self):
        """What is saved still, though nobody runs."""
        return self.host.run(f"ls /run/sidestep/{self.link}.*.toml 2>/dev/null", check=False)

    def run(self):
        before = self.settings()
        said, saved = self.begin()
        self.lines += [line for line in said.splitlines() if line.startswith("wait: ")]
        self.lines += [f"queue {queue}: {was} -> {now}" for queue, was, now in saved]
        queues = 0 if self.way == "auto" else self.queues
        values = ", ".join(sorted({now for _, _, now in saved})) or "left as they are"
        self.note("interrupts of the queues", len(saved) == queues, values)
        first = self.interrupts()
        micros = self.gets()
        received, sent = (now - then for then, now in zip(first, self.interrupts(), strict=True))
        times = f"{GETS} gets, median {micros} us, {received} interrupts of receiving and {sent} of sending"
        self.note("serves", True, times)
        killed = self.end("KILL")
        self.lines += [f"killed: {line}" for line in killed.splitlines() if "napi" in line]
        restored = not self.left() and self.settings() == before
        # What the second one finds is what the first has left.
        self.note("given back after kill -9", self.begin()[1] == saved and restored)
        self.gets()
        closing = self.end("TERM")
        self.lines += [f"ended: {line}" for line in closing.splitlines() if "napi" in line]
        back = len(re.findall(r"napi \d+ is ", closing))
        self.note("given back", "\nexit 0" in closing and back == queues and not self.left() and self.settings() == before)
        sleeps = sum(int(count) for count in re.findall(r"sleeps=(\d+)", closing))
        self.note("sleeps", (sleeps == 0) == (self.way == "spin"), str(sleeps))


COLUMNS = ["interrupts of the queues", "serves", "sleeps", "given back", "given back after kill -9"]


def table(trials):
    """The trials as a table of Markdown."""
    rows = ["| NIC | `--wait` | " + " | ".join(COLUMNS) + " |", "|---" * (2 + len(COLUMNS)) + "|"]
    for trial in trials:
        cells = [trial.cells.get(column, "-") for column in COLUMNS]
        rows.append(f"| {trial.driver} | {trial.way} | " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"
