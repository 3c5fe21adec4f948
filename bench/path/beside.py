"""What ours does to others on one path, and to itself where frames overtake each other.

    scripts/compare path-share   [--seconds S] [--rate MEGABITS] [--rtt MS] [--queues SHARES,..] [--congestion NAME]
    scripts/compare path-reorder [--seconds S] [--rtt MS]

share: ours and memcached at once behind the relay, which lets through so many bits a second towards the clients and drops what
finds its queue full, the queue being that share of what the path holds (bandwidth x round trip). A client of either gets values
of 1 MB, one after the other. Printed is how much of what came is whose, beside the same with a second memcached in our place.

reorder: nothing is lost, every tenth frame is overtaken by up to four, and there is jitter. A kernel's client, which delays its
ACKs as it does, gets values of 100 B, 30 kB and 1 MB. Whatever the server sent again was not lost: fails above 1 % of the frames.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time

from path import set_congestion

SUFFIX = "-beside"
ENVIRONMENT = {**os.environ, "SIDESTEP_LAB_SUFFIX": SUFFIX}
OURS, PEER = "10.77.0.2", "10.77.0.3"
VALUE = 1_000_000
LAB = ["scripts/lab", "server"]


def relay(*words):
    done = subprocess.run(["scripts/relay", *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        sys.exit(f"beside: scripts/relay {' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def start(side, peer, port):
    if side == "ours":
        command = ["target/release/sidestep-cached", "--interface", "ss0", "--address", OURS + "/24", "-m", "256", "-c", "64",
                   "-I", "2m", "-t", "1"]
    else:
        command = [peer, "-u", "nobody", "-l", PEER, "-p", str(port), "-t", "1", "-m", "256", "-c", "64", "-I", "2m"]
    server = subprocess.Popen([*LAB, *command], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if side == "ours":
        for line in server.stdout:
            if line.startswith("ready"):
                break
    return server


def client(arguments):
    """Gets values for so long, of each size in turn; prints what came and, of ours, what its counters say."""
    for _ in range(100):
        try:
            connection = socket.create_connection((arguments.address, arguments.port), 60)
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for size in arguments.sizes:
        connection.sendall(b"set v%d 0 0 %d\r\n%b\r\n" % (size, size, bytes(size)))
        read(connection, b"STORED\r\n")
    print("begins", flush=True)
    got, until = 0, time.monotonic() + arguments.seconds
    while time.monotonic() < until:
        for size in arguments.sizes:
            connection.sendall(b"get v%d\r\n" % size)
            got += len(read(connection, b"\r\nEND\r\n"))
    connection.sendall(b"stats sidestep\r\n" if arguments.address == OURS else b"stats\r\n")
    stats = dict(re.findall(r"STAT (\S+) (\d+)", read(connection, b"END\r\n").decode()))
    print(json.dumps({"bytes": got, "again": stats.get("segments_sent_again"), "probes": stats.get("tail_probes"),
                      "time_outs": stats.get("retransmission_timeouts")}))


def read(connection, end):
    got = bytearray()
    while not got.endswith(end):
        part = connection.recv(1 << 20)
        if not part:
            sys.exit("beside: the server has closed the connection")
        got += part
    return got


def run(sides, arguments, sizes):
    """The servers at once, a client each. Returns what each client printed."""
    servers = [start(side, arguments.peer, 11211 + at) for at, side in enumerate(sides)]
    try:
        clients = []
        for at, side in enumerate(sides):
            words = ["client", "--peer", arguments.peer, "--address", OURS if side == "ours" else PEER,
                     "--port", str(11211 if side == "ours" else 11211 + at),
                     "--seconds", str(arguments.seconds), "--sizes", ",".join(map(str, sizes))]
            inside = ["scripts/lab", "client", sys.executable, __file__, *words]
            clients.append(subprocess.Popen(inside, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True))
        told = [client.communicate()[0].strip().splitlines()[-1] for client in clients]
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    return [json.loads(line) for line in told]


def share(arguments):
    print(f"{arguments.rate} Mbit/s, {arguments.rtt} ms, {arguments.seconds} s, memcached on {arguments.congestion}")
    print("| queue | first | second | MB first | MB second | share of the first | of the path used |")
    print("|---:|---|---|---:|---:|---:|---:|")
    holds = arguments.rate * 1e6 / 8 * arguments.rtt / 1000
    for queue in arguments.queues:
        for sides in (["ours", "memcached"], ["memcached", "memcached"]):
            relay("set", "--both", f"delay={round(arguments.rtt * 500)}us", "--to-left",
                  f"rate={arguments.rate}M:{round(holds * queue)}")
            first, second = (told["bytes"] for told in run(sides, arguments, [VALUE]))
            used = (first + second) * 8 / arguments.seconds / arguments.rate / 1e6
            print(f"| {queue:g} | {sides[0]} | {sides[1]} | {first / 1e6:.0f} | {second / 1e6:.0f} | "
                  f"**{first / (first + second):.2f}** | {used:.2f} |", flush=True)


def reorder(arguments):
    relay("set", "--both", f"delay={round(arguments.rtt * 500)}us,jitter=1ms", "--to-left", "reorder=10%:4:2ms")
    [told] = run(["ours"], arguments, [100, 30_000, VALUE])
    counts = relay("set", "--both", "delay=1ms")
    sent = int(re.search(r"^to rc0: sent=(\d+)", counts, re.MULTILINE).group(1))
    again = int(told["again"])
    print(f"{told['bytes']} bytes, {sent} frames, none lost; sent again {again} ({100 * again / sent:.2f} %), probes "
          f"{told['probes']}, time-outs {told['time_outs']}")
    if again * 100 > sent:
        sys.exit("beside: more than 1 % was sent again though nothing was lost")


def main():
    numbers = lambda kind: lambda text: [kind(word) for word in text.split(",")]
    parser = argparse.ArgumentParser(prog="scripts/compare path-...", description=__doc__,
                                     formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("act", choices=["share", "reorder", "client"])
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--sizes", type=numbers(int), help=argparse.SUPPRESS)
    parser.add_argument("--peer", required=True, metavar="PROGRAM", help="the memcached beside")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=int, default=100)
    parser.add_argument("--rtt", type=float, default=10)
    parser.add_argument("--queues", type=numbers(float), default=[0.25, 0.5, 1, 4])
    parser.add_argument("--congestion", default="cubic")
    arguments = parser.parse_args()
    if arguments.act == "client":
        return client(arguments)
    relay("up")
    try:
        set_congestion(arguments.congestion, ENVIRONMENT)
        {"share": share, "reorder": reorder}[arguments.act](arguments)
    finally:
        relay("down")


if __name__ == "__main__":
    main()
