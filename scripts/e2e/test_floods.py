"""Spoofed SYNs, neighbours that lie, floods without replies, and clients that do not read: bounded memory, and everybody else is
served."""

import errno
import os
import re
import select
import socket
import subprocess
import sys
import time

import pytest
from conftest import ADDRESS, V6, connect, exchange, expect, found, only_sidestep, receive, sidestep_stats, store, until

# A client reads nothing for this long; scripts/soak asks for a minute and more.
SILENT_SECONDS = float(os.environ.get("SIDESTEP_E2E_SILENT_SECONDS", "6"))
# The server may not grow by more than this: rings and pins of a few connections, and what the allocator keeps.
GROWTH_BYTES = 48 << 20


def flood_of(kind, rate, seconds):
    """The process that sends it, of stations and addresses that nobody has, once it has begun."""
    neighbor = subprocess.run(["ip", "neigh", "show", ADDRESS], capture_output=True, text=True, check=True).stdout
    sender = os.path.join(os.path.dirname(__file__), "../../bench/floods/send.py")
    command = [sys.executable, sender, kind, "--interface", "sc0", "--mac", re.search(r"lladdr (\S+)", neighbor)[1]]
    command += ["--address", ADDRESS, "--rate", str(rate), "--seconds", str(seconds)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


@only_sidestep
def test_a_flood_of_spoofed_syns_keeps_nobody_out(server):
    old = connect()
    exchange(old, store(b"old", b"value"), b"STORED\r\n")
    fresh = 0
    with flood_of("syn", rate=20_000, seconds=2) as syns:
        while syns.poll() is None:
            with connect() as new:
                exchange(new, store(b"new", b"%d" % fresh), b"STORED\r\n")
            exchange(old, b"get old\r\n", found(b"old", b"value") + b"END\r\n")
            fresh += 1
    counts = sidestep_stats(old)
    assert fresh > 0 and counts["cookies_sent"] > 1_000, (fresh, counts)
    assert counts["cookies_accepted"] > 0, (fresh, counts)
    # At once after it, and while the flood's handshakes wait for their end.
    with connect() as new:
        exchange(new, b"get old\r\n", found(b"old", b"value") + b"END\r\n")


# What is sent, and under what every frame of it is counted: verdicts of the XDP program, which leaves routers' own word and what is
# asked of others to the kernel, or the one reason for which it is dropped.
DISCOVERY = ("xdp_neighbors", "xdp_passed")
if V6:
    LIES = {"ns": DISCOVERY, "na": DISCOVERY, "conflict": DISCOVERY, "ra": ("xdp_passed",)}
else:
    LIES = {"arp": ("xdp_arp",), "conflict": ("dropped_address_conflict",)}
LIES["redirect"] = ("dropped_icmp_redirect",)
# Frames that reach no core since it does not keep up.
LOST = ("xsk_rx_ring_full", "xsk_fill_ring_empty")


def dropped_by_the_veth():
    """Frames that the other end of the client's link had no room for: its kernel looks too late."""
    with open("/sys/class/net/sc0/statistics/tx_dropped", encoding="ascii") as count:
        return int(count.read())


@only_sidestep
@pytest.mark.parametrize("kind", LIES)
def test_neighbours_that_lie_stop_nobody_and_all_they_send_is_counted(server, kind):
    memory = fill(server, 64)
    old = connect()
    exchange(old, store(b"old", b"value"), b"STORED\r\n")
    before, never_there, fresh = sidestep_stats(old), dropped_by_the_veth(), 0
    with flood_of(kind, rate=20_000, seconds=1) as lies:
        while lies.poll() is None:
            exchange(old, b"get old\r\n", found(b"old", b"value") + b"END\r\n")
            with connect() as new:
                exchange(new, store(b"new", b"%d" % fresh), b"STORED\r\n")
            fresh += 1
        sent = int(re.search(r"sent (\d+) ", lies.stdout.read())[1])

    def counted():
        stats = sidestep_stats(old)
        seen = sum(stats.get(name, 0) - before.get(name, 0) for name in (*LIES[kind], *LOST))
        return seen + dropped_by_the_veth() - never_there

    until(lambda: counted() >= sent, f"of {sent} frames {counted()} are counted under {LIES[kind]}")
    assert fresh > 0 and sent > 1_000, (fresh, sent)
    assert server.resident_bytes() - memory < GROWTH_BYTES


def test_a_flood_without_replies_is_stored_and_another_client_is_served_meanwhile(server):
    flooder, other = connect(), connect()
    flood = b"".join(b"set flood-%d 0 0 10 noreply\r\n%010d\r\n" % (number % 1000, number) for number in range(100_000))
    flooder.setblocking(False)
    sent, served = 0, 0
    while sent < len(flood):
        _, writable, _ = select.select([], [flooder], [], 30)
        assert writable, f"the flood stands still after {sent} of {len(flood)} bytes"
        sent += flooder.send(flood[sent : sent + 65536])
        other.sendall(store(b"other", b"%d" % served) + b"get other\r\n")
        expect(other, b"STORED\r\n" + found(b"other", b"%d" % served) + b"END\r\n")
        served += 1
    flooder.settimeout(30)
    last = [b"flood-%d" % number for number in range(1000)]
    values = b"".join(found(b"flood-%d" % number, b"%010d" % (99_000 + number)) for number in range(1000))
    exchange(flooder, b"get %s\r\n" % b" ".join(last), values + b"END\r\n")
    assert served > 10


def fill(server, memory):
    """Fills the cache once over, so that what grows after that is no item."""
    connection = connect()
    value = b"v" * 100_000
    count = 2 * (memory << 20) // len(value)
    exchange(connection, b"".join(store(b"fill-%d" % number, value) for number in range(count)), b"STORED\r\n" * count)
    return server.resident_bytes()


def fetched(connection, key):
    """The value of a key, or None; whatever comes must be a right reply."""
    connection.sendall(b"get %s\r\n" % key)
    start = receive(connection, 5)
    if start == b"END\r\n":
        return None
    line = start
    while not line.endswith(b"\r\n"):
        line += receive(connection, 1)
    word, name, _flags, length = line.split()
    assert (word, name) == (b"VALUE", key), line
    value = receive(connection, int(length))
    expect(connection, b"\r\nEND\r\n")
    return value


def right_so_far(replies, keys, values):
    """`replies` is how the replies to gets of `keys` begin; a key may have been evicted."""
    at = 0
    for key in keys:
        left = replies[at:]
        for reply in (found(key, values[key]) + b"END\r\n", b"END\r\n"):
            if left[: len(reply)] == reply[: len(left)]:
                at += len(reply)
                break
        else:
            pytest.fail(f"wrong from byte {at} of what the silent client was sent: {left[:80]!r}")
        if at >= len(replies):
            return


@pytest.mark.parametrize("kind", ["big", "small"])
def test_a_client_that_reads_nothing_costs_bounded_memory_and_stops_nobody(server, kind):
    before = fill(server, 64)
    other = connect()
    values = {b"big-%d" % number: bytes([number, *range(249)]) * 4_000 for number in range(2)}
    values |= {b"small-%d" % number: b"%d" % number * 100 for number in range(2)}
    exchange(other, b"".join(store(key, value) for key, value in values.items()), b"STORED\r\n" * len(values))

    silent = connect()
    silent.setblocking(False)
    asked = [b"%s-%d" % (kind.encode(), number % 2) for number in range(20_000)]
    unsent = b"".join(b"get %s\r\n" % key for key in asked)
    end, served, most = time.monotonic() + SILENT_SECONDS, 0, 0
    while time.monotonic() < end:
        try:
            # As much as goes in: the server stops reading when replies do not leave.
            unsent = unsent[silent.send(unsent[:65536]) :]
        except (BlockingIOError, ConnectionResetError, BrokenPipeError):
            pass
        exchange(other, store(b"tick", b"%d" % served), b"STORED\r\n")
        assert fetched(other, b"tick") == b"%d" % served
        assert fetched(other, b"big-1") in (None, values[b"big-1"])
        served += 1
        most = max(most, server.resident_bytes())
    assert served > 20, f"only {served} requests of another client were served in {SILENT_SECONDS} s"
    assert most - before < GROWTH_BYTES, f"grew from {before} to {most} bytes"

    # What it was sent was right, whether the server has kept the connection or given it up.
    silent.settimeout(30)
    replies = bytearray()
    try:
        silent.shutdown(socket.SHUT_WR)
        while len(replies) < 3_000_000 and (part := silent.recv(1 << 20)):
            replies += part
    except OSError as error:
        assert error.errno in (errno.ECONNRESET, errno.ENOTCONN), error
    right_so_far(bytes(replies), asked, values)
    silent.close()
    assert fetched(other, b"tick") is not None
