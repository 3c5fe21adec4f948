"""What becomes of the interface, before the server starts and while it runs: its names, its queues, its state."""

import re
import select
import socket
import subprocess

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    PORT,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    only_sidestep,
    sidestep_stats,
    store,
)
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
    while sidestep_stats(connection)["queues_without_socket"] != 1:
        pass
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
