"""Clients beyond routers: two of them between the server's network and the client's, whose tables, and the server's
kernel's, change meanwhile.

             10.79.1.0/24                                           10.79.2.0/24
    server  ro-s0 .2 (.3: its kernel)  <==>  bridge  <==>  first   .1      .1   <==>  bridge  <==>  ro-far .2  client
                                                     <==>  second  .254    .254 <==>
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import time

import pytest
from conftest import (
    HANG_SECONDS,
    PORT,
    SERVER_NAMESPACE,
    Log,
    exchange,
    found,
    only_sidestep,
    sidestep_stats,
    store,
)

SUFFIX = os.environ["SIDESTEP_LAB_SUFFIX"]
FIRST, SECOND, SEGMENTS, FAR = (f"sidestep-{name}{SUFFIX}" for name in ("first", "second", "segments", "beyond"))
ADDRESS = "10.79.1.2"
VALUE = bytes(65 + i % 26 for i in range(1_000_000))
CLONE_NEWNET = 0x40000000


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def inside(namespace, *words):
    return ip("netns", "exec", namespace, *words)


@contextlib.contextmanager
def namespace(name):
    """Sockets that are made here belong to the namespace."""
    setns = ctypes.CDLL(None, use_errno=True).setns
    with open("/proc/self/ns/net", "rb") as own, open(f"/run/netns/{name}", "rb") as other:
        assert setns(other.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert setns(own.fileno(), CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())


def connect_from_afar():
    with namespace(FAR):
        connection = socket.create_connection((ADDRESS, PORT), timeout=HANG_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def set_and_get(connection, key):
    exchange(connection, store(key, VALUE), b"STORED\r\n")
    exchange(connection, b"get " + key + b"\r\n", found(key, VALUE) + b"END\r\n")


def sent_by(router):
    """Bytes that the router has got from the server's network."""
    with namespace(router), open("/proc/net/dev", encoding="ascii") as table:
        return int(next(line for line in table if "ro-near" in line).split(":")[1].split()[0])


def stats_when(connection, wanted):
    """The counts of the server, once the core has shown that `wanted` is so: every 250 ms."""
    ends = time.monotonic() + HANG_SECONDS
    while time.monotonic() < ends:
        stats = sidestep_stats(connection)
        if wanted(stats):
            return stats
    pytest.fail(f"never so: {stats}")


def cable(one, other):
    """A veth from the link of one namespace to that of another."""
    (space, link), (there, peer) = one, other
    ip("link", "add", link, "netns", space, "type", "veth", "peer", "name", peer, "netns", there)
    for where, name in (one, other):
        inside(where, "ethtool", "-K", name, "tx", "off")
        ip("-n", where, "link", "set", name, "up")


def lay_out():
    for name in (SEGMENTS, FIRST, SECOND, FAR):
        ip("netns", "add", name)
        ip("-n", name, "link", "set", "lo", "up")
    for bridge in ("near", "far"):
        ip("-n", SEGMENTS, "link", "add", bridge, "type", "bridge")
        ip("-n", SEGMENTS, "link", "set", bridge, "up")
    ends = {
        "near": [(SERVER_NAMESPACE, "ro-s0"), (FIRST, "ro-near"), (SECOND, "ro-near")],
        "far": [(FAR, "ro-far"), (FIRST, "ro-beyond"), (SECOND, "ro-beyond")],
    }
    for bridge, those in ends.items():
        for number, end in enumerate(those):
            cable(end, (SEGMENTS, f"{bridge}{number}"))
            ip("-n", SEGMENTS, "link", "set", f"{bridge}{number}", "master", bridge)
    ip("-n", SERVER_NAMESPACE, "address", "add", "10.79.1.3/24", "dev", "ro-s0")
    ip("-n", SERVER_NAMESPACE, "route", "add", "10.79.2.0/24", "via", "10.79.1.1", "dev", "ro-s0")
    ip("-n", FAR, "address", "add", "10.79.2.2/24", "dev", "ro-far")
    ip("-n", FAR, "route", "add", "default", "via", "10.79.2.1")
    for router, last in ((FIRST, 1), (SECOND, 254)):
        ip("-n", router, "address", "add", f"10.79.1.{last}/24", "dev", "ro-near")
        ip("-n", router, "address", "add", f"10.79.2.{last}/24", "dev", "ro-beyond")
        inside(router, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")


@pytest.fixture
def routers():
    """The two networks and the routers between them; the first is everybody's."""
    try:
        lay_out()
        yield
    finally:
        subprocess.run(["ip", "-n", SERVER_NAMESPACE, "link", "del", "ro-s0"], capture_output=True, timeout=HANG_SECONDS)
        for name in (FIRST, SECOND, FAR, SEGMENTS):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=HANG_SECONDS)


def serve(start, *extra):
    return start(interface="ro-s0", address=ADDRESS, extra=["-v", *extra]).wait_until_ready()


@only_sidestep
def test_answers_go_by_the_router_that_the_kernels_table_names_now(start, routers):
    server = serve(start)
    log = Log(server)
    log.until("10.79.2.0/24 via 10.79.1.1")
    connection = connect_from_afar()
    set_and_get(connection, b"one")
    before = sent_by(SECOND)
    # Both go on forwarding, and the client goes on asking by the first.
    ip("-n", SERVER_NAMESPACE, "route", "replace", "10.79.2.0/24", "via", "10.79.1.254", "dev", "ro-s0")
    log.until("10.79.2.0/24 via 10.79.1.254")
    stats = stats_when(connection, lambda stats: stats.get("flows_moved", 0) > 0)
    assert stats["route_changes"] == 1
    set_and_get(connection, b"two")
    assert sent_by(SECOND) - before > len(VALUE)
    assert server.stop() == 0


@only_sidestep
def test_a_connection_outlives_the_router_that_it_came_by(start, routers):
    server = serve(start)
    connection = connect_from_afar()
    set_and_get(connection, b"one")
    # The second takes the place of the first everywhere, and the first forwards nothing more.
    ip("-n", SERVER_NAMESPACE, "route", "replace", "10.79.2.0/24", "via", "10.79.1.254", "dev", "ro-s0")
    ip("-n", FAR, "route", "replace", "default", "via", "10.79.2.254")
    ip("-n", FIRST, "link", "set", "ro-near", "down")
    set_and_get(connection, b"two")
    set_and_get(connect_from_afar(), b"three")
    assert server.stop() == 0


@only_sidestep
def test_a_router_that_gets_another_station_is_followed(start, routers):
    server = serve(start)
    connection = connect_from_afar()
    set_and_get(connection, b"one")
    ip("-n", FIRST, "link", "set", "ro-near", "down")
    ip("-n", FIRST, "link", "set", "ro-near", "address", "02:00:00:00:79:01", "up")
    set_and_get(connection, b"two")
    assert stats_when(connection, lambda stats: stats.get("flows_moved", 0) > 0)
    assert server.stop() == 0


@only_sidestep
def test_a_redirect_is_counted_and_not_followed(start, routers):
    server = serve(start)
    connection = connect_from_afar()
    # The first router hands on by the network that the frame came from, and says so.
    for scope in ("all", "ro-near"):
        inside(FIRST, "sysctl", "-q", "-w", f"net.ipv4.conf.{scope}.send_redirects=1")
    ip("-n", FIRST, "route", "replace", "10.79.2.2/32", "via", "10.79.1.254", "dev", "ro-near")
    set_and_get(connection, b"one")
    stats = stats_when(connection, lambda stats: stats.get("dropped_icmp_redirect", 0) > 0)
    assert stats.get("flows_moved", 0) == 0
    assert server.stop() == 0


@only_sidestep
def test_a_gateway_that_is_given_is_not_the_kernels(start, routers):
    server = serve(start, "--gateway", "10.79.1.254")
    connection = connect_from_afar()
    set_and_get(connection, b"one")
    # The kernel's table says otherwise, and is not asked; a way that dies is left for the one that was given.
    ip("-n", FAR, "route", "replace", "default", "via", "10.79.2.254")
    ip("-n", FIRST, "link", "set", "ro-near", "down")
    set_and_get(connection, b"two")
    stats = sidestep_stats(connection)
    assert stats.get("route_changes", 0) == 0
    assert server.stop() == 0


@only_sidestep
@pytest.mark.parametrize("near, far", [(1500, 9000), (3800, 9000), (3800, 1500)])
def test_links_of_other_lengths_on_the_way_carry_a_megabyte(start, routers, near, far):
    for bridge, mtu in (("near", near), ("far", far)):
        for number in range(3):
            ip("-n", SEGMENTS, "link", "set", f"{bridge}{number}", "mtu", str(mtu))
        ip("-n", SEGMENTS, "link", "set", bridge, "mtu", str(mtu))
    for router in (FIRST, SECOND):
        ip("-n", router, "link", "set", "ro-near", "mtu", str(near))
        ip("-n", router, "link", "set", "ro-beyond", "mtu", str(far))
    ip("-n", SERVER_NAMESPACE, "link", "set", "ro-s0", "mtu", str(near))
    ip("-n", FAR, "link", "set", "ro-far", "mtu", str(far))
    server = serve(start)
    set_and_get(connect_from_afar(), b"one")
    assert server.stop() == 0
