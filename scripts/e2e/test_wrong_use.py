"""The wrong uses that a newcomer meets: one clear line, a non-zero exit code, nothing left behind."""

import re
import subprocess

import pytest
from conftest import ADDRESS, BINARY, SERVER_NAMESPACE, connect, exchange, found, in_server_namespace, only_sidestep, store

RIGHT = {"--interface": "ss0", "--address": ADDRESS + "/24", "-p": "11211", "-t": "2", "-m": "64", "-c": "4096"}


def refused(prefix=(), **changes):
    """Runs the server with some options changed; returns its one line of complaint."""
    options = RIGHT | {name.replace("_", "-"): value for name, value in changes.items()}
    words = [word for name, value in options.items() for word in (name, value)]
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, *prefix, BINARY, *words]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode not in (0, -6, -11, 101), f"exit code {run.returncode}: {run.stdout}{run.stderr}"
    lines = run.stderr.splitlines()
    assert len(lines) == 1, f"not one line: {run.stdout}{run.stderr}"
    assert lines[0].startswith("sidestep-cached: "), lines
    return lines[0]


CASES = {
    "no such interface": ({"--interface": "nosuch0"}, r"nosuch0"),
    "address already the kernel's": ({"--address": "10.77.0.3/24"}, r"10\.77\.0\.3"),
    "port out of range": ({"-p": "70000"}, r"70000.*65535"),
    "port below -1": ({"-p": "-2"}, r"-p -2.*65535"),
    "memory too small": ({"-m": "1"}, r"-m|memory|MB|MiB"),
    "no memory": ({"-m": "0"}, r"-m 0"),
    "no threads": ({"-t": "0"}, r"-t 0"),
    "no address": ({"--address": "10.77.0.2"}, r"--address 10\.77\.0\.2.*/24"),
    "loopback as interface": ({"--interface": "lo", "--address": "127.0.0.2/8"}, r"127\.0\.0\.2|lo"),
}


@only_sidestep
@pytest.mark.parametrize("case", CASES, ids=list(CASES))
def test_a_wrong_value_is_named_in_one_line(case):
    changes, pattern = CASES[case]
    said = refused(**changes)
    assert re.search(pattern, said), said


@only_sidestep
def test_without_permission_it_names_the_capability():
    said = refused(prefix=["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"])
    assert "CAP_" in said.upper(), said


@only_sidestep
def test_a_queue_that_is_in_use_is_named_and_the_first_server_goes_on(start):
    server = start().wait_until_ready()
    said = refused(**{"--address": "10.77.0.9/24"})
    assert re.search(r"busy|in use|already", said), said
    exchange(connect(), store(b"k", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0


@only_sidestep
def test_an_mtu_that_zero_copy_does_not_take_is_named_with_its_limit():
    assert in_server_namespace("ip", "link", "set", "ss0", "mtu", "9000").returncode == 0
    try:
        said = refused(**{"--mode": "zero-copy"})
        assert "an MTU of 9000 bytes" in said and "above 3822" in said and "ip link set ss0 mtu 3822" in said, said
    finally:
        in_server_namespace("ip", "link", "set", "ss0", "mtu", "1500")


@only_sidestep
def test_more_cores_than_queues_is_said_and_works(start):
    server = start(threads=3).wait_until_ready()
    assert any("3 cores" in line and "2 queues" in line for line in server.lines), server.lines
    connections = [connect() for _ in range(30)]
    for number, connection in enumerate(connections):
        exchange(connection, store(b"k%d" % number, b"v"), b"STORED\r\n")
    for connection in connections:
        for number in range(30):
            exchange(connection, b"get k%d\r\n" % number, found(b"k%d" % number, b"v") + b"END\r\n")
    assert server.stop() == 0
    cores = server.core_reports()
    assert len(cores) == 3 and all(core["connections"] > 0 for core in cores), server.lines


@only_sidestep
@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT"])
def test_asked_to_end_it_says_what_was_served(start, number):
    import signal

    server = start().wait_until_ready()
    exchange(connect(), store(b"k", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"v") + b"END\r\n")
    assert server.stop(getattr(signal, number)) == 0
    assert any(re.match(r"served: connections=1 requests=2 ", line) for line in server.lines), server.lines
