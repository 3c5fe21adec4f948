"""A client that knows one node finds all of them, as with Amazon ElastiCache: emcache by itself, pymemcache by the command
that its client for ElastiCache sends.

The other node is Debian's memcached on the kernel's address.
"""

import asyncio
import re
import shutil
import signal
import subprocess
import time

import emcache
import pytest
from conftest import ADDRESS, BINARY, HANG_SECONDS, KERNEL_ADDRESS, KIND, PORT, SERVER_NAMESPACE, Log, connect
from pymemcache.client.base import Client
from pymemcache.client.hash import HashClient

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached knows of no cluster")

OURS = f"{ADDRESS}|{ADDRESS}|{PORT}"
OTHER = f"{KERNEL_ADDRESS}|{KERNEL_ADDRESS}|{PORT}"
KEYS = [f"key-{number}" for number in range(200)]


@pytest.fixture
def other():
    """A second node."""
    program = [shutil.which("memcached"), "-u", "root", "-l", KERNEL_ADDRESS, "-p", str(PORT)]
    with subprocess.Popen(["ip", "netns", "exec", SERVER_NAMESPACE, *program]) as process:
        deadline = time.monotonic() + HANG_SECONDS
        while True:
            try:
                connect(address=KERNEL_ADDRESS).close()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, "memcached does not accept"
        yield process
        process.kill()


def serve(start, file, *lines, **options):
    file.write_text("".join(line + "\n" for line in lines), encoding="ascii")
    return start(extra=["--cluster", str(file)], **options).wait_until_ready()


def change(server, file, *lines):
    """Writes the file again and says so."""
    file.write_text("".join(line + "\n" for line in lines), encoding="ascii")
    server.process.send_signal(signal.SIGHUP)


def told():
    """The version and the nodes that a client is told, as pymemcache's client for ElastiCache asks for them."""
    client = Client((ADDRESS, PORT), timeout=HANG_SECONDS)
    reply = client.raw_command("config get cluster", "\n\r\nEND\r\n")
    client.close()
    head, version, nodes = re.fullmatch(rb"(CONFIG cluster 0 \d+)\r\n(\d+)\n(.*)", reply).groups()
    assert int(head.split()[-1]) == len(version) + 1 + len(nodes) + 1
    return int(version), nodes.decode().split(" ")


def items(address):
    """How many items a node holds."""
    client = Client((address, PORT), timeout=HANG_SECONDS)
    count = int(client.stats()[b"curr_items"])
    client.close()
    return count


def test_pymemcache_finds_both_nodes_by_one_and_spreads_its_keys(start, other, tmp_path):
    server = serve(start, tmp_path / "nodes", "version 5", OURS, OTHER)
    version, nodes = told()
    assert (version, nodes) == (5, [OURS, OTHER])
    client = HashClient([(node.split("|")[1], PORT) for node in nodes], timeout=HANG_SECONDS)
    for key in KEYS:
        assert client.set(key, key.encode(), noreply=False)
    assert client.get_many(KEYS) == {key: key.encode() for key in KEYS}
    client.close()
    assert items(ADDRESS) > 0 and items(KERNEL_ADDRESS) > 0 and items(ADDRESS) + items(KERNEL_ADDRESS) == len(KEYS)
    assert server.stop() == 0, server.errors


def test_emcache_finds_both_nodes_by_one_and_follows_a_change_of_the_file(start, other, tmp_path):
    file = tmp_path / "nodes"
    server = serve(start, file, OURS, OTHER)

    async def nodes_become(client, addresses):
        deadline = time.monotonic() + HANG_SECONDS
        while {node.address for node in client.cluster_managment().nodes()} != addresses:
            assert time.monotonic() < deadline, client.cluster_managment().nodes()
            await asyncio.sleep(0)

    async def session():
        one = [emcache.MemcachedHostAddress(ADDRESS, PORT)]
        client = await emcache.create_client(one, autodiscovery=True, autodiscovery_poll_interval=0, timeout=HANG_SECONDS)
        await nodes_become(client, {ADDRESS, KERNEL_ADDRESS})
        for key in KEYS:
            await client.set(key.encode(), key.encode())
        held = items(ADDRESS), items(KERNEL_ADDRESS)
        assert min(held) > 0 and sum(held) == len(KEYS)
        change(server, file, OURS)
        await nodes_become(client, {ADDRESS})
        for key in KEYS:
            await client.set(key.encode(), b"again")
        assert items(ADDRESS) == len(KEYS)
        await client.close()

    asyncio.run(session())
    assert server.stop() == 0, server.errors


def test_a_file_that_is_no_list_at_sighup_is_told_in_the_log_and_the_old_list_stays(start, tmp_path):
    file = tmp_path / "nodes"
    server = serve(start, file, "version 5", OURS)
    log = Log(server)
    for lines, why in [
        (["version 6", "nonsense"], "line 2"),
        (["version 5", OURS, OTHER], "raise it"),
        (["version 4", OURS], "raise it"),
        ([], "names no node"),
    ]:
        log.text = b""
        change(server, file, *lines)
        line = log.until("clients are told of the same nodes as before")
        assert why in line and str(file) in line and told() == (5, [OURS])
    file.unlink()
    log.text = b""
    server.process.send_signal(signal.SIGHUP)
    assert "No such file" in log.until("clients are told of the same nodes as before")
    change(server, file, OURS, OTHER)
    deadline = time.monotonic() + HANG_SECONDS
    while told() == (5, [OURS]):
        assert time.monotonic() < deadline
    version, nodes = told()
    assert version > 5 and nodes == [OURS, OTHER]
    assert server.stop() == 0, server.errors


def test_a_bad_file_at_the_start_is_one_clear_line(tmp_path):
    file = tmp_path / "nodes"
    for text, why in [
        (None, "No such file or directory"),
        ("", "it names no node; write a line HOST|ADDRESS|PORT for each"),
        (f"{OURS}\n{ADDRESS}\n", "line 2: "),
    ]:
        if text is not None:
            file.write_text(text, encoding="ascii")
        command = [BINARY, "--interface", "ss0", "--address", ADDRESS + "/24", "--cluster", str(file)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS)
        assert run.returncode != 0 and len(run.stderr.splitlines()) == 1, run.stderr
        assert f"--cluster {file}: " in run.stderr and why in run.stderr


def test_every_core_answers_the_same_and_without_a_file_none_does(start, tmp_path):
    server = serve(start, tmp_path / "nodes", "version 5", OURS, OTHER)
    connections = [connect() for _ in range(16)]
    text = f"5\n{OURS} {OTHER}\n".encode()
    reply = b"CONFIG cluster 0 %d\r\n%s\r\nEND\r\n" % (len(text), text)
    item = b"VALUE AmazonElastiCache:cluster 0 %d\r\n%s\r\nEND\r\n" % (len(text), text)
    for connection in connections:
        connection.sendall(b"config get cluster\r\nget AmazonElastiCache:cluster\r\n")
    for connection in connections:
        with connection.makefile("rb") as stream:
            assert stream.read(len(reply) + len(item)) == reply + item
    assert server.stop() == 0, server.errors
    assert all(report["requests"] > 0 for report in server.core_reports()), server.lines
    server = start().wait_until_ready()
    connection = connect()
    connection.sendall(b"config get cluster\r\nget AmazonElastiCache:cluster\r\n")
    with connection.makefile("rb") as stream:
        assert stream.read(12) == b"ERROR\r\nEND\r\n"
    assert server.stop() == 0, server.errors
