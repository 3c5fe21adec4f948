"""A core that does not run for a while: its thread alone, held as a debugger holds it; its processor, taken by a program with a
real-time policy; and the whole data plane, stopped. Others are served meanwhile, `sidestep ctl` says what it knows and whom it
waits for, and what was stopped goes on where it was: no connection is reset, and no answer is missing."""

import contextlib
import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import struct
import subprocess
import sys
import time

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    KIND,
    PORT,
    TOOLS,
    Log,
    connect,
    exchange,
    expect,
    found,
    receive,
    sidestep_stats,
    stop_process,
    store,
    until,
)
from test_control import ctl
from test_link import client_queues, link, server_queues  # noqa: F401  # The second is a fixture.

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached has no cores that could be held one by one")

# ptrace(2): a thread that is seized goes on until it is interrupted, and is sent no signal for it.
SEIZE, INTERRUPT, DETACH = 0x4206, 0x4207, 17
# wait(2): threads too (__WALL).
WALL = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
LIBC.ptrace.restype = ctypes.c_long


def ptrace(request, thread):
    """One of the three above."""
    if LIBC.ptrace(request, thread, None, None) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def thread_of(server, core):
    """A core's thread."""
    tasks = pathlib.Path(f"/proc/{server.plane()}/task").iterdir()
    names = {(task / "comm").read_text(encoding="ascii").strip(): int(task.name) for task in tasks}
    return names[f"core-{core}"]


class Held:
    """A core's thread, which does not run until this is left; all other threads of its process do."""

    def __init__(self, server, core):
        self.thread = thread_of(server, core)

    def __enter__(self):
        ptrace(SEIZE, self.thread)
        ptrace(INTERRUPT, self.thread)
        assert os.WIFSTOPPED(os.waitpid(self.thread, WALL)[1])
        return self

    def __exit__(self, *_):
        if self.thread is not None:
            ptrace(DETACH, self.thread)

    def dies(self):
        """Waits until the thread is killed as it is."""
        while os.WIFSTOPPED(os.waitpid(self.thread, WALL)[1]):
            pass
        self.thread = None


@contextlib.contextmanager
def kept_off(cpu):
    """This process, which is the client, on the other processors."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, allowed - {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


@contextlib.contextmanager
def taken(cpu):
    """A processor that a program with a real-time policy has (sched(7), SCHED_FIFO). The kernel leaves others a twentieth of it, in
    pieces (sched_rt_runtime_us)."""
    hog = f"""if True:
        import os, signal
        signal.alarm(60)
        os.sched_setaffinity(0, [{cpu}])
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
        print(flush=True)
        while True:
            pass
    """
    with subprocess.Popen([sys.executable, "-c", hog], stdout=subprocess.PIPE) as process:
        try:
            if process.stdout.readline() != b"\n":
                pytest.skip("no real-time policy is to be had here (sched_setscheduler(2))")
            yield
        finally:
            process.kill()


def asks(path, *words):
    """`sidestep ctl`, begun."""
    command = [os.path.join(TOOLS, "sidestep"), "ctl", "--control", str(path), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def answered(asking):
    """Exit code, and what was said, of one that was begun."""
    out, error = asking.communicate(timeout=HANG_SECONDS)
    return asking.returncode, out, error


def by_core(path, least=4):
    """Connections, at least so many of each core, in a list for each."""
    cores = [[], []]
    while min(map(len, cores)) < least:
        opened = {"%s:%d" % one.getsockname(): one for one in [connect() for _ in range(8)]}
        for row in json.loads(ctl(path, "--json", "connections").stdout):
            if row["peer"] in opened:
                cores[row["core"]].append(opened.pop(row["peer"]))
        assert not opened, "every connection is shown"
    return cores


def keys_by_owner(connection, core):
    """A key of the core that serves this connection, and one of the other: by what is counted as sent on."""
    keys, counted = {}, f"core:{core}:cross_core_requests"
    for number in range(200):
        key, before = b"key%d" % number, sidestep_stats(connection)[counted]
        exchange(connection, store(key, b"value"), b"STORED\r\n")
        keys.setdefault(sidestep_stats(connection)[counted] > before, key)
        if len(keys) == 2:
            return keys[False], keys[True]
    raise AssertionError("200 keys of one core")


def get(key):
    """A get, and its answer."""
    return b"get %s\r\n" % key, found(key, b"value") + b"END\r\n"


def gets(connection, key, count=1000):
    """So many gets one after the other; microseconds, median and 99th percentile."""
    times = []
    for _ in range(count):
        begun = time.monotonic()
        exchange(connection, *get(key))
        times.append((time.monotonic() - begun) * 1e6)
    times.sort()
    return round(times[count // 2]), round(times[count * 99 // 100])


def resets():
    """Connections that were reset, of this namespace, and resets that were received unasked (RFC 4022, tcpEstabResets)."""
    lines = pathlib.Path("/proc/net/snmp").read_text(encoding="ascii").splitlines()
    names, values = (line.split()[1:] for line in lines if line.startswith("Tcp:"))
    return int(dict(zip(names, values, strict=True))["EstabResets"])


def asked_to_connect(count):
    """So many connections under way, each of which has said something already, if it is there."""
    opened = [socket.socket() for _ in range(count)]
    for one in opened:
        one.setblocking(False)
        one.connect_ex((ADDRESS, PORT))
    return opened


def was_sent_again(connection):
    """Whether anything of it was (tcp(7), TCP_INFO: tcpi_total_retrans)."""
    return struct.unpack_from("=I", connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 100)[0] > 0


def served_of(opened):
    """Those of them that are there, once one at least is, and is answered."""
    served = select.select([], opened, [], HANG_SECONDS)[1]
    assert served, "nobody is served"
    for one in served:
        exchange(one, b"mn\r\n", b"MN\r\n")
    return served


@pytest.mark.parametrize("queues, core", [(2, 0), (2, 1), (1, 1)])
def test_while_a_core_is_held_the_other_serves_and_then_it_goes_on_where_it_was(start, tmp_path, link, queues, core):  # noqa: F811
    client_queues(queues)
    server_queues(queues, queues)
    path = tmp_path / "control.sock"
    server = start(extra=["--control", str(path)]).wait_until_ready()
    log, cores, other, before = Log(server), by_core(path), 1 - core, resets()
    held, free = cores[core], cores[other]
    mine, theirs = keys_by_owner(free[0], other)
    undisturbed = gets(free[0], mine)
    value = bytes(range(256)) * 160
    half = store(b"half", value)
    held[3].sendall(half[:20_000])
    with Held(server, core):
        listing, limiting = asks(path, "--json", "connections"), asks(path, "set", "maxbytes", str(32 << 20))
        held[3].sendall(half[20_000:])
        for one in held[:3]:
            one.sendall(get(theirs)[0] + get(mine)[0])
        # More of the core that is held than messages to it can be under way.
        free[1].sendall(get(theirs)[0] * 2_000)
        free[2].sendall(get(theirs)[0] + get(mine)[0])
        meanwhile = gets(free[0], mine)
        exchange(free[3], store(mine, b"other") + store(mine, b"value"), b"STORED\r\n" * 2)
        opened = asked_to_connect(16)
        served = served_of(opened)
        for words in [["stats"], ["settings"], ["queues"], ["set", "verbosity", "1"], ["stats", "sidestep"]]:
            done = ctl(path, *words)
            assert done.returncode == 0, (words, done.stderr)
        code, out, error = answered(listing)
        late = f"sidestep: core {core} has not done what it was told in time\n"
        assert (code, error) == (1, late), (code, error)
        shown = json.loads(out)
        assert {row["core"] for row in shown} == {other} and len(shown) >= len(free)
        code, out, error = answered(limiting)
        assert code == 1 and error == late.replace("core", "maxbytes stays as it is: core"), error
        log.until(f"core {core} takes no turns")
        until(lambda: sidestep_stats(free[0])["cores_stalled"] == 1, "it is not counted")
        # It has answered nobody.
        assert not select.select([*held, free[1], free[2]], [], [], 0)[0]
    for one in held[:3]:
        expect(one, get(theirs)[1] + get(mine)[1])
    expect(held[3], b"STORED\r\n")
    exchange(held[3], b"get half\r\n", found(b"half", value) + b"END\r\n")
    expect(free[2], get(theirs)[1] + get(mine)[1])
    assert receive(free[1], 2_000 * len(get(theirs)[1])) == 2_000 * get(theirs)[1]
    waiting = [one for one in opened if one not in served]
    while waiting:
        served = served_of(waiting)
        waiting = [one for one in waiting if one not in served]
    log.until(f"core {core} takes turns again")
    until(lambda: sidestep_stats(free[0])["cores_stalled"] == 0, "it is counted still")
    done = ctl(path, "--json", "connections")
    assert done.returncode == 0 and {row["core"] for row in json.loads(done.stdout)} == {0, 1}, done.stderr
    # What it was told and had no time for is taken back.
    limit = {row["name"]: row["value"] for row in json.loads(ctl(path, "--json", "settings").stdout)}["maxbytes"]
    assert limit == str(64 << 20)
    assert ctl(path, "set", "maxbytes", str(32 << 20)).returncode == 0
    assert resets() == before
    print(f"gets of the other core, median and 99th percentile in us: {undisturbed} before, {meanwhile} while core {core} is held")
    assert server.stop() == 0, server.errors


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: taken, it would be taken from the client too")
@pytest.mark.parametrize("core", [0, 1])
def test_a_core_whose_processor_a_real_time_program_takes_costs_the_other_core_nothing_and_loses_nothing(start, tmp_path, core):
    path = tmp_path / "control.sock"
    server = start(extra=["--control", str(path)]).wait_until_ready()
    cores, before = by_core(path), resets()
    slowed, free = cores[core], cores[1 - core]
    mine, theirs = keys_by_owner(free[0], 1 - core)
    (cpu,) = os.sched_getaffinity(thread_of(server, core))
    with kept_off(cpu):
        undisturbed = gets(free[0], mine, 40_000)
        with taken(cpu):
            for one in slowed:
                one.sendall((get(theirs)[0] + get(mine)[0]) * 100)
            free[1].sendall(get(theirs)[0] * 100)
            meanwhile = gets(free[0], mine, 40_000)
    for one in slowed:
        wanted = (get(theirs)[1] + get(mine)[1]) * 100
        assert receive(one, len(wanted)) == wanted
    assert receive(free[1], 100 * len(get(theirs)[1])) == get(theirs)[1] * 100
    assert resets() == before
    print(f"gets of the other core, median and 99th percentile in us: {undisturbed} before, {meanwhile} beside a core without processor")
    assert server.stop() == 0, server.errors


def test_a_data_plane_that_is_stopped_and_goes_on_has_lost_nothing(start, tmp_path):
    path = tmp_path / "control.sock"
    server = start(extra=["--control", str(path)]).wait_until_ready()
    cores, before = by_core(path, 2), resets()
    connections = [one for of_core in cores for one in of_core]
    exchange(connections[0], store(b"key", b"value"), b"STORED\r\n")
    plane = server.plane()
    stop_process(plane)
    for one in connections:
        one.sendall(get(b"key")[0])
    # Each SYN is sent again while nobody answers, about half of them by the other queue, and so to the other core.
    opened = asked_to_connect(16)
    asked = ctl(path, "--timeout", "1", "stats")
    assert asked.returncode == 2 and "no answer within 1 s" in asked.stderr, asked.stderr
    assert not select.select(connections, [], [], 0)[0]
    until(lambda: all(map(was_sent_again, opened)), "the kernel does not send SYNs again")
    os.kill(plane, signal.SIGCONT)
    for one in connections:
        expect(one, get(b"key")[1])
    while opened:
        served = served_of(opened)
        opened = [one for one in opened if one not in served]
    assert ctl(path, "stats").returncode == 0
    assert server.plane() == plane and sidestep_stats(connections[0])["plane_restarts"] == 0 and resets() == before
    assert server.stop() == 0, server.errors
    assert "takes no turns" not in server.errors, server.errors


def test_a_server_that_drains_beside_a_core_that_is_held_ends_with_its_last_connection(start, tmp_path):
    path = tmp_path / "control.sock"
    server = start(extra=["--control", str(path)]).wait_until_ready()
    [one, *rest], [other, *more] = by_core(path, 1)
    for connection in rest + more:
        connection.close()
    with Held(server, 1):
        done = ctl(path, "drain")
        assert done.returncode == 0, done.stderr
        assert "core 1 has not done what it was told in time, and will once it goes on" in done.stdout, done.stdout
        exchange(one, b"mn\r\n", b"MN\r\n")
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            connect()
    for connection in (one, other):
        exchange(connection, b"mn\r\n", b"MN\r\n")
        connection.close()
    server._collect()
    assert server.process.returncode == 0, server.errors


@pytest.mark.parametrize("way", ["ctl", "signal"])
def test_a_server_that_is_to_end_does_so_although_a_core_is_held_and_says_which(start, tmp_path, way):
    path = tmp_path / "control.sock"
    server = start(extra=["--control", str(path)]).wait_until_ready()
    [one, *_], _ = by_core(path, 1)
    one.sendall(store(b"key", b"value"))
    expect(one, b"STORED\r\n")
    with Held(server, 1) as held:
        if way == "ctl":
            assert ctl(path, "shutdown").returncode == 0
        else:
            server.process.send_signal(signal.SIGTERM)
        # The core that runs closes its connections.
        assert one.recv(1) == b""
        held.dies()
    server._collect()
    assert server.process.returncode == 1, server.errors
    said = [line for line in server.errors.splitlines() if line.startswith("sidestep-cached: ")]
    assert len(said) == 1 and "core 1 has not ended 5 s after it was asked to" in said[0], server.errors
