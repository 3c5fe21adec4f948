"""The first answer comes as soon as there is a server, whatever happened before."""

import socket
import subprocess

import pytest
from conftest import ADDRESS, HANG_SECONDS, PORT, only_sidestep

RETRANSMIT = "/proc/sys/net/ipv4/neigh/sc0/retrans_time_ms"


@pytest.fixture
def a_neighbour_asks_only_once():
    """A kernel that asks for an Ethernet address now and not again for ten minutes."""
    with open(RETRANSMIT, encoding="ascii") as setting:
        before = setting.read()
    set_retransmit("600000")
    yield
    set_retransmit(before)


def set_retransmit(milliseconds):
    # Opened anew: the kernel takes what is written at the beginning alone.
    with open(RETRANSMIT, "w", encoding="ascii") as setting:
        setting.write(milliseconds)


@only_sidestep
def test_who_asked_for_the_server_before_it_was_there_is_told(start, a_neighbour_asks_only_once):
    subprocess.run(["ip", "neighbour", "flush", "dev", "sc0"], check=True)
    connection = socket.socket()
    connection.setblocking(False)
    assert connection.connect_ex((ADDRESS, PORT)) != 0
    asked = subprocess.run(["ip", "neighbour", "show", "dev", "sc0"], capture_output=True, text=True, check=True).stdout
    assert "INCOMPLETE" in asked, asked
    server = start().wait_until_ready()
    # The SYN waits in the kernel for the address, which a second request would ask for, but none comes.
    connection.settimeout(HANG_SECONDS)
    connection.sendall(b"version\r\n")
    assert connection.recv(100).startswith(b"VERSION")
    assert server.stop() == 0, server.errors
