"""The supervisor and its data plane: what the latter may not do, and that the NIC is given back whichever of them dies."""

import os
import pathlib
import re
import select
import signal
import time

import pytest

from conftest import (
    HANG_SECONDS,
    KIND,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    sidestep_stats,
    stop_process,
    store,
    until,
)

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached has no supervisor")

# How often each is killed here; the environment may ask for more.
ROUNDS = int(os.environ.get("SIDESTEP_KILL_ROUNDS", "3"))


def program_attached():
    return "prog/xdp" in in_server_namespace("ip", "link", "show", "ss0").stdout


def is_there(process):
    """Whether any thread of a process is there. One of which none is has let go of all that it had: the kernel closes a process's
    files before it tells of its end (do_exit in kernel/exit.c)."""
    try:
        status = pathlib.Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return False
    return not (re.search(r"^State:\s+Z", status, re.M) and re.search(r"^Threads:\s+[01]$", status, re.M))


@pytest.mark.parametrize("user", [[], ["-u", "root"], ["-u", "nobody"]])
def test_every_thread_of_the_data_plane_has_no_right_no_file_and_few_system_calls(start, user):
    server = start(extra=user).wait_until_ready()
    connection = connect()
    exchange(connection, store(b"k", b"v"), b"STORED\r\n")
    plane = server.plane()
    assert plane != server.process.pid
    threads = list(pathlib.Path(f"/proc/{plane}/task").iterdir())
    assert len(threads) >= 4, threads
    for thread in threads:
        status = (thread / "status").read_text(encoding="ascii")
        said = dict(re.findall(r"^(\w+):\s+(.*)$", status, re.MULTILINE))
        name = said["Name"]
        assert "0" not in said["Uid"].split() and "0" not in said["Gid"].split(), (name, said["Uid"], said["Gid"])
        assert int(said["CapEff"], 16) == int(said["CapPrm"], 16) == 0, (name, said["CapEff"])
        assert (said["NoNewPrivs"], said["Seccomp"]) == ("1", "2"), name
    assert os.listdir(f"/proc/{plane}/root") == []
    assert server.stop() == 0, server.errors


def test_a_data_plane_that_is_killed_is_said_counted_and_started_again(start):
    server = start().wait_until_ready()
    log = Log(server)
    exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
    killed = server.plane()
    os.kill(killed, signal.SIGKILL)
    assert "was killed by signal 9" in log.until("it is started again")
    log.until("serves again")
    assert server.plane() not in (killed, server.process.pid)
    connection = connect()
    exchange(connection, b"get k\r\n", b"END\r\n")
    assert sidestep_stats(connection)["plane_restarts"] == 1
    exchange(connection, store(b"k", b"w") + b"get k\r\n", b"STORED\r\n" + found(b"k", b"w") + b"END\r\n")
    assert server.stop() == 0, server.errors
    assert not program_attached()


def test_a_data_plane_that_does_not_stay_is_given_up(start):
    server = start().wait_until_ready()
    log = Log(server)
    for restarts in range(1, 6):
        os.kill(server.plane(), signal.SIGKILL)
        log.until(f"with an empty cache restarts={restarts}")
    os.kill(server.plane(), signal.SIGKILL)
    line = log.until("after 5 restarts")
    assert "was killed by signal 9 again" in line, line
    assert server.process.wait(timeout=HANG_SECONDS) == 1
    assert not program_attached()


def test_a_supervisor_that_is_killed_takes_the_data_plane_with_it_and_the_nic_is_the_kernels(start):
    for _ in range(ROUNDS):
        server = start().wait_until_ready()
        exchange(connect(), store(b"k", b"v"), b"STORED\r\n")
        plane = server.plane()
        begun = time.monotonic()
        server.kill()
        until(lambda: not is_there(plane), "the data plane outlives its supervisor")
        assert not program_attached(), "the program outlives its server"
        print(f"both gone, and the program, {time.monotonic() - begun:.3f} s after the kill")


def test_a_stopped_data_plane_does_not_keep_the_supervisor_from_ending_at_the_second_signal(start):
    server = start().wait_until_ready()
    log = Log(server)
    plane = server.plane()
    stop_process(plane)
    server.process.send_signal(signal.SIGTERM)
    server.process.send_signal(signal.SIGINT)
    log.until("asked a second time to end")
    assert server.process.wait(timeout=HANG_SECONDS) == 1
    until(lambda: not is_there(plane), "the data plane outlives its supervisor")
    assert not program_attached(), "the program outlives its server"


def test_a_supervisor_that_waits_for_a_stopped_data_plane_to_end_does_not_spin(start):
    server = start().wait_until_ready()
    plane = server.plane()

    def processor_seconds():
        fields = pathlib.Path(f"/proc/{server.process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    before = processor_seconds()
    stop_process(plane)
    server.process.send_signal(signal.SIGTERM)
    # Who spins beside this has as much of a processor. It is over long before the server kills its plane.
    begun = time.process_time()
    while time.process_time() < begun + 0.2:
        pass
    assert is_there(plane) and server.process.poll() is None
    assert processor_seconds() - before < 0.05
    os.kill(plane, signal.SIGCONT)
    assert server.process.wait(timeout=HANG_SECONDS) == 0
