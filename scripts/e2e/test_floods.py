"""Floods without replies, and clients that do not read: bounded memory, and everybody else is served."""

import os
import select
import time

import pytest
from conftest import connect, exchange, expect, found, store

# A client reads nothing for this long; scripts/soak asks for a minute and more.
SILENT_SECONDS = float(os.environ.get("SIDESTEP_E2E_SILENT_SECONDS", "8"))
# The server may not grow by more than this: rings and pins of a few connections, and what the allocator keeps.
GROWTH_BYTES = 48 << 20


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


@pytest.mark.parametrize("request_bytes", [b"get big-%d\r\n", b"get small-%d\r\n"], ids=["1 MB values", "small values"])
def test_a_client_that_reads_nothing_costs_bounded_memory_and_stops_nobody(server, request_bytes):
    before = fill(server, 64)
    other = connect()
    value = bytes(range(250)) * 4_000
    for number in range(2):
        exchange(other, store(b"big-%d" % number, value) + store(b"small-%d" % number, b"s" * 100), b"STORED\r\n" * 2)
    silent = connect()
    silent.setblocking(False)
    # As much as goes in; the server stops reading when replies do not leave.
    asked = 0
    pending = b"".join(request_bytes % (number % 2) for number in range(20_000))
    end, served, most = time.monotonic() + SILENT_SECONDS, 0, 0
    while time.monotonic() < end:
        try:
            asked += silent.send(pending[asked % len(pending) :][:65536])
        except (BlockingIOError, ConnectionResetError, BrokenPipeError):
            pass
        other.sendall(store(b"tick", b"%d" % served) + b"get tick big-1\r\n")
        expect(other, b"STORED\r\n" + found(b"tick", b"%d" % served))
        tail = found(b"big-1", value) + b"END\r\n"
        first = other.recv(5)
        # An evicted item is no fault: the cache is full.
        while len(first) < 5:
            first += other.recv(5 - len(first))
        expect(other, tail[5:] if first == b"VALUE" else b""[:0])
        if first != b"VALUE":
            assert first == b"END\r\n", first
            exchange(other, store(b"big-1", value), b"STORED\r\n")
        served += 1
        most = max(most, server.resident_bytes())
    assert served > 20, f"only {served} requests of another client were served in {SILENT_SECONDS} s"
    assert most - before < GROWTH_BYTES, f"grew from {before} to {most} bytes"
    silent.close()
    other.sendall(b"version\r\n")
    expect(other, b"VERSION ")
