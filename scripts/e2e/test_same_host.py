"""A client on the server's own host, by the links that docs/compatibility.md says to make, taken from there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import HANG_SECONDS, PORT, SERVER_NAMESPACE, connect, exchange, found, in_server_namespace
from conftest import only_sidestep, store

DOCUMENT = Path(__file__).parents[2] / "docs" / "compatibility.md"
HEADING = "### A client on the server's own host"
# What the document takes for granted: a NIC whose network is 10.78.0.0/24, the host's address on it, and a neighbour.
NIC, HOST_ADDRESS, NEIGHBOUR_ADDRESS, SERVER_ADDRESS = "eth0", "10.78.0.3", "10.78.0.1", "10.78.0.2"
NEIGHBOUR_LINK = "sc2"

# A client for the server's namespace, where this process is not: stores a value that takes many frames and reads it.
CLIENT = f"""
import socket
s = socket.create_connection(("{SERVER_ADDRESS}", {PORT}), {HANG_SECONDS})
s.settimeout({HANG_SECONDS})
file = s.makefile("rb")
value = b"v" * 100_000
for _ in range(10):
    s.sendall(b"set host 0 0 100000\\r\\n" + value + b"\\r\\n")
    assert file.readline() == b"STORED\\r\\n"
    s.sendall(b"get host\\r\\n")
    assert file.readline() == b"VALUE host 0 100000\\r\\n"
    assert file.read(100_000) == value and file.readline() == b"\\r\\n" and file.readline() == b"END\\r\\n"
"""


def run_on_host(*command):
    """Runs a command in the server's namespace, which stands for its host."""
    done = in_server_namespace(*command)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
    return done


def blocks():
    """The blocks of commands below the heading, each a list of lines."""
    section = DOCUMENT.read_text(encoding="utf-8").split(HEADING, 1)[1].split("\n## ", 1)[0]
    return [block.splitlines() for block in re.findall(r"```\n(.*?)```", section, re.DOTALL)]


@pytest.fixture
def host():
    """Gives the host its NIC, with a neighbour on the other end of the wire; takes it, and what was made on it, away."""
    peer = ["peer", "name", NIC, "netns", SERVER_NAMESPACE]
    subprocess.run(["ip", "link", "add", NEIGHBOUR_LINK, "type", "veth", *peer], check=True)
    try:
        subprocess.run(["ip", "address", "add", NEIGHBOUR_ADDRESS + "/24", "dev", NEIGHBOUR_LINK], check=True)
        subprocess.run(["ip", "link", "set", NEIGHBOUR_LINK, "up"], check=True)
        run_on_host("ip", "address", "add", HOST_ADDRESS + "/24", "dev", NIC)
        run_on_host("ip", "link", "set", NIC, "up")
        yield
    finally:
        in_server_namespace("ip", "link", "del", "cache0")
        subprocess.run(["ip", "link", "del", NEIGHBOUR_LINK], check=True)


@only_sidestep
def test_without_such_a_link_the_host_finds_nobody_as_the_document_says(start, host):
    server = start(interface=NIC, address=SERVER_ADDRESS).wait_until_ready()
    # So that the kernel gives up asking who has the address after milliseconds instead of seconds.
    run_on_host("sysctl", "-w", f"net.ipv4.neigh.{NIC}.retrans_time_ms=10")
    asked = in_server_namespace(sys.executable, "-c", CLIENT)
    assert "No route to host" in asked.stderr, asked.stderr
    exchange(connect(address=SERVER_ADDRESS), store(b"k", b"v"), b"STORED\r\n")
    assert server.stop() == 0, server.errors


@only_sidestep
@pytest.mark.parametrize("way", ["macvlan", "veth"])
def test_a_client_on_the_servers_own_host_is_served_by_a_link_of_its_own(start, host, way):
    *ways, start_line = blocks()
    (commands,) = [block for block in ways if f"type {way} " in block[0]]
    for command in commands:
        run_on_host(*command.split())
    ((program, *options),) = [line.split() for line in start_line]
    assert program == "sidestep-cached" and options[:2] == ["--interface", "cache0"], options
    assert options[2:] == ["--address", SERVER_ADDRESS + "/24"], options
    server = start(interface="cache0", address=SERVER_ADDRESS).wait_until_ready()
    run_on_host(sys.executable, "-c", CLIENT)
    if way == "macvlan":
        # Clients on the NIC's network meet the same server.
        connection = connect(address=SERVER_ADDRESS)
        exchange(connection, b"get host\r\n", found(b"host", b"v" * 100_000) + b"END\r\n")
        exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    assert server.stop() == 0, server.errors
    lost = [line for line in server.lines if re.search(r" (xsk_\w+|relay_dropped|dropped_\w+_checksum)=", line)]
    assert not lost, lost
