"""UDP, by a kernel socket: what comes back for each datagram, from whom, and how much."""

import socket
import struct

import pytest
from conftest import (
    ADDRESS,
    FAMILY,
    HANG_SECONDS,
    KIND,
    PORT,
    V6,
    connect,
    exchange,
    found,
    in_use,
    only_sidestep,
    sidestep_stats,
    store,
)

NETWORK = "fd77::/64" if V6 else "10.77.0.0/24"
BODY = 1392
# socket(7); Python has no name for it.
SO_RCVBUFFORCE = 33


@pytest.fixture
def served(start):
    """A server with two threads that takes datagrams and trusts the clients' network."""
    trust = () if KIND == "memcached" else ("--udp-trust", NETWORK)
    running = in_use(start(extra=("-U", str(PORT), *trust)).wait_until_ready())
    yield running
    code = running.stop()
    # Shown when a test fails: what was dropped, by reason.
    print("\n".join(line for line in running.lines if line.startswith("core ")))
    assert code == 0, f"exit code {running.process.returncode}: {running.errors}"


class Client:
    """A socket, and its requests' ids."""

    def __init__(self, port=0, family=FAMILY, address=ADDRESS):
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        # Room for the longest reply, however late this process has its turn: what finds none is lost for good.
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self.socket.bind(("", port))
        self.socket.connect((address, PORT))
        self.socket.settimeout(HANG_SECONDS)
        self.id = 0

    def send(self, request, total=1):
        self.id = (self.id + 1) % 65536
        self.socket.send(struct.pack(">4H", self.id, 0, total, 0) + request)

    def message(self):
        """The next message, and how many datagrams it came in; each must fit its place."""
        parts, total = {}, None
        while total is None or len(parts) < total:
            datagram = self.socket.recv(65536)
            number, sequence, datagrams, reserved = struct.unpack(">4H", datagram[:8])
            assert (number, reserved) == (self.id, 0) and len(datagram) <= 1400
            assert total in (None, datagrams) and sequence not in parts
            if datagrams == 0:
                assert datagram[8:] == b""
                return b"", 0
            assert sequence < datagrams
            total = datagrams
            parts[sequence] = datagram[8:]
        return b"".join(parts[at] for at in range(total)), total

    def ask(self, request, *replies):
        """Sends a request, which must be answered by these messages and nothing else."""
        self.send(request)
        for reply in replies:
            message, total = self.message()
            assert message == reply, request
            assert total == -(-len(reply) // BODY)
        self.quiet(request)

    def quiet(self, request=b""):
        """Nothing more comes: what is asked behind it is answered first."""
        self.send(b"mn\r\n")
        message, _ = self.message()
        assert message == b"MN\r\n", request


def keys(count=40):
    """Keys enough for every core to have some."""
    return [b"key-%d" % number for number in range(count)]


def test_commands_are_answered_by_datagrams_over_all_cores(served):
    client, other = Client(), connect()
    for number, key in enumerate(keys()):
        value = b"%d" % number
        client.ask(store(key, value, flags=7), b"STORED\r\n")
        client.ask(b"get %s\r\n" % key, found(key, value, flags=7) + b"END\r\n")
        client.ask(b"incr %s 5\r\n" % key, b"%d\r\n" % (number + 5))
        client.ask(b"touch %s 0\r\n" % key, b"TOUCHED\r\n")
        client.ask(b"mg %s v f\r\n" % key, b"VA %d f7\r\n%d\r\n" % (len(b"%d" % (number + 5)), number + 5))
    # What one way has stored the other way finds.
    exchange(other, b"get %s\r\n" % keys()[3], found(keys()[3], b"8", flags=7) + b"END\r\n")
    client.ask(b"delete %s\r\n" % keys()[3], b"DELETED\r\n")
    exchange(other, b"get %s\r\n" % keys()[3], b"END\r\n")
    client.ask(b"nonsense\r\n", b"ERROR\r\n")
    client.ask(b"set quiet 0 0 1 noreply\r\nx\r\n")
    client.ask(b"get quiet\r\nget quiet\r\n", *[found(b"quiet", b"x") + b"END\r\n"] * 2)
    client.send(b"stats\r\n")
    message, total = client.message()
    assert total == 2 and message.startswith(b"STAT pid ") and message.endswith(b"END\r\n")


def test_many_keys_of_one_get_come_in_order_from_both_cores(served):
    client = Client()
    for key in keys():
        client.ask(store(key, key * 20), b"STORED\r\n")
    values = [found(key, key * 20) for key in keys()]
    client.ask(b"get %s\r\n" % b" ".join(keys()), *values[:-1], values[-1] + b"END\r\n")


@pytest.mark.parametrize("length", [1_350, 20_000, 300_000])
def test_a_value_longer_than_a_datagram_comes_in_as_many_as_it_needs(served, length):
    client, other = Client(), connect()
    for key in keys(6):
        value = (key * (length // len(key) + 1))[:length]
        exchange(other, store(key, value), b"STORED\r\n")
        client.ask(b"get %s\r\n" % key, found(key, value) + b"END\r\n")


@pytest.mark.parametrize("length", [1_500, 4_096, 60_000])
def test_a_value_longer_than_a_packet_is_sent_in_one_datagram(served, length):
    client, other = Client(), connect()
    for key in keys(12):
        value = (key * (length // len(key) + 1))[:length]
        # The kernel cuts it into fragments.
        client.ask(store(key, value), b"STORED\r\n")
        client.ask(b"get %s\r\n" % key, found(key, value) + b"END\r\n")
        exchange(other, b"get %s\r\n" % key, found(key, value) + b"END\r\n")


@only_sidestep
def test_what_is_not_whole_or_no_request_is_dropped_and_wedges_nothing(served):
    client = Client()
    for key in keys(8):
        client.ask(store(key, b"old"), b"STORED\r\n")
        for broken in (b"set %s 0 0 100\r\nabc", b"set %s 0 0 1000000\r\nabc\r\n", b"get %s", b"delete %s"):
            client.ask(broken % key)
            client.ask(b"get %s\r\n" % key, found(key, b"old") + b"END\r\n")
    for total in (0, 2, 65535):
        client.send(b"get key-1\r\n", total=total)
        client.quiet()
    client.socket.send(b"\0\1\0\0\0\1\0\0")
    client.socket.send(b"x")
    client.quiet()
    client.send(b"quit\r\n")
    assert client.message() == (b"", 0)
    client.quiet()
    exchange(connect(), b"get key-1\r\n", found(b"key-1", b"old") + b"END\r\n")


@only_sidestep
def test_a_stranger_is_sent_at_most_three_times_what_he_sends(start):
    # With one thread all replies have left when all requests are counted.
    options = {"threads": 1, "extra": ("-U", str(PORT), "--udp-trust", "192.0.2.0/24")}
    server = start(**options).wait_until_ready()
    other, client = connect(), Client()
    exchange(other, store(b"short", b"s" * 10) + store(b"long", b"l" * 5_000), b"STORED\r\n" * 2)
    sent = 0
    for _ in range(100):
        for request in (b"get short\r\n", b"get long\r\n", b"stats\r\n"):
            client.send(request)
            sent += 8 + len(request)
    for _ in range(10_000):
        counts = sidestep_stats(other)
        if counts["udp_datagrams_in"] == 300:
            break
    assert counts["udp_datagrams_in"] == 300
    got = sum(len(client.socket.recv(65536)) for _ in range(counts["udp_datagrams_out"]))
    assert 0 < got <= 3 * sent
    # What the others have left pays for a few of the 200 long replies.
    assert 150 < counts["udp_budget_drops"] <= 200
    # Over TCP he is served as ever, and the drops are told at the end.
    exchange(other, b"get long\r\n", found(b"long", b"l" * 5_000) + b"END\r\n")
    assert server.stop() == 0
    assert any("udp_budget_drops=" in line for line in server.lines)


@only_sidestep
def test_ports_that_would_answer_back_are_not_answered(start):
    server = in_use(start(extra=("-U", str(PORT), "--udp-trust", NETWORK)).wait_until_ready())
    client = Client()
    client.ask(store(b"k", b"v"), b"STORED\r\n")
    loops = [Client(port) for port in (7, 1023, 11211)]
    for loop in loops:
        loop.send(b"get k\r\n")
    client.ask(b"get k\r\n", found(b"k", b"v") + b"END\r\n")
    assert server.stop() == 0
    # All that has arrived was judged before the server ended.
    assert sum(core.get("dropped_udp_loop_port", 0) for core in server.core_reports()) == len(loops)
    for loop in loops:
        loop.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            loop.socket.recv(65536)


def test_without_u_there_is_no_udp(server):
    client = Client()
    client.send(b"version\r\n")
    client.socket.settimeout(0.2)
    with pytest.raises((TimeoutError, ConnectionRefusedError)):
        client.socket.recv(65536)
    exchange(connect(), b"mn\r\n", b"MN\r\n")
