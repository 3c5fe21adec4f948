"""A server behind a bad wire, over either family: values of 1 MB both ways by a kernel's TCP, while the relay between the two
loses, reorders, doubles and damages frames, or passes none that is long and tells nobody.

    sidestep-client  sc0 <== veth ==> rc0  relay  rs0 <== veth ==> ss0  sidestep-server
"""

import re
import subprocess

import pytest
from conftest import HANG_SECONDS, connect, exchange, found, only_sidestep, store
from test_relay import CLIENT, SERVER, relay
from test_routers import namespace, stats_when

ADDRESSES = {"v4": "10.77.0.2", "v6": "fd77::2"}
VALUES = {b"%d" % seed: bytes((seed + i * 7) % 251 for i in range(1_000_000)) for seed in (1, 2)}
# Faults of both directions, and what the relay counts of each.
FAULTS = {
    "loss": ("loss=2%", ["lost"]),
    "reorder": ("reorder=10%:3:5ms", ["reordered"]),
    "double-and-damage": ("duplicate=5%,corrupt=1%:15", ["duplicated", "corrupted"]),
    "all-at-once": (
        "delay=2ms,loss=1%,reorder=5%:3:5ms,duplicate=1%,corrupt=1%:15",
        ["lost", "reordered", "duplicated", "corrupted"],
    ),
    # Of IPv6 the shortest that every link takes is 1,280.
    "mtu-hole": ("mtu=1400", ["too_long"]),
}


@pytest.fixture(scope="module")
def wire():
    """The two namespaces with a relay between, where the client's kernel looks for holes as the server does."""
    relay("up", "--queues", "2", "--v6")
    try:
        for setting in ("tcp_mtu_probing=1", "tcp_retries1=1"):
            command = ["ip", "netns", "exec", CLIENT, "sysctl", "-q", "-w", f"net.ipv4.{setting}"]
            subprocess.run(command, check=True, timeout=HANG_SECONDS)
        yield
    finally:
        relay("down")


def counted(said, name):
    """What the relay says it did, to the left and to the right."""
    return [int(count) for count in re.findall(rf" {name}=(\d+)", said)]


@only_sidestep
@pytest.mark.parametrize("family", ADDRESSES)
@pytest.mark.parametrize("fault", FAULTS)
def test_megabytes_pass_both_ways(start, wire, family, fault):
    words, counts = FAULTS[fault]
    relay("set")
    server = start(address=ADDRESSES[family], namespace=SERVER).wait_until_ready()
    with namespace(CLIENT):
        connections = [connect(address=ADDRESSES[family]) for _ in VALUES]
    relay("set", "--seed", "14", "--both", words)
    # One after the other, so that each has the wire for itself, and each reads what the other has stored.
    for connection, (key, value) in zip(connections, VALUES.items(), strict=True):
        exchange(connection, store(key, value), b"STORED\r\n")
    for connection, (key, value) in zip(connections, reversed(VALUES.items()), strict=True):
        exchange(connection, b"get " + key + b"\r\n", found(key, value) + b"END\r\n")
    said = relay("set")
    for name in counts:
        assert len(counted(said, name)) == 2 and min(counted(said, name)) > 0, said
    if fault == "mtu-hole":
        stats = stats_when(connections[0], lambda stats: stats.get("path_mtu_holes", 0) > 0)
        assert stats.get("path_mtus_lowered", 0) == 0, stats
    for connection in connections:
        connection.close()
    assert server.stop() == 0, server.errors
