"""Too little of what frames need: a small UMEM, a fill ring that runs dry, transmit frames that are all in use.

Each is made so that it happens for certain. Throughput may fall; nothing stops, every reply is right, the cause has its counter,
and afterwards all is as before.
"""

import os
import signal

from conftest import connect, exchange, expect, found, only_sidestep, receive, sidestep_stats, stop_process, store
from test_link import counted
from test_losses import damaged_syns

# The smallest: 64 descriptors a ring, 128 frames for receiving and 192 for sending, of which 64 are held for a burst's answers.
SMALLEST = ["--ring-size", "64"]


def assert_serves_as_ever(server):
    """Old and new connections get every size, and the server ends as it should."""
    for length in (1, 1500, 100_000):
        value = bytes(range(256)) * (length // 256 + 1)
        with connect() as connection:
            exchange(connection, store(b"after", value) + b"get after\r\n", b"STORED\r\n" + found(b"after", value) + b"END\r\n")
    assert server.stop() == 0, server.errors


@only_sidestep
def test_a_storm_of_replies_that_finds_no_frame_to_send_with_is_sent_bit_by_bit_and_counted(start):
    server = start(extra=SMALLEST, memory=128).wait_until_ready()
    value = bytes(range(256)) * 2048
    with connect() as connection:
        exchange(connection, store(b"big", value), b"STORED\r\n")
        exchange(connection, store(b"small", b"v" * 1200), b"STORED\r\n")
    # Each may be sent ten segments at once (RFC 6928), and thirty of one queue ask within one burst.
    clients = [connect() for _ in range(60)]
    request = b"get small\r\n" * 60 + b"get big\r\n" * 2
    stopped(server, lambda: [client.sendall(request) for client in clients])
    for client in clients:
        expect(client, (found(b"small", b"v" * 1200) + b"END\r\n") * 60 + (found(b"big", value) + b"END\r\n") * 2)
    counts = counted(clients[0], "flows_parked", lambda count: count >= 10)
    faults = ["xsk_rx_invalid_descriptors", "xsk_tx_invalid_descriptors", "tx_refused"]
    assert not any(counts[name] for name in faults), counts
    for client in clients:
        client.close()
    assert_serves_as_ever(server)


@only_sidestep
def test_a_small_umem_loses_frames_that_come_in_a_storm_and_no_request(start):
    server = start(extra=SMALLEST, memory=128).wait_until_ready()
    value = bytes(range(256)) * 400
    clients = [connect() for _ in range(16)]
    for round_ in range(4):
        for number, client in enumerate(clients):
            client.sendall(store(b"k%d" % number, value) * 2)
        # More than the rings hold, while no core runs.
        stopped(server, lambda: damaged_syns(2_000))
        for number, client in enumerate(clients):
            assert receive(client, 16) == b"STORED\r\nSTORED\r\n"
            exchange(client, b"get k%d\r\n" % number, found(b"k%d" % number, value) + b"END\r\n")
    counts = sidestep_stats(clients[0])
    assert counts["xsk_rx_ring_full"] > 0 and counts["xsk_rx_too_long"] == 0, counts
    for client in clients:
        client.close()
    assert_serves_as_ever(server)


@only_sidestep
def test_a_fill_ring_that_runs_dry_is_counted_by_that_and_fills_again(start):
    server = start().wait_until_ready()
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    # In copy mode 512 frames are lent to the kernel at first, fewer than the receive ring holds: the fill ring is the first to end.
    stopped(server, lambda: damaged_syns(20_000))
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    counts = counted(connection, "xsk_fill_ring_empty", lambda count: count > 0)
    assert counts["xsk_rx_ring_full"] == 0 and counts["xsk_rx_too_long"] == 0, counts
    assert_serves_as_ever(server)


def stopped(server, act):
    """Does something while no thread of the server runs."""
    stop_process(server.plane())
    try:
        act()
    finally:
        os.kill(server.plane(), signal.SIGCONT)
