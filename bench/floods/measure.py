"""What honest clients see before, under and after floods: one row of a table for each.

usage: measure.py --interface sc0 --address 10.77.0.2 --server-pid N [--seconds 3] KIND[@RATE]...

Run in the client's namespace; scripts/flood does all of it. An old connection asks once a millisecond; another client opens
a connection, asks once and closes it, fifty times a second. Kinds beside those of send.py: `closed` (500 clients ask for
megabytes and read nothing), `trickle` (500 that read one byte a second) and `crowd`: 500 that read nothing and 500 that read
a thousand bytes a second, at once, for ten seconds at least, beside a third honest client, which asks for large values,
reads them as they come, and has a line of its own below the row.
"""

import argparse
import multiprocessing
import os
import random
import re
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import time

OLD_GAP, NEW_GAP = 0.001, 0.02
# Longer than a SYN takes that was lost once or twice.
LIMIT = 5.0
READERS = 500
# How long a crowd stays: who takes next to nothing is not judged before three seconds.
CROWD_SECONDS = 10
# On a machine that others use: clients and flood have priority before these, and the clients before the flood.
REAL_TIME = os.environ.get("SIDESTEP_FLOOD_REAL_TIME") == "1"
VALUE = 100_000
# Bytes a second that the clients of a crowd read. A kernel does not tell of single bytes by which its window grows: no server
# can tell who reads one a second from who reads nothing.
CROWDS = {"closed": (0,), "trickle": (1,), "crowd": (0, 1000)}


def connect(place):
    """A connection whose every step has an end."""
    one = socket.create_connection(place, timeout=LIMIT)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def ask(one):
    """One get of a small value."""
    one.sendall(b"get small\r\n")
    reply = b""
    while not reply.endswith(b"END\r\n"):
        part = one.recv(4096)
        if not part:
            raise ConnectionError("closed")
        reply += part
    if reply != b"VALUE small 0 5\r\nhello\r\nEND\r\n":
        raise ConnectionError("a wrong reply")


def old(place, seconds, out):
    """Asks on one connection; tells the microseconds that each answer took, and how many failed."""
    one, took, failed = connect(place), [], 0
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        begin = time.perf_counter()
        try:
            one = one or connect(place)
            ask(one)
        except OSError:
            failed, one = failed + 1, None
            continue
        took.append((time.perf_counter() - begin) * 1e6)
        time.sleep(max(0.0, now + OLD_GAP - time.monotonic()))
    out.send((sorted(took), failed))


def new(place, seconds, out):
    """Opens connections; tells the milliseconds that each took to its answer, and how many failed."""
    took, failed = [], 0
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        try:
            with connect(place) as one:
                ask(one)
            took.append((time.monotonic() - now) * 1e3)
        except OSError:
            failed += 1
        time.sleep(max(0.0, now + NEW_GAP - time.monotonic()))
    out.send((sorted(took), failed))


def large(place, seconds, out):
    """Asks for large values on one connection and reads them; tells the milliseconds that each took, and how many failed."""
    one, took, failed = None, [], 0
    size = len(b"VALUE large 0 %d\r\n" % VALUE) + VALUE + len(b"\r\nEND\r\n")
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        try:
            one = one or connect(place)
            one.sendall(b"get large\r\n")
            left = size
            while left:
                part = one.recv(min(left, 1 << 20))
                if not part:
                    raise ConnectionError("closed")
                left -= len(part)
            if not part.endswith(b"D\r\n"):
                raise ConnectionError("a wrong reply")
            took.append((time.monotonic() - now) * 1e3)
        except OSError:
            failed, one = failed + 1, None
        time.sleep(max(0.0, now + NEW_GAP - time.monotonic()))
    out.send((sorted(took), failed))


def all_of(place, seconds, works):
    """Old and new connections at once, each by a process."""
    results = []
    running = []
    for work in works:
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.Process(target=work, args=(place, seconds, theirs))
        process.start()
        if REAL_TIME:
            os.sched_setscheduler(process.pid, os.SCHED_FIFO, os.sched_param(20 if work is old else 15))
        running.append((process, ours))
    for process, ours in running:
        results.append(ours.recv())
        process.join()
    return results


def at(sorted_values, share):
    """The value below which that share lies."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else float("nan")


def resident(pid):
    """Megabytes that the process has in RAM."""
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) / 1024


def recovery(place):
    """Milliseconds until a new connection is answered."""
    begin = time.monotonic()
    while time.monotonic() < begin + 60:
        try:
            with connect(place) as one:
                ask(one)
            return (time.monotonic() - begin) * 1e3
        except OSError:
            continue
    return float("nan")


def flood(options, kind, rate, seconds):
    """The process that sends the flood, and its first word."""
    sender = os.path.join(os.path.dirname(os.path.abspath(__file__)), "send.py")
    command = [sys.executable, sender, kind, "--interface", options.interface, "--mac", options.mac]
    command += ["--address", options.address, "--rate", str(rate), "--seconds", str(seconds)]
    if REAL_TIME:
        command = ["chrt", "-f", "5", *command]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    return process


def readers(place, paces, until):
    """500 connections for each of `paces` that ask for megabytes and read so many bytes a second. Tells, for each pace, how many
    were closed."""
    ready = selectors.DefaultSelector()
    opened = []
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    for number in range(READERS * len(paces)):
        one = socket.socket(socket.AF_INET6 if ":" in place[0] else socket.AF_INET)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.settimeout(LIMIT)
        one.connect(place)
        one.sendall(b"get large\r\n" * 30)
        one.setblocking(False)
        ready.register(one, selectors.EVENT_READ)
        opened.append((one, number % len(paces)))
    until.send("ready")
    while not until.poll(1.0):
        for one, of in opened:
            try:
                if paces[of]:
                    one.recv(paces[of])
            except OSError:
                continue
    until.recv()
    closed = [0] * len(paces)
    for one, of in opened:
        try:
            # All that has come, to whatever end it has.
            while one.recv(1 << 20):
                pass
            closed[of] += 1
        except BlockingIOError:
            pass
        except OSError:
            closed[of] += 1
    until.send(closed)


def store(place):
    """What is asked for."""
    with connect(place) as one:
        one.sendall(b"set small 0 0 5\r\nhello\r\nset large 0 0 %d\r\n%s\r\n" % (VALUE, b"v" * VALUE))
        reply = b""
        while len(reply) < 16:
            reply += one.recv(64)
        assert reply == b"STORED\r\n" * 2, reply


def row(options, name):
    """Measures one kind and prints its row."""
    kind, _, rate = name.partition("@")
    rate = int(rate or 20_000)
    place = (options.address, options.port)
    works = (old, new, large) if kind == "crowd" else (old, new)
    idle_old, idle_new, *idle_large = all_of(place, options.seconds, works)
    before = resident(options.server_pid)
    if kind in CROWDS:
        ours, theirs = multiprocessing.Pipe()
        crowd = multiprocessing.Process(target=readers, args=(place, CROWDS[kind], theirs))
        crowd.start()
        assert ours.recv() == "ready"
        seconds = max(options.seconds, CROWD_SECONDS) if kind == "crowd" else options.seconds
        flooded_old, flooded_new, *flooded_large = all_of(place, seconds, works)
        after = resident(options.server_pid)
        ours.send("end")
        counts = zip(CROWDS[kind], ours.recv())
        reached = ", ".join(f"{count} {'trickling' if pace else 'closed'}" for pace, count in counts) + " reset"
        crowd.join()
    else:
        # It goes on a little longer than who looks at it.
        process = flood(options, kind, rate, options.seconds + 0.3)
        flooded_old, flooded_new = all_of(place, options.seconds, works)
        said = process.communicate()[0]
        sent, seconds = re.search(r"sent (\d+) in ([\d.]+) s", said).groups()
        reached = f"{int(sent) / float(seconds):,.0f}/s"
        after = resident(options.server_pid)
    again = recovery(place)
    idle, under = at(idle_old[0], 0.99), at(flooded_old[0], 0.99)
    cells = [
        name,
        reached,
        f"{at(idle_old[0], 0.5):.0f} / {idle:.0f}",
        f"{at(flooded_old[0], 0.5):.0f} / {under:.0f}",
        f"{under / idle:.1f}",
        f"{at(flooded_old[0], 1) / 1e3:.1f}",
        f"{flooded_old[1]}",
        f"{flooded_new[1]} of {len(flooded_new[0]) + flooded_new[1]}",
        f"{at(idle_new[0], 1):.0f} / {at(flooded_new[0], 1):.0f}",
        f"{again:.1f}",
        f"{after - before:+.1f}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)
    if kind == "crowd":
        cells = []
        for took, failed in idle_large + flooded_large:
            cells.append(f"{len(took)} gets, p50 / p99 / longest {at(took, 0.5):.1f} / {at(took, 0.99):.1f} / {at(took, 1):.1f} ms, {failed} failed")
        print(f"\nThe honest client of {VALUE:,} bytes: before {cells[0]}; under it {cells[1]}\n", flush=True)


def windows(options, name):
    """Idle and flooded windows by turns, on one machine in one mood: prints the row of their ratios."""
    kind, _, rate = name.partition("@")
    rate = int(rate or 20_000)
    place = (options.address, options.port)
    pairs, reached, failed, longest = [], [], [0, 0], [0.0, 0.0]
    for turn in range(options.pairs):
        p99 = [0.0, 0.0]
        # Which of the two comes first changes, so that what drifts does so for both.
        for flooded in (False, True) if turn % 2 == 0 else (True, False):
            process = flood(options, kind, rate, options.window + 0.1) if flooded else None
            ours, theirs = multiprocessing.Pipe()
            client = multiprocessing.Process(target=old, args=(place, options.window, theirs))
            client.start()
            if REAL_TIME:
                os.sched_setscheduler(client.pid, os.SCHED_FIFO, os.sched_param(20))
            took, fails = ours.recv()
            client.join()
            if process:
                sent, seconds = re.search(r"sent (\d+) in ([\d.]+) s", process.communicate()[0]).groups()
                reached.append(int(sent) / float(seconds))
                recovery(place)
            p99[flooded] = at(took, 0.99)
            longest[flooded] = max(longest[flooded], at(took, 1))
            failed[flooded] += fails
        pairs.append(p99)
    ratios = sorted(under / idle for idle, under in pairs)
    chosen = random.Random(1)
    medians = sorted(statistics.median(chosen.choices(ratios, k=len(ratios))) for _ in range(2_000))
    cells = [
        name,
        f"{len(pairs)} x {options.window:g} s",
        f"{statistics.median(reached):,.0f}/s",
        f"{statistics.median(idle for idle, _ in pairs):.0f} / {statistics.median(under for _, under in pairs):.0f}",
        f"**{statistics.median(ratios):.2f}** [{at(medians, 0.025):.2f} {at(medians, 0.975):.2f}]",
        f"{longest[0] / 1e3:.1f} / {longest[1] / 1e3:.1f}",
        f"{failed[0]} / {failed[1]}",
    ]
    print("| " + " | ".join(cells) + " |", flush=True)


def station(address, interface):
    """The station of a neighbour, once asked."""
    text = subprocess.run(["ip", "neigh", "show", address, "dev", interface], capture_output=True, text=True, check=True)
    return re.search(r"lladdr (\S+)", text.stdout)[1]


def main():
    """A table of all the kinds named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="+")
    parser.add_argument("--interface", required=True)
    parser.add_argument("--address", required=True)
    parser.add_argument("--port", type=int, default=11211)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--pairs", type=int, default=0, help="so many windows without and with the flood by turns, instead")
    parser.add_argument("--window", type=float, default=1, help="seconds of each")
    options = parser.parse_args()
    if REAL_TIME:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    begin = time.monotonic()
    while True:
        try:
            store((options.address, options.port))
            break
        except OSError:
            if time.monotonic() > begin + 30:
                raise
            time.sleep(0.05)
    options.mac = station(options.address, options.interface)
    if options.pairs:
        if crowds := set(CROWDS) & set(options.kinds):
            parser.error(f"{', '.join(sorted(crowds))}: no flood that comes and goes, so there are no pairs of windows")
        print("| flood | pairs | rate, median | p99 idle / under it, us, medians | p99, median of the pairs' ratios [95 %] | longest, ms | failed |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for name in options.kinds:
            windows(options, name)
        return
    print(
        "| flood | rate | p50 / p99 before, us | p50 / p99 under it, us | p99, ratio | longest, ms | old failed | new failed "
        "| longest new before / under, ms | first new after, ms | MB grown |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in options.kinds:
        row(options, name)


if __name__ == "__main__":
    main()
