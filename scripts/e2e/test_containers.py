"""The server with no more rights and files than docs/containers.md asks a container engine for."""

import re

import pytest
from conftest import KIND, connect, expect

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached needs no rights")

# Those of docs/containers.md: a container started with --cap-drop ALL and these has them as its bounding set.
RIGHTS = ["net_admin", "net_raw", "bpf", "perfmon", "ipc_lock", "setuid", "setgid", "sys_chroot", "kill"]

# As an engine does with --read-only and --tmpfs /run/sidestep: a mount namespace in which nothing else can be written.
CONTAINED = """
mount --make-rprivate / && mkdir -p /run/sidestep && mount -t tmpfs run /run/sidestep && mount -o remount,bind,ro / || exit 1
exec setpriv --bounding-set "$0" --inh-caps=-all --ambient-caps=-all -- "$@"
"""


def contained(rights):
    """What a command is begun with, so that it has these rights and no others."""
    bounds = ",".join(["-all", *(f"+{right}" for right in rights)])
    return ("unshare", "--mount", "sh", "-c", CONTAINED, bounds)


def test_a_container_with_the_rights_of_the_document_serves_and_ends(start):
    server = start(prefix=contained(RIGHTS)).wait_until_ready()
    with open(f"/proc/{server.process.pid}/status", encoding="ascii") as status:
        bounds = int(re.search(r"CapBnd:\s+(\w+)", status.read())[1], 16)
    assert bounds.bit_count() == len(RIGHTS), hex(bounds)
    connection = connect()
    connection.sendall(b"set k 0 0 1\r\nv\r\nget k\r\n")
    expect(connection, b"STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n")
    assert not [line for line in server.lines if "keeps its root" in line or "stays root" in line], server.lines
    assert server.stop() == 0, server.errors


@pytest.mark.parametrize("right", ["net_admin", "net_raw", "bpf", "perfmon"])
def test_a_container_without_a_right_ends_and_one_line_names_it(start, right):
    server = start(prefix=contained([other for other in RIGHTS if other != right]))
    server._collect()
    assert server.process.returncode == 1, server.errors
    named = [line for line in server.errors.splitlines() if f"CAP_{right.upper()}" in line]
    assert len(named) == 1, server.errors
