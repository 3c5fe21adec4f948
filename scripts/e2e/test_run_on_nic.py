"""scripts/run-on-nic on a veth: what it refuses, what it says, what it changes, and that all of it comes back."""

import os
import pathlib
import re
import select
import signal
import subprocess

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    SERVER_NAMESPACE,
    TOOLS,
    connect,
    exchange,
    found,
    in_server_namespace,
    only_sidestep,
    store,
)
from test_leaks import settled

LAUNCHER = str(pathlib.Path(__file__).parents[1] / "run-on-nic")
SERVER_OPTIONS = ["--address", f"{ADDRESS}/24", "-m", "64", "-c", "1024"]


@pytest.fixture
def state(tmp_path, monkeypatch):
    """The folder for what is saved; the links as every test leaves them."""
    monkeypatch.setenv("SIDESTEP_STATE", str(tmp_path))
    monkeypatch.setenv("SIDESTEP_BIN", TOOLS)
    # A client's flow must come by a queue that the server still has.
    queues("sc0", 1, here=True)
    yield tmp_path
    while Launched.all:
        Launched.all.pop().kill()
    in_server_namespace("ip", "route", "del", "default")
    queues("ss0", 2)
    queues("sc0", 2, here=True)


def queues(link, count, here=False):
    """Gives a link so many queues."""
    words = ["ethtool", "-L", link, "rx", str(count), "tx", str(count)]
    if here:
        subprocess.run(words, capture_output=True, check=False, timeout=HANG_SECONDS)
    else:
        in_server_namespace(*words)


def saved(state):
    """What is saved of a NIC. The socket of a server that was killed stays; the next server takes its place."""
    return [file for file in state.iterdir() if file.suffix != ".sock"]


def settings():
    """What can be seen of the server's interface: features, channels, MTU, addresses, program."""
    words = [["ethtool", "-k", "ss0"], ["ethtool", "-l", "ss0"], ["ip", "-o", "address", "show", "ss0"]]
    said = [in_server_namespace(*command).stdout for command in words]
    link = in_server_namespace("ip", "-o", "link", "show", "ss0").stdout
    return said + [re.sub(r"qdisc \S+|prog/xdp id \d+", "", link)]


def launch(*arguments):
    """Runs the launcher to its end."""
    return in_server_namespace(LAUNCHER, *arguments)


class Launched:
    """The launcher while its server serves."""

    # All that were started, so that none outlives its test.
    all = []

    def __init__(self, *arguments):
        # Whoever started these tests in the background has SIGINT ignored, and a shell keeps to what it was started with.
        here = ["env", "--default-signal=INT", "ip", "netns", "exec", SERVER_NAMESPACE]
        command = [*here, LAUNCHER, "ss0", *arguments, "--", *SERVER_OPTIONS]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.all.append(self)
        self.said = b""
        while b"\nready: " not in self.said:
            assert select.select([self.process.stdout], [], [], HANG_SECONDS)[0], self.said
            part = os.read(self.process.stdout.fileno(), 65536)
            assert part, self.said.decode()
            self.said += part

    def server(self):
        """The server's process number."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(child) for child in children if self.is_server(child))

    @staticmethod
    def is_server(pid):
        return pathlib.Path(f"/proc/{pid}/exe").resolve().name == "sidestep-cached"

    def kill(self):
        """Ends launcher and server, if they still run."""
        if self.process.poll() is None:
            children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            for pid in [*map(int, children), self.process.pid]:
                os.kill(pid, signal.SIGKILL)
        self.process.communicate(timeout=HANG_SECONDS)

    def end(self):
        """What it has said, and its exit code, once it has ended."""
        rest, _ = self.process.communicate(timeout=HANG_SECONDS)
        self.said += rest
        return self.said.decode(), self.process.returncode


@only_sidestep
def test_the_nic_of_the_default_route_is_refused_unless_it_is_shared_or_forced(state):
    in_server_namespace("ip", "route", "add", "default", "via", "10.77.0.1", "dev", "ss0")
    before = settings()
    for arguments in (["ss0"], ["ss0", "--dry-run"]):
        refused = launch(*arguments, "--", *SERVER_OPTIONS)
        assert refused.returncode == 2 and "ss0 carries the default route; --shared" in refused.stderr, refused
    for flag in ("--shared", "--force"):
        said = launch("ss0", "--dry-run", flag, "--", *SERVER_OPTIONS)
        assert said.returncode == 0 and "note   ss0 carries the default route" in said.stdout, said
    shared = launch("ss0", "--dry-run", "--shared", "--", *SERVER_OPTIONS).stdout
    assert "change " not in shared and "advice 2 receive and 2 transmit queues for 1 threads" in shared, shared
    assert settings() == before and not saved(state)


@only_sidestep
def test_a_dry_run_says_every_change_and_the_command_and_makes_none(state):
    before = settings()
    said = launch("ss0", "--dry-run", "--threads", "1", "--", *SERVER_OPTIONS)
    assert said.returncode == 0, said
    lines = said.stdout.splitlines()
    assert any(line.startswith("change 2 receive") and line.endswith(": ethtool -L ss0 rx 1 tx 1") for line in lines), lines
    assert all(re.match("(ok|note|advice|change|run) ", line) for line in lines), lines
    assert re.match(r"run +\S*sidestep-cached --interface ss0 -t 1 .*--address ", lines[-1]), lines
    assert settings() == before and not saved(state)


@only_sidestep
def test_a_client_is_served_and_the_nic_comes_back_when_the_server_is_asked_to_end(state):
    before = settings()
    launched = Launched("--threads", "1")
    exchange(connect(), store(b"k", b"v") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"v") + b"END\r\n")
    assert settings() != before and len(saved(state)) == 1
    second = launch("ss0", "--", *SERVER_OPTIONS)
    assert second.returncode == 2 and "ss0 is set for process" in second.stderr, second
    assert "is not as it was" not in second.stderr, second
    launched.process.send_signal(signal.SIGTERM)
    said, code = launched.end()
    assert code == 0 and "served: connections=1" in said and "channels is rx 2 tx 2 combined 0 again" in said, said
    assert settings() == before and not saved(state)


@only_sidestep
def test_a_signal_to_all_of_the_terminals_processes_reaches_the_server_once(state):
    before = settings()
    launched = Launched("--threads", "1")
    exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    os.killpg(launched.process.pid, signal.SIGINT)
    said, code = launched.end()
    assert code == 0 and "served: connections=1" in said, said
    assert settings() == before and not saved(state)


@only_sidestep
def test_the_nic_comes_back_when_the_server_is_killed(state):
    before = settings()
    launched = Launched("--threads", "1")
    exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    os.kill(launched.server(), signal.SIGKILL)
    said, code = launched.end()
    assert code == 128 + signal.SIGKILL and "channels is rx 2 tx 2 combined 0 again" in said, said
    # The data plane ends with the server, but after it, and its program with that.
    assert settled(settings, lambda seen: seen == before) == before and not saved(state)


@only_sidestep
def test_what_is_left_when_launcher_and_server_are_killed_is_restored_by_hand(state):
    before = settings()
    launched = Launched("--threads", "1")
    server = launched.server()
    launched.process.kill()
    launched.process.wait(timeout=HANG_SECONDS)
    os.kill(server, signal.SIGKILL)
    launched.end()
    assert settings() != before and len(saved(state)) == 1
    restored = launch("--restore", "ss0")
    assert restored.returncode == 0 and "channels is rx 2 tx 2 combined 0 again" in restored.stdout, restored
    assert settled(settings, lambda seen: seen == before) == before and not saved(state)
    assert "nothing was changed" in launch("--restore", "ss0").stdout
