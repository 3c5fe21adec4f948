"""The first answer comes as soon as there is a server, whatever happened before."""

import os
import socket
import struct
import subprocess
import time

import pytest
from conftest import ADDRESS, HANG_SECONDS, PORT, connect, only_sidestep

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


def pages_made_for_cores(server):
    """How often a core has waited for the kernel to make a page (proc_pid_stat(5), minflt)."""
    made = 0
    plane = server.plane()
    for thread in os.listdir(f"/proc/{plane}/task"):
        with open(f"/proc/{plane}/task/{thread}/stat", encoding="ascii") as stat:
            before, _, after = stat.read().rpartition(")")
        if "(core-" in before:
            made += int(after.split()[7])
    return made


@only_sidestep
def test_requests_over_udp_find_the_pages_of_their_places_made(start):
    server = start(extra=["-U", str(PORT)]).wait_until_ready()
    # The client's kernel keeps few datagrams for a neighbour that it does not know yet.
    connect().close()
    before = pages_made_for_cores(server)
    clients = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(400)]
    for number, client in enumerate(clients):
        client.settimeout(HANG_SECONDS)
        # Keys of both cores, so that the request waits in a place.
        keys = " ".join(f"k{number}-{key}" for key in range(8))
        client.sendto(struct.pack(">HHHH", number, 0, 1, 0) + f"get {keys}\r\n".encode(), (ADDRESS, PORT))
    for client in clients:
        assert client.recv(2000)[8:] == b"END\r\n"
        client.close()
    # A place has two pages of its own; what is left is the threads' own and does not grow with the places.
    assert pages_made_for_cores(server) - before < len(clients) // 2
    assert server.stop() == 0, server.errors


@only_sidestep
def test_the_rest_of_the_memory_is_made_once_the_server_serves(start):
    server = start(memory=96).wait_until_ready()
    if "memory: items on huge pages" in server.lines:
        pytest.skip("pages that are kept aside are not counted as resident")
    deadline = time.monotonic() + HANG_SECONDS
    # The store alone; frames and flows are resident too.
    while server.resident_bytes() < 96 << 20:
        assert server.process.poll() is None and time.monotonic() < deadline, server.resident_bytes()
    assert server.stop() == 0, server.errors
