"""A router on the way to the client whose next link takes shorter packets: its kernel says so by ICMP, or it is silent.

    server  pm-s0  10.78.1.2   <== veth ==>  pm-r0  router  pm-r1  <== veth ==>  pm-c0  10.78.2.2  far client
                   fd78:1::2                                                            fd78:2::2
"""

import math
import os
import subprocess
import sys

import pytest
from conftest import HANG_SECONDS, PORT, SERVER_NAMESPACE, only_sidestep, with_prefix

SUFFIX = os.environ["SIDESTEP_LAB_SUFFIX"]
ROUTER, FAR = "sidestep-router" + SUFFIX, "sidestep-far" + SUFFIX
# Of each family: addresses of the server, of the router on both sides and of the client, the network beyond the router, that
# of the server, and what has the router forward.
FAMILIES = {
    "v4": ("10.78.1.2", "10.78.1.1", "10.78.2.1", "10.78.2.2", "10.78.2.0/24", "10.78.1.0/24", "net.ipv4.ip_forward"),
    "v6": ("fd78:1::2", "fd78:1::1", "fd78:2::1", "fd78:2::2", "fd78:2::/64", "fd78:1::/64", "net.ipv6.conf.all.forwarding"),
}
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


def own(namespace, link, address):
    """Gives a link an address that is used at once."""
    if ":" in address:
        for setting in ("disable_ipv6=0", "accept_dad=0", "router_solicitations=0"):
            inside(namespace, "sysctl", "-q", "-w", f"net.ipv6.conf.{link}.{setting}")
    nodad = ["nodad"] if ":" in address else []
    ip("-n", namespace, "address", "add", with_prefix(address), "dev", link, *nodad)


@pytest.fixture(params=["v4", "v6"])
def router(request):
    """The way through the router, which tells; gives the server's address and its network."""
    address, near, beyond, client, far_network, near_network, forwarding = FAMILIES[request.param]
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
        own(ROUTER, "pm-r0", near)
        own(ROUTER, "pm-r1", beyond)
        own(FAR, "pm-c0", client)
        ip("-n", FAR, "route", "add", "default", "via", beyond)
        inside(ROUTER, "sysctl", "-q", "-w", f"{forwarding}=1")
        # The link takes more, so that the client, which has no part in this, need not know.
        metric = ["metric", "256"] if ":" in address else []
        ip("-n", ROUTER, "route", "change", far_network, "dev", "pm-r1", *metric, "mtu", "lock", str(MTU))
        yield address, near_network
    finally:
        subprocess.run(["ip", "-n", SERVER_NAMESPACE, "link", "del", "pm-s0"], capture_output=True, timeout=HANG_SECONDS)
        for namespace in (ROUTER, FAR):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=HANG_SECONDS)


def fetch(address, size, times):
    """Slowest fetch and all in milliseconds, flows whose packets became shorter by a message, and by silence."""
    words = [address, PORT, size, times, HANG_SECONDS]
    command = ["ip", "netns", "exec", FAR, sys.executable, "-c", CLIENT, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=4 * HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return tuple(map(int, done.stdout.split()))


@only_sidestep
def test_a_router_that_says_that_packets_are_too_long_is_heeded(start, router):
    address, _ = router
    server = start(interface="pm-s0", address=address).wait_until_ready()
    slowest, _, told, holes = fetch(address, 1_000_000, 20)
    # The first connection is told; those after it begin as small, whichever core has them.
    assert 1 <= told <= 2, told
    assert holes == 0
    print(f"slowest fetch {slowest} ms")
    assert server.stop() == 0


@only_sidestep
def test_a_router_that_says_nothing_is_passed_in_short_packets(start, router):
    # What the router itself says to the server's side is thrown away.
    address, network = router
    family = "-6" if ":" in address else "-4"
    ip(family, "-n", ROUTER, "route", "add", "blackhole", network, "table", "99")
    ip(family, "-n", ROUTER, "rule", "add", "iif", "lo", "to", network, "lookup", "99", "priority", "1")
    server = start(interface="pm-s0", address=address).wait_until_ready()
    slowest, took, told, holes = fetch(address, 1_000_000, 5)
    assert told == 0
    # Each of the two cores finds the hole once, and again whenever it has put its suspicion to the test: 2 s after the first,
    # then after twice as long each time.
    assert 1 <= holes <= 2 * (1 + int(math.log2(1 + took / 2000))), (holes, took)
    print(f"slowest fetch {slowest} ms")
    assert server.stop() == 0
