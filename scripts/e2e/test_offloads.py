"""Links as Docker, Kubernetes and operators make them: with every offload on, and one link on top of another."""

import re
import socket
import struct
import subprocess
import time

import pytest
from conftest import HANG_SECONDS, PORT, SERVER_NAMESPACE, Log, connect, exchange, expect, found
from conftest import in_server_namespace, only_sidestep, sidestep_stats, store

# udp(7): a payload longer than so much is sent as several datagrams. Python has no names for these.
SOL_UDP, UDP_SEGMENT = 17, 103
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


def assert_nothing_was_dropped(server):
    """No frame was lost below the stack or refused by it, by the closing lines of the cores."""
    lost = [line for line in server.lines if re.search(r" (xsk_\w+|relay_dropped|dropped_\w+_(checksum|short))=", line)]
    assert not lost, lost


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
    assert_nothing_was_dropped(server)
    assert checksums_left_to_offload(server) > 8 * 4, server.lines


def drive(connections, size=100_000):
    """Stores values that take many segments, by every connection, and reads them back whole."""
    for number, connection in enumerate(connections):
        key, value = b"long%d" % number, bytes([number + 1]) * size
        connection.sendall(store(key, value))
        expect(connection, b"STORED\r\n")
        connection.sendall(b"get " + key + b"\r\n")
        expect(connection, found(key, value) + b"END\r\n")


@only_sidestep
@pytest.mark.parametrize(("queues", "mode"), [(1, "generic"), (1, "native"), (2, "native")])
def test_what_the_other_end_left_to_segmentation_offload_is_received(start, veth, queues, mode):
    veth(queues)
    server = start(interface=SERVER_LINK, address=OWN_ADDRESS, extra=("--mode", mode)).wait_until_ready()
    drive([connect(address=OWN_ADDRESS) for _ in range(8)])
    drive([connect(address=OWN_ADDRESS)], size=1_000_000)
    assert server.stop() == 0, server.errors
    assert_nothing_was_dropped(server)


@only_sidestep
@pytest.mark.parametrize("address", [OWN_ADDRESS, "fd78::2"])
def test_stats_tell_that_segments_in_a_row_left_together(start, veth, address):
    veth(1)
    extra = ("--mode", "generic")
    if ":" in address:
        extra += ("--address", address + "/64")
        run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{CLIENT_LINK}/disable_ipv6")
        run_on_server("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{SERVER_LINK}/disable_ipv6")
        run("ip", "address", "add", "fd78::1/64", "dev", CLIENT_LINK, "nodad")
    # One core, since the frames of those that have no queue are gathered over IPv4 alone.
    start(interface=SERVER_LINK, address=OWN_ADDRESS, threads=1, extra=extra).wait_until_ready()
    connection = connect(address=address)
    assert sidestep_stats(connection)["tx_trains"] == 0
    drive([connection])
    # A core tells what it counts some times a second.
    until, trains, answers = time.monotonic() + HANG_SECONDS, 0, 1
    while trains == 0:
        assert time.monotonic() < until, "it is never told"
        trains = sidestep_stats(connection)["tx_trains"]
        answers += 1
    # The value has 70 segments, in a few packets; each answer of stats, which counts too, has fewer.
    assert trains < 70 * answers


@only_sidestep
def test_datagrams_that_the_other_end_did_not_cut_are_dropped_counted_and_said_in_the_log(start, veth):
    veth(1)
    extra = ("--mode", "generic", "-U", str(PORT), "--udp-trust", NETWORK)
    server = start(interface=SERVER_LINK, address=OWN_ADDRESS, extra=extra).wait_until_ready()
    log = Log(server)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect((OWN_ADDRESS, PORT))
        client.setsockopt(SOL_UDP, UDP_SEGMENT, 1000)
        client.send((struct.pack(">4H", 7, 0, 1, 0) + b"version\r\n").ljust(1000, b"x") * 4)
    # Frames keep their order, so what is asked now comes behind.
    assert ask_by_udp(b"version\r\n").startswith(b"VERSION ")
    drive([connect(address=OWN_ADDRESS)])
    said = log.until("xsk_rx_uncut grows: 1 ")
    assert "ethtool -K" in said, said
    assert server.stop() == 0, server.errors
    assert sum(core.get("xsk_rx_uncut", 0) for core in server.core_reports()) == 1, server.lines


STACKED = {
    "macvlan": [
        ["ip", "link", "add", "link", SERVER_LINK, "name", "top1", "type", "macvlan", "mode", "bridge"],
    ],
    "bridge": [
        ["ip", "link", "add", "name", "top1", "type", "bridge"],
        ["ip", "link", "set", SERVER_LINK, "master", "top1"],
    ],
}


@only_sidestep
@pytest.mark.parametrize("kind", list(STACKED))
def test_segments_that_receive_offload_below_has_merged_are_received(start, veth, kind):
    veth(1)
    # The sender cuts and sums all it sends, so that a checksum left to offload tells of a merger below.
    run("ethtool", "-K", CLIENT_LINK, "tx", "off")
    run_on_server("ethtool", "-K", SERVER_LINK, "gro", "on")
    for command in STACKED[kind]:
        run_on_server(*command)
    run_on_server("ip", "link", "set", "top1", "up")
    try:
        server = start(interface="top1", address=OWN_ADDRESS).wait_until_ready()
        drive([connect(address=OWN_ADDRESS) for _ in range(8)])
        drive([connect(address=OWN_ADDRESS)], size=1_000_000)
        assert server.stop() == 0, server.errors
    finally:
        run_on_server("ip", "link", "del", "top1")
    assert checksums_left_to_offload(server) > 0, server.lines
    assert_nothing_was_dropped(server)
