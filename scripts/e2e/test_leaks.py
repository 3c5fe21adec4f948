"""Ten times started, loaded and ended, by request and by SIGKILL, the server leaves nothing: counted in its namespace."""

import json
import os
import pathlib
import re
import select
import signal
import subprocess

import pytest
from conftest import SERVER_NAMESPACE, connect, exchange, found, in_server_namespace, only_sidestep, store

CYCLES = 10


def processes():
    """Numbers of the processes of the server's namespace."""
    # Asked from without, since whoever asks within is one of them.
    listed = subprocess.run(["ip", "netns", "pids", SERVER_NAMESPACE], capture_output=True, text=True, check=True)
    return [int(pid) for pid in listed.stdout.split()]


def bpf_objects():
    """Programs, maps and links that are held in the server's namespace: by a process, or by an interface.

    The lists of bpftool are the whole machine's. What nobody holds by a descriptor, an interface or a file, the kernel has
    freed; nothing here pins a file.
    """
    held = set()
    for pid in processes():
        for info in pathlib.Path(f"/proc/{pid}/fdinfo").glob("*"):
            try:
                text = info.read_text(encoding="ascii")
            except (FileNotFoundError, ProcessLookupError):
                continue
            held |= set(re.findall(r"^(prog_id|map_id|link_id):\s+(\d+)$", text, re.MULTILINE))
    for link in json.loads(in_server_namespace("ip", "-j", "link").stdout):
        if "xdp" in link:
            held.add((link["ifname"], str(link["xdp"]["prog"]["id"])))
    return sorted(held)


def xdp_sockets():
    """AF_XDP sockets of the server's namespace; a UMEM lives as long as they."""
    protocols = in_server_namespace("cat", "/proc/net/protocols").stdout
    return int(re.search(r"^XDP\s+\d+\s+(\d+)", protocols, re.MULTILINE)[1])


def pinned_pages():
    """Pages of memory that the kernel has pinned for anybody on this machine, a UMEM's among them (`/proc/vmstat`)."""
    counts = dict(line.split() for line in pathlib.Path("/proc/vmstat").read_text(encoding="ascii").splitlines())
    return int(counts["nr_foll_pin_acquired"]) - int(counts["nr_foll_pin_released"])


def others_with_frames():
    """Whether a process of another namespace has AF_XDP sockets, or rings of others like them, mapped: its pages come and go too."""
    ours = set(processes())
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if int(process.name) not in ours and " socket:[" in (process / "maps").read_text(encoding="utf-8", errors="replace"):
                return True
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return False


def pinned_at_rest():
    """The fewest pinned pages of some looks: what a process that has just ended leaves to the kernel to free is no leak."""
    looks = []
    for _ in range(30):
        looks.append(pinned_pages())
        select.select([], [], [], 0.01)
    return min(looks)


def account(state):
    """What the server could leave behind."""
    settings = [["ethtool", "-k", "ss0"], ["ethtool", "-l", "ss0"], ["ip", "-o", "address"], ["ip", "-o", "link"]]
    settings.append(["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"])
    said = [in_server_namespace(*command).stdout for command in settings]
    return {
        "processes": len(processes()),
        "bpf objects": bpf_objects(),
        "sockets": xdp_sockets(),
        "sockets of the kernel": len(in_server_namespace("ss", "-Hanpx").stdout.splitlines())
        + len(in_server_namespace("ss", "-Hantu").stdout.splitlines()),
        "settings": [re.sub(r"qdisc \S+|prog/xdp id \d+", "", text) for text in said],
        # The socket of a server that was killed stays, one for an interface: the next server takes its place.
        "files": sorted(name for name in os.listdir(state) if not name.endswith(".sock")),
        "namespaces": network_namespaces(),
    }


def network_namespaces():
    """Names of those that belong to this lab."""
    suffix = os.environ["SIDESTEP_LAB_SUFFIX"]
    return sorted(name for name in os.listdir("/run/netns") if name.endswith(suffix))


def settled(look, good):
    """What `look` sees once it is `good`, or after many looks: the kernel frees maps and memory a moment after their last user."""
    for _ in range(200):
        seen = look()
        if good(seen):
            break
    return seen


def load():
    """Some connections, with requests of all sizes."""
    connections = [connect() for _ in range(16)]
    for number, connection in enumerate(connections):
        key, value = b"k%d" % number, b"v" * (1 << number)
        exchange(connection, store(key, value) + b"get %s\r\n" % key, b"STORED\r\n" + found(key, value) + b"END\r\n")
    for connection in connections:
        connection.close()


@only_sidestep
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["asked", "killed"])
def test_ten_cycles_of_start_load_and_stop_leave_nothing(start, number, tmp_path, monkeypatch):
    monkeypatch.setenv("SIDESTEP_STATE", str(tmp_path))
    before, alone, pages = account(tmp_path), not others_with_frames(), pinned_at_rest()
    for _ in range(CYCLES):
        server = start(extra=["-U", "11211"]).wait_until_ready()
        load()
        assert bpf_objects() != before["bpf objects"] and xdp_sockets() == before["sockets"] + 2
        if number == signal.SIGKILL:
            server.kill()
        else:
            assert server.stop(number) == 0, server.errors
    assert settled(lambda: account(tmp_path), lambda seen: seen == before) == before
    # Two queues of 6,272 chunks of 2048 bytes have 3,136 pages each, ten times. One of the twenty is seen where nobody else on this
    # machine has frames; where somebody has, whose pages are counted with ours, half of them are.
    bound = 3_136 if alone and not others_with_frames() else CYCLES * 6_272 // 2
    print(f"pinned pages: {pages} before, fewer than {bound} more are no leak")
    assert settled(pinned_pages, lambda seen: seen < pages + bound) < pages + bound


@only_sidestep
def test_a_server_has_as_many_descriptors_after_a_load_as_before(server):
    load()
    before = descriptors()
    for _ in range(10):
        load()
    assert settled(descriptors, lambda seen: seen == before) == before


def descriptors():
    """How many each process of the namespace has."""
    return sorted(len(os.listdir(f"/proc/{pid}/fd")) for pid in processes())
