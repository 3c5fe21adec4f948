"""A proxy on loopback between clients and a memcached, which keeps what the clients said.

What a session said becomes inputs of the fuzz targets (`cache/tests/support/fuzz/script.rs` says how they are read): the
bytes as they were sent, with marks where another connection goes on or one ends. Long sessions are cut, between two
sends, into inputs of at most `PIECE` bytes.
"""

import itertools
import re
import selectors
import socket
import threading

MARK = 0xF5
SLOTS = 4
PIECE = 1200
# A send of more is a large value: what is shorter says as much.
SEND_MAX = 6500
# Of one session; what comes later says the same again.
PIECES_MAX = 120

# Set-ups that every recorded piece is tried with: settled on 2, 1 and 3 cores, free, scarce. The second byte says how
# bytes are cut.
SET_UPS = [bytes((0x00, 7)), bytes((0x01, 0)), bytes((0x02, 9)), bytes((0x48, 3)), bytes((0x0E, 5))]

META = re.compile(rb"(?:^|\n)(?:mg|ms|md|ma|me|mn)[ \r]")


class Proxy:
    """Listens on a free port of loopback, or on `port`, and passes everything on to `upstream`.

    With `udp_upstream`, a port of memcached's, datagrams too, on the same port or on `udp_port`.
    """

    def __init__(self, upstream, port=0, udp_upstream=0, udp_port=0):
        self.upstream = upstream
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        # (connection, bytes), in order; None is its end.
        self.said = []
        self.datagrams = []
        self.udp_upstream = udp_upstream
        self.udp_listener = None
        if udp_upstream:
            self.udp_listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp_listener.bind(("127.0.0.1", udp_port or self.port))
        self.stopping = False
        self.wake, wake = socket.socketpair()
        self.thread = threading.Thread(target=self._run, args=(wake,), daemon=True)
        self.thread.start()

    def close(self):
        """Stops, and gives what was said."""
        self.stopping = True
        self.wake.send(b"x")
        self.thread.join()
        return self.said

    def _run(self, wake):
        poll = selectors.DefaultSelector()
        poll.register(self.listener, selectors.EVENT_READ, "new")
        poll.register(wake, selectors.EVENT_READ, "wake")
        if self.udp_listener:
            poll.register(self.udp_listener, selectors.EVENT_READ, "datagram")
        number, senders = 0, {}
        while not self.stopping:
            for key, _ in poll.select():
                if key.data == "wake":
                    break
                if key.data == "new":
                    client, _ = self.listener.accept()
                    server = socket.create_connection(("127.0.0.1", self.upstream))
                    for end in (client, server):
                        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    poll.register(client, selectors.EVENT_READ, (number, client, server))
                    poll.register(server, selectors.EVENT_READ, (None, server, client))
                    number += 1
                    continue
                if key.data == "datagram":
                    data, sender = self.udp_listener.recvfrom(1 << 16)
                    self.datagrams.append(data)
                    if sender not in senders:
                        senders[sender] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                        senders[sender].connect(("127.0.0.1", self.udp_upstream))
                        poll.register(senders[sender], selectors.EVENT_READ, ("answer", sender))
                    senders[sender].send(data)
                    continue
                if key.data[0] == "answer":
                    self.udp_listener.sendto(key.fileobj.recv(1 << 16), key.data[1])
                    continue
                which, source, other = key.data
                if source.fileno() < 0:
                    continue
                self._move(poll, which, source, other)
        poll.close()
        for end in (self.listener, self.udp_listener, *senders.values()):
            if end:
                end.close()

    def _move(self, poll, which, source, other):
        try:
            data = source.recv(1 << 16)
            if data:
                if which is not None:
                    self.said.append((which, data))
                other.sendall(data)
                return
        except OSError:
            pass
        if which is not None:
            self.said.append((which, None))
        for end in (source, other):
            try:
                poll.unregister(end)
            except KeyError:
                pass
            end.close()


def inputs(said):
    """What was said, as `{target: [input]}`: each connection counts to the protocol that it spoke."""
    kinds = {}
    for connection, data in said:
        if data:
            kind = kinds.setdefault(connection, "binary" if data[0] == 0x80 else "text")
            if kind == "text" and META.search(data):
                kinds[connection] = "meta"
    found = {}
    for kind in ("text", "meta", "binary"):
        part = [(connection, data) for connection, data in said if kinds.get(connection) == kind]
        found[kind] = list(itertools.islice(_pieces(part), PIECES_MAX))
    return found


def datagram_inputs(datagrams):
    """Datagrams as inputs of the UDP target: from a trusted sender, and one in four pieces from a stranger."""
    slots, piece, pieces = "0001", bytearray(), []
    for data in datagrams:
        data = data.replace(bytes((MARK,)), bytes((MARK, MARK)))
        if len(piece) + len(data) > PIECE and piece:
            pieces.append(bytes(piece))
            piece = bytearray()
        piece += bytes((MARK, ord(slots[len(pieces) % 4] if len(pieces) % 4 else "2"))) + data
    if piece:
        pieces.append(bytes(piece))
    return pieces[:PIECES_MAX]


def _pieces(said):
    piece, slots, current = bytearray(), {}, 0
    for connection, data in said:
        if data is not None and len(data) > SEND_MAX:
            continue
        if data is not None and len(piece) + len(data) > PIECE and piece:
            yield bytes(piece)
            piece, slots, current = bytearray(), {}, 0
        if connection not in slots:
            if data is None:
                continue
            free = [slot for slot in range(SLOTS) if slot not in slots.values()]
            # More connections than slots: the oldest gives its place up.
            slots[connection] = free[0] if free else slots.pop(next(iter(slots)))
        if slots[connection] != current:
            current = slots[connection]
            piece += bytes((MARK, ord("0") + current))
        if data is None:
            piece += bytes((MARK, ord("s")))
            del slots[connection]
        else:
            piece += data.replace(bytes((MARK,)), bytes((MARK, MARK)))
    if piece:
        yield bytes(piece)
