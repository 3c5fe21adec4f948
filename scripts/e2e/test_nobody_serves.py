"""While no data plane runs: clients are told at once, instead of waiting for a time-out, and so is who asks for the first
time; and what is outside of the server is given back however it ends."""

import errno
import os
import pathlib
import re
import signal
import subprocess

import pytest
from conftest import (
    HANG_SECONDS,
    KERNEL_ADDRESS,
    KIND,
    SERVER_NAMESPACE,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    sidestep_stats,
    stop_process,
    store,
    until,
)
from test_shared_address import SHARED, reserved
from test_supervisor import is_there

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached has no supervisor")

# Of the server beside the one of the lab, on a veth of one queue, where the program runs in generic mode.
ONE_QUEUE_ADDRESS = "10.78.0.2"


class Held:
    """Servers whose next data plane can be held at its first breath: it reads the file of -Y before it opens anything, and the test
    says when that has an end."""

    def __init__(self, file):
        self.file, self.writer = file, None
        file.write_text("user:word\n", encoding="ascii")
        self.extra = ["-Y", str(file)]

    def kill(self, server):
        """Kills the data plane, and returns once the next one has begun and waits: until it is released nobody serves."""
        self.file.unlink()
        os.mkfifo(self.file)
        os.kill(server.plane(), signal.SIGKILL)
        until(self.is_read, "no other data plane is started")

    def is_read(self):
        """Whether somebody has opened the file: then it can be opened to write, and whoever reads waits for that."""
        try:
            self.writer = os.open(self.file, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
        return self.writer is not None

    def release(self):
        """The file has an end: what waits goes on."""
        os.write(self.writer, b"user:word\n")
        self.close()

    def close(self):
        """Nobody waits any more."""
        if self.writer is not None:
            os.close(self.writer)
            self.writer = None


@pytest.fixture
def held(tmp_path):
    servers = Held(tmp_path / "users")
    yield servers
    servers.close()


def log_in(connection):
    """The connection may speak."""
    exchange(connection, b"set login 0 0 9\r\nuser word\r\n", b"STORED\r\n")
    return connection


@pytest.fixture
def one_queue():
    """A veth of one queue beside the lab's, with an address of its own network at the client's end."""
    subprocess.run(
        ["ip", "link", "add", "sc9", "type", "veth", "peer", "name", "ss9", "netns", SERVER_NAMESPACE], check=True
    )
    subprocess.run(["ip", "address", "add", "10.78.0.1/24", "dev", "sc9"], check=True)
    subprocess.run(["ip", "link", "set", "sc9", "up"], check=True)
    assert in_server_namespace("ip", "link", "set", "ss9", "up").returncode == 0
    yield "ss9"
    subprocess.run(["ip", "link", "delete", "sc9"], check=True)


def is_told(connection, address, link):
    """A connection that was open ends with a reset, and a new one is refused, also where nobody knows the address yet."""
    # It may be told before it writes: the kernel also acknowledges the last answer.
    with pytest.raises(ConnectionResetError):
        connection.sendall(b"get k\r\n")
        connection.recv(64)
    with pytest.raises(ConnectionRefusedError):
        connect(address=address)
    subprocess.run(["ip", "neighbour", "flush", "dev", link], check=True)
    with pytest.raises(ConnectionRefusedError):
        connect(address=address)


def serves_again(held, log, address):
    held.release()
    log.until("serves again")
    connection = log_in(connect(address=address))
    exchange(connection, b"get k\r\n" + store(b"k", b"w") + b"get k\r\n", b"END\r\nSTORED\r\n" + found(b"k", b"w") + b"END\r\n")
    return connection


@pytest.mark.parametrize("generic", [False, True])
def test_clients_of_an_own_address_are_told_at_once_that_nobody_serves(start, held, one_queue, generic):
    address, link = (ONE_QUEUE_ADDRESS, "sc9") if generic else ("10.77.0.2", "sc0")
    options = {"interface": one_queue, "address": address, "threads": 1} if generic else {}
    server = start(extra=held.extra, **options).wait_until_ready()
    mode = next(line for line in server.lines if line.startswith("link "))
    assert ("generic mode" if generic else "native mode") in mode, mode
    log = Log(server)
    old = log_in(connect(address=address))
    exchange(old, store(b"k", b"v"), b"STORED\r\n")
    held.kill(server)
    is_told(old, address, link)
    connection = serves_again(held, log, address)
    counts = {}
    until(lambda: counts.update(sidestep_stats(connection)) or counts["plane_restarts"], "restarts are not counted")
    # What the program before has counted is counted still.
    assert counts["xdp_refused"] >= 3 and counts["xdp_arp_answered"] >= 1 and counts["xdp_redirected"] > 3, counts
    assert server.stop() == 0, server.errors
    until(lambda: "prog/xdp" not in in_server_namespace("ip", "link", "show").stdout, "the program outlives its server")


def test_clients_of_a_shared_address_are_told_by_the_kernel(start, held):
    server = start(address=KERNEL_ADDRESS, extra=[*SHARED, *held.extra]).wait_until_ready()
    log = Log(server)
    old = log_in(connect(address=KERNEL_ADDRESS))
    exchange(old, store(b"k", b"v"), b"STORED\r\n")
    held.kill(server)
    is_told(old, KERNEL_ADDRESS, "sc0")
    connection = serves_again(held, log, KERNEL_ADDRESS)
    assert sidestep_stats(connection)["xdp_refused"] == 0
    assert server.stop() == 0, server.errors


def test_a_second_signal_ends_the_server_at_once_and_gives_back_what_it_had(start, tmp_path):
    before, pid_file = reserved(), tmp_path / "pid"
    server = start(address=KERNEL_ADDRESS, extra=[*SHARED, "-P", str(pid_file)]).wait_until_ready()
    assert reserved() != before and pid_file.exists()
    plane = server.plane()
    stop_process(plane)
    log = Log(server)
    server.process.send_signal(signal.SIGTERM)
    # Of another kind: two of one kind that are not taken yet are one.
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=HANG_SECONDS) == 1, log.text
    until(lambda: not is_there(plane), "the data plane outlives its supervisor")
    until(lambda: reserved() == before and not pid_file.exists(), "something is left")


def test_a_daemon_says_also_what_fails_last(start):
    # As nobody, the data plane may have no more threads: found out when all is open and root's rights are gone.
    server = start(extra=["-d"], prefix=["prlimit", "--nproc=1"])
    server._collect()
    assert server.process.returncode == 1
    assert "cannot start a thread" in server.errors, server.errors


def test_a_data_plane_that_cannot_become_another_user_has_no_rights_in_any_thread(start):
    # Root of a user namespace in which there is no other user.
    server = start(interface="tap:sst7", address="10.79.7.2", prefix=["unshare", "-U", "-r", "-n"]).wait_until_ready()
    assert any("the data plane stays root's" in line for line in server.lines), server.lines
    threads = list(pathlib.Path(f"/proc/{server.plane()}/task").iterdir())
    assert len(threads) >= 6, threads
    for thread in threads:
        said = dict(re.findall(r"^(\w+):\s+(.*)$", (thread / "status").read_text(encoding="ascii"), re.MULTILINE))
        assert int(said["CapEff"], 16) == int(said["CapPrm"], 16) == 0, (said["Name"], said["CapEff"])
        assert said["Seccomp"] == "2", said["Name"]
    assert server.stop() == 0, server.errors
