"""A VLAN between the namespaces: the server puts tags in and takes them off, and so does the client's interface, by a
program of tc's, since this kernel has no VLAN interfaces of its own.

    client's kernel, which knows of no VLAN  ──push tag 100──►  sc0 <== veth ==> ss0  server, --vlan 100
                                             ◄──pop tag─────
"""

import pathlib
import select
import socket
import struct
import subprocess
import time

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    PORT,
    SERVER_NAMESPACE,
    connect,
    exchange,
    found,
    in_server_namespace,
    only_sidestep,
    sidestep_stats,
    store,
)
from test_routers import namespace, stats_when

NUMBER = 100
# With a priority of 3, which answers keep.
TAG = 3 << 13 | NUMBER
VLAN, EXPERIMENTAL = 0x8100, 0x88B5
# linux/socket.h, linux/if_packet.h
SOL_PACKET, PACKET_QDISC_BYPASS = 263, 20
PROBES = 20
VALUE = bytes(65 + i % 26 for i in range(1_000_000))

TAGGER = f"""
#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
SEC("tc/push") int push(struct __sk_buff *skb)
{{
    bpf_skb_vlan_push(skb, bpf_htons({VLAN}), {TAG});
    return TC_ACT_OK;
}}
SEC("tc/pop") int pop(struct __sk_buff *skb)
{{
    bpf_skb_vlan_pop(skb);
    return TC_ACT_OK;
}}
char LICENSE[] SEC("license") = "Dual MIT/GPL";
"""


def run(*words):
    done = subprocess.run(words, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout} {done.stderr}"


@pytest.fixture
def trunk(tmp_path):
    """All that the client sends has the tag, and what it receives has none."""
    source, built = tmp_path / "tagger.c", str(tmp_path / "tagger.o")
    source.write_text(TAGGER, encoding="ascii")
    # Where Debian keeps <asm/types.h>.
    machine = subprocess.run(["uname", "-m"], capture_output=True, text=True, check=True).stdout.strip()
    include = f"/usr/include/{machine}-linux-gnu"
    run("clang", "-O2", "-g", "-target", "bpf", "-I", include, "-c", str(source), "-o", built)
    try:
        # Else a veth carries the tag beside the frame.
        run("ethtool", "-K", "sc0", "txvlan", "off")
        run("tc", "qdisc", "add", "dev", "sc0", "clsact")
        for way, section in (("egress", "tc/push"), ("ingress", "tc/pop")):
            run("tc", "filter", "add", "dev", "sc0", way, "bpf", "direct-action", "object-file", built, "section", section)
        run("ip", "neigh", "flush", "dev", "sc0")
        yield
    finally:
        subprocess.run(["tc", "qdisc", "del", "dev", "sc0", "clsact"], capture_output=True, check=False)
        run("ethtool", "-K", "sc0", "txvlan", "on")
        run("ip", "neigh", "flush", "dev", "sc0")


def frames_of(capture):
    """The frames of a capture (pcap)."""
    data = pathlib.Path(capture).read_bytes()
    at = 24
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at + 8)
        yield data[at + 16 : at + 16 + length]
        at += 16 + length


@only_sidestep
def test_a_stock_client_is_served_in_a_vlan_and_answers_keep_its_priority(start, trunk, tmp_path):
    server = start(extra=["--vlan", str(NUMBER), "--capture", str(tmp_path)]).wait_until_ready()
    assert any(line.startswith("vlan: ") and f"tag {NUMBER}" in line for line in server.lines), server.lines
    connection = connect()
    exchange(connection, store(b"k", VALUE), b"STORED\r\n")
    exchange(connection, b"get k\r\n", found(b"k", VALUE) + b"END\r\n")
    connection.close()
    assert server.stop() == 0
    frames = [frame for capture in tmp_path.glob("queue-*.pcap") for frame in frames_of(capture)]
    assert len(frames) > 1000
    untagged = [frame for frame in frames if struct.unpack(">H", frame[12:14]) != (VLAN,)]
    assert not untagged, untagged[0].hex()
    tags = {struct.unpack(">H", frame[14:16])[0] for frame in frames}
    # What answers nothing, such as announcements, has no priority.
    assert tags == {TAG, NUMBER}, tags


def hears(wire, payload):
    """Whether the socket gets a frame with that payload."""
    ends = time.monotonic() + HANG_SECONDS
    while time.monotonic() < ends:
        if select.select([wire], [], [], 1)[0] and payload in wire.recv(2048):
            return True
    return False


@only_sidestep
def test_frames_of_other_vlans_and_without_a_tag_are_the_kernels(start, trunk):
    server = start(extra=["--vlan", str(NUMBER)]).wait_until_ready()
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    with namespace(SERVER_NAMESPACE):
        kernel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EXPERIMENTAL))
        kernel.bind(("ss0", EXPERIMENTAL))
    with open("/sys/class/net/sc0/address", encoding="ascii") as address:
        own = bytes.fromhex(address.read().strip().replace(":", ""))
    neighbour = in_server_namespace("cat", "/sys/class/net/ss0/address").stdout.strip()
    station = bytes.fromhex(neighbour.replace(":", "")) + own
    with kernel, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("sc0", 0))
        # Past the program that would put the server's tag in.
        wire.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        experimental = struct.pack(">H", EXPERIMENTAL)
        for name, tag in ((b"without", b""), (b"other", struct.pack(">HH", VLAN, 200))):
            wire.send(station + tag + experimental + name + bytes(60))
            assert hears(kernel, name), name
        # And what would be the server's, were it of its VLAN, is not answered: nothing of it reaches the stack.
        before = sidestep_stats(connection)
        probe = struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1) + own + bytes(4) + bytes(6) + socket.inet_aton(ADDRESS)
        for tag in (b"", struct.pack(">HH", VLAN, 200)) * PROBES:
            wire.send(b"\xff" * 6 + own + tag + probe + bytes(18))
        ends = time.monotonic() + HANG_SECONDS
        while sidestep_stats(connection)["xdp_passed"] < before["xdp_passed"] + 2 * PROBES:
            assert time.monotonic() < ends
        after = sidestep_stats(connection)
        # The client's kernel asks now and then, too, in the server's VLAN.
        assert after["xdp_arp"] < before["xdp_arp"] + PROBES and after.get("dropped_other_vlan", 0) == 0, after
    assert server.stop() == 0


def internet_sum(data):
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", total ^ 0xFFFF)


def discovery(kind, flags, source, group, target, option=b""):
    """A message about an IPv6 address to a group of stations (RFC 4861): their address, and the packet behind the tags."""
    source, group, target = (socket.inet_pton(socket.AF_INET6, address) for address in (source, group, target))
    body = struct.pack("!BBHI", kind, 0, 0, flags << 24) + target + option
    summed = internet_sum(source + group + struct.pack("!II", len(body), 58) + body)
    head = struct.pack("!HIHBB", 0x86DD, 0x60000000, len(body), 58, 255) + source + group
    return b"\x33\x33" + group[12:], head + body[:2] + summed + body[4:]


def solicitation(station):
    """Asks for the server's IPv6 address, as a neighbour does."""
    return discovery(135, 0, "fd77::1", "ff02::1:ff00:2", "fd77::2", b"\x01\x01" + station)


def datagram(v6, payload):
    """One to the server's address and port, from the network of the lab."""
    udp = struct.pack("!HHHH", 40_000, PORT, 8 + len(payload), 0) + payload
    if v6:
        ends = [socket.inet_pton(socket.AF_INET6, address) for address in ("fd77::1", "fd77::2")]
        return struct.pack("!HIHBB", 0x86DD, 0x60000000, len(udp), 17, 64) + b"".join(ends) + udp
    ends = b"".join(socket.inet_aton(address) for address in ("10.77.0.1", ADDRESS))
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(udp), 1, 0, 64, 17)
    return struct.pack("!H", 0x0800) + head + internet_sum(head + b"\0\0" + ends) + ends + udp


@only_sidestep
def test_what_would_be_the_servers_in_its_vlan_is_the_kernels_in_another_whichever_the_family(start, trunk):
    server = start(extra=["--vlan", str(NUMBER), "--address", "fd77::2/64", "-U", str(PORT)]).wait_until_ready()
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    with namespace(SERVER_NAMESPACE):
        # All that the kernel gets of the interface.
        kernel = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
        kernel.bind(("ss0", 0x0003))
    with open("/sys/class/net/sc0/address", encoding="ascii") as address:
        own = bytes.fromhex(address.read().strip().replace(":", ""))
    station = bytes.fromhex(in_server_namespace("cat", "/sys/class/net/ss0/address").stdout.strip().replace(":", ""))
    with kernel, socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("sc0", 0))
        wire.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        before = sidestep_stats(connection)
        for tag in (b"", struct.pack(">HH", VLAN, 200)):
            for v6 in (False, True):
                name = b"%d to IPv%d" % (len(tag), 6 if v6 else 4)
                wire.send(station + own + tag + datagram(v6, name))
                assert hears(kernel, name), name
            group, packet = solicitation(own)
            for _ in range(PROBES):
                wire.send(group + own + tag + packet)
        passed = before["xdp_passed"] + 4 + 2 * PROBES
        after = stats_when(connection, lambda stats: stats["xdp_passed"] >= passed)
        assert after.get("udp_datagrams_in", 0) == before.get("udp_datagrams_in", 0), after
        assert after.get("xdp_neighbors", 0) == before.get("xdp_neighbors", 0), after
        assert after.get("dropped_other_vlan", 0) == 0, after
    exchange(connection, b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_a_server_without_a_vlan_takes_no_frame_with_a_tag(start, trunk):
    server = start().wait_until_ready()
    with pytest.raises(OSError):
        socket.create_connection((ADDRESS, PORT), timeout=1.5)
    assert server.stop() == 0
    assert sum(core.get("packets in", 0) for core in server.core_reports()) == 0


@only_sidestep
def test_a_vlan_that_cannot_be_is_refused(start):
    for words, said in (
        (["--vlan", "0"], "--vlan 0: not a VLAN number from 1 to 4094"),
        (["--vlan", "4095"], "--vlan 4095: not a VLAN number from 1 to 4094"),
    ):
        server = start(extra=words)
        assert server.process.wait(HANG_SECONDS) != 0
        server.kill()
        assert said in server.process.stderr.read().decode()
