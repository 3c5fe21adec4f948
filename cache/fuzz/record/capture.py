"""The frames of loopback that clients send to one port, as inputs of the target for frames.

What they are is said in `stack/tests/lab/frames.rs`: each frame is a record of kind 1, which the target puts right, so
addresses here are only those of its wire, and what a segment acknowledges is counted from the server's first number.
"""

import socket
import struct
import threading

ETH_P_ALL = 3
PACKET_HOST = 0
FRAME_MAX = 1518
PIECE = 1600
PIECES_MAX = 40
# What the application does with flows: echo, greet and close half, take nothing, abort, talk and close.
FIRST = range(5)

OURS, THEIRS = bytes((2, 0, 0, 0, 0, 1)), bytes((2, 0, 0, 0, 0, 2))
US, THEM = bytes((10, 77, 0, 2)), bytes((10, 77, 0, 1))
PORT = 11211


class Capture:
    """Keeps the frames to and from `port` until it is closed. Needs the right to see frames (root)."""

    def __init__(self, port):
        self.port = port
        self.frames = []
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.socket.bind(("lo", 0))
        self.socket.settimeout(0.1)
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def close(self):
        """Stops, and gives the inputs."""
        self.stopping = True
        self.thread.join()
        self.socket.close()
        return _inputs(self.frames, self.port)

    def _run(self):
        while not self.stopping:
            try:
                frame, address = self.socket.recvfrom(1 << 17)
            except TimeoutError:
                continue
            # Each frame is seen as it leaves and as it comes.
            if address[2] == PACKET_HOST and frame[12:14] == b"\x08\x00" and frame[14] == 0x45 and frame[23] in (6, 17):
                self.frames.append(frame)


def _inputs(frames, port):
    first_numbers, pieces, piece = {}, [], bytearray()
    for frame in frames:
        source, target = struct.unpack_from(">HH", frame, 34)
        tcp = frame[23] == 6
        if source == port and tcp and frame[47] & 0x02:
            first_numbers[target] = struct.unpack_from(">I", frame, 38)[0]
        if target != port or len(frame) > FRAME_MAX:
            continue
        frame = bytearray(frame)
        frame[0:12] = OURS + THEIRS
        frame[26:34] = THEM + US
        struct.pack_into(">H", frame, 36, PORT)
        if tcp and frame[47] & 0x10:
            number = struct.unpack_from(">I", frame, 42)[0] - first_numbers.get(source, 0)
            struct.pack_into(">I", frame, 42, number % (1 << 32))
        # A new connection begins a piece where one is long enough, so that each piece has its handshake.
        if len(piece) > PIECE and (not tcp or frame[47] & 0x02):
            pieces.append(bytes(piece))
            piece = bytearray()
        if len(piece) < 3 * PIECE:
            piece += b"\x01" + struct.pack("<H", len(frame)) + frame
    if piece:
        pieces.append(bytes(piece))
    return [bytes((first,)) + piece for piece in pieces[:PIECES_MAX] for first in FIRST]
