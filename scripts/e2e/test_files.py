"""Files that the server writes or reads with root's rights, and those it gives up with -u."""

import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
from conftest import HANG_SECONDS, KIND, connect, expect

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached writes and reads its files in other ways")


def may_speak(password):
    """Whether a connection that gives this password is let in."""
    connection = connect()
    secret = b"u " + password
    connection.sendall(b"set auth 0 0 %d\r\n%s\r\n" % (len(secret), secret))
    return connection.recv(100) == b"STORED\r\n"


def wait_until_let_in(password):
    """Until the file has been read again, which the server does not say."""
    deadline = time.monotonic() + HANG_SECONDS
    while time.monotonic() < deadline:
        if may_speak(password):
            return
    pytest.fail(f"{password} is still refused")


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_a_pid_file_in_roots_folder_has_the_number_that_stats_tells_and_is_gone_after_a_clean_end(start, tmp_path, user):
    path = tmp_path / "pid"
    server = start(extra=["-P", str(path), "-u", user]).wait_until_ready()
    number = path.read_text(encoding="ascii").strip()
    assert number == str(server.process.pid)
    connection = connect()
    connection.sendall(b"stats\r\n")
    expect(connection, b"STAT pid %s\r\n" % number.encode())
    assert server.stop() == 0, server.errors
    assert not path.exists()


def keepers():
    """The processes that stay root's for a server that runs as nobody, with their working directories."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"SIDESTEP_CACHED_KEEPER=" in (process / "environ").read_bytes():
                found[process.name] = os.readlink(process / "cwd")
        except OSError:
            # It has ended, or is no process of ours.
            pass
    return found


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_what_stays_roots_ends_with_the_server_however_that_ends(start, tmp_path, end):
    before = keepers()
    path = tmp_path / "pid"
    server = start(extra=["-P", str(path), "-u", "nobody"]).wait_until_ready()
    own = {number: folder for number, folder in keepers().items() if number not in before}
    assert list(own.values()) == ["/"], own
    server.stop(end)
    deadline = time.monotonic() + HANG_SECONDS
    while own.keys() & keepers().keys() or path.exists():
        assert time.monotonic() < deadline, f"{keepers()} {path.exists()}"


@pytest.mark.parametrize("name", ["pid.new", "pid"])
def test_a_link_where_the_pid_file_goes_is_not_written_through(start, tmp_path, name):
    precious, folder = tmp_path / "precious", tmp_path / "run"
    precious.write_text("as it was", encoding="ascii")
    folder.mkdir()
    shutil.chown(folder, "nobody")
    (folder / name).symlink_to(precious)
    server = start(extra=["-P", str(folder / "pid"), "-u", "nobody"]).wait_until_ready()
    assert (folder / "pid").is_file() and not (folder / "pid").is_symlink()
    assert server.stop() == 0, server.errors
    assert precious.read_text(encoding="ascii") == "as it was"


def test_a_link_where_a_capture_goes_is_not_written_through(start, tmp_path):
    precious, folder = tmp_path / "precious", tmp_path / "frames"
    precious.write_text("as it was", encoding="ascii")
    folder.mkdir()
    (folder / "queue-0.pcap").symlink_to(precious)
    server = start(extra=["--capture", str(folder)]).wait_until_ready()
    assert server.stop() == 0, server.errors
    assert precious.read_text(encoding="ascii") == "as it was"
    assert (folder / "queue-0.pcap").stat().st_size > 0


def write_in_place(folder, text):
    (folder / "users").write_text(text, encoding="ascii")


def write_beside_and_move(folder, text):
    (folder / "users.tmp").write_text(text, encoding="ascii")
    os.chmod(folder / "users.tmp", 0o600)
    os.replace(folder / "users.tmp", folder / "users")


@pytest.mark.parametrize("user", ["root", "nobody"])
@pytest.mark.parametrize("change", [write_in_place, write_beside_and_move])
def test_a_password_changed_in_a_file_of_roots_is_good_after_sighup_and_the_old_one_is_not(start, tmp_path, user, change):
    (tmp_path / "users").write_text("u:old\n", encoding="ascii")
    os.chmod(tmp_path / "users", 0o600)
    server = start(extra=["-Y", str(tmp_path / "users"), "-u", user]).wait_until_ready()
    assert may_speak(b"old") and not may_speak(b"new")
    change(tmp_path, "u:new\n")
    server.process.send_signal(signal.SIGHUP)
    wait_until_let_in(b"new")
    assert not may_speak(b"old")
    assert server.stop() == 0, server.errors


def test_a_password_changed_as_a_kubernetes_secret_is_good_after_sighup(start, tmp_path):
    for version, password in (("1", "old"), ("2", "new")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "users").write_text(f"u:{password}\n", encoding="ascii")
        os.chmod(tmp_path / version / "users", 0o400)
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "users").symlink_to("data/users")
    server = start(extra=["-Y", str(tmp_path / "users"), "-u", "nobody"]).wait_until_ready()
    (tmp_path / "next").symlink_to("2")
    os.replace(tmp_path / "next", tmp_path / "data")
    server.process.send_signal(signal.SIGHUP)
    wait_until_let_in(b"new")
    assert not may_speak(b"old") and server.stop() == 0, server.errors


def test_what_the_user_could_have_put_there_is_not_read_with_roots_rights_and_the_log_says_that_all_stays(start, tmp_path):
    secret, folder = tmp_path / "secret", tmp_path / "users-own"
    secret.write_text("u:secret\n", encoding="ascii")
    os.chmod(secret, 0o600)
    folder.mkdir()
    (folder / "users").write_text("u:old\n", encoding="ascii")
    shutil.chown(folder, "nobody")
    server = start(extra=["-Y", str(folder / "users"), "-u", "nobody"]).wait_until_ready()
    os.remove(folder / "users")
    (folder / "users").symlink_to(secret)
    server.process.send_signal(signal.SIGHUP)
    # Events are taken in order: the file has been read, or not, before the server stops.
    assert may_speak(b"old") and not may_speak(b"secret")
    assert server.stop() == 0, server.errors
    assert re.search(r"ERROR.*old passwords go on being good.*own it by root", server.errors), server.errors
