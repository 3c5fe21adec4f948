"""Links as Docker, Kubernetes and operators make them: with every offload on, and one link on top of another."""

import re
import socket
import struct
import subprocess

import pytest
from conftest import HANG_SECONDS, PORT, SERVER_NAMESPACE, connect, exchange, expect, found, in_server_namespace
from conftest import only_sidestep, store

# The links of these tests: a veth pair beside the lab's, in the same two namespaces.
CLIENT_LINK, SERVER_LINK = "sc1", "ss1"
CLIENT_ADDRESS, OWN_ADDRESS, NETWORK = "10.78.0.1", "10.78.0.2", "10.78.0.0/24"


def run(*command):
    """Runs a command here, in the client's namespace."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def run_on_server(*command):
    """Runs a command in the server's namespace."""
    done = in_server_namespace(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


@pytest.fixture
def veth():
    """Makes a veth pair of so many queues, with the offloads that the kernel gives it, as Docker leaves it."""
    made = []

    def make(queues):
        shape = ["numtxqueues", str(queues), "numrxqueues", str(queues)]
        peer = ["peer", "name", SERVER_LINK, *shape, "netns", SERVER_NAMESPACE]
        run("ip", "link", "add", CLIENT_LINK, *shape, "type", "veth", *peer)
        made.append(CLIENT_LINK)
        run("ip", "address", "add", CLIENT_ADDRESS + "/24", "dev", CLIENT_LINK)
        run("ip", "link", "set", CLIENT_LINK, "up")
        run_on_server("ip", "link", "set", SERVER_LINK, "up")

    yield make
    for link in made:
        run("ip", "link", "del", link)


def checksums_left_to_offload(server):
    """What its closing lines say of such checksums, over all cores."""
    return sum(core.get("partial_checksums", 0) for core in server.core_reports())


def ask_by_udp(request):
    """The reply to a request of one datagram."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(HANG_SECONDS)
        client.connect((OWN_ADDRESS, PORT))
        client.send(struct.pack(">4H", 7, 0, 1, 0) + request)
        return client.recv(2000)[8:]


@only_sidestep
@pytest.mark.parametrize(("queues", "mode"), [(1, "generic"), (1, "native"), (2, "native"), (4, "auto")])
def test_checksums_that_the_senders_kernel_left_to_offload_are_taken(start, veth, queues, mode):
    veth(queues)
    extra = ("--mode", mode, "-U", str(PORT), "--udp-trust", NETWORK)
    server = start(interface=SERVER_LINK, address=OWN_ADDRESS, extra=extra).wait_until_ready()
    assert any(re.search(rf"note: {SERVER_LINK} .*checksums", line) for line in server.lines), server.lines
    for number in range(8):
        connection = connect(address=OWN_ADDRESS)
        key, value = b"k%d" % number, b"v" * (300 * number)
        exchange(connection, store(key, value), b"STORED\r\n")
        exchange(connection, b"get " + key + b"\r\n", found(key, value) + b"END\r\n")
    assert ask_by_udp(b"get k2\r\n") == found(b"k2", b"v" * 600) + b"END\r\n"
    assert server.stop() == 0, server.errors
    dropped = [line for line in server.lines if "Checksum=" in line]
    assert not dropped, dropped
    assert checksums_left_to_offload(server) > 8 * 4, server.lines
