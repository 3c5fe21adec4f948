"""Ours beside memcached over a path: how long one set and one get take, by round trip, size and loss.

    scripts/compare path [--rtts MS,..] [--losses PERCENT,..] [--sizes BYTES,..] [--rounds N] [--count N] [--seconds S]
                         [--congestion NAME] [--name NAME]

Both servers stand behind the same relay (scripts/relay), one after the other, in an order drawn anew for each round of each
setting from the seed. The congestion control of the kernels, of memcached's side and of the client's, is set in both namespaces
and said in the README: cubic, Linux's and Debian's default, if --congestion names no other; a namespace would have the
machine's. The client is a kernel socket that does one thing at a time on one connection: `set` of a value until STORED, `get`
of it until END. Every reply is checked byte for byte. A cell of a round ends after --count exchanges or --seconds, whichever
comes first, but has three at the least. Where nothing is lost the median of the rounds' least times counts, since the least is
the path's; where frames are lost the median and the p99 of all exchanges do.

Writes bench/runs/<date>-<name>/: README.md, raw.json (every exchange), a plot a size.
"""

import argparse
import datetime
import json
import os
import platform
import random
import select
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

SUFFIX = "-path"
ENVIRONMENT = {**os.environ, "SIDESTEP_LAB_SUFFIX": SUFFIX}
OURS, PEER = "10.77.0.2", "10.77.0.3"
LEAST = 3
HANG_SECONDS = 120
NO_LOSS = ("none", 0.0)


def client(arguments):
    """Runs in the client's namespace: prints the microseconds of every exchange of each size, as one JSON object."""
    measured = {}
    for size in arguments.sizes:
        connection = socket.create_connection((arguments.address, 11211), HANG_SECONDS)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(HANG_SECONDS)
        value = random.Random(size).randbytes(size)
        store = b"set path 0 0 %d\r\n%b\r\n" % (size, value)
        found = b"VALUE path 0 %d\r\n%b\r\nEND\r\n" % (size, value)
        # The first exchanges open the congestion windows, as on a connection that is in use; they do not count.
        for _ in range(2):
            exchange(connection, store, b"STORED\r\n")
            exchange(connection, b"get path\r\n", found)
        for name, request, reply in (("set", store, b"STORED\r\n"), ("get", b"get path\r\n", found)):
            times, until = [], time.monotonic() + arguments.seconds
            while len(times) < LEAST or len(times) < arguments.count and time.monotonic() < until:
                times.append(exchange(connection, request, reply))
            measured[f"{size} {name}"] = times
        connection.close()
    print(json.dumps(measured))


def exchange(connection, request, reply):
    """Microseconds from the first byte of the request to the last of the reply, which must be `reply`."""
    began = time.perf_counter_ns()
    connection.sendall(request)
    got = bytearray()
    while len(got) < len(reply):
        part = connection.recv(1 << 20)
        if not part:
            sys.exit(f"path: the server closed the connection after {len(got)} of {len(reply)} bytes")
        got += part
    took = time.perf_counter_ns() - began
    if got != reply:
        sys.exit(f"path: a reply of {len(got)} bytes is not the one that was asked for")
    return took // 1000


def relay(*words):
    done = subprocess.run(["scripts/relay", *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=HANG_SECONDS)
    if done.returncode != 0:
        sys.exit(f"path: scripts/relay {' '.join(words)}: {done.stdout}{done.stderr}")


def set_congestion(name, environment=ENVIRONMENT):
    """Has both kernels use a congestion control, by their route to each other: the setting of a namespace may only be one that
    the machine allows to all. Ends the run where a kernel does not have it."""
    for side, link, address in (("client", "sc0", "10.77.0.1"), ("server", "ss0", "10.77.0.3")):
        route = ["10.77.0.0/24", "dev", link, "proto", "kernel", "scope", "link", "src", address, "congctl", name]
        done = subprocess.run(["scripts/lab", side, "ip", "route", "replace", *route], env=environment, capture_output=True, text=True)
        shown = subprocess.run(["scripts/lab", side, "ip", "route", "show"], env=environment, capture_output=True, text=True).stdout
        if f"congctl {name}" not in shown:
            sys.exit(f"path: the {side}'s kernel does not take {name}: {done.stderr.strip()}; modprobe tcp_{name}, or name another")


def commands(arguments):
    """Of either server: its address, and how it is started."""
    lab = ["scripts/lab", "server"]
    return {
        "ours": (OURS, [*lab, "target/release/sidestep-cached", "--interface", "ss0", "--address", OURS + "/24", "-t", "1",
                        "-m", "1024", "-c", "1024", "-I", "2m"]),
        "memcached": (PEER, [*lab, arguments.peer, "-u", "nobody", "-l", PEER, "-t", "1", "-m", "1024", "-c", "1024",
                             "-I", "2m", "-R", "1000"]),
    }


def measure(arguments, side):
    """Starts a server, has the client measure it, ends it."""
    address, command = commands(arguments)[side]
    with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            if side == "ours":
                wait_for_ready(server)
            words = ["client", "--peer", arguments.peer, "--address", address, "--sizes", ",".join(map(str, arguments.sizes)),
                     "--count", str(arguments.count), "--seconds", str(arguments.seconds)]
            inside = ["scripts/lab", "client", sys.executable, __file__, *words]
            for attempt in range(50):
                done = subprocess.run(inside, env=ENVIRONMENT, capture_output=True, text=True)
                # memcached does not say when it listens; nothing was measured while it did not.
                if "ConnectionRefusedError" not in done.stderr:
                    break
                select.select([], [], [], 0.05)
        finally:
            server.terminate()
    if done.returncode != 0:
        sys.exit(f"path: {side}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def wait_for_ready(server):
    for line in server.stdout:
        if line.startswith("ready"):
            return
    sys.exit("path: sidestep-cached ended at its start; run its command by hand to see why")


def settings(arguments):
    """Every round trip with every loss, in either direction."""
    for rtt in arguments.rtts:
        for percent in arguments.losses:
            directions = ["none"] if percent == 0 else ["to server", "to client"]
            for direction in directions:
                yield rtt, direction, percent


def relay_words(rtt, direction, percent, seed):
    words = ["--seed", str(seed), "--both", f"delay={round(rtt * 500)}us"]
    if percent > 0:
        words += ["--to-right" if direction == "to server" else "--to-left", f"loss={percent}%"]
    return words


def figure(rounds, lossy):
    """What counts of a cell: the median of the rounds' least times, or the median and the p99 of all exchanges."""
    ordered = sorted(took for times in rounds for took in times)
    p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
    return statistics.median(ordered if lossy else map(min, rounds)), p99


def main():
    arguments = parse()
    if arguments.act == "client":
        return client(arguments)
    rng, rows, raw = random.Random(arguments.seed), [], []
    relay("up")
    try:
        set_congestion(arguments.congestion)
        for rtt, direction, percent in settings(arguments):
            # Of either side, of each cell: the exchanges of each round.
            measured = {"ours": {}, "memcached": {}}
            for turn in range(arguments.rounds):
                for side in rng.sample(["ours", "memcached"], 2):
                    relay("set", *relay_words(rtt, direction, percent, arguments.seed + turn))
                    for cell, times in measure(arguments, side).items():
                        measured[side].setdefault(cell, []).append(times)
            raw.append({"rtt_ms": rtt, "lost": direction, "percent": percent, "us": measured})
            for cell in measured["ours"]:
                rows.append(row(rtt, direction, percent, cell, measured))
                print(rows[-1], flush=True)
    finally:
        relay("down")
    write(arguments, rows, raw)


def row(rtt, direction, percent, cell, measured):
    size, act = cell.split()
    lossy = percent > 0
    ours, ours_p99 = figure(measured["ours"][cell], lossy)
    peer, peer_p99 = figure(measured["memcached"][cell], lossy)
    lost = "none" if not lossy else f"{percent:g} % {direction}"
    tail = f"{ours_p99 / 1000:.1f} / {peer_p99 / 1000:.1f}" if lossy else "-"
    counts = " / ".join(str(sum(map(len, measured[side][cell]))) for side in ("ours", "memcached"))
    return f"| {rtt:g} | {lost} | {size} | {act} | {ours / 1000:.2f} | {peer / 1000:.2f} | **{ours / peer:.2f}** | {tail} | {counts} |"


HEAD = """| RTT ms | frames lost | bytes | act | ours ms | memcached ms | ours / memcached | p99 ms, ours / memcached | exchanges |
|---|---|---|---|---:|---:|---:|---:|---:|
"""


def write(arguments, rows, raw):
    folder = Path("bench/runs") / f"{datetime.date.today()}-{arguments.name}"
    folder.mkdir(parents=True)
    said = lambda *command: subprocess.run(command, capture_output=True, text=True).stdout.strip()
    lossless = (f"Without loss the time is the median of the least of each of {arguments.rounds} rounds; with loss, the median of "
                "all exchanges, and the p99 beside it.")
    servers = commands(arguments)
    # Plots show what takes place without loss.
    plotted = arguments.sizes if 0 in arguments.losses else []
    text = [
        "# Ours beside memcached over a path", "",
        f"`scripts/compare path {' '.join(sys.argv[1:])}`".replace(" `", "`"), "",
        f"Commit {said('git', 'describe', '--always', '--dirty=+')}; {said(arguments.peer, '--version')}; "
        f"Linux {platform.release()}, {os.cpu_count()} processors. Both servers behind the same relay, seed {arguments.seed}.",
        f"Congestion control of both namespaces' kernels, thus of memcached and of the client: **{arguments.congestion}**.",
        "One connection of the kernel's, one exchange at a time. " + lossless, "",
        *(f"* {side}: `{' '.join(command[2:])}`" for side, (_, command) in servers.items()), "",
        HEAD + "\n".join(rows), "",
        *(f"![{size} bytes](path-{size}.svg)" for size in plotted), "",
    ]
    (folder / "README.md").write_text("\n".join(text))
    (folder / "raw.json").write_text(json.dumps(raw))
    for size in plotted:
        plot(folder / f"path-{size}.svg", size, arguments.rtts, raw)
    print(f"path: wrote {folder}")


def plot(file, size, rtts, raw):
    """A line for each server and act: the time over the round trip, without loss."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure_, axes = pyplot.subplots(figsize=(7, 4.5))
    for side, colour in (("ours", "tab:blue"), ("memcached", "tab:orange")):
        for act, style in (("set", "-"), ("get", "--")):
            cells = [entry["us"][side][f"{size} {act}"] for entry in raw if entry["percent"] == 0]
            axes.plot(rtts[: len(cells)], [figure(rounds, False)[0] / 1000 for rounds in cells], style, color=colour, marker="o",
                      label=f"{side}, {act}")
    axes.set(xscale="log", yscale="log", xlabel="round trip (ms)", ylabel="least time of an exchange (ms)",
             title=f"One value of {size} bytes, nothing lost")
    axes.legend()
    axes.grid(True, which="both", alpha=0.3)
    figure_.savefig(file, metadata={"Date": None})
    pyplot.close(figure_)


def parse():
    numbers = lambda kind: lambda text: [kind(word) for word in text.split(",")]
    parser = argparse.ArgumentParser(prog="scripts/compare path", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("act", nargs="?", default="run", choices=["run", "client"], help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--rtts", type=numbers(float), default=[0.2, 1, 10, 40], metavar="MS,..")
    parser.add_argument("--losses", type=numbers(float), default=[0, 0.1, 1], metavar="PERCENT,..")
    parser.add_argument("--sizes", type=numbers(int), default=[100, 30_000, 1_000_000], metavar="BYTES,..")
    parser.add_argument("--rounds", type=int, default=5, help="each a run of either server")
    parser.add_argument("--count", type=int, default=30, help="most exchanges of a cell and round")
    parser.add_argument("--seconds", type=float, default=1, help="most seconds of a cell and round")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--congestion", default="cubic", metavar="NAME", help="the kernels' congestion control")
    parser.add_argument("--peer", required=True, metavar="PROGRAM", help="the memcached to compare with")
    parser.add_argument("--name", default="path")
    return parser.parse_args()


if __name__ == "__main__":
    main()
