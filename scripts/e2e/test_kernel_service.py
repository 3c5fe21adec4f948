"""The kernel keeps what is the kernel's: before, while and after the server runs, and after it was killed."""

import subprocess
import sys

import pytest
from conftest import KERNEL_ADDRESS, SERVER_NAMESPACE, connect, exchange, found, only_sidestep, store
from test_leaks import bpf_objects, settled

ECHO = """
import socket, sys
listener = socket.create_server(("10.77.0.3", 0))
print(listener.getsockname()[1], flush=True)
while True:
    connection, _ = listener.accept()
    while data := connection.recv(65536):
        connection.sendall(data)
    connection.close()
"""


@pytest.fixture
def echo():
    """Stands for ssh: a service on the kernel's address; returns its port."""
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, sys.executable, "-c", ECHO]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as service:
        yield int(service.stdout.readline())
        service.kill()


def reachable(port):
    connection = connect(port, KERNEL_ADDRESS)
    exchange(connection, b"ssh" * 1000, b"ssh" * 1000)
    connection.close()


def test_the_kernels_service_is_reachable_before_while_and_after(start, echo):
    reachable(echo)
    server = start().wait_until_ready()
    reachable(echo)
    held = connect(echo, KERNEL_ADDRESS)
    exchange(connect(), store(b"k", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0
    exchange(held, b"still here", b"still here")
    held.close()
    reachable(echo)


def test_killed_without_warning_it_leaves_the_kernel_as_it_was_and_starts_again_at_once(start, echo):
    before = bpf_objects()
    for _ in range(3):
        server = start().wait_until_ready()
        exchange(connect(), store(b"k", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"v") + b"END\r\n")
        server.kill()
        reachable(echo)
    server = start().wait_until_ready()
    exchange(connect(), b"get k\r\n", b"END\r\n")
    assert server.stop() == 0
    reachable(echo)
    assert settled(bpf_objects, lambda seen: seen == before) == before


@only_sidestep
def test_it_says_at_start_which_mode_was_obtained(start):
    server = start().wait_until_ready()
    assert server.stop() == 0
    assert [line for line in server.lines if line.startswith("link ss0: ") and "native" in line], server.lines
