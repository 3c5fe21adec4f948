"""Sessions of stock clients: each is given a port of loopback and says what such a client says."""

import socket
import subprocess
import tempfile
from pathlib import Path

# Longest that one of the tools may take.
SECONDS = 120


def pymemcache(port):
    from pymemcache.client.base import Client
    from pymemcache.exceptions import MemcacheError

    client = Client(("127.0.0.1", port), default_noreply=False)
    client.set("greeting", b"hello", flags=7)
    client.set("brief", b"x" * 200, expire=30)
    client.set_many({f"user:{n}": f"name {n}".encode() for n in range(8)})
    client.get("greeting")
    client.get("absent")
    client.get_many([f"user:{n}" for n in range(10)])
    value, unique = client.gets("greeting")
    client.cas("greeting", b"changed", unique)
    client.cas("greeting", b"again", unique)
    client.gets_many(["greeting", "user:1"])
    client.add("greeting", b"no")
    client.replace("greeting", b"yes")
    client.append("greeting", b"!")
    client.prepend("greeting", b">")
    client.set("count", b"10")
    client.incr("count", 5)
    client.decr("count", 20)
    client.incr("absent", 1)
    client.touch("brief", expire=60)
    client.raw_command(b"gat 90 brief absent", end_tokens=b"END\r\n")
    client.raw_command(b"gats 0 brief", end_tokens=b"END\r\n")
    client.delete("user:3")
    client.delete_many(["user:4", "user:5"])
    client.set("large", b"large value " * 400)
    client.get("large")
    for name in ("set", "add", "replace", "append", "prepend"):
        getattr(client, name)("quiet", b"noreply", noreply=True)
    client.delete("quiet", noreply=True)
    client.incr("count", 1, noreply=True)
    for what in ((), ("settings",), ("items",), ("slabs",), ("sizes",)):
        client.stats(*what)
    client.version()
    client.cache_memlimit(64)
    try:
        client.set("key", "a value that is no text \u20ac".encode(), expire=-1)
        client.raw_command(b"verbosity 1")
        client.raw_command(b"bogus")
    except MemcacheError:
        pass
    client.flush_all()
    client.close()
    client.get("greeting")
    client.quit()


def python_binary_memcached(port):
    import bmemcached

    client = bmemcached.Client((f"127.0.0.1:{port}",))
    client.set("greeting", "hello")
    client.set("brief", "x" * 200, time=30)
    client.set_multi({f"user:{n}": f"name {n}" for n in range(8)})
    client.get("greeting")
    client.get("absent")
    client.get_multi([f"user:{n}" for n in range(10)])
    _, unique = client.gets("greeting")
    client.cas("greeting", "changed", unique)
    client.cas("greeting", "again", unique)
    client.add("greeting", "no")
    client.replace("greeting", "yes")
    client.incr("count", 5, default=10)
    client.incr("count", 5)
    client.decr("count", 200)
    client.delete("user:3")
    client.delete_multi(["user:4", "user:5"])
    client.set("large", "large value " * 400, compress_level=0)
    client.get("large")
    client.stats()
    client.stats("settings")
    client.flush_all()
    client.flush_all(time=1)
    client.get("greeting")
    client.disconnect_all()


def meta_memcache(port):
    from meta_memcache import (
        CacheClient,
        Key,
        LeasePolicy,
        RecachePolicy,
        ServerAddress,
        SetMode,
        StalePolicy,
        connection_pool_factory_builder,
    )

    lease = LeasePolicy(ttl=30, miss_retries=1, miss_retry_wait=0.001)
    recache = RecachePolicy(ttl=100)
    stale = StalePolicy(mark_stale_on_deletion_ttl=30, mark_stale_on_cas_mismatch=True)
    client = CacheClient.cache_client_from_servers(
        servers=[ServerAddress("127.0.0.1", port)], connection_pool_factory_fn=connection_pool_factory_builder()
    )
    client.set(key="greeting", value="hello", ttl=30)
    client.set(key="brief", value=b"x" * 200, ttl=90)
    client.set(key=Key("unicode \u20ac"), value={"a": 1}, ttl=90)
    client.set(key=Key("x" * 260), value=b"a long key", ttl=90)
    for n in range(6):
        client.set(key=f"user:{n}", value=f"name {n}", ttl=60, no_reply=n % 2 == 0)
    for mode in SetMode:
        client.set(key="modes", value=b"12", ttl=30, set_mode=mode)
    client.get(key="greeting")
    client.get(key="absent")
    client.get(key="greeting", recache_policy=recache)
    client.get(key="greeting", touch_ttl=50)
    client.multi_get(keys=[f"user:{n}" for n in range(8)])
    _, unique = client.get_cas(key="greeting")
    client.set(key="greeting", value="changed", ttl=30, cas_token=unique)
    client.set(key="greeting", value="again", ttl=30, cas_token=unique, stale_policy=stale)
    client.get_or_lease(key="leased", lease_policy=lease)
    client.get_or_lease_cas(key="leased", lease_policy=lease, recache_policy=recache)
    client.touch(key="greeting", ttl=60)
    client.touch(key="greeting", ttl=60, no_reply=True)
    client.delta(key="count", delta=1)
    client.delta_initialize(key="count", delta=1, initial_value=10, initial_ttl=60)
    client.delta_and_get(key="count", delta=-3)
    client.delta_initialize_and_get(key="other", delta=2, initial_value=7, initial_ttl=60)
    client.delete(key="user:1")
    client.delete(key="user:2", no_reply=True)
    client.invalidate(key="user:3", stale_policy=stale)
    client.get(key="user:3")
    client.set(key="large", value=b"large value " * 400, ttl=30)
    client.get(key="large")


def _tool(*command):
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)


def memccapable_ascii(port):
    _tool("memccapable", "-h", "127.0.0.1", "-p", str(port), "-a")


def memccapable_binary(port):
    _tool("memccapable", "-h", "127.0.0.1", "-p", str(port), "-b")


def libmemcached(port):
    _libmemcached(port, [])


def libmemcached_binary(port):
    _libmemcached(port, ["--binary"])


def _libmemcached(port, more):
    server = f"--servers=127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("small", "middle", "empty")]
        for file, value in zip(files, (b"a value", b"0123456789" * 90, b"")):
            file.write_bytes(value)
        _tool("memcping", server, *more)
        _tool("memccp", server, *more, "--flag=7", "--expire=60", *map(str, files))
        _tool("memccp", server, *more, "--add", str(files[0]))
        _tool("memccp", server, *more, "--replace", str(files[1]))
        _tool("memccat", server, *more, "small", "middle", "empty", "absent")
        _tool("memcexist", server, *more, "small", "absent")
        _tool("memctouch", server, *more, "--expire=30", "small")
        _tool("memcrm", server, *more, "small")
        _tool("memcstat", server, *more)
        _tool("memcdump", server, *more)
        _tool("memcflush", server, *more)


def libmemcached_udp(port):
    server = f"--servers=127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small"
        file.write_bytes(b"a value")
        for more in ([], ["--binary"]):
            _tool("memccp", server, "--udp", *more, str(file))
            _tool("memcrm", server, "--udp", *more, "small")
            _tool("memcflush", server, "--udp", *more)


def datagrams_by_hand(port):
    """Stock clients ask over UDP seldom; these are the requests that memcached's own documents tell of."""
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(0.2)
    client.connect(("127.0.0.1", port))
    requests = (
        b"set a 0 0 5\r\nhello\r\n", b"get a\r\n", b"gets a b\r\n", b"set b 7 60 1400\r\n" + b"v" * 1400 + b"\r\n",
        b"get b a none\r\n", b"incr a 1\r\n", b"set n 0 0 2\r\n10\r\n", b"incr n 5\r\ndecr n 1\r\nget n\r\n",
        b"append b 0 0 1000\r\n" + b"w" * 1000 + b"\r\n", b"append b 0 0 1300 noreply\r\n" + b"x" * 1300 + b"\r\n", b"get b\r\n",
        b"mg a v t f k O9\r\n", b"ms m 2 c\r\nhi\r\nmg m v q\r\nmn\r\n", b"ma n\r\n", b"me n\r\n", b"md m q\r\n", b"touch a 30\r\n",
        b"gat 90 a n\r\n", b"delete a\r\n", b"version\r\n", b"verbosity 1\r\n", b"stats\r\n", b"stats settings\r\n", b"bogus\r\n",
        b"set long 0 0 3000\r\nnot all of it\r\n", b"get n", b"flush_all\r\n", b"quit\r\n",
        bytes.fromhex("8001000108000000000000" + "0c" + "00000000" + "0000000000000000" + "0000000000000000") + b"bbin",
        bytes.fromhex("8000000100000000000000" + "01" + "00000007" + "0000000000000000") + b"b",
        bytes.fromhex("800a00000000000000000000" + "00000008" + "0000000000000000"),
        bytes.fromhex("801000000000000000000000" + "00000009" + "0000000000000000"),
    )
    for number, request in enumerate(requests):
        for total in (1,) if number % 7 else (1, 2):
            client.send(number.to_bytes(2, "big") + bytes((0, 0, 0, total, 0, 0)) + request)
            try:
                while True:
                    client.recv(1 << 16)
            except TimeoutError:
                pass
    client.close()


SESSIONS = (
    pymemcache,
    python_binary_memcached,
    meta_memcache,
    memccapable_ascii,
    memccapable_binary,
    libmemcached,
    libmemcached_binary,
    libmemcached_udp,
    datagrams_by_hand,
)
