"""Clients beyond routers: two of them between the server's network and the client's, whose tables, and the server's
kernel's, change meanwhile.

             10.79.1.0/24, fd79:1::/64                                10.79.2.0/24, fd79:2::/64
    server  ro-s0 .2 (.3: its kernel)  <==>  bridge  <==>  first   .1      .1   <==>  bridge  <==>  ro-far .2  client
                                                     <==>  second  .254    .254 <==>

Each test is of both families; the other end of an IPv6 network is ::2 where it is .2 of the IPv4 one.
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
    with_prefix,
)

SUFFIX = os.environ["SIDESTEP_LAB_SUFFIX"]
FIRST, SECOND, SEGMENTS, FAR = (f"sidestep-{name}{SUFFIX}" for name in ("first", "second", "segments", "beyond"))
VALUE = bytes(65 + i % 26 for i in range(1_000_000))
CLONE_NEWNET = 0x40000000


class Family:
    """Addresses of one family on both networks, by the host's number."""

    def __init__(self, name):
        self.v6 = name == "v6"
        self.forwarding = "net.ipv6.conf.all.forwarding" if self.v6 else "net.ipv4.ip_forward"

    def near(self, host):
        """A host's on the server's network."""
        return f"fd79:1::{host:x}" if self.v6 else f"10.79.1.{host}"

    def beyond(self, host):
        """A host's on the client's network."""
        return f"fd79:2::{host:x}" if self.v6 else f"10.79.2.{host}"

    @property
    def far_network(self):
        """The client's network."""
        return "fd79:2::/64" if self.v6 else "10.79.2.0/24"

    def add(self, space, link, address):
        """Gives a link an address that is used at once."""
        if self.v6:
            # An address outlives that its link is down, as those of IPv4 do.
            for setting in ("disable_ipv6=0", "accept_dad=0", "router_solicitations=0", "keep_addr_on_down=1"):
                inside(space, "sysctl", "-q", "-w", f"net.ipv6.conf.{link}.{setting}")
        ip("-n", space, "address", "add", with_prefix(address), "dev", link, *(["nodad"] if self.v6 else []))

    def route(self, space, act, to, via, *more):
        """Adds or replaces a route."""
        ip("-6" if self.v6 else "-4", "-n", space, "route", act, to, "via", via, *more)


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


def connect_from_afar(family):
    with namespace(FAR):
        connection = socket.create_connection((family.near(2), PORT), timeout=HANG_SECONDS)
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


def lay_out(family):
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
    family.add(SERVER_NAMESPACE, "ro-s0", family.near(3))
    family.add(FAR, "ro-far", family.beyond(2))
    for router, last in ((FIRST, 1), (SECOND, 254)):
        family.add(router, "ro-near", family.near(last))
        family.add(router, "ro-beyond", family.beyond(last))
        inside(router, "sysctl", "-q", "-w", f"{family.forwarding}=1")
    family.route(SERVER_NAMESPACE, "add", family.far_network, family.near(1), "dev", "ro-s0")
    family.route(FAR, "add", "default", family.beyond(1))


@pytest.fixture(params=["v4", "v6"])
def routers(request):
    """The two networks and the routers between them, the first of which is everybody's: the family that they speak."""
    family = Family(request.param)
    try:
        lay_out(family)
        yield family
    finally:
        subprocess.run(["ip", "-n", SERVER_NAMESPACE, "link", "del", "ro-s0"], capture_output=True, timeout=HANG_SECONDS)
        for name in (FIRST, SECOND, FAR, SEGMENTS):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=HANG_SECONDS)


def serve(start, family, *extra):
    return start(interface="ro-s0", address=family.near(2), extra=["-v", *extra]).wait_until_ready()


@only_sidestep
def test_answers_go_by_the_router_that_the_kernels_table_names_now(start, routers):
    server = serve(start, routers)
    log = Log(server)
    log.until(f"{routers.far_network} via {routers.near(1)}")
    connection = connect_from_afar(routers)
    set_and_get(connection, b"one")
    before = sent_by(SECOND)
    # Both go on forwarding, and the client goes on asking by the first.
    routers.route(SERVER_NAMESPACE, "replace", routers.far_network, routers.near(254), "dev", "ro-s0")
    log.until(f"{routers.far_network} via {routers.near(254)}")
    stats = stats_when(connection, lambda stats: stats.get("flows_moved", 0) > 0)
    assert stats["route_changes"] == 1
    set_and_get(connection, b"two")
    assert sent_by(SECOND) - before > len(VALUE)
    assert server.stop() == 0


@only_sidestep
def test_a_connection_outlives_the_router_that_it_came_by(start, routers):
    server = serve(start, routers)
    connection = connect_from_afar(routers)
    set_and_get(connection, b"one")
    # The second takes the place of the first everywhere, and the first forwards nothing more.
    routers.route(SERVER_NAMESPACE, "replace", routers.far_network, routers.near(254), "dev", "ro-s0")
    routers.route(FAR, "replace", "default", routers.beyond(254))
    ip("-n", FIRST, "link", "set", "ro-near", "down")
    set_and_get(connection, b"two")
    set_and_get(connect_from_afar(routers), b"three")
    assert server.stop() == 0


@only_sidestep
def test_a_router_that_gets_another_station_is_followed(start, routers):
    server = serve(start, routers)
    connection = connect_from_afar(routers)
    set_and_get(connection, b"one")
    ip("-n", FIRST, "link", "set", "ro-near", "down")
    ip("-n", FIRST, "link", "set", "ro-near", "address", "02:00:00:00:79:01", "up")
    set_and_get(connection, b"two")
    assert stats_when(connection, lambda stats: stats.get("flows_moved", 0) > 0)
    assert server.stop() == 0


# Over IPv6 a kernel redirects to link-local addresses alone, and this one has none for the other router.
@only_sidestep
@pytest.mark.parametrize("routers", ["v4"], indirect=True)
def test_a_redirect_is_counted_and_not_followed(start, routers):
    server = serve(start, routers)
    connection = connect_from_afar(routers)
    # The first router hands on by the network that the frame came from, and says so.
    for scope in ("all", "ro-near"):
        inside(FIRST, "sysctl", "-q", "-w", f"net.ipv4.conf.{scope}.send_redirects=1")
    routers.route(FIRST, "replace", routers.beyond(2), routers.near(254), "dev", "ro-near")
    set_and_get(connection, b"one")
    stats = stats_when(connection, lambda stats: stats.get("dropped_icmp_redirect", 0) > 0)
    assert stats.get("flows_moved", 0) == 0
    assert server.stop() == 0


@only_sidestep
def test_a_gateway_that_is_given_is_not_the_kernels(start, routers):
    server = serve(start, routers, "--gateway", routers.near(254))
    connection = connect_from_afar(routers)
    set_and_get(connection, b"one")
    # The kernel's table says otherwise, and is not asked; a way that dies is left for the one that was given.
    routers.route(FAR, "replace", "default", routers.beyond(254))
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
    server = serve(start, routers)
    set_and_get(connect_from_afar(routers), b"one")
    assert server.stop() == 0, server.errors
