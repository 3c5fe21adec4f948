"""The control channel: `sidestep ctl` beside clients, what it may not do, and what may not be done to it."""

import json
import os
import signal
import socket
import struct
import subprocess
import time

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    KIND,
    TOOLS,
    connect,
    expect,
    in_server_namespace,
    receive,
    sidestep_stats,
    stop_process,
)

LAB = os.environ["SIDESTEP_LAB_SUFFIX"]

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached has no such channel")


def ctl(path, *words, prefix=()):
    """`sidestep ctl`, finished."""
    command = [*prefix, os.path.join(TOOLS, "sidestep"), "ctl", "--control", str(path), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)


@pytest.fixture
def governed(start, tmp_path):
    """A running server and the path of its channel."""
    path = tmp_path / "control.sock"
    return start(extra=["--control", str(path)]).wait_until_ready(), path


def stats(connection, kind):
    connection.sendall(b"stats %s\r\n" % kind)
    text = b""
    while not text.endswith(b"END\r\n"):
        part = connection.recv(65536)
        assert part, "the server closed"
        text += part
    lines = text.decode().splitlines()[:-1]
    return dict(line.removeprefix("STAT ").split(" ", 1) for line in lines)


def test_stats_settings_and_the_channel_agree_also_after_a_change(governed):
    _, path = governed
    connection = connect()
    for change in [None, ("verbosity", "2"), ("detail_enabled", "yes"), ("lru_crawler", "no")]:
        if change:
            done = ctl(path, "set", *change)
            assert done.returncode == 0, done.stderr
        shown = {row["name"]: row["value"] for row in json.loads(ctl(path, "--json", "settings").stdout)}
        said = stats(connection, b"settings")
        log = shown.pop("log_filter")
        assert shown.pop("addresses") == ADDRESS
        assert shown == said
        if change:
            assert said[change[0]] == change[1] and log == "debug"
    refused = ctl(path, "set", "tcpport", "1")
    assert refused.returncode == 1 and "when the server starts" in refused.stderr, refused.stderr
    assert ctl(path, "stats").stdout.splitlines()[0].startswith("pid ")
    counts = json.loads(ctl(path, "--json", "stats", "sidestep").stdout)
    assert counts["cores"] == "2"
    assert ctl(path, "log-level", "warn").returncode == 0
    expect_alive(connection)


def expect_alive(connection):
    connection.sendall(b"set k 0 0 1\r\nv\r\nget k\r\n")
    expect(connection, b"STORED\r\nVALUE k 0 1\r\nv\r\nEND\r\n")


def test_queues_show_as_many_connections_as_were_made(governed):
    _, path = governed
    connections = [connect() for _ in range(8)]
    for connection in connections:
        expect_alive(connection)
    shown = json.loads(ctl(path, "--json", "queues").stdout)["queues"]
    assert sum(row["connections"] for row in shown["queues"]) == 8, shown
    assert [row["core"] for row in shown["queues"]] == [0, 1]


def test_the_socket_is_for_root_and_another_user_is_refused_even_where_its_mode_lets_in(governed, tmp_path):
    _, path = governed
    assert os.stat(path).st_mode & 0o777 == 0o600
    for folder in [tmp_path, *tmp_path.parents]:
        if folder.stat().st_uid == os.geteuid() and not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups")
    script = (
        "import socket,sys\ns = socket.socket(socket.AF_UNIX)\n"
        "try:\n s.connect(sys.argv[1])\n print(s.recv(4096))\nexcept OSError as error:\n print(type(error).__name__)\n"
    )

    def as_nobody():
        command = [*nobody, "/usr/bin/python3", "-c", script, str(path)]
        return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)

    assert as_nobody().stdout == "PermissionError\n"
    path.chmod(0o666)
    said = as_nobody().stdout
    assert "own user may govern it" in said, said
    assert ctl(path, "stats").returncode == 0


def test_garbage_half_messages_and_readers_that_read_nothing_keep_nobody_out(governed):
    _, path = governed
    connection = connect()
    open_ones = []
    for number in range(300):
        one = socket.socket(socket.AF_UNIX)
        one.connect(str(path))
        one.setblocking(False)
        try:
            one.send([b"GET / HTTP/1.1\r\n\r\n", b"\x0c\0\0\0\1\0", b'\x0e\0\0\0\1\0\0\0{"do":"stats"}'][number % 3])
        except (BrokenPipeError, ConnectionResetError):
            # Others ask, and it was quiet.
            pass
        open_ones.append(one)
        if number % 50 == 0:
            answered = ctl(path, "stats")
            assert answered.returncode == 0, answered.stderr
            expect_alive(connection)
    for one in open_ones:
        one.close()
    assert ctl(path, "stats").returncode == 0


def connections(path):
    return json.loads(ctl(path, "--json", "connections").stdout)


def test_connections_are_shown_one_by_one_on_every_page(start, tmp_path):
    path = tmp_path / "control.sock"
    start(extra=["--control", str(path)], connections=2048).wait_until_ready()
    assert connections(path) == []
    opened = [connect() for _ in range(900)]
    for one in opened:
        expect_alive(one)
    shown = {row["peer"]: row for row in connections(path)}
    names = ["%s:%d" % one.getsockname() for one in opened]
    assert sorted(shown) == sorted(names)
    assert {row["core"] for row in shown.values()} == {0, 1}
    assert all(row["state"] == "ESTAB" and row["unread_bytes"] == 0 for row in shown.values())
    assert sum(row["rtt_us"] is not None for row in shown.values()) > 800
    text = ctl(path, "connections").stdout.splitlines()
    assert len(text) == 900 and " ESTAB core=" in text[0], text[0]
    for one in opened[1:]:
        one.close()
    deadline = time.monotonic() + HANG_SECONDS
    while len(left := connections(path)) > 1 and time.monotonic() < deadline:
        pass
    assert [row["peer"] for row in left] == names[:1]


def test_drain_refuses_new_connections_keeps_old_ones_and_ends_with_the_last(governed):
    server, path = governed
    old = connect()
    expect_alive(old)
    done = ctl(path, "drain")
    assert done.returncode == 0 and done.stdout.startswith("1 connections go on"), (done.stdout, done.stderr)
    # A second time it is no other state; a time that no clock has is none.
    assert ctl(path, "drain", "--within", "3600").returncode == 0
    assert ctl(path, "drain", "--within", str(2**64 - 1)).returncode == 0
    for _ in range(20):
        with pytest.raises(ConnectionRefusedError):
            connect()
    expect_alive(old)
    assert json.loads(ctl(path, "--json", "stats").stdout)["accepting_conns"] == "0"
    old.close()
    server._collect()
    assert server.process.returncode == 0, server.errors
    assert not path.exists()


def test_drain_ends_within_the_time_given_whoever_stays(governed):
    server, path = governed
    old = connect()
    expect_alive(old)
    assert "in 1 s at the latest" in ctl(path, "drain", "--within", "1").stdout
    assert old.recv(64) == b""
    server._collect()
    assert server.process.returncode == 0, server.errors


def test_memory_connections_and_idle_time_change_while_clients_are_served(governed):
    server, path = governed
    first, second = connect(), connect()
    for connection in [first, second]:
        expect_alive(connection)
    limit = 32 << 20
    for change in [("maxbytes", str(limit)), ("maxconns", "2")]:
        done = ctl(path, "set", *change)
        assert done.returncode == 0, done.stderr
        assert stats(first, b"settings")[change[0]] == change[1]
    assert stats(first, b"")["limit_maxbytes"] == str(limit)
    third = connect()
    assert third.recv(64) == b"ERROR Too many open connections\r\n"
    # Nobody says anything on the second, nor, from here on, on the first.
    assert ctl(path, "set", "idle_timeout", "2").returncode == 0
    assert second.recv(64) == b""
    for change in [("maxbytes", "1"), ("maxbytes", str(1 << 40)), ("maxconns", "4097"), ("idle_timeout", "soon")]:
        refused = ctl(path, "set", *change)
        assert refused.returncode == 1 and "stays as it is" in refused.stderr, (change, refused.stderr)
    again = connect()
    shown = stats(again, b"settings")
    assert (shown["maxbytes"], shown["maxconns"], shown["idle_timeout"]) == (str(limit), "2", "2")
    assert ctl(path, "set", "idle_timeout", "0").returncode == 0


def test_servers_on_interfaces_of_one_name_in_two_namespaces_are_two(start):
    one, other = "sidestep-one" + LAB, "sidestep-other" + LAB
    for namespace in [one, other]:
        subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        servers = {
            namespace: start(interface="tap:sst8", address="10.79.8.2", port=port, prefix=["ip", "netns", "exec", namespace])
            for namespace, port in [(one, 11301), (other, 11302)]
        }
        for namespace, server in servers.items():
            server.wait_until_ready()
            assert not any("cannot govern" in line for line in server.lines), server.lines
            command = ["ip", "netns", "exec", namespace, os.path.join(TOOLS, "sidestep"), "ctl", "--json", "stats", "settings"]
            asked = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
            assert asked.returncode == 0, asked.stderr
            assert json.loads(asked.stdout)["tcpport"] == str(server.port)
        for server in servers.values():
            assert server.stop() == 0, server.errors
    finally:
        for namespace in [one, other]:
            subprocess.run(["ip", "netns", "delete", namespace], check=True)


def frames_of(path):
    """The frames of a pcap file (draft-ietf-opsawg-pcap), whole."""
    data = path.read_bytes()
    assert struct.unpack("<I", data[:4]) == (0xA1B23C4D,)
    frames, at = [], 24
    while at < len(data):
        seconds, nanoseconds, kept, length = struct.unpack("<IIII", data[at : at + 16])
        assert kept == length and nanoseconds < 10**9 and abs(time.time() - seconds) < 3600
        assert at + 16 + kept <= len(data), "the last frame is cut"
        frames.append(data[at + 16 : at + 16 + kept])
        at += 16 + kept
    return frames


def test_a_capture_has_every_frame_between_on_and_off_and_can_be_turned_on_again(governed, tmp_path):
    server, path = governed
    connection = connect()
    for name in ["first.pcap", "second.pcap"]:
        file = tmp_path / name
        connection.sendall(b"set k 0 0 6\r\nbefore\r\n")
        expect(connection, b"STORED\r\n")
        on = ctl(path, "capture", "on", str(file))
        assert on.returncode == 0, on.stderr
        again = ctl(path, "capture", "on", str(tmp_path / "other.pcap"))
        assert again.returncode == 1 and "on already" in again.stderr, again.stderr
        assert not (tmp_path / "other.pcap").exists(), "it was made for nothing"
        for number in range(300):
            connection.sendall(b"set k 0 0 9\r\nvalue%04d\r\n" % number)
            expect(connection, b"STORED\r\n")
        off = ctl(path, "capture", "off")
        assert off.returncode == 0 and "; 0 frames went by" in off.stdout, (off.stdout, off.stderr)
        connection.sendall(b"set k 0 0 5\r\nafter\r\n")
        expect(connection, b"STORED\r\n")
        assert file.stat().st_mode & 0o777 == 0o600
        frames = frames_of(file)
        assert off.stdout.startswith(f"recorded {len(frames)} frames, {file.stat().st_size} bytes"), off.stdout
        everything = b"".join(frames)
        assert all(b"value%04d" % number in everything for number in range(300))
        assert everything.count(b"STORED") >= 300
        assert b"before" not in everything and b"after" not in everything
    assert ctl(path, "capture", "off").returncode == 1
    # What is there already stays as it is.
    whole = (tmp_path / "first.pcap").read_bytes()
    there = ctl(path, "capture", "on", str(tmp_path / "first.pcap"))
    assert there.returncode == 2 and "first.pcap" in there.stderr, there.stderr
    assert (tmp_path / "first.pcap").read_bytes() == whole
    assert server.stop() == 0, server.errors


def test_a_capture_ends_with_the_bytes_that_its_file_may_have(governed, tmp_path):
    _, path = governed
    connection, file = connect(), tmp_path / "all.pcap"
    assert ctl(path, "capture", "on", str(file), "--limit", "300000").returncode == 0
    for _ in range(20):
        connection.sendall(b"set k 0 0 100000\r\n" + b"v" * 100000 + b"\r\n")
        expect(connection, b"STORED\r\n")
    off = ctl(path, "capture", "off")
    assert off.returncode == 1 and "no more than 300000 bytes" in off.stderr, off.stderr
    assert file.stat().st_size <= 300000
    frames_of(file)


def test_a_capture_to_a_full_disk_says_so_and_clients_are_served_on(governed, tmp_path):
    _, path = governed
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "small", str(disk)], check=True)
    try:
        connection = connect()
        assert ctl(path, "capture", "on", str(disk / "all.pcap")).returncode == 0
        deadline = time.monotonic() + HANG_SECONDS
        # As many as the writer has written to the disk, and then the blocks that it keeps.
        while sidestep_stats(connection)["capture_unrecorded"] == 0:
            assert time.monotonic() < deadline, "every frame was recorded"
            connection.sendall(b"set k 0 0 200000\r\n" + b"v" * 200000 + b"\r\n")
            expect(connection, b"STORED\r\n")
        off = ctl(path, "capture", "off")
        assert off.returncode == 1 and "is not whole" in off.stderr and "No space left" in off.stderr, off.stderr
        expect_alive(connection)
        # It is over: the next one is good.
        assert ctl(path, "capture", "on", str(tmp_path / "good.pcap")).returncode == 0
        expect_alive(connection)
        assert ctl(path, "capture", "off").returncode == 0
        assert len(frames_of(tmp_path / "good.pcap")) >= 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def message(number, body, carries=False):
    """A request; with the bit that says that a descriptor comes with it."""
    return struct.pack("<II", len(body) | carries << 31, number) + body


def answer(stream):
    """The number and the text of the next message."""
    length, number = struct.unpack("<II", receive(stream, 8))
    return number, receive(stream, length).decode()


def test_a_descriptor_is_taken_by_the_request_that_wants_one_and_else_closed(governed):
    server, path = governed
    held = f"/proc/{server.plane()}/fd"
    assert ctl(path, "stats").returncode == 0
    before = len(os.listdir(held))
    with socket.socket(socket.AF_UNIX) as stream, open("/dev/null", "wb") as file:
        stream.settimeout(HANG_SECONDS)
        stream.connect(str(path))
        assert answer(stream)[0] == 0
        for number in range(1, 101):
            socket.send_fds(stream, [message(number, b'{"do":"stats"}', True)], [file.fileno()])
            said = answer(stream)
            assert said[0] == number and "takes no descriptor" in said[1], said
        # It is said that one comes, and none does; and one is wanted, and none is said to come.
        stream.sendall(message(101, b'{"do":"capture","on":true}', True))
        assert "has not come with it" in answer(stream)[1]
        stream.sendall(message(102, b'{"do":"capture","on":true}'))
        assert "no file came along" in answer(stream)[1]
        socket.send_fds(stream, [message(103, b'{"do":"capture","on":false}', True)], [file.fileno()])
        assert "nothing is to be recorded" in answer(stream)[1]
        # One that nobody speaks of.
        socket.send_fds(stream, [message(104, b'{"do":"settings"}')], [file.fileno()] * 8)
        assert "log_filter" in answer(stream)[1]
        assert len(os.listdir(held)) == before
    assert server.stop() == 0, server.errors


SOMAXCONN = "/proc/sys/net/core/somaxconn"


@pytest.fixture
def few_may_wait():
    """In the server's namespace few may wait to be accepted by a socket that is made from now on."""
    before = in_server_namespace("cat", SOMAXCONN).stdout
    assert in_server_namespace("sh", "-c", f"echo 4 >{SOMAXCONN}").returncode == 0
    yield
    in_server_namespace("sh", "-c", f"echo {before} >{SOMAXCONN}")


def test_a_stopped_server_is_waited_for_as_long_as_is_wanted_and_keeps_its_path(few_may_wait, governed, start):
    server, path = governed
    waiting = []
    stop_process(server.process.pid)
    try:
        with pytest.raises(BlockingIOError):
            while len(waiting) < 100:
                waiting.append(socket.socket(socket.AF_UNIX))
                waiting[-1].setblocking(False)
                waiting[-1].connect(str(path))
        asked = ctl(path, "--timeout", "1", "stats")
        assert asked.returncode == 2 and "no answer within 1 s" in asked.stderr, asked.stderr
        other = start(interface="tap:sst6", address="10.79.6.2", extra=["--control", str(path)])
        other._collect()
        assert other.process.returncode == 1 and "another server listens at" in other.errors, other.errors
    finally:
        for one in waiting:
            one.close()
        os.kill(server.process.pid, signal.SIGCONT)
    assert ctl(path, "stats").returncode == 0
    assert server.stop() == 0, server.errors


def test_shutdown_is_answered_then_the_server_ends_and_its_socket_is_gone(governed):
    server, path = governed
    done = ctl(path, "shutdown")
    assert done.returncode == 0 and "ends" in done.stdout, done.stderr
    server._collect()
    assert server.process.returncode == 0, server.errors
    assert not path.exists()
    missing = ctl(path, "stats")
    assert missing.returncode == 2 and str(path) in missing.stderr and "--control" in missing.stderr, missing.stderr


def test_a_new_data_plane_answers_after_the_old_one_was_killed(governed):
    server, path = governed
    connect().close()
    number = server.process.pid
    with open(f"/proc/{number}/task/{number}/children", encoding="ascii") as children:
        os.kill(int(children.read().split()[0]), signal.SIGKILL)
    deadline = time.monotonic() + HANG_SECONDS
    while True:
        again = ctl(path, "--json", "stats")
        # Its counts begin anew.
        if again.returncode == 0 and json.loads(again.stdout)["total_connections"] == "0":
            break
        assert time.monotonic() < deadline, again.stderr
    assert server.stop() == 0, server.errors


def test_a_path_that_cannot_be_had_is_an_error_where_it_was_named(start, tmp_path):
    path = tmp_path / "precious"
    path.write_text("precious", encoding="ascii")
    server = start(extra=["--control", str(path)])
    server._collect()
    assert server.process.returncode == 1 and "is no socket" in server.errors, server.errors
    assert path.read_text(encoding="ascii") == "precious"
