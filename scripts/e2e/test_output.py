"""What programs say reaches whoever reads it whole, and where nobody can read it they end, or go on, without a panic."""

import os
import re
import signal
import subprocess

import pytest
from conftest import ADDRESS, BINARY, PORT, SERVER_NAMESPACE, connect, exchange, found, only_sidestep, store
from test_generators import tool

PLAN = os.path.join(os.path.dirname(__file__), "..", "..", "bench", "compare", "plans", "tcp-get.toml")
# Each program, and what it cannot do without.
NEEDED = {
    "sidestep-cached": ["--interface", "--address"],
    "sidestep": ["Usage:", "replay"],
    "sidestep-mcload": ["--server"],
    "sidestep-pktgen": ["--device <PORT>", "-f <MODE>"],
    "sidestep-compare": ["<PLAN>"],
    "sidestep-cost": ["Usage:", "compare"],
    "sidestep-storebench": ["Usage:", "ours"],
}
# Each program at something short that prints.
SHORT = {
    "sidestep-cached": ["--help"],
    "sidestep": ["--help"],
    "sidestep-mcload": ["--server", f"{ADDRESS}:{PORT}", "--requests", "10", "--keys", "10"],
    "sidestep-pktgen": ["-i", "wire:", "-f", "ping", "-n", "10"],
    "sidestep-compare": ["--check", PLAN],
    "sidestep-cost": ["compare", "counts", "counts"],
    "sidestep-differential": ["--operations", "10"],
    "sidestep-storebench": "ours --memory-bytes 4194304 --shards 1 --key-bytes 20 --value-bytes 40 --fill 10".split(),
}


@only_sidestep
@pytest.mark.parametrize("program", NEEDED)
def test_what_is_missing_on_a_command_line_is_named(program):
    run = subprocess.run([tool(program)], capture_output=True, text=True, timeout=30)
    assert run.returncode == 2 and run.stdout == "", run.stdout + run.stderr
    assert all(name in run.stderr for name in NEEDED[program]), run.stderr


@only_sidestep
@pytest.mark.parametrize("program", SHORT)
@pytest.mark.parametrize("broken", ["full disk", "no reader"])
def test_a_report_that_cannot_be_written_is_no_panic(program, broken, request, tmp_path):
    if program == "sidestep-mcload":
        request.getfixturevalue("server")
    (tmp_path / "counts").write_text("TCP GET\t100\n", encoding="ascii")
    with open("/dev/full", "wb") as full:
        out = full
        if broken == "no reader":
            reader, out = os.pipe()
            os.close(reader)
        command = [tool(program), *SHORT[program]]
        run = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=tmp_path, timeout=60)
    if broken == "no reader":
        os.close(out)
    assert run.returncode != 101 and "panicked" not in run.stderr, run.stderr
    if broken == "full disk":
        assert run.returncode in (1, 2), "a report that is lost is a failure"
    elif run.returncode:
        assert "roken pipe" in run.stderr or run.stderr == "", run.stderr


@only_sidestep
@pytest.mark.parametrize("output", ["full disk", "full disk for all", "first line alone is read"])
def test_a_server_whose_output_nobody_takes_goes_on_serving(output, tmp_path):
    own = ["--interface", "ss0", "--address", ADDRESS + "/24", "-t", "2", "-vv", "-P", str(tmp_path / "pid")]
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, BINARY, *own]
    with open("/dev/full", "wb") as full:
        out = subprocess.PIPE if output == "first line alone is read" else full
        err = full if output == "full disk for all" else subprocess.PIPE
        server = subprocess.Popen(command, stdout=out, stderr=err)
    try:
        if out is subprocess.PIPE:
            server.stdout.readline()
            server.stdout.close()
        connection = connect_once_it_serves(server)
        exchange(connection, store(b"k", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"v") + b"END\r\n")
        server.send_signal(signal.SIGTERM)
        said = (server.stderr.read() if server.stderr else b"").decode()
        assert server.wait(timeout=30) == 0, said
        assert "panicked" not in said
        assert server.stderr is None or re.search("standard output takes no more", said), said
    finally:
        server.kill()
        server.wait()


def connect_once_it_serves(server):
    """A connection to a server that cannot say that it is ready."""
    while server.poll() is None:
        try:
            return connect()
        except OSError:
            pass
    pytest.fail(f"it ended with exit code {server.returncode}")


@only_sidestep
def test_a_log_that_goes_to_no_terminal_has_no_colours(start):
    server = start(extra=["-vv"]).wait_until_ready()
    assert server.stop() == 0, server.errors
    assert " INFO " in server.errors and "\x1b" not in server.errors, server.errors
