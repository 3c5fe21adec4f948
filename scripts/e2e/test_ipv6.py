"""IPv6 beside IPv4 on one interface: several addresses of both families, an address shared with the kernel, its own service over
IPv6 unharmed, who is let in, and what clients are told while nobody serves.

The lab's namespaces speak no IPv6 until the fixture `ipv6` has them do so.
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading

import pytest
from conftest import (
    ADDRESS,
    HANG_SECONDS,
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
from test_announcing import STRANGER
from test_nobody_serves import Held, log_in
from test_shared_address import ECHO
from test_udp import Client
from test_vlan import NUMBER, discovery, trunk
from test_wrong_use import refused

__all__ = ["trunk"]

NETWORK = "2001:db8:77::/64"
CLIENT, OURS, KERNELS = "2001:db8:77::1", "2001:db8:77::2", "2001:db8:77::3"
# Of a network of its own.
FURTHER = "2001:db8:78::2"
VALUE = bytes(65 + i % 26 for i in range(1_000_000))


def client_ip(*words):
    subprocess.run(["ip", *words], capture_output=True, timeout=HANG_SECONDS, check=True)


def set_ipv6(link, off, run):
    run("sh", "-c", f"echo {off} >/proc/sys/net/ipv6/conf/{link}/disable_ipv6")


@pytest.fixture(autouse=True)
def ipv6():
    """Both ends of the lab's link have an address, without probing for it, and no router is looked for."""

    def in_client_namespace(*command):
        return subprocess.run(command, capture_output=True, timeout=HANG_SECONDS, check=True)

    ends = [("sc0", CLIENT, in_client_namespace), ("ss0", KERNELS, in_server_namespace)]
    before = []
    for link, address, run in ends:
        before.append(run("cat", f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6").stdout.strip())
        run("sh", "-c", f"echo 0 >/proc/sys/net/ipv6/conf/{link}/accept_ra; echo 0 >/proc/sys/net/ipv6/conf/{link}/accept_dad")
        set_ipv6(link, 0, run)
        run("ip", "address", "add", address + "/64", "dev", link, "nodad")
    client_ip("route", "add", "2001:db8:78::/64", "dev", "sc0")
    yield
    client_ip("route", "del", "2001:db8:78::/64", "dev", "sc0")
    for (link, address, run), off in zip(ends, before, strict=True):
        run("ip", "address", "del", address + "/64", "dev", link)
        set_ipv6(link, off if isinstance(off, str) else off.decode(), run)


def addresses(*more):
    """Options for these addresses beside the one of IPv4."""
    return [word for address in more for word in ("--address", address + "/64")]


def ask(connection, value=b"v" * 3000):
    """Stores and reads a value, which takes more than one frame."""
    exchange(connection, store(b"k", value) + b"get k\r\n", b"STORED\r\n" + found(b"k", value) + b"END\r\n")


def lines_of(connection, request):
    connection.sendall(request)
    text = b""
    while not text.endswith(b"END\r\n"):
        part = connection.recv(65536)
        assert part, "the server closed"
        text += part
    return text.decode().splitlines()


@only_sidestep
def test_clients_of_both_families_and_of_each_address_are_served_and_see_one_cache(start):
    own = addresses(OURS, FURTHER) + ["--address", "10.78.0.2/24"]
    client_ip("route", "add", "10.78.0.0/24", "dev", "sc0")
    try:
        server = start(extra=own).wait_until_ready()
        ready = server.lines[-1]
        assert ready.startswith(f"ready: {ADDRESS}:{PORT}, [{OURS}]:{PORT}, [{FURTHER}]:{PORT}, 10.78.0.2:{PORT} with"), ready
        for number, address in enumerate([ADDRESS, OURS, FURTHER, "10.78.0.2"]):
            with connect(address=address) as connection:
                exchange(connection, store(b"from", address.encode()), b"STORED\r\n")
                ask(connection, VALUE[number:])
        with connect(address=OURS) as connection:
            exchange(connection, b"get from\r\n", found(b"from", b"10.78.0.2") + b"END\r\n")
            shown = lines_of(connection, b"stats conns\r\n")
            port = connection.getsockname()[1]
            assert any(line.endswith(f":addr tcp6:[{CLIENT}]:{port}") for line in shown), shown
            assert any(line.endswith(f":listen_addr tcp6:[{OURS}]:{PORT}") for line in shown), shown
            assert sum("conn_listening" in line for line in shown) == 4, shown
        assert server.stop() == 0, server.errors
    finally:
        client_ip("route", "del", "10.78.0.0/24", "dev", "sc0")


@only_sidestep
def test_a_server_of_ipv6_alone_answers_nobody_over_ipv4(start):
    server = start(address=OURS, extra=["-l", f"[{OURS}]:{PORT}"]).wait_until_ready()
    with connect(address=OURS) as connection:
        ask(connection, VALUE)
    with pytest.raises(OSError):
        socket.create_connection((ADDRESS, PORT), timeout=1)
    assert server.stop() == 0, server.errors


@only_sidestep
def test_datagrams_over_ipv6_are_answered_in_full_to_who_is_trusted(start):
    trust = ["-U", str(PORT), "--udp-trust", CLIENT + "/128"]
    server = start(extra=[*addresses(OURS), *trust]).wait_until_ready()
    client = Client(family=socket.AF_INET6, address=OURS)
    value = VALUE[:50_000]
    with connect(address=OURS) as connection:
        exchange(connection, store(b"k", value), b"STORED\r\n")
    client.ask(b"get k\r\n", found(b"k", value) + b"END\r\n")
    assert server.stop() == 0, server.errors


ECHO6 = ECHO.replace("10.77.0.3", KERNELS).replace(
    "    daemon_threads = True", "    daemon_threads = True\n    address_family = __import__('socket').AF_INET6"
)


@pytest.fixture
def service():
    """A service of the kernel's over IPv6, and a client that asks it all the time; a list of what went wrong."""
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, sys.executable, "-c", ECHO6]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        connection = connect(int(process.stdout.readline()), KERNELS)
        ended, answered = threading.Event(), []

        def ask_it():
            while not ended.is_set():
                request = struct.pack("!Q", len(answered)) * 100
                try:
                    exchange(connection, request, request)
                except BaseException as error:
                    answered.append(error)
                    return
                answered.append(None)

        thread = threading.Thread(target=ask_it)
        thread.start()
        yield answered
        ended.set()
        thread.join(HANG_SECONDS)
        connection.close()
        process.kill()


def ping():
    """The kernel at its address answers an ICMPv6 echo; of such a socket the kernel makes and checks the checksums."""
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as raw:
        raw.settimeout(HANG_SECONDS)
        raw.connect((KERNELS, 0))
        raw.send(b"\x80\0\0\0" + b"\x12\x34\0\1sidestep")
        while (answer := raw.recv(2048))[0] != 129 or answer[4:] != b"\x12\x34\0\1sidestep":
            pass


@only_sidestep
@pytest.mark.parametrize("shared", [True, False])
def test_a_service_of_the_kernels_over_ipv6_loses_nothing_whatever_becomes_of_the_server(start, service, shared):
    at = KERNELS if shared else OURS
    steering = ["--steering", "shared"] if shared else []
    for end in (signal.SIGTERM, signal.SIGKILL):
        server = start(address=at, extra=steering).wait_until_ready()
        for _ in range(5):
            with connect(address=at) as connection:
                ask(connection)
        asked = len(service)
        until(lambda asked=asked: len(service) > asked + 20 or service[-1], "the service is not asked")
        server.stop(end)
        with pytest.raises(OSError):
            socket.create_connection((at, PORT), timeout=1)
        asked = len(service)
        until(lambda asked=asked: len(service) > asked + 20 or service[-1], "the service is not asked")
    assert service[-1] is None, service[-1]
    ping()


@only_sidestep
@pytest.mark.parametrize("shared", [True, False])
def test_who_is_not_let_in_over_ipv6_is_dropped_and_counted(start, shared):
    at = KERNELS if shared else OURS
    extra = [*(["--steering", "shared"] if shared else []), "--allow", CLIENT + "/128", "--allow", "10.77.0.0/24"]
    client_ip("address", "add", "2001:db8:77::9/64", "dev", "sc0", "nodad")
    try:
        server = start(address=at, extra=extra).wait_until_ready()
        with pytest.raises(OSError):
            socket.create_connection((at, PORT), timeout=1, source_address=("2001:db8:77::9", 0))
        with socket.create_connection((at, PORT), timeout=HANG_SECONDS, source_address=(CLIENT, 0)) as connection:
            ask(connection)
            until(lambda: sidestep_stats(connection)["xdp_denied"] > 0, "it is not counted")
        assert server.stop() == 0, server.errors
    finally:
        client_ip("address", "del", "2001:db8:77::9/64", "dev", "sc0")


@only_sidestep
def test_clients_of_an_own_ipv6_address_are_told_at_once_that_nobody_serves(start, tmp_path):
    held = Held(tmp_path / "users")
    server = start(extra=[*held.extra, *addresses(OURS)]).wait_until_ready()
    log = Log(server)
    try:
        old = log_in(connect(address=OURS))
        exchange(old, store(b"k", b"v"), b"STORED\r\n")
        held.kill(server)
        with pytest.raises(ConnectionResetError):
            old.sendall(b"get k\r\n")
            old.recv(64)
        with pytest.raises(ConnectionRefusedError):
            connect(address=OURS)
        # Also where nobody knows the address yet.
        client_ip("-6", "neighbour", "flush", "dev", "sc0")
        with pytest.raises(ConnectionRefusedError):
            connect(address=OURS)
        held.release()
        log.until("serves again")
        connection = log_in(connect(address=OURS))
        exchange(connection, b"get k\r\n", b"END\r\n")
        counts = {}
        until(lambda: counts.update(sidestep_stats(connection)) or counts["plane_restarts"], "restarts are not counted")
        assert counts["xdp_refused"] >= 3 and counts["xdp_neighbors_answered"] >= 1 and counts["xdp_neighbors"] >= 1, counts
        assert server.stop() == 0, server.errors
    finally:
        held.close()


@only_sidestep
def test_a_client_over_ipv6_is_served_in_a_vlan(start, trunk):
    server = start(extra=["--vlan", str(NUMBER), *addresses(OURS)]).wait_until_ready()
    with connect(address=OURS) as connection:
        ask(connection, VALUE)
    with connect() as connection:
        exchange(connection, b"get k\r\n", found(b"k", VALUE) + b"END\r\n")
    assert server.stop() == 0, server.errors


@only_sidestep
def test_an_ipv6_address_that_another_has_at_the_start_is_said_and_not_used_and_the_others_are_served(start):
    client_ip("address", "add", OURS + "/128", "dev", "sc0", "nodad")
    try:
        server = start(extra=addresses(OURS, FURTHER)).wait_until_ready()
        with open("/sys/class/net/sc0/address", encoding="ascii") as address:
            station = address.read().strip()
        assert "WARN" in Log(server).until(f"{OURS} is also the address of the station {station}")
    finally:
        client_ip("address", "del", OURS + "/128", "dev", "sc0")
    # Nobody answers there, though the other has gone: it is asked for again when the link returns.
    with pytest.raises(OSError):
        socket.create_connection((OURS, PORT), timeout=1)
    for address in (ADDRESS, FURTHER):
        with connect(address=address) as connection:
            ask(connection)
            until(lambda: sidestep_stats(connection).get("dropped_address_conflict", 0) > 0, "it is not counted")
    assert server.stop() == 0, server.errors


@only_sidestep
def test_a_station_that_takes_an_ipv6_address_later_is_said_once_counted_and_moves_no_connection(start):
    server = start(extra=addresses(OURS)).wait_until_ready()
    log = Log(server)
    connection = connect(address=OURS)
    ask(connection)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("sc0", 0))
        # Said to all; and asked for, as one does who is about to use it, which is answered and no conflict (RFC 4862, 5.4.3).
        claims = discovery(136, 0x20, OURS, "ff02::1", OURS, b"\x02\x01" + STRANGER)
        probes = discovery(135, 0, "::", "ff02::1:ff00:2", OURS)
        for number in range(100):
            for group, packet in (claims, probes):
                wire.send(group + STRANGER + packet)
            ask(connection, b"%d" % number)
    log.until(f"{OURS} is also the address of the station {STRANGER.hex(':')}")
    until(lambda: sidestep_stats(connection)["dropped_address_conflict"] >= 100, "they are not counted")
    assert sidestep_stats(connection)["dropped_address_conflict"] == 100
    with connect(address=OURS) as new:
        exchange(new, b"get k\r\n", found(b"k", b"99") + b"END\r\n")
    connection.close()
    assert server.stop() == 0
    assert (log.text.decode() + server.errors).count("is also the address of the station") == 1


def groups():
    """The Ethernet groups that the server's interface takes in, and those that its kernel reports."""
    return in_server_namespace("ip", "maddress", "show", "dev", "ss0").stdout


@only_sidestep
def test_the_group_by_which_the_address_is_solicited_is_joined_while_the_server_is_there(start):
    # Last 24 bits that nobody else's address has.
    at = "2001:db8:77::ab:cdef"
    before = groups()
    assert "33:33:ff:ab:cd:ef" not in before
    for end in (signal.SIGTERM, signal.SIGKILL):
        server = start(extra=addresses(at)).wait_until_ready()
        joined = groups()
        assert "33:33:ff:ab:cd:ef" in joined and "ff02::1:ffab:cdef" in joined, joined
        assert any(line.startswith("ipv6: ") and "reported to switches" in line for line in server.lines), server.lines
        os.kill(server.plane(), signal.SIGKILL)
        Log(server).until("serves again")
        assert "33:33:ff:ab:cd:ef" in groups(), "it is kept whichever data plane serves"
        server.stop(end)
        until(lambda: groups() == before, "the group is not left")


@only_sidestep
def test_an_address_of_ipv6_that_is_wrong_or_the_kernels_is_refused(start):
    for own, said in [
        (addresses(KERNELS), f"the kernel already has {KERNELS}, on ss0"),
        (["--address", "ff02::1/64"], "it is no unicast address"),
        (addresses(OURS, OURS), "this address is given twice"),
        ([*addresses(OURS), "-l", ADDRESS], f"{OURS} is left out"),
        ([*addresses(OURS), "--gateway", "2001:db8:99::1"], "not a host of the network"),
    ]:
        server = start(extra=own)
        server._collect()
        assert server.process.returncode not in (0, None) and said in server.errors, server.errors


@only_sidestep
def test_an_ipv6_address_that_the_kernel_does_not_use_is_not_shared():
    own = "2001:db8:77::9"
    shared = {"--address": f"{own}/64", "--steering": "shared"}
    assert f"{own} is to be shared with the kernel, which does not have it; add it" in refused(**shared)
    set_ipv6("ss0", 1, in_server_namespace)
    said = refused(**shared)
    set_ipv6("ss0", 0, in_server_namespace)
    in_server_namespace("ip", "address", "add", f"{KERNELS}/64", "dev", "ss0", "nodad")
    assert f"{own} is to be shared with the kernel, whose IPv6 is off on ss0; turn it on (sysctl -w net/ipv6/conf/ss0/" in said
    # Two stations with one address: the second hears of the first, and leaves it.
    client_ip("address", "add", f"{own}/64", "dev", "sc0", "nodad")
    try:
        in_server_namespace("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/ss0/accept_dad")
        in_server_namespace("ip", "address", "add", f"{own}/64", "dev", "ss0")
        shown = ["ip", "-6", "address", "show", "dev", "ss0", "dadfailed"]
        until(lambda: own in in_server_namespace(*shown).stdout, "the kernel does not notice")
        said = refused(**shared)
        assert f"another station has {own}, so that the kernel does not use it on ss0" in said, said
        assert f"ip address del {own} dev ss0" in said, said
    finally:
        in_server_namespace("sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/ss0/accept_dad")
        in_server_namespace("ip", "address", "del", f"{own}/64", "dev", "ss0")
        client_ip("address", "del", f"{own}/64", "dev", "sc0")


@only_sidestep
def test_a_port_that_a_service_of_the_kernels_has_over_ipv6_is_not_taken_from_it():
    command = ["ip", "netns", "exec", SERVER_NAMESPACE, sys.executable, "-c", ECHO6]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        port = process.stdout.readline().strip()
        try:
            said = refused(**{"--address": f"{KERNELS}/64", "--steering": "shared", "-p": port})
        finally:
            process.kill()
    assert f"TCP port {port} of {KERNELS} already; stop its process (ss -tanp 'sport = {port}')" in said, said


@only_sidestep
def test_it_is_said_that_the_kernel_knows_no_router_and_will_know_none(start):
    note = "note: the kernel has no default route of IPv6 by ss0, and takes no router's word there (net.ipv6.conf.ss0.accept_ra)"
    knows = ["ip", "-6", "route", "add", "default", "via", CLIENT, "dev", "ss0"]
    takes = ["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/ss0/accept_ra"]
    forgets = ["ip", "-6", "route", "del", "default", "dev", "ss0"]
    takes_none = ["sh", "-c", "echo 0 >/proc/sys/net/ipv6/conf/ss0/accept_ra"]
    for change, back, more, is_said in [
        (["true"], ["true"], [], True),
        (["true"], ["true"], ["--gateway", CLIENT], False),
        (knows, forgets, [], False),
        (takes, takes_none, [], False),
    ]:
        assert in_server_namespace(*change).returncode == 0
        try:
            server = start(extra=[*addresses(OURS), *more]).wait_until_ready()
            assert any(line.startswith(note) for line in server.lines) == is_said, (change, server.lines)
            assert server.stop() == 0, server.errors
        finally:
            assert in_server_namespace(*back).returncode == 0
