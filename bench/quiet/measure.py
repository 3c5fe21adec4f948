"""What 64 busy connections get of a server beside a crowd of quiet ones, and without it: a table, and a line of JSON a window.

usage: measure.py --binary sidestep-cached --mcload sidestep-mcload [--quiet 500000] [--busy 64] [--rounds 8] [--seconds 8]

Run by scripts/quiet, which makes the lab. README.md says what is compared. Each window has a server of its own.
"""

import argparse
import contextlib
import json
import os
import random
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

SERVER, PORT = "10.77.0.2", 11211
# The addresses of the generators' own stacks: of the busy one, and of the quiet one as many as half a million ports take.
BUSY, CROWD = "10.77.0.16", "10.77.0.100-10.77.0.163"
# A question a minute of each.
ASKED_EVERY = 60
# The few ask as many: each so seldom, too, that it acknowledges an answer before it asks again.
FEW = 1_024
# Before the busy ones begin, and what the quiet ones go on beyond them.
SETTLING = 2.0
LAB = "scripts/lab"
WINDOWS = ("none", "few", "many")


def memcached(command):
    """The lines with which the server answers a command, over a kernel socket in the client's namespace."""
    program = (
        "import socket,sys\n"
        f"one=socket.create_connection(('{SERVER}',{PORT}),timeout=2)\n"
        "one.sendall(sys.argv[1].encode()+b'\\r\\n')\n"
        "got=b''\n"
        "while not got.endswith(b'END\\r\\n'):\n"
        "    part=one.recv(65536)\n"
        "    assert part\n"
        "    got+=part\n"
        "sys.stdout.write(got.decode())\n"
    )
    done = subprocess.run([LAB, "client", sys.executable, "-c", program, command], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def counters():
    """What the server has counted."""
    pairs = (line.split() for line in memcached("stats sidestep") + memcached("stats"))
    return {words[1]: int(words[2]) for words in pairs if len(words) == 3 and words[2].isdigit()}


def resident(supervisor):
    """MiB that the data plane has in RAM."""
    with open(f"/proc/{supervisor}/task/{supervisor}/children", encoding="ascii") as children:
        for child in children.read().split():
            with open(f"/proc/{child}/status", encoding="ascii") as status:
                text = status.read()
            if text.startswith("Name:\tsidestep-plane"):
                return int(re.search(r"VmRSS:\s+(\d+) kB", text)[1]) / 1024
    raise LookupError("the server has no data plane")


def resident_at_rest(supervisor):
    """The same once it is so for a second: a server that serves already makes the store's memory still."""
    same, before = 0, resident(supervisor)
    while same < 5:
        time.sleep(0.2)
        now = resident(supervisor)
        same, before = (same + 1, now) if now == before else (0, now)
    return before


def processor_seconds(process):
    """How long a process has had a processor (proc_pid_stat(5), utime and stime)."""
    with open(f"/proc/{process}/stat", encoding="ascii") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def server(options):
    """A server, until it is asked to end."""
    command = [LAB, "server", options.binary, "--interface", "ss0", "--address", f"{SERVER}/24", "-t", "1", "-m", "64"]
    command += ["-c", str(options.quiet + 2048), "-o", "awake_flows=4096", "--cpus", "0", "--spin", "1000000"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        said = []
        reader = threading.Thread(target=lambda: said.extend(process.stderr))
        reader.start()
        try:
            begun = time.monotonic()
            while True:
                try:
                    memcached("stats")
                    break
                except subprocess.CalledProcessError:
                    if process.poll() is not None or time.monotonic() > begun + 60:
                        raise RuntimeError(f"the server does not serve: {''.join(said)}") from None
                    time.sleep(0.1)
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()
            reader.join()
            sys.stderr.writelines(line for line in said if " WARN " in line or line.startswith("core "))


class Quiet:
    """The generator of the quiet questions, which tells each second how many were answered."""

    def __init__(self, options, connections):
        command = [LAB, "client", options.mcload, "--server", f"{SERVER}:{PORT}", "-i", "xsk:sc0", "--address", CROWD]
        command += ["--cpu", "1", "--rest", "1000", "--connections", str(connections), "--depth", "1", "--keys", "1000"]
        command += ["--rate", str(options.quiet / ASKED_EVERY), "--mix", "get=1,set=0", "--timeout", "120"]
        command += ["--seconds", "3600", "--progress"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.lines, self.told, self.measuring = [], [], threading.Event()
        self.reader = threading.Thread(target=self.read)
        self.reader.start()

    def read(self):
        """Notes when how many were answered, wrongly, and not at all."""
        for line in self.process.stderr:
            self.lines.append(line)
            found = re.match(r"measuring: \S+ replies/s, (\d+) replies, (\d+) wrong, (\d+) unanswered", line)
            if found:
                self.told.append((time.monotonic(), *map(int, found.groups())))
                self.measuring.set()
        self.measuring.set()

    def wait(self):
        """Until all its connections are open and it asks."""
        self.measuring.wait(300)
        if not self.told:
            raise RuntimeError(f"the quiet generator does not come to measure: {''.join(self.lines)}")

    def between(self, begun, ended):
        """Its answers a second in the seconds that lie between, wrong ones, and those that never came."""
        inside = [told for told in self.told if begun <= told[0] <= ended]
        if self.process.poll() is not None or len(inside) < 2:
            raise RuntimeError(f"the quiet generator has ended: {''.join(self.lines[-5:])}")
        (first, before, *_), (last, after, wrong, unanswered) = inside[0], inside[-1]
        return (after - before) / (last - first), wrong, unanswered

    def end(self):
        """Ends it at once, and leaves its connections to the server."""
        self.process.kill()
        self.process.wait()
        self.reader.join()


def busy(options):
    """What the busy connections are answered in a window."""
    command = [LAB, "client", options.mcload, "--server", f"{SERVER}:{PORT}", "-i", "xsk:sq0", "--address", BUSY, "--cpu", "1"]
    command += ["--connections", str(options.busy), "--depth", "1", "--mix", "get=1,set=0", "--seconds", str(options.seconds)]
    command += ["--json", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the busy generator failed: {done.stderr}{done.stdout}")
    told = json.loads(done.stdout)
    measured = told["measured"]
    failed = told["wrong"] + sum(measured[name] for name in ("refused", "connect_timed_out", "cut", "timed_out"))
    return measured["per_second"], measured["latency_ns"]["p99"] / 1e3, failed


def window(options, kind):
    """One server, what stands beside it, and the busy ones."""
    with server(options) as process:
        before = resident_at_rest(process.pid)
        quiet = None
        try:
            if kind != "none":
                quiet = Quiet(options, options.quiet if kind == "many" else FEW)
                quiet.wait()
            time.sleep(SETTLING)
            held, begun = counters(), time.monotonic()
            had = processor_seconds(quiet.process.pid) if quiet else 0
            rate, p99, failed = busy(options)
            ended = time.monotonic()
            grown = resident(process.pid) - before
            counted = counters()
            row = {"kind": kind, "busy": rate, "busy_p99_us": p99, "busy_failed": failed, "grown_mib": grown}
            row |= {"connections": held["curr_connections"], "asleep": held.get("flows_asleep", 0)}
            row |= {name: counted.get(name, 0) for name in ("connections_gave_way", "xsk_rx_ring_full", "segments_sent_again")}
            if quiet:
                row["quiet_processor"] = (processor_seconds(quiet.process.pid) - had) / (ended - begun)
                row["quiet"], row["quiet_wrong"], row["quiet_unanswered"] = quiet.between(begun, ended)
            return row
        finally:
            if quiet:
                quiet.end()


def left(row):
    """What the busy ones are answered for each second of CPU 1 that the quiet generator leaves theirs."""
    return row["busy"] / (1 - row.get("quiet_processor", 0))


def compared(rows, kind, base, of):
    """The median of the rounds' ratios, and 95 % of those of rounds drawn anew."""
    ratios = [of(row[kind]) / of(row[base]) for row in rows]
    drawn = random.Random(1)
    medians = sorted(statistics.median(drawn.choices(ratios, k=len(ratios))) for _ in range(2_000))
    low, high = medians[int(0.025 * len(medians))], medians[int(0.975 * len(medians))]
    return f"**{statistics.median(ratios):.3f}** [{low:.3f} {high:.3f}]"


def table(rounds, options):
    """The windows side by side."""
    rate = lambda row: row["busy"]
    asked = options.quiet / ASKED_EVERY
    names = {
        "none": "nothing",
        "few": f"{asked:,.0f} questions/s of {FEW:,} connections",
        "many": f"{asked:,.0f} questions/s of {options.quiet:,} connections, one a minute each",
    }
    print(f"| beside {options.busy} busy connections | busy answers/s | p99, us | quiet answers/s | their generator's part of CPU 1 | "
          "the busy ones' rate: beside nothing | of CPU 1 left | beside the few | of CPU 1 left | grown, MiB | gave way |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for kind in WINDOWS:
        rows = [found[kind] for found in rounds]
        median = lambda name, rows=rows: statistics.median(row.get(name, 0) for row in rows)
        ratios = [compared(rounds, kind, base, of) if WINDOWS.index(kind) > WINDOWS.index(base) else ""
                  for base in ("none", "few") for of in (rate, left)]
        print(f"| {names[kind]} | {median('busy'):,.0f} | {median('busy_p99_us'):,.0f} | {median('quiet'):,.0f} | "
              f"{median('quiet_processor'):.3f} | {' | '.join(ratios)} | "
              f"{median('grown_mib'):.0f} | {max(row['connections_gave_way'] for row in rows)} |")


def main():
    """Rounds of three windows, whose order changes, then the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--mcload", required=True)
    parser.add_argument("--quiet", type=int, default=500_000)
    parser.add_argument("--busy", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--out", help="a line of JSON a window goes here")
    options = parser.parse_args()
    with open(options.out, "w", encoding="utf-8") if options.out else contextlib.nullcontext() as out:
        rounds = []
        for number in range(options.rounds):
            found = {}
            shift = number % len(WINDOWS)
            for kind in WINDOWS[shift:] + WINDOWS[:shift]:
                found[kind] = window(options, kind)
                line = json.dumps({"round": number, **found[kind]})
                print(line, file=sys.stderr, flush=True)
                if out:
                    print(line, file=out, flush=True)
            rounds.append(found)
    table(rounds, options)
    failed = sum(row[name] for found in rounds for row in found.values()
                 for name in ("busy_failed", "quiet_wrong", "quiet_unanswered") if name in row)
    print(f"\n{options.rounds} rounds, windows of {options.seconds} s; {failed} questions answered wrongly or not at all")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
