"""Our own generators over the lab: every reply of a load checked, and a differential run against memcached."""

import json
import os
import shutil
import subprocess

import pytest
from conftest import ADDRESS, KIND, PORT, TOOLS, V6, in_use, with_port
from test_udp import NETWORK

# Of each protocol but text over IPv4, which has more. Cores in one process are compared over more than a million in every run of
# the tests (cache/tests/differential.rs).
OPERATIONS = os.environ.get("SIDESTEP_E2E_OPERATIONS", "25000")
TEXT_OPERATIONS = os.environ.get("SIDESTEP_E2E_OPERATIONS", "25000" if V6 else "100000")
LISTED = os.path.join(os.path.dirname(__file__), "..", "..", "cache", "tests", "differences.md")


def tool(name):
    path = os.path.join(TOOLS, name)
    if not os.path.exists(path):
        pytest.fail(f"there is no {path}; cargo build the workspace, or set SIDESTEP_E2E_TOOLS")
    return path


@pytest.mark.parametrize("depth", [1, 8])
@pytest.mark.parametrize("value_bytes", [10, 20_000])
def test_a_load_meets_no_wrong_reply(server, depth, value_bytes):
    keys = 2000 if value_bytes > 1000 else 10_000
    requests = 10_000 if value_bytes > 1000 else 60_000
    command = [tool("sidestep-mcload"), "--server", with_port(ADDRESS, PORT), "--connections", "64", "--depth", str(depth)]
    command += ["--requests", str(requests), "--keys", str(keys), "--value-bytes", str(value_bytes), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    result = json.loads(run.stdout)
    assert (result["measured"]["requests"], result["wrong"]) == (requests, 0)


@pytest.mark.parametrize("test", ["get", "set", "mget"])
def test_memslap_ends(server, test):
    # Debian's libmemcached-tools calls it memcslap. Its mget writes all its requests before it reads the first reply.
    program = shutil.which("memslap") or shutil.which("memcslap")
    assert program, "there is no memslap; scripts/prepare test installs libmemcached-tools"
    command = [program, f"--servers={with_port(ADDRESS, PORT)}", "--concurrency=2", f"--test={test}"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    assert f"Time to {test}" in run.stdout and "20000 keys" in run.stdout, run.stdout


@pytest.mark.parametrize("protocol", ["text", "meta", "binary", "udp"])
def test_replies_are_memcacheds_but_for_the_listed_differences(start, protocol):
    # A memcached under test is run as the oracle is, see bench/differential/src/memcached.rs.
    extra = ["-R", "1", "-o", "no_lru_maintainer,no_lru_crawler"] if KIND == "memcached" else []
    if protocol == "udp":
        extra += ["-U", str(PORT), *([] if KIND == "memcached" else ["--udp-trust", NETWORK])]
    # What asks by datagrams must know when all answers have come, of which another core may have to give some.
    in_use(start(memory=1024, threads=1 if protocol == "udp" else 2, extra=extra).wait_until_ready())
    operations = TEXT_OPERATIONS if protocol == "text" else OPERATIONS
    command = [tool("sidestep-differential"), "--tested", with_port(ADDRESS, PORT), "--operations", operations]
    command += ["--protocol", protocol]
    if KIND == "sidestep":
        command += ["--differences", LISTED]
    run = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout[-8000:] + run.stderr
