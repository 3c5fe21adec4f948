"""What every end-to-end test starts from: a server in the server namespace, and sockets from the client namespace.

pytest itself runs in the client namespace (scripts/e2e/run puts it there). Nothing here waits for time to pass: a
server is ready when it says so, or, for memcached, when it accepts.
"""

import os
import pathlib
import re
import select
import signal
import socket
import subprocess
import time

import pytest
from pymemcache.client.base import Client

# scripts/e2e/run --v6: the server has an IPv6 address and no other.
V6 = os.environ.get("SIDESTEP_E2E_V6") == "1"
ADDRESS = "fd77::2" if V6 else "10.77.0.2"
KERNEL_ADDRESS = "fd77::3" if V6 else "10.77.0.3"
FAMILY = socket.AF_INET6 if V6 else socket.AF_INET
PORT = 11211
KIND = os.environ["SIDESTEP_E2E_KIND"]
BINARY = os.environ["SIDESTEP_E2E_BINARY"]
TOOLS = os.environ["SIDESTEP_E2E_TOOLS"]
SERVER_NAMESPACE = "sidestep-server" + os.environ["SIDESTEP_LAB_SUFFIX"]
# How long anything may take before it counts as hung; no test asserts a speed.
HANG_SECONDS = 30


def with_port(address, port):
    """Address and port as most programs take them: an IPv6 address stands in brackets (RFC 5952, 6)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def with_prefix(address):
    """An address with the length of its subnet's prefix."""
    return address + ("/64" if ":" in address else "/24")


def in_server_namespace(*command, **options):
    """Runs a command in the server namespace and returns the completed process."""
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=HANG_SECONDS, **options)


def serve_stock_clients(address=ADDRESS, count=16, step=6000):
    """Has so many stock clients, each with a connection of its own, set items of every size and read those of all."""
    clients = [Client((address, PORT), connect_timeout=HANG_SECONDS, timeout=HANG_SECONDS) for _ in range(count)]
    for number, client in enumerate(clients):
        assert client.set(f"key{number}", bytes([number]) * (number * step + 1), noreply=False)
    for client in clients:
        for number in range(count):
            assert client.get(f"key{number}") == bytes([number]) * (number * step + 1)
        client.close()


class Server:
    """One run of the server under test."""

    def __init__(
        self,
        threads=2,
        memory=64,
        connections=4096,
        port=PORT,
        extra=(),
        prefix=(),
        interface="ss0",
        address=ADDRESS,
        namespace=SERVER_NAMESPACE,
    ):
        self.port = port
        if KIND == "memcached":
            nodad = ["nodad"] if ":" in address else []
            in_server_namespace("ip", "address", "replace", with_prefix(address), "dev", interface, *nodad)
            own = ["-u", "root", "-l", address]
        else:
            option = "--device" if ":" in interface else "--interface"
            own = [option, interface, "--address", with_prefix(address)]
        arguments = ["-p", str(port), "-t", str(threads), "-m", str(memory), "-c", str(connections), *extra]
        self.command = ["ip", "netns", "exec", namespace, *prefix, BINARY, *own, *arguments]
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.lines = []
        self.errors = ""

    def wait_until_ready(self):
        """Returns once it serves; fails with what it said when it ended instead."""
        deadline = time.monotonic() + HANG_SECONDS
        while KIND == "memcached" and time.monotonic() < deadline and self.process.poll() is None:
            try:
                connect(self.port).close()
                return self
            except OSError:
                select.select([], [], [], 0.01)
        said = b""
        while KIND == "sidestep" and select.select([self.process.stdout], [], [], HANG_SECONDS)[0]:
            # Past Python's buffer, in which select would not see what is there already.
            part = os.read(self.process.stdout.fileno(), 65536)
            said += part
            if b"\nready: " in b"\n" + said and said.endswith(b"\n"):
                self.lines = said.decode().splitlines()
                return self
            if not part:
                break
        self.lines = said.decode().splitlines()
        self.kill()
        pytest.fail(f"{' '.join(self.command)} did not become ready: {self.lines} {self.errors}")

    def stop(self, number=signal.SIGTERM):
        """Asks it to end; returns its exit code once it has, and keeps what it said in `lines` and `errors`."""
        if self.process.returncode is None:
            self.process.send_signal(number)
            self._collect()
        return self.process.returncode

    def kill(self):
        """Ends it without a chance to clean up."""
        if self.process.returncode is None:
            self.process.kill()
            self._collect()

    def _collect(self):
        try:
            out, self.errors = self.process.communicate(timeout=HANG_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            out, self.errors = self.process.communicate()
            pytest.fail(f"the server did not end within {HANG_SECONDS} s of being asked")
        self.lines += out.decode().splitlines()
        self.errors = self.errors.decode()

    def plane(self):
        """The number of the process that serves: Sidestep's data plane, which the started one watches over."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        for child in children.read_text(encoding="ascii").split():
            try:
                command = pathlib.Path(f"/proc/{child}/cmdline").read_bytes()
            except OSError:
                # It has ended meanwhile.
                continue
            if command.startswith(b"sidestep-cached: data plane\0"):
                return int(child)
        return self.process.pid

    def resident_bytes(self):
        """Memory of the process that serves that is in RAM (proc(5), VmRSS)."""
        with open(f"/proc/{self.plane()}/status", encoding="ascii") as status:
            return int(re.search(r"VmRSS:\s+(\d+) kB", status.read())[1]) * 1024

    def core_reports(self):
        """Of each core, the numbers of its closing line: {'packets in': ..., 'requests': ..., ...}."""
        cores = [line for line in self.lines if re.match(r"core \d+:", line)]
        return [{name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", line)} for line in cores]


class Log:
    """What a running server says on its standard error."""

    def __init__(self, server):
        self.file = server.process.stderr
        self.text = b""

    def until(self, words):
        """The first line with these words, as soon as it is there."""
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline:
            for line in self.text.decode().splitlines():
                if words in line:
                    return line
            if select.select([self.file], [], [], 1)[0]:
                self.text += os.read(self.file.fileno(), 65536)
        pytest.fail(f"'{words}' was never said: {self.text.decode()}")


def until(holds, what):
    """Returns once `holds` does."""
    deadline = time.monotonic() + HANG_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        select.select([], [], [], 0.01)


def stop_process(process):
    """Stops a process, and returns once none of its threads runs: SIGSTOP is on its way to them when kill(2) returns
    (proc_pid_stat(5), state T)."""
    os.kill(process, signal.SIGSTOP)

    def stopped(task):
        return (task / "stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "T"

    until(lambda: all(map(stopped, pathlib.Path(f"/proc/{process}/task").iterdir())), f"process {process} does not stop")


def connect(port=PORT, address=ADDRESS):
    """A TCP connection of the kernel's, whose reads fail instead of hanging."""
    connection = socket.create_connection((address, port), timeout=HANG_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def in_use(server):
    """The server, once all its cores take what comes to its address. In its first second an IPv6 address is asked for, and takes
    nothing (RFC 4862, 5.4): a SYN comes again, anything else does not."""
    for _ in range(10 if V6 else 0):
        # Some go to each core.
        connect(server.port).close()
    return server


def receive(connection, length):
    """Exactly `length` bytes."""
    parts, left = [], length
    while left:
        part = connection.recv(min(left, 1 << 20))
        assert part, f"the server closed with {left} of {length} bytes missing"
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def expect(connection, reply):
    """The next bytes are `reply`."""
    found = receive(connection, len(reply))
    if found != reply:
        at = next(i for i in range(len(reply)) if found[i] != reply[i])
        pytest.fail(f"byte {at} of the replies: expected {reply[at:at + 80]!r}, found {found[at:at + 80]!r}")


def exchange(connection, request, reply):
    """Sends and receives at once, so that neither side's full buffers stop the other; replies must be `reply`."""
    connection.setblocking(False)
    sent, got = 0, bytearray()
    while sent < len(request) or len(got) < len(reply):
        wants = [connection] if sent < len(request) else []
        readable, writable, _ = select.select([connection], wants, [], HANG_SECONDS)
        assert readable or writable, f"nothing moved: {sent} of {len(request)} sent, {len(got)} of {len(reply)} received"
        if writable:
            sent += connection.send(request[sent : sent + 262144])
        if readable:
            part = connection.recv(1 << 20)
            assert part, f"the server closed after {len(got)} of {len(reply)} reply bytes"
            got += part
    connection.settimeout(HANG_SECONDS)
    if bytes(got) != reply:
        at = next((i for i in range(min(len(got), len(reply))) if got[i] != reply[i]), len(reply))
        pytest.fail(f"byte {at} of the replies: expected {reply[at:at + 80]!r}, found {bytes(got[at:at + 80])!r}")


def store(key, value, flags=0):
    """The bytes of a set."""
    return b"set %s %d 0 %d\r\n%s\r\n" % (key, flags, len(value), value)


def found(key, value, flags=0):
    """The bytes of a value in a reply."""
    return b"VALUE %s %d %d\r\n%s\r\n" % (key, flags, len(value), value)


def sidestep_stats(connection):
    """What `stats sidestep` counts, by name."""
    connection.sendall(b"stats sidestep\r\n")
    text = b""
    while not text.endswith(b"END\r\n"):
        part = connection.recv(65536)
        assert part, "the server closed"
        text += part
    return {name: int(value) for name, value in re.findall(r"STAT (\S+) (\d+)", text.decode())}


@pytest.fixture
def start():
    """Starts servers; whatever still runs at the end of the test is ended."""
    servers = []

    def begin(**options):
        servers.append(Server(**options))
        return servers[-1]

    yield begin
    for server in servers:
        server.kill()


@pytest.fixture
def oracle(tmp_path):
    """memcached 1.6.45, the golden version, on the loopback of the client namespace: its port."""
    if os.path.exists("target/conformance/stand-in-for-1.6.45"):
        pytest.skip("nothing is compared: Debian has no memcached 1.6.45 any more")
    program = subprocess.run(["scripts/memcached", "1.6.45"], capture_output=True, text=True, check=True).stdout.strip()
    ports = tmp_path / "ports"
    # memcached writes there which port it has chosen.
    environment = os.environ | {"MEMCACHED_PORT_FILENAME": str(ports)}
    command = [program, "-u", "root", "-l", "127.0.0.1", "-p", "-1", "-U", "0", "-t", "2", "-c", "4096"]
    with subprocess.Popen(command, env=environment) as memcached:
        deadline = time.monotonic() + HANG_SECONDS
        while not ports.exists() and memcached.poll() is None and time.monotonic() < deadline:
            select.select([], [], [], 0.01)
        yield int(re.search(r"TCP INET: (\d+)", ports.read_text(encoding="ascii"))[1])
        memcached.terminate()


@pytest.fixture
def server(start):
    """A server with two threads, ready; ended by SIGTERM, which it must survive with exit code 0."""
    running = start().wait_until_ready()
    yield running
    assert running.stop() == 0, f"exit code {running.process.returncode}: {running.errors}"


def only_sidestep(function):
    """Marks what memcached on kernel sockets cannot show."""
    return pytest.mark.skipif(KIND != "sidestep", reason="says nothing about memcached on kernel sockets")(function)
