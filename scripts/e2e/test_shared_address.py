"""The server at an address that is the kernel's too (--steering shared), or with an address of its own, on one interface
with a service of the kernel's: each gets what is its own, and the kernel's loses nothing, whatever becomes of the server.

SIDESTEP_E2E_ROUNDS is how often the server comes and goes, each time with a data plane that is killed (default 4).
"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
    KERNEL_ADDRESS,
    PORT,
    SERVER_NAMESPACE,
    Log,
    connect,
    exchange,
    found,
    in_server_namespace,
    only_sidestep,
    sidestep_stats,
    store,
    until,
)
from test_supervisor import is_there
from test_wrong_use import refused

# Stands for ssh: a service on the kernel's address, a thread a client.
ECHO = """
import socketserver
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)
class Service(socketserver.ThreadingTCPServer):
    daemon_threads = True
service = Service(("10.77.0.3", 0), Echo)
print(service.server_address[1], flush=True)
service.serve_forever()
"""

# Of a start whose first answer takes longer than so many milliseconds the test shows where they went.
SLOW_MS = int(os.environ.get("SIDESTEP_E2E_SLOW_MS", "300"))
STEPS = "started in|how long it took|first memory"
ROUNDS = int(os.environ.get("SIDESTEP_E2E_ROUNDS", "4"))
RESERVED = "/proc/sys/net/ipv4/ip_local_reserved_ports"
SHARED = ("--steering", "shared")


def start_shared(start, *extra, **options):
    """A server that shares the kernel's address."""
    return start(address=KERNEL_ADDRESS, extra=(*SHARED, *extra), **options).wait_until_ready()


def ask(connection, key=b"k", value=b"v" * 3000):
    """Stores and reads a value, which takes more than one frame."""
    exchange(connection, store(key, value) + b"get " + key + b"\r\n", b"STORED\r\n" + found(key, value) + b"END\r\n")


def reserved():
    """What the setting says in the server's namespace."""
    return in_server_namespace("cat", RESERVED).stdout.strip()


def eventually(look, wanted):
    """What `look` sees once it is `wanted`, or after many looks: the keeper ends a moment after the server."""
    for _ in range(500):
        if look() == wanted:
            break
    return look()


def ping():
    """The kernel at its address answers an ICMP echo."""
    echo = b"\x08\0" + b"\0\0" + b"\x12\x34\0\1" + b"sidestep"
    total = sum(struct.unpack("!8H", echo))
    total = (total & 0xFFFF) + (total >> 16)
    echo = echo[:2] + struct.pack("!H", ~total & 0xFFFF) + echo[4:]
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.settimeout(HANG_SECONDS)
        raw.connect((KERNEL_ADDRESS, 0))
        raw.send(echo)
        while raw.recv(2048)[20:] != b"\0\0" + struct.pack("!H", (~total & 0xFFFF) + 0x0800) + echo[4:]:
            pass


class Service:
    """A kernel's service at the kernel's address, and a client that asks it all the time over one connection."""

    def __init__(self):
        command = ["ip", "netns", "exec", SERVER_NAMESPACE, sys.executable, "-c", ECHO]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.connection = connect(self.port, KERNEL_ADDRESS)
        self.answered, self.failed, self.ended = 0, None, threading.Event()
        self.thread = threading.Thread(target=self.ask)
        self.thread.start()

    def ask(self):
        """Asks until it is told to end; every request must be answered, with its own bytes."""
        try:
            while not self.ended.is_set():
                request = struct.pack("!Q", self.answered) * 100
                exchange(self.connection, request, request)
                self.answered += 1
        except BaseException as error:
            self.failed = error

    def end(self):
        self.ended.set()
        self.thread.join(HANG_SECONDS)
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def service():
    running = Service()
    yield running
    running.end()


def first_answer(address, begun):
    """Milliseconds from `begun` to the first answer to who has asked all the time, and from `begun` to when it was asked."""
    while (asked := time.monotonic()) < begun + HANG_SECONDS:
        try:
            with socket.create_connection((address, PORT), timeout=0.05) as connection:
                connection.sendall(b"version\r\n")
                if connection.recv(64).startswith(b"VERSION"):
                    break
        except OSError:
            pass
    return [round((at - begun) * 1000) for at in (time.monotonic(), asked)]


def is_asked_by_many(address):
    """Connections come, ask and go."""
    for _ in range(20):
        with connect(address=address) as connection:
            ask(connection)


@only_sidestep
@pytest.mark.parametrize("way", ["own", "shared"])
def test_the_kernels_connection_loses_no_request_as_the_server_comes_and_goes(start, service, way):
    address, extra = (KERNEL_ADDRESS, SHARED) if way == "shared" else (ADDRESS, ())
    first = []
    for number in range(ROUNDS):
        before, begun = service.answered, time.monotonic()
        server = start(address=address, extra=(*extra, "-vv"))
        spawned = round((time.monotonic() - begun) * 1000)
        answered, asked = first_answer(address, begun)
        first.append(answered)
        log = Log(server.wait_until_ready())
        log.until("the data plane started in")
        log.until(": started in")
        if answered > SLOW_MS:
            print(f"round {number}: first answer after {answered} ms, to who asked after {asked}; spawned after {spawned}")
            print(*(line for line in log.text.decode().splitlines() if re.search(STEPS, line)), sep="\n")
        is_asked_by_many(address)
        # A server starts five data planes in a minute, so each server loses one.
        plane = server.plane()
        os.kill(plane, signal.SIGKILL)
        log.until("serves again")
        is_asked_by_many(address)
        plane = server.plane()
        if number % 2:
            server.kill()
        else:
            assert server.stop() == 0, server.errors
        until(lambda: not is_there(plane), "the data plane outlives its supervisor")
        # It was asked meanwhile, or is once it has the processor again.
        while service.answered == before and service.failed is None and service.thread.is_alive():
            service.thread.join(0.01)
        assert service.failed is None, f"round {number}: {service.failed!r}"
    exchange(connect(service.port, KERNEL_ADDRESS), b"ssh", b"ssh")
    print(f"{ROUNDS} rounds, {service.answered} requests of the kernel's service answered")
    spread = f"{min(first)}, {sorted(first)[len(first) // 2]}, {max(first)}"
    print(f"first answer of a server that was started, in ms: least, median, most: {spread}; each: {first}")


@only_sidestep
def test_at_a_shared_address_each_port_goes_to_whose_it_is(start, service):
    server = start_shared(start, "-U", str(PORT), "--udp-trust", "10.77.0.0/24")
    ask(connect(address=KERNEL_ADDRESS))
    exchange(connect(service.port, KERNEL_ADDRESS), b"ssh", b"ssh")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        datagrams.settimeout(HANG_SECONDS)
        datagrams.sendto(b"\0\7\0\0\0\1\0\0get k\r\n", (KERNEL_ADDRESS, PORT))
        assert datagrams.recv(65536)[:2] == b"\0\7"
        # A port of nobody's: the kernel says so.
        datagrams.connect((KERNEL_ADDRESS, PORT + 1))
        datagrams.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            datagrams.recv(1)
    with pytest.raises(ConnectionRefusedError):
        connect(PORT + 1, KERNEL_ADDRESS)
    ping()
    said = [line for line in server.lines if line.startswith("steering: ")]
    assert len(said) == 1 and "firewall" in said[0] and "--allow" in said[0], server.lines
    assert server.stop() == 0, server.errors
    with pytest.raises(ConnectionRefusedError):
        connect(address=KERNEL_ADDRESS)


@only_sidestep
def test_ports_of_a_shared_address_are_reserved_while_the_server_lives(start):
    in_server_namespace("sh", "-c", f"echo 8080 > {RESERVED}")
    try:
        for end in ("stop", "kill"):
            server = start_shared(start)
            assert reserved() == f"8080,{PORT}"
            in_server_namespace("sh", "-c", f"echo 8080,9090,{PORT} > {RESERVED}")
            getattr(server, end)()
            assert eventually(reserved, "8080,9090") == "8080,9090", end
            in_server_namespace("sh", "-c", f"echo 8080 > {RESERVED}")
    finally:
        in_server_namespace("sh", "-c", f"echo > {RESERVED}")


@only_sidestep
def test_a_server_started_right_after_a_killed_one_keeps_its_port_reserved(start):
    for _ in range(5):
        start_shared(start).kill()
        # The keeper of the first gives the port back at this moment.
        server = start_shared(start)
        for _ in range(200):
            assert reserved() == str(PORT)
        assert server.stop() == 0, server.errors
        assert reserved() == ""


@only_sidestep
def test_a_kernels_connection_to_elsewhere_never_gets_a_shared_port(start):
    server = start_shared(start)
    narrow = f"sysctl -qw net.ipv4.ip_local_port_range='{PORT - 1} {PORT + 1}'"
    code = "import socket\nfor _ in range(2): s = socket.socket(); s.bind(('10.77.0.3', 0)); print(s.getsockname()[1])"
    try:
        drawn = in_server_namespace("sh", "-c", f"{narrow}; {sys.executable} -c \"{code}\"")
        assert drawn.returncode == 0 and str(PORT) not in drawn.stdout.split(), drawn
    finally:
        in_server_namespace("sysctl", "-qw", "net.ipv4.ip_local_port_range=32768 60999")
    assert server.stop() == 0, server.errors


@only_sidestep
def test_a_port_that_a_service_of_the_kernel_has_is_not_taken_from_it(service):
    said = refused(**{"--address": KERNEL_ADDRESS + "/24", "--steering": "shared", "-p": str(service.port)})
    assert re.search(f"TCP port {service.port} of {KERNEL_ADDRESS} already; stop its process .*or choose another", said)
    said = refused(**{"--address": ADDRESS + "/24", "--steering": "shared"})
    assert f"{ADDRESS} is to be shared with the kernel, which does not have it; add it" in said, said


@only_sidestep
@pytest.mark.parametrize("way", ["own", "shared"])
def test_who_is_not_allowed_reaches_only_the_kernel(start, service, way):
    address, extra = (KERNEL_ADDRESS, SHARED) if way == "shared" else (ADDRESS, ())
    stranger = "10.77.0.77"
    subprocess.run(["ip", "address", "add", stranger + "/24", "dev", "sc0"], check=True)
    try:
        server = start(address=address, extra=(*extra, "--allow", "10.77.0.1")).wait_until_ready()
        assert "steering: only 10.77.0.1/32 are served" in server.lines, server.lines
        with socket.socket() as refused_one:
            refused_one.bind((stranger, 0))
            refused_one.settimeout(0.2)
            with pytest.raises(TimeoutError):
                refused_one.connect((address, PORT))
        with socket.create_connection((KERNEL_ADDRESS, service.port), HANG_SECONDS, (stranger, 0)) as allowed:
            exchange(allowed, b"ssh", b"ssh")
        log, asking = Log(server), connect(address=address)
        ask(asking)
        assert "--allow" in log.until("xdp_denied grows")
        assert sidestep_stats(asking)["xdp_denied"] > 0
        assert server.stop() == 0
    finally:
        subprocess.run(["ip", "address", "del", stranger + "/24", "dev", "sc0"], check=True)


@only_sidestep
def test_a_dedicated_queue_leaves_the_kernel_nothing(start):
    server = start(extra=("--steering", "dedicated")).wait_until_ready()
    connection = connect()
    ask(connection)
    with socket.socket() as nobody:
        nobody.settimeout(0.2)
        with pytest.raises(TimeoutError):
            nobody.connect((KERNEL_ADDRESS, 22))
    log = Log(server)
    assert [line for line in server.lines if line.startswith("steering: every frame of these queues of ss0")]
    # Counted by the supervisor every 0.4 s.
    deadline = time.monotonic() + HANG_SECONDS
    while sidestep_stats(connection)["xdp_dedicated"] == 0:
        assert server.process.poll() is None, log.text
        assert time.monotonic() < deadline, "no frame of the kernel's was counted"
    assert server.stop() == 0
    with pytest.raises(ConnectionRefusedError):
        connect(22, KERNEL_ADDRESS)
    said = refused(**{"--address": KERNEL_ADDRESS + "/24", "--steering": "dedicated"})
    assert "the kernel already has 10.77.0.3" in said, said
