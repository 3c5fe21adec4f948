"""How a core without work waits: --wait spin, irq and auto, over a veth, where each only says when a core sleeps."""

import pathlib
import select
import time

import pytest
from conftest import ADDRESS, HANG_SECONDS, KIND, PORT, connect, exchange, found, store
from pymemcache.client.base import Client

pytestmark = pytest.mark.skipif(KIND != "sidestep", reason="memcached sleeps in its kernel's sockets")


def serve(client, requests):
    """Sets and gets, one after the other."""
    for number in range(requests):
        key, value = f"key{number % 100}", str(number).encode() * 50
        assert client.set(key, value, noreply=False)
        assert client.get(key) == value


def said_of_waiting(server):
    """The lines about waiting."""
    return [line for line in server.lines if line.startswith("wait:")]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ["spin", "irq", "auto"])
def test_a_stock_client_is_served_whichever_way_cores_wait(start, way, threads):
    server = start(threads=threads, extra=["--wait", way]).wait_until_ready()
    client = Client((ADDRESS, PORT), connect_timeout=30, timeout=30)
    serve(client, 300)
    client.close()
    assert server.stop() == 0, server.errors
    sleeps = [report["sleeps"] for report in server.core_reports()]
    if way == "spin":
        assert sleeps == [0] * threads
        assert said_of_waiting(server) == [
            "wait: cores without work never sleep; a veth has no interrupts that could be deferred"
        ]
    else:
        assert all(count > 0 for count in sleeps), sleeps
        assert len(said_of_waiting(server)) == (way == "irq")


def only_core(server):
    """What proc(5) tells of the thread of a server with one core."""
    threads = pathlib.Path(f"/proc/{server.plane()}/task").iterdir()
    return next(thread / "stat" for thread in threads if (thread / "comm").read_text(encoding="ascii") == "core-0\n")


def sleeps(core):
    """Whether the thread sleeps: one that waits for a processor runs, as the kernel has it, however long it waits."""
    return core.read_text(encoding="ascii").rpartition(") ")[2][0] == "S"


def test_a_core_that_sleeps_at_once_sleeps_between_the_requests_of_a_connection(start):
    counts = {}
    for way in ["irq", "auto"]:
        server = start(threads=1, extra=["--wait", way, *(["--spin", "1000000"] if way == "auto" else [])])
        server.wait_until_ready()
        core = only_core(server)
        with connect() as connection:
            asked = time.monotonic()
            exchange(connection, store(b"k", b"v"), b"STORED\r\n")
            for number in range(200):
                # How long the client waits for a processor is its own affair: asked when the core sleeps, or, where it looks
                # for a second, before that second is over.
                while way == "irq" and not sleeps(core):
                    assert time.monotonic() < asked + HANG_SECONDS, "it never sleeps"
                    select.select([], [], [], 0.001)
                slept = way == "auto" and sleeps(core)
                assert not slept or time.monotonic() > asked + 0.9, f"it slept within a second of request {number}"
                asked = time.monotonic()
                exchange(connection, store(b"k", b"v%d" % number), b"STORED\r\n")
            exchange(connection, b"get k\r\n", found(b"k", b"v199") + b"END\r\n")
        assert server.stop() == 0, server.errors
        counts[way] = server.core_reports()[0]["sleeps"]
    # With a second of looking no request finds the core asleep; without, each does.
    assert counts["irq"] >= 200 and counts["auto"] < 100, counts


@pytest.mark.parametrize("way", ["spin", "irq"])
def test_how_long_a_core_looks_is_said_once(start, way):
    server = start(threads=1, extra=["--wait", way, "--spin", "5"])
    server._collect()
    assert server.process.returncode != 0
    assert "leave --spin out" in server.errors, server.errors


def test_a_way_that_is_none_is_refused_with_those_that_are(start):
    server = start(threads=1, extra=["--wait", "poll"])
    server._collect()
    assert server.process.returncode != 0
    assert "spin, irq or auto" in server.errors, server.errors
