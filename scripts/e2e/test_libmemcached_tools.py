"""libmemcached's tools, over the text and the binary protocol: each says and returns with us what it does with memcached 1.6.45.

memccapable has a test of its own.
"""

import re
import subprocess

import pytest
from conftest import ADDRESS, PORT, with_port

BOTH = pytest.mark.parametrize("protocol", [[], ["--binary"]], ids=["text", "binary"])


@pytest.fixture
def servers(server, oracle):
    """Ours and memcached, as the tools name them."""
    return [with_port(ADDRESS, PORT), f"127.0.0.1:{oracle}"]


def tool(server, name, *words):
    """What it returns with, and prints on both streams."""
    command = [name, "--servers", server, *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return run.returncode, run.stdout, run.stderr.replace(server, "SERVER")


def same(servers, name, *words):
    """The answer of both, which must be one."""
    ours, theirs = (tool(server, name, *words) for server in servers)
    assert ours == theirs
    return ours


@BOTH
def test_files_are_copied_listed_touched_shown_and_removed(servers, protocol, tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).write_text(f"{name} value", encoding="ascii")
        assert same(servers, "memccp", *protocol, "--set", str(tmp_path / name))[0] == 0
    assert same(servers, "memccp", *protocol, "--add", str(tmp_path / "first"))[0] != 0
    assert same(servers, "memccat", *protocol, "first", "second")[:2] == (0, "first value\nsecond value\n")
    assert same(servers, "memccat", *protocol, "--flags", "first")[0] == 0
    assert same(servers, "memccat", *protocol, "missing")[0] != 0
    assert same(servers, "memcexist", *protocol, "first", "second")[0] == 0
    assert same(servers, "memcexist", *protocol, "missing")[0] != 0
    assert same(servers, "memctouch", *protocol, "--expire", "100", "first")[0] == 0
    assert same(servers, "memctouch", *protocol, "--expire", "100", "missing")[0] != 0
    # It asks by text alone, and for every class of slabs.
    listed = [sorted(tool(server, "memcdump")[1].split()) for server in servers]
    assert listed == [["first", "second"]] * 2
    assert same(servers, "memcrm", *protocol, "first")[0] == 0
    assert same(servers, "memcrm", *protocol, "first")[0] != 0
    assert same(servers, "memccat", *protocol, "first")[0] != 0
    assert same(servers, "memcflush", *protocol)[0] == 0
    assert same(servers, "memccat", *protocol, "second")[0] != 0


@BOTH
def test_ping_and_statistics(servers, protocol):
    assert same(servers, "memcping")[0] == 0
    names = []
    for server in servers:
        code, said, _ = tool(server, "memcstat", *protocol)
        assert code == 0
        names.append(re.findall(r"^\s+(\w+): \S", said, re.MULTILINE))
    assert sorted(names[0]) == sorted(names[1]) and len(names[0]) > 50
    assert same(servers, "memcstat", *protocol, "--server-version")[2] == "SERVER 1.6.45\n"
    for group in ("settings", "items", "slabs"):
        assert tool(servers[0], "memcstat", *protocol, group)[0] == 0


@BOTH
@pytest.mark.parametrize("load", ["set", "get", "mget"])
def test_the_load_of_memcslap_ends_well(servers, protocol, load):
    code, said, errors = tool(servers[0], "memcslap", *protocol, "--concurrency=4", "--execute-number=500", "--flush", f"--test={load}")
    assert code == 0, said + errors
    assert "fail" not in (said + errors).lower() and "error" not in (said + errors).lower(), said + errors
