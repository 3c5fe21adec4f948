"""What becomes of the interface, before the server starts and while it runs: its names, its queues, its state."""

import errno
import json
import os
import re
import select
import socket
import subprocess
import sys
import time

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    PORT,
    SERVER_NAMESPACE,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    only_sidestep,
    sidestep_stats,
    store,
)
from test_preflight import OTHER_PROGRAM
from test_wrong_use import refused


def ip(*words):
    """Runs ip in the server namespace."""
    done = in_server_namespace("ip", *words)
    assert done.returncode == 0, done.stderr


def server_queues(rx, tx):
    """Gives the server's interface so many queues."""
    done = in_server_namespace("ethtool", "-L", "ss0", "rx", str(rx), "tx", str(tx))
    assert done.returncode == 0 or "no change" in done.stdout + done.stderr or done.returncode == 80, done.stderr


def client_queues(count):
    """Gives the client's interface so many transmit queues: its flows spread over them."""
    words = ["ethtool", "-L", "sc0", "rx", str(count), "tx", str(count)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode in (0, 80), done.stderr


@pytest.fixture
def link():
    """The interface; what a test has changed is changed back."""
    yield
    in_server_namespace("ip", "link", "set", "renamed0", "down")
    in_server_namespace("ip", "link", "set", "renamed0", "name", "ss0")
    ip("link", "set", "ss0", "up")
    ip("link", "set", "ss0", "mtu", "1500")
    client_is("up")
    server_queues(2, 2)
    client_queues(2)


@only_sidestep
def test_an_interface_is_its_index_whatever_it_is_called(start, link):
    server = start(extra=["-v"]).wait_until_ready()
    log = Log(server)
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    ip("link", "set", "ss0", "down")
    ip("link", "set", "ss0", "name", "renamed0")
    ip("link", "set", "renamed0", "up")
    log.until("interface ss0 is called renamed0 now")
    # The same connection and the same items; a new connection finds them too.
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    exchange(connect(), b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_an_interface_that_goes_down_is_said_and_comes_back_with_its_connections(start, link):
    server = start(extra=["-v"]).wait_until_ready()
    log = Log(server)
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    ip("link", "set", "ss0", "down")
    assert "`ip link set ss0 up`" in log.until("interface ss0 is down")
    ip("link", "set", "ss0", "up")
    log.until("interface ss0 is up again")
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_an_interface_is_found_by_an_alternative_name_that_no_ioctl_takes(start):
    name = "enp193s0f0np0d1-storage-of-the-second-rack"
    ip("link", "property", "add", "dev", "ss0", "altname", name)
    try:
        server = start(interface=name).wait_until_ready()
        exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
        assert server.stop() == 0
    finally:
        ip("link", "property", "del", "dev", "ss0", "altname", name)


@only_sidestep
def test_more_receive_than_transmit_queues_are_refused_with_the_command_that_mends_it(start, link):
    server_queues(2, 1)
    said = refused()
    assert "2 receive queues and 1 transmit queue" in said, said
    command = re.search(r"ethtool -L ss0 rx 2 tx 2$", said)
    assert command, said
    assert in_server_namespace(*command[0].split()).returncode == 0
    server = start().wait_until_ready()
    exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    assert server.stop() == 0


@only_sidestep
def test_queues_that_come_after_the_start_are_said_with_the_command_that_mends_them(start, link):
    client_queues(1)
    server_queues(1, 1)
    server = start(threads=1, extra=["--mode", "native"]).wait_until_ready()
    log = Log(server)
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    server_queues(2, 2)
    line = log.until("interface ss0 has 2 receive queues now")
    assert "WARN" in line, line
    counted(connection, "queues_without_socket", 1)
    command = re.search(r"`(ethtool [^`]*)`", line)[1]
    assert in_server_namespace(*command.split()).returncode == 0
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_connections_that_come_by_a_queue_without_a_socket_are_counted_and_said(start, link):
    server = start(threads=1, extra=["--queues", "1"]).wait_until_ready()
    log = Log(server)
    clients = [socket.socket() for _ in range(32)]
    for client in clients:
        client.setblocking(False)
        client.connect_ex((ADDRESS, PORT))
    assert "What to do: " in log.until("xdp_no_socket grows")
    served = select.select([], clients, [], HANG_SECONDS)[1][0]
    served.settimeout(HANG_SECONDS)
    counts = sidestep_stats(served)
    assert counts["xdp_no_socket"] > 0 and counts["queues_without_socket"] == 1, counts
    for client in clients:
        client.close()
    assert server.stop() == 0


@only_sidestep
def test_a_peer_that_is_gone_is_said_and_counted_and_comes_back_with_its_connections(start, link):
    server = start(extra=["-v"]).wait_until_ready()
    log = Log(server)
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    client_is("down")
    log.until("interface ss0 has no carrier")
    client_is("up")
    log.until("interface ss0 is up again")
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    counts = counted(connection, "link_changes", 2)
    assert counts["link_down"] == 0, counts
    assert server.stop() == 0


@only_sidestep
def test_a_smaller_mtu_is_said_and_answers_go_on(start, link):
    with_mtu(start, 1000, b"v" * 5000)


@only_sidestep
def test_a_larger_mtu_than_a_chunk_holds_is_said_and_answers_go_on(start, link):
    # Beside a receive buffer's frame of 2048 bytes; the peer's MTU stays as it is.
    with_mtu(start, 3000, b"v" * 5000)


def with_mtu(start, mtu, value):
    """A connection, and a new one, are served while the MTU is another than at the start, which is said once each way."""
    server = start(extra=["-v"]).wait_until_ready()
    log = Log(server)
    old = connect()
    exchange(old, store(b"k", value), b"STORED\r\n")
    ip("link", "set", "ss0", "mtu", str(mtu))
    assert "`ip link set ss0 mtu 1500`" in log.until(f"interface ss0 has an MTU of {mtu} bytes now")
    for connection in (old, connect()):
        # A veth takes no frame in that is longer than its MTU; what fits goes on, and answers as long as at the start.
        exchange(connection, store(b"short", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", value) + b"END\r\n")
    ip("link", "set", "ss0", "mtu", "1500")
    log.until("interface ss0 has an MTU of 1500 bytes again")
    exchange(old, b"get k\r\n", found(b"k", value) + b"END\r\n")
    counted(old, "link_changes", 2)
    assert server.stop() == 0


@only_sidestep
@pytest.mark.parametrize("mode", ["native", "generic"])
def test_a_link_of_jumbo_frames_is_served_with_those_that_fit_a_chunk(start, link, mode):
    if mode == "generic":
        client_queues(1)
        server_queues(1, 1)
    ip("link", "set", "ss0", "mtu", "9000")
    subprocess.run(["ip", "link", "set", "sc0", "mtu", "9000"], check=True, timeout=HANG_SECONDS)
    try:
        server = start(threads=1, extra=["--mode", mode]).wait_until_ready()
        said = [line for line in server.lines if line.startswith("link ss0")]
        assert "packets of at most 3822 bytes are sent and asked for, of an MTU of 9000" in said[0], server.lines
        connection = connect()
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) == 3822 - 40
        value = os.urandom(1_000_000)
        exchange(connection, store(b"k", value), b"STORED\r\n")
        exchange(connection, b"get k\r\n", found(b"k", value) + b"END\r\n")
        # Longer than a chunk, and no TCP: dropped, and counted.
        before = sidestep_stats(connection)["xsk_rx_uncut"]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            for length in (3_000, 8_000):
                datagrams.sendto(bytes(length), (ADDRESS, PORT))
        counted(connection, "xsk_rx_uncut", before + 1)
        assert server.stop() == 0
    finally:
        subprocess.run(["ip", "link", "set", "sc0", "mtu", "1500"], check=True, timeout=HANG_SECONDS)


@only_sidestep
def test_another_ethernet_address_is_said_and_clients_who_know_the_old_one_are_served(start, link):
    [interface] = json.loads(in_server_namespace("ip", "-j", "link", "show", "ss0").stdout)
    before = interface["address"]
    server = start(extra=["-v"]).wait_until_ready()
    log = Log(server)
    old = connect()
    exchange(old, store(b"k", b"v"), b"STORED\r\n")
    try:
        ip("link", "set", "ss0", "address", "02:00:00:00:77:01")
        assert f"`ip link set ss0 address {before}`" in log.until("interface ss0 has the address 02:00:00:00:77:01 now")
        # A veth takes every frame in; who asks where the server is hears the address that it was opened with.
        for connection in (old, connect()):
            exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    finally:
        ip("link", "set", "ss0", "address", before)
    log.until(f"interface ss0 has the address {before} again")
    counted(old, "link_changes", 2)
    assert server.stop() == 0


@only_sidestep
def test_a_queue_that_has_a_socket_is_not_taken_away_by_the_kernel(start, link):
    server = start().wait_until_ready()
    done = in_server_namespace("ethtool", "-L", "ss0", "rx", "1", "tx", "1")
    assert done.returncode != 0 and "AF_XDP" in done.stderr, done
    for _ in range(8):
        exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    assert server.stop() == 0


@only_sidestep
def test_another_program_is_kept_out_by_the_kernel_while_the_server_has_its_own(start):
    server = start().wait_until_ready()
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, sys.executable, "-c", OTHER_PROGRAM]
    other = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=HANG_SECONDS)
    assert other.returncode != 0 and f"AssertionError: {errno.EBUSY}" in other.stderr, other
    assert in_server_namespace("ip", "link", "set", "ss0", "xdp", "off").returncode != 0
    exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    assert server.stop() == 0


@only_sidestep
def test_a_server_whose_program_was_detached_ends_and_says_so_and_the_kernel_has_its_frames(start):
    server = start().wait_until_ready()
    [interface] = json.loads(in_server_namespace("ip", "-j", "link", "show", "ss0").stdout)
    program = interface["xdp"]["prog"]["id"]
    listed = json.loads(in_server_namespace("bpftool", "-j", "link", "list").stdout)
    [ours] = [link["id"] for link in listed if link["prog_id"] == program]
    assert in_server_namespace("bpftool", "link", "detach", "id", str(ours)).returncode == 0
    said = ended_by_itself(server)
    assert "the XDP program of this server was detached from interface ss0" in said, said


@only_sidestep
@pytest.mark.parametrize("way", [["del", "gone0"], ["set", "gone0", "netns"]], ids=["removed", "moved"])
def test_a_server_whose_interface_is_removed_or_moved_ends_and_says_so(start, way):
    ip("link", "add", "gone0", "type", "veth", "peer", "name", "gone1")
    for name in ("gone0", "gone1"):
        ip("link", "set", name, "up")
    server = start(interface="gone0", address="10.78.0.2", threads=1).wait_until_ready()
    # To the namespace of this process.
    ip("link", *way, *([str(os.getpid())] if way[0] == "set" else []))
    # Whoever notices first says it: the core whose socket has gone, or who looks after the interface.
    said = ended_by_itself(server)
    in_server_namespace("ip", "link", "del", "gone1")
    by_watch = "interface gone0 was removed, or moved to another network namespace; start again once it is back"
    assert by_watch in said or re.search(r"core 0 could not go on: .*; is the link still there\?", said), said


def ended_by_itself(server):
    """What a server says that ends because it has to: in one line of its own, and with another exit code than 0."""
    server._collect()
    assert server.process.returncode == 1, server.errors
    lines = [line for line in server.errors.splitlines() if line.startswith("sidestep-cached: ")]
    assert len(lines) == 1, server.errors
    return lines[0]


def client_is(state):
    """Brings the client's end up, or down."""
    done = subprocess.run(["ip", "link", "set", "sc0", state], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stderr


def counted(connection, name, value):
    """What `stats sidestep` counts once `name` is `value`, or is as the function `value` says: it is brought up to date now and then."""
    good = value if callable(value) else lambda count: count == value
    deadline = time.monotonic() + HANG_SECONDS
    while not good((counts := sidestep_stats(connection))[name]) and time.monotonic() < deadline:
        pass
    assert good(counts[name]), counts
    return counts
