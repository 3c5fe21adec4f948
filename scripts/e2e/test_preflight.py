"""States of the machine that keep the server from starting, each made here and told in one line with what mends it."""

import pathlib
import re
import subprocess
import sys

import pytest
from conftest import SERVER_NAMESPACE, connect, exchange, found, in_server_namespace, only_sidestep, store, until
from test_wrong_use import refused

# Loads an XDP program that passes every frame, attaches it to ss0 by a link, and holds that until its input ends.
OTHER_PROGRAM = """
import ctypes, platform, socket, struct, sys
bpf = {"x86_64": 321, "aarch64": 280}[platform.machine()]
call = ctypes.CDLL(None, use_errno=True).syscall
def attempt(command, attributes):
    number = call(bpf, command, attributes, len(attributes))
    assert number >= 0, ctypes.get_errno()
    return number
code = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 2, 0x95, 0, 0, 0))
licence = ctypes.create_string_buffer(b"GPL")
program = attempt(5, struct.pack("=IIQQ", 6, 2, ctypes.addressof(code), ctypes.addressof(licence)) + bytes(48))
link = attempt(28, struct.pack("=IIII", program, socket.if_nametoindex("ss0"), 37, 0) + bytes(48))
print("attached", flush=True)
sys.stdin.read()
"""


def said_with(*changes, **options):
    """What is said after each of these commands was run in the server's namespace; the last word undoes them."""
    *do, undo = changes
    try:
        for command in do:
            done = in_server_namespace(*command.split())
            assert done.returncode == 0, done.stderr
        return refused(**options)
    finally:
        assert in_server_namespace(*undo.split()).returncode == 0


@only_sidestep
def test_an_interface_that_is_down_is_told_with_the_command_that_brings_it_up():
    said = said_with("ip link set ss0 down", "ip link set ss0 up")
    assert "interface ss0 is down; bring it up: ip link set ss0 up" in said, said


@only_sidestep
def test_another_xdp_program_is_told_with_the_commands_that_find_and_detach_it():
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, sys.executable, "-c", OTHER_PROGRAM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "attached\n"
        said = refused()
    wanted = "another XDP program is attached to ss0; stop its owner (bpftool net list) or detach it: ip link set ss0 xdp off"
    assert wanted in said, said


@only_sidestep
@pytest.mark.parametrize("capability", ["net_admin", "net_raw", "bpf", "perfmon"])
def test_each_capability_that_is_missing_is_named(capability):
    # CAP_SYS_ADMIN would do in place of the last two.
    without = ",".join(f"-{name}" for name in {capability, "sys_admin"})
    said = refused(prefix=["setpriv", "--bounding-set", without, "--inh-caps", without])
    assert f"no permission for AF_XDP: CAP_{capability.upper()} missing; run as root or give the program" in said, said


@only_sidestep
def test_too_little_memory_that_may_be_locked_is_told_with_both_numbers():
    without = ["setpriv", "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock"]
    said = refused(prefix=[*without, "prlimit", "--memlock=65536:65536"])
    wanted = r"frames of 2 queues need \d+ bytes of locked memory, RLIMIT_MEMLOCK allows 65536 bytes; raise it \(ulimit -l\)"
    assert re.search(wanted, said), said


@only_sidestep
def test_frames_for_which_there_is_no_memory_are_told_with_their_size(start):
    # With the longest rings and chunks of a page the frames of a queue take 385 MiB: more than is left of an address space that
    # holds all else, which a server with the usual rings has shown.
    assert in_server_namespace("ip", "link", "set", "ss0", "mtu", "3000").returncode == 0
    try:
        server = start(connections=1024).wait_until_ready()
        with open(f"/proc/{server.plane()}/status", encoding="ascii") as status:
            most = int(re.search(r"VmPeak:\s+(\d+) kB", status.read())[1]) * 1024
        assert server.stop() == 0
        limit = most + (200 << 20)
        said = refused(prefix=["prlimit", f"--as={limit}:{limit}"], **{"--ring-size": "32768", "-c": "1024"})
    finally:
        assert in_server_namespace("ip", "link", "set", "ss0", "mtu", "1500").returncode == 0
    assert re.search(r"no memory for \d{9} bytes of frames a queue; free some or use smaller rings \(--ring-size\)", said), said


@only_sidestep
def test_an_interface_that_is_no_ethernet_is_told():
    said = refused(**{"--interface": "lo"})
    assert "interface lo is no Ethernet; AF_XDP and this stack need one" in said, said


@only_sidestep
def test_a_mode_that_is_not_to_be_had_is_told_with_one_that_is():
    said = refused(**{"--mode": "zero-copy"})
    assert re.search(r"driver of ss0 \(veth\) grants no zero copy: .*; choose another mode, such as auto", said), said
    said = refused(**{"--mode": "generic"})
    assert "ss0 is a veth with 2 queues, where generic mode delivers frames to the wrong queue; use native mode" in said
    add = "ip link add over0 link ss0 type macvlan mode bridge"
    said = said_with(add, "ip link set over0 up", "ip link del over0", **{"--interface": "over0", "--mode": "native"})
    wanted = r"driver of over0 \(macvlan\) cannot run an XDP program in native mode: .*; choose another mode, such as auto"
    assert re.search(wanted, said), said


@only_sidestep
def test_a_queue_that_the_interface_lacks_is_told_with_those_it_has():
    said = refused(**{"--queues": "3"})
    assert "interface ss0 has no queue 2: its queues are 0 to 1" in said, said


@only_sidestep
def test_a_word_that_is_no_mode_and_no_steering_is_told_with_those_that_are():
    assert "--mode quick: not one of auto, zero-copy, native, copy, generic" in refused(**{"--mode": "quick"})
    assert "--steering all: not one of own, shared, dedicated" in refused(**{"--steering": "all"})
    assert "--allow 10.77.0.1/24: not a network" in refused(**{"--allow": "10.77.0.1/24"})


@only_sidestep
def test_frames_lie_on_huge_pages_where_enough_are_free(start):
    # The setting is the machine's, not the namespace's: only one that is not used is touched, and given back.
    with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as setting:
        if setting.read().strip() != "0":
            pytest.skip("the machine's huge pages are somebody's")
    server = start().wait_until_ready()
    small = "memory: frames on small pages: too few huge ones are free (sysctl vm.nr_hugepages)"
    assert small in server.lines, server.lines
    assert server.stop() == 0
    try:
        assert in_server_namespace("sysctl", "-qw", "vm.nr_hugepages=14").returncode == 0
        free = free_huge_pages()
        if free < 14:
            pytest.skip("the kernel has no 28 MiB in whole huge pages")
        server = start().wait_until_ready()
        assert "memory: frames on huge pages" in server.lines, server.lines
        connection = connect()
        exchange(connection, store(b"k", b"v" * 100_000), b"STORED\r\n")
        exchange(connection, b"get k\r\n", found(b"k", b"v" * 100_000) + b"END\r\n")
        assert free - free_huge_pages() == 14
        assert not any(line == "memory: items on huge pages" for line in server.lines), server.lines
        assert server.stop() == 0
    finally:
        in_server_namespace("sysctl", "-qw", "vm.nr_hugepages=0")


@only_sidestep
def test_items_lie_on_huge_pages_where_enough_are_free_and_give_them_back(start):
    with open("/proc/sys/vm/nr_hugepages", encoding="ascii") as setting:
        if setting.read().strip() != "0":
            pytest.skip("the machine's huge pages are somebody's")
    try:
        # 64 MiB of items and 28 of frames.
        assert in_server_namespace("sysctl", "-qw", "vm.nr_hugepages=46").returncode == 0
        free = free_huge_pages()
        if free < 46:
            pytest.skip("the kernel has no 92 MiB in whole huge pages")
        server = start().wait_until_ready()
        assert "memory: frames on huge pages" in server.lines, server.lines
        assert "memory: items on huge pages" in server.lines, server.lines
        # The store's memory is made while the server serves: a page that is promised becomes one that is used between two looks.
        until(lambda: unpromised_huge_pages() == 0, "huge pages are not this server's")
        # What is stored lies on them, and what is used is not counted as reserved any more.
        connection = connect()
        for number in range(40):
            exchange(connection, store(b"k%d" % number, b"v" * 1_000_000), b"STORED\r\n")
        exchange(connection, b"get k39\r\n", found(b"k39", b"v" * 1_000_000) + b"END\r\n")
        # A higher limit than they hold is had from other memory.
        exchange(connection, b"cache_memlimit 128\r\n", b"OK\r\n")
        for number in range(40, 110):
            exchange(connection, store(b"k%d" % number, b"v" * 1_000_000), b"STORED\r\n")
        exchange(connection, b"get k109\r\n", found(b"k109", b"v" * 1_000_000) + b"END\r\n")
        assert server.stop() == 0
        # The kernel gives the frames' back a moment after the last socket has closed.
        until(lambda: free_huge_pages() == free, "huge pages are left")
    finally:
        in_server_namespace("sysctl", "-qw", "vm.nr_hugepages=0")


def unpromised_huge_pages():
    """Free, and promised to nobody."""
    meminfo = pathlib.Path("/proc/meminfo").read_text(encoding="ascii")
    return huge_pages(meminfo, "Free") - huge_pages(meminfo, "Rsvd")


def free_huge_pages():
    """Free, promised to somebody or not."""
    return huge_pages(pathlib.Path("/proc/meminfo").read_text(encoding="ascii"), "Free")


def huge_pages(meminfo, state):
    """How many of the kernel's usual size are in a state."""
    return int(re.search(rf"HugePages_{state}:\s+(\d+)", meminfo)[1])
