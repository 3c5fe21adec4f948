"""What neighbours are told: where the server's address is, at the start and when the link returns; and who else has it."""

import errno
import select
import socket
import struct
import subprocess
import time

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    only_sidestep,
    sidestep_stats,
    store,
)

OURS = socket.inet_aton(ADDRESS)
ARP, REQUEST, REPLY = 0x0806, 1, 2
EVERYBODY, NOBODY = b"\xff" * 6, bytes(6)
# A station that there is not, locally administered.
STRANGER = bytes.fromhex("020000000055")


def ip(*words):
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
    return done.stdout


def server_ip(*words):
    done = in_server_namespace("ip", *words)
    assert done.returncode == 0, done.stderr


def arp(operation, sender, mac, target):
    """The frame to everybody of the station `mac`."""
    head = EVERYBODY + mac + struct.pack(">HHHBBH", ARP, 1, 0x0800, 6, 4, operation)
    return head + mac + sender + NOBODY + target


def packets():
    """A socket of all ARP packets of the client's interface."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ARP))
    wire.bind(("sc0", ARP))
    return wire


def heard(wire, wanted):
    """Sender and target of the first request that the server sends to everybody and that is `wanted`, and its station."""
    ends = time.monotonic() + HANG_SECONDS
    while time.monotonic() < ends:
        if not select.select([wire], [], [], 1)[0]:
            continue
        try:
            frame = wire.recv(2048)
        except OSError as error:
            # The interface was down meanwhile; said once.
            assert error.errno == errno.ENETDOWN, error
            continue
        sender, target = frame[28:32], frame[38:42]
        if frame[:6] == EVERYBODY and frame[20:22] == b"\0\1" and target == OURS and wanted(sender):
            return frame[6:12]
    pytest.fail("it was never said")


def said_within(wire, seconds):
    """The requests that everybody hears meanwhile, and those before."""
    requests, ends = [], time.monotonic() + seconds
    while (left := ends - time.monotonic()) > 0:
        if select.select([wire], [], [], left)[0]:
            frame = wire.recv(2048)
            if frame[20:22] == b"\0\1":
                requests.append(frame)
    return requests


def station():
    """Where the client's kernel believes that the server is."""
    words = ip("-4", "neigh", "show", ADDRESS, "dev", "sc0").split()
    return words[words.index("lladdr") + 1] if "lladdr" in words else None


def until_station_is(mac):
    ends = time.monotonic() + HANG_SECONDS
    while station() != mac:
        assert time.monotonic() < ends, f"{station()} is not {mac}"
        select.select([], [], [], 0.01)


@pytest.fixture
def link():
    yield
    server_ip("link", "set", "ss0", "up")
    subprocess.run(["ip", "neigh", "flush", "dev", "sc0"], capture_output=True, check=True)
    subprocess.run(["ip", "address", "del", ADDRESS + "/32", "dev", "sc0"], capture_output=True, check=False)


def wrong_neighbour():
    """Has the client's kernel believe that the server is at a station that there is not."""
    ip("neigh", "replace", ADDRESS, "lladdr", STRANGER.hex(":"), "dev", "sc0", "nud", "reachable")


@only_sidestep
def test_a_kernel_that_knows_another_station_of_the_address_learns_the_servers_at_its_start(start, link):
    wrong_neighbour()
    with packets() as wire:
        server = start().wait_until_ready()
        # Asked for first, from no address (RFC 5227 §2.1.1).
        own = heard(wire, lambda sender: sender == bytes(4)).hex(":")
        assert heard(wire, lambda sender: sender == OURS).hex(":") == own
    until_station_is(own)
    exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    assert server.stop() == 0


@only_sidestep
@pytest.mark.parametrize("end", ["ss0", "sc0"])
def test_the_address_is_announced_again_when_the_link_returns(start, link, end):
    with packets() as wire:
        server = start(extra=["-v"]).wait_until_ready()
        log = Log(server)
        connection = connect()
        exchange(connection, store(b"k", b"v"), b"STORED\r\n")
        own = station()
        # Those of the start.
        for _ in range(3):
            heard(wire, lambda sender: sender == OURS)
        set_link = server_ip if end == "ss0" else ip
        set_link("link", "set", end, "down")
        log.until("interface ss0 is down" if end == "ss0" else "interface ss0 has no carrier")
        set_link("link", "set", end, "up")
        log.until("interface ss0 is up again")
        wrong_neighbour()
        assert heard(wire, lambda sender: sender == OURS).hex(":") == own
    until_station_is(own)
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_a_kernel_that_has_the_address_already_is_said_and_the_server_announces_nothing(start, link):
    ip("address", "add", ADDRESS + "/32", "dev", "sc0")
    with packets() as wire:
        server = start().wait_until_ready()
        line = Log(server).until(f"{ADDRESS} is also the address of the station")
        with open("/sys/class/net/sc0/address", encoding="ascii") as address:
            assert address.read().strip() in line and "WARN" in line, line
        ip("address", "del", ADDRESS + "/32", "dev", "sc0")
        # Served all the same.
        connection = connect()
        exchange(connection, store(b"k", b"v"), b"STORED\r\n")
        # The core that has told of it may be another than the one that counts it, which shows its counts when it wakes.
        ends = time.monotonic() + HANG_SECONDS
        while sidestep_stats(connection).get("dropped_address_conflict", 0) < 1:
            assert time.monotonic() < ends
        # An answer that came late may have met the first announcement; there is no second, nor a third.
        assert [frame for frame in said_within(wire, 3) if frame[28:32] == OURS][1:] == []
    assert server.stop() == 0


@only_sidestep
def test_a_station_that_takes_the_address_later_is_said_once_counted_and_not_fought(start, link):
    with packets() as wire:
        server = start().wait_until_ready()
        log = Log(server)
        connection = connect()
        exchange(connection, store(b"k", b"v"), b"STORED\r\n")
        # All that the start has to say has been said.
        for _ in range(3):
            heard(wire, lambda sender: sender == OURS)
        for _ in range(50):
            wire.send(arp(REQUEST, OURS, STRANGER, OURS))
            wire.send(arp(REPLY, OURS, STRANGER, OURS))
        log.until(f"{ADDRESS} is also the address of the station {STRANGER.hex(':')}")
        ends = time.monotonic() + HANG_SECONDS
        while sidestep_stats(connection).get("dropped_address_conflict", 0) < 100:
            assert time.monotonic() < ends
        exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
        fought = [frame for frame in said_within(wire, 1) if frame[28:32] == OURS and frame[6:12] != STRANGER]
        assert fought == [], fought[0].hex()
    assert server.stop() == 0
    assert (log.text.decode() + server.errors).count("is also the address of the station") == 1
