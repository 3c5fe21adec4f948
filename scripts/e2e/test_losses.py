"""What is lost is seen while the server runs: by its reason in `stats sidestep`, and in the log once it grows."""

import re
import os
import signal
import socket
import struct

from conftest import (
    ADDRESS,
    FAMILY,
    PORT,
    V6,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    in_use,
    only_sidestep,
    sidestep_stats,
    stop_process,
    store,
)

CLIENT_ADDRESS = "fd77::1" if V6 else "10.77.0.1"


def damaged_syns(count):
    """Sends so many SYNs whose TCP checksum is wrong, past the kernel."""
    server_mac = re.search(r"link/ether (\S+)", in_server_namespace("ip", "link", "show", "ss0").stdout)[1]
    with open("/sys/class/net/sc0/address", encoding="ascii") as address:
        own_mac = address.read().strip()
    macs = bytes.fromhex((server_mac + own_mac).replace(":", ""))
    ends = socket.inet_pton(FAMILY, CLIENT_ADDRESS) + socket.inet_pton(FAMILY, ADDRESS)
    if V6:
        ip = b"\x86\xdd" + struct.pack("!IHBB", 0x60000000, 20, 6, 64) + ends
    else:
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 40, 0, 0x4000, 64, 6, 0) + ends
        total = sum(struct.unpack("!10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        ip = b"\x08\x00" + ip[:10] + struct.pack("!H", ~total & 0xFFFF) + ip[12:]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind(("sc0", 0))
        for number in range(count):
            # This sum is right for one port, which is none of these.
            tcp = struct.pack("!HHIIBBHHH", 30_000 + number, PORT, 1, 0, 0x50, 2, 1024, 0x1BAD, 0)
            raw.send(macs + ip + tcp)


@only_sidestep
def test_drops_are_counted_by_reason_while_the_server_runs_and_said_once_in_the_log(start):
    server = in_use(start().wait_until_ready())
    log = Log(server)
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    assert sidestep_stats(connection)["dropped_tcp_checksum"] == 0
    damaged_syns(100)
    line = log.until("dropped_tcp_checksum grows")
    assert "WARN" in line and "What to do: " in line, line
    # The line may have come between two of them.
    while sidestep_stats(connection)["dropped_tcp_checksum"] != 100:
        pass
    # More of the same within the minute is counted, and said no more.
    damaged_syns(1000)
    while sidestep_stats(connection)["dropped_tcp_checksum"] < 1100:
        pass
    assert server.stop() == 0
    said = log.text.decode() + server.errors
    assert said.count("dropped_tcp_checksum grows") == 1, said
    assert sum(core.get("dropped_tcp_checksum", 0) for core in server.core_reports()) == 1100, server.lines


@only_sidestep
def test_frames_that_come_while_no_core_runs_are_counted_by_the_ring_that_was_full(start):
    server = in_use(start().wait_until_ready())
    log = Log(server)
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    stop_process(server.plane())
    # More than the rings of two queues hold.
    damaged_syns(20_000)
    os.kill(server.plane(), signal.SIGCONT)
    line = log.until("a core does not keep up")
    assert "WARN" in line and "xsk_" in line, line
    counts = sidestep_stats(connection)
    lost = counts["xsk_rx_ring_full"] + counts["xsk_fill_ring_empty"]
    assert lost > 0 and counts["dropped_tcp_checksum"] < 20_000, counts
    # Each under one name, though the kernel counts some under two. The client's own frames are among the lost.
    assert counts["xsk_rx_too_long"] == 0, counts
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0
