"""A router on the way to the client whose next link takes shorter packets: its kernel says so by ICMP, or it is silent.

    server  pm-s0  10.78.1.2   <== veth ==>  pm-r0  router  pm-r1  <== veth ==>  pm-c0  10.78.2.2  far client
"""

import math
import os
import subprocess
import sys

import pytest
from conftest import HANG_SECONDS, PORT, SERVER_NAMESPACE, only_sidestep

SUFFIX = os.environ["SIDESTEP_LAB_SUFFIX"]
ROUTER, FAR = "sidestep-router" + SUFFIX, "sidestep-far" + SUFFIX
ADDRESS = "10.78.1.2"
# What the way from the router to the client takes.
MTU = 1300

# Stores a value, fetches it so many times, each by a new connection, and prints how long the slowest fetch took in
# milliseconds and how long all took, then two counters of the server's.
CLIENT = """
import re, socket, sys, time
address, port, size, times, hang = sys.argv[1], *map(int, sys.argv[2:])
def connect():
    c = socket.create_connection((address, port), timeout=hang)
    c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return c
def until(c, end):
    got = bytearray()
    while not got.endswith(end):
        part = c.recv(1 << 20)
        if not part:
            sys.exit("the server closed after %d bytes" % len(got))
        got += part
    return bytes(got)
value = bytes(65 + i % 26 for i in range(size))
c = connect()
c.sendall(b"set k 0 0 %d\\r\\n%s\\r\\n" % (size, value))
until(c, b"STORED\\r\\n")
slowest, first = 0, time.monotonic()
for fetch in range(times):
    c = connect()
    began = time.monotonic()
    c.sendall(b"get k\\r\\n")
    got = until(c, b"\\r\\nEND\\r\\n")
    slowest = max(slowest, time.monotonic() - began)
    if got != b"VALUE k 0 %d\\r\\n%s\\r\\nEND\\r\\n" % (size, value):
        sys.exit("wrong bytes")
took = time.monotonic() - first
# A core shows what it has counted every 250 ms.
told = holes = 0
ends = time.monotonic() + hang
while told + holes == 0 and time.monotonic() < ends:
    c.sendall(b"stats sidestep\\r\\n")
    stats = dict(re.findall(r"STAT (\\S+) (\\d+)", until(c, b"END\\r\\n").decode()))
    told, holes = int(stats.get("path_mtus_lowered", 0)), int(stats.get("path_mtu_holes", 0))
print(int(slowest * 1000), int(took * 1000), told, holes)
"""


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


def inside(namespace, *words):
    done = subprocess.run(["ip", "netns", "exec", namespace, *words], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"


@pytest.fixture
def router():
    """The way through the router, which tells."""
    try:
        for namespace in (ROUTER, FAR):
            ip("netns", "add", namespace)
            ip("-n", namespace, "link", "set", "lo", "up")
        ends = {"pm-s0": SERVER_NAMESPACE, "pm-r0": ROUTER, "pm-r1": ROUTER, "pm-c0": FAR}
        for one, other in (("pm-s0", "pm-r0"), ("pm-r1", "pm-c0")):
            ip("link", "add", one, "netns", ends[one], "type", "veth", "peer", "name", other, "netns", ends[other])
        for link, namespace in ends.items():
            inside(namespace, "ethtool", "-K", link, "tx", "off")
            ip("-n", namespace, "link", "set", link, "up")
        ip("-n", ROUTER, "address", "add", "10.78.1.1/24", "dev", "pm-r0")
        ip("-n", ROUTER, "address", "add", "10.78.2.1/24", "dev", "pm-r1")
        ip("-n", FAR, "address", "add", "10.78.2.2/24", "dev", "pm-c0")
        ip("-n", FAR, "route", "add", "default", "via", "10.78.2.1")
        inside(ROUTER, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        # The link takes more, so that the client, which has no part in this, need not know.
        ip("-n", ROUTER, "route", "change", "10.78.2.0/24", "dev", "pm-r1", "mtu", "lock", str(MTU))
        yield
    finally:
        subprocess.run(["ip", "-n", SERVER_NAMESPACE, "link", "del", "pm-s0"], capture_output=True, timeout=HANG_SECONDS)
        for namespace in (ROUTER, FAR):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=HANG_SECONDS)


def fetch(size, times):
    """Slowest fetch and all in milliseconds, flows whose packets became shorter by a message, and by silence."""
    words = [ADDRESS, PORT, size, times, HANG_SECONDS]
    command = ["ip", "netns", "exec", FAR, sys.executable, "-c", CLIENT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return tuple(map(int, done.stdout.split()))


@only_sidestep
def test_a_router_that_says_that_packets_are_too_long_is_heeded(start, router):
    server = start(interface="pm-s0", address=ADDRESS).wait_until_ready()
    slowest, _, told, holes = fetch(1_000_000, 20)
    # The first connection is told; those after it begin as small, whichever core has them.
    assert 1 <= told <= 2, told
    assert holes == 0
    print(f"slowest fetch {slowest} ms")
    assert server.stop() == 0


@only_sidestep
def test_a_router_that_says_nothing_is_passed_in_short_packets(start, router):
    # What the router itself says to the server's side is thrown away.
    ip("-n", ROUTER, "route", "add", "blackhole", "10.78.1.0/24", "table", "99")
    ip("-n", ROUTER, "rule", "add", "iif", "lo", "to", "10.78.1.0/24", "lookup", "99", "priority", "1")
    server = start(interface="pm-s0", address=ADDRESS).wait_until_ready()
    slowest, took, told, holes = fetch(1_000_000, 5)
    assert told == 0
    # Each of the two cores finds the hole once, and again whenever it has put its suspicion to the test: 2 s after the first,
    # then after twice as long each time.
    assert 1 <= holes <= 2 * (1 + int(math.log2(1 + took / 2000))), (holes, took)
    print(f"slowest fetch {slowest} ms")
    assert server.stop() == 0
