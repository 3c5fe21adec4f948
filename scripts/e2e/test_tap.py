"""A server on a TAP interface, for machines without AF_XDP: the kernel's side of the TAP is in this namespace."""

import os
import signal
import socket
import subprocess

import pytest
from conftest import (
    HANG_SECONDS,
    Log,
    connect,
    exchange,
    found,
    only_sidestep,
    serve_stock_clients,
    sidestep_stats,
    store,
)

ADDRESS = "10.79.0.2"
# The server runs here instead of in the server namespace, so that the kernel's side of the TAP is this kernel's.
HERE = ("nsenter", f"--net=/proc/{os.getpid()}/ns/net")


def ip(*arguments, check=True):
    """Runs ip in this namespace and returns whether it succeeded."""
    return subprocess.run(["ip", *arguments], check=check, capture_output=True).returncode == 0


def exists(name):
    """Whether there is such an interface here."""
    return ip("link", "show", "dev", name, check=False)


@pytest.fixture
def kept():
    """A TAP that is there before the server, and after it."""
    ip("tuntap", "add", "dev", "sst1", "mode", "tap", "multi_queue")
    yield "sst1"
    ip("link", "delete", "sst1")


def start_on(start, name, **options):
    """A server on this TAP, whose kernel's side has an address of the same network."""
    server = start(interface=f"tap:{name}", address=ADDRESS, prefix=HERE, **options).wait_until_ready()
    ip("address", "replace", "10.79.0.1/24", "dev", name)
    return server


@only_sidestep
@pytest.mark.parametrize("threads,queues", [(1, 1), (2, 2), (2, 1), (1, 2)])
def test_a_stock_client_is_served_over_a_tap(start, threads, queues):
    server = start_on(start, "sst0", threads=threads, extra=["--queues", str(queues)])
    serve_stock_clients(ADDRESS)
    with connect(address=ADDRESS) as connection:
        stats = sidestep_stats(connection)
    lost = {name: count for name, count in stats.items() if count and ("tx_refused" in name or "too_long" in name)}
    assert not lost
    assert server.stop() == 0, server.errors
    reports = server.core_reports()
    assert len(reports) == threads and all(report["in"] > 0 for report in reports), reports
    assert not exists("sst0")


@only_sidestep
def test_a_tap_of_jumbo_frames_is_served_with_them(start, kept):
    ip("link", "set", kept, "mtu", "9000")
    server = start_on(start, kept, threads=1)
    with connect(address=ADDRESS) as connection:
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) == 9000 - 40
        value = os.urandom(1_000_000)
        exchange(connection, store(b"k", value), b"STORED\r\n")
        exchange(connection, b"get k\r\n", found(b"k", value) + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_a_tap_that_was_there_is_served_again_after_a_kill(start, kept):
    server = start_on(start, kept)
    assert any("joined, and stays" in line for line in server.lines), server.lines
    with connect(address=ADDRESS) as connection:
        exchange(connection, store(b"k", b"v"), b"STORED\r\n")
        server.kill()
    assert exists(kept)
    server = start_on(start, kept)
    with connect(address=ADDRESS) as connection:
        exchange(connection, store(b"k", b"w") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"w") + b"END\r\n")
    assert server.stop() == 0, server.errors
    assert exists(kept)


@only_sidestep
def test_clients_over_a_tap_are_told_by_the_next_data_plane(start, kept):
    server = start_on(start, kept)
    log = Log(server)
    with connect(address=ADDRESS) as connection:
        exchange(connection, store(b"k", b"v"), b"STORED\r\n")
        os.kill(server.plane(), signal.SIGKILL)
        log.until("serves again")
        # What is sent is answered, at the first time or the second, by who does not know the connection.
        with pytest.raises(ConnectionResetError):
            connection.sendall(b"get k\r\n")
            connection.recv(64)
    with connect(address=ADDRESS) as connection:
        exchange(connection, b"get k\r\n", b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_a_tap_that_is_removed_under_the_server_ends_it(start):
    server = start_on(start, "sst0", threads=1)
    ip("link", "delete", "sst0")
    errors = server.process.communicate(timeout=HANG_SECONDS)[1].decode()
    assert server.process.returncode != 0 and "removed" in errors, errors


@only_sidestep
def test_an_address_of_the_kernels_is_refused_on_a_tap(start, kept):
    ip("address", "add", ADDRESS + "/24", "dev", kept)
    server = start(interface=f"tap:{kept}", address=ADDRESS, prefix=HERE)
    errors = server.process.communicate(timeout=HANG_SECONDS)[1].decode()
    assert server.process.returncode != 0 and ADDRESS in errors and kept in errors, errors


@pytest.fixture
def plain():
    """A TAP that the kernel has without queues (no multi_queue): it is one stream of frames."""
    ip("tuntap", "add", "dev", "sst2", "mode", "tap")
    yield "sst2"
    ip("link", "delete", "sst2")


@only_sidestep
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_a_stock_client_is_served_over_a_device_without_queues(start, plain, threads):
    server = start_on(start, plain, threads=threads, extra=["--queues", "1"])
    serve_stock_clients(ADDRESS)
    assert server.stop() == 0, server.errors
    reports = server.core_reports()
    assert len(reports) == threads and all(report["connections"] > 0 for report in reports), reports
