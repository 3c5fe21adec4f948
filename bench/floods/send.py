"""Sends a flood of one kind by a packet socket, at a rate and for a time that are both bounded; prints the rate reached.

usage: send.py KIND --interface sc0 --mac 02:.. [--rate 20000] [--seconds 3] [--address 10.77.0.2] [--port 11211]

Over IPv6 where the address is one of IPv6; ns, na and ra are of IPv6 alone, arp of IPv4. Sources are spoofed: addresses in
10.128.0.0/9 and 2001:db8::/32 that nobody has, and neighbours that are none. Only for networks of your own (scripts/flood
makes one).
"""

import argparse
import ctypes
import errno
import random
import socket
import struct
import time

MOST_PER_SECOND, MOST_SECONDS = 500_000, 60
BATCH = 64
SYN, RST, FIN, ACK, PSH = 2, 4, 1, 16, 8
TCP, UDP, ICMP, ICMP_V6 = 6, 17, 1, 58
ALL_NODES = socket.inet_pton(socket.AF_INET6, "ff02::1")
# Distinct frames of a kind whose sums have to be computed; they are sent round and round.
DISTINCT = 20_000


def checksum(data):
    """The Internet checksum of `data` (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


class Maker:
    """Makes frames to one host."""

    def __init__(self, own_mac, mac, address, port, seed):
        self.random = random.Random(seed)
        self.own_mac, self.mac = own_mac, mac
        self.v6 = ":" in address
        self.address = socket.inet_pton(socket.AF_INET6 if self.v6 else socket.AF_INET, address)
        self.port = port

    def stranger(self):
        """An address that is nobody's."""
        if self.v6:
            return b"\x20\x01\x0d\xb8" + self.random.randbytes(12)
        return struct.pack("!I", 0x0A800000 | self.random.getrandbits(23))

    def neighbor(self):
        """An address of the server's subnet that is nobody's, and a station."""
        if self.v6:
            return self.address[:8] + b"\x99" + self.random.randbytes(7), b"\x02\x09" + self.random.randbytes(4)
        return self.address[:3] + bytes([self.random.randrange(4, 250)]), b"\x02\x09" + self.random.randbytes(4)

    def packet(self, protocol, body, source, identification=1, fragment=0):
        """The Ethernet frame with an IP packet of this body."""
        if self.v6:
            return self.packet_v6(self.mac, self.own_mac, source, self.address, protocol, body, 64)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), identification, fragment, 64, protocol, 0)
        head += source + self.address
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        return self.mac + self.own_mac + b"\x08\0" + head + body

    @staticmethod
    def packet_v6(to, station, source, destination, protocol, body, hop_limit):
        """The Ethernet frame from a station to another, with an IPv6 packet of this body."""
        head = struct.pack("!IHBB", 0x60000000, len(body), protocol, hop_limit) + source + destination
        return to + station + b"\x86\xdd" + head + body

    @staticmethod
    def pseudo_v6(source, destination, protocol, length):
        """What is summed before a body (RFC 8200, 8.1)."""
        return source + destination + struct.pack("!II", length, protocol)

    def transport(self, protocol, head, place, data, source):
        """A TCP or UDP packet, with its sum at `place` of its header."""
        if self.v6:
            pseudo = self.pseudo_v6(source, self.address, protocol, len(head) + len(data))
        else:
            pseudo = source + self.address + struct.pack("!BBH", 0, protocol, len(head) + len(data))
        body = head[:place] + struct.pack("!H", checksum(pseudo + head + data)) + head[place + 2 :] + data
        return self.packet(protocol, body, source)

    def segment(self, flags, data=b""):
        """A TCP segment with numbers that nobody knows."""
        bits = self.random.getrandbits
        ack = bits(32) if flags & ACK else 0
        options = b"\x02\x04\x05\xb4" if flags & SYN else b""
        offset = (20 + len(options)) // 4 << 4
        head = struct.pack("!HHIIBBHHH", 1024 | bits(15), self.port, bits(32), ack, offset, flags, 60_000, 0, 0)
        return self.transport(6, head + options, 16, data, self.stranger())

    def segments(self, flags, count):
        """So many segments of one kind, all different: what changes in them leaves both sums as they are."""
        if self.v6:
            return [bytearray(self.segment(flags)) for _ in range(min(count, DISTINCT))]
        one = self.segment(flags)
        frames = bytearray(one * count)
        high, low = struct.unpack_from("!HH", one, 26)
        port, _, _, seq_low = struct.unpack_from("!HHHH", one, 34)
        for at in range(0, len(frames), len(one)):
            # As much as one word gains its neighbour loses, neither of them going past its ends.
            step = self.random.randrange(1, 100)
            other = self.random.randrange(60_000)
            struct.pack_into("!HH", frames, at + 26, 0x0A80 + step, self.kept(high + low - 0x0A80 - step))
            struct.pack_into("!H", frames, at + 34, 1024 + other)
            struct.pack_into("!H", frames, at + 40, self.kept(port + seq_low - 1024 - other))
            # And two words of the sequence and ACK numbers.
            seq_high, ack_low = struct.unpack_from("!H", one, 38)[0], struct.unpack_from("!H", one, 44)[0]
            shift = self.random.getrandbits(16)
            if flags & ACK:
                struct.pack_into("!H", frames, at + 38, self.kept(seq_high + shift))
                struct.pack_into("!H", frames, at + 44, self.kept(ack_low - shift))
        return [memoryview(frames)[at : at + len(one)] for at in range(0, len(frames), len(one))]

    def spoiled(self, kind, count):
        """SYNs of which the server's stack makes nothing: `bent` ones have a wrong sum and are dropped as they are received,
        `astray` ones are for a station that is not there and never reach it."""
        frames = []
        for frame in self.segments(SYN, count):
            if kind == "bent":
                frame[70 if self.v6 else 50] ^= 0x55
            else:
                frame[5] ^= 0x55
            frames.append(frame)
        return frames

    @staticmethod
    def kept(word):
        """`word` as ones' complement arithmetic has it: modulo 65,535."""
        return word % 0xFFFF

    def fragment(self):
        """A piece of a TCP packet whose rest never comes."""
        place = self.random.randrange(1, 185) | 0x2000
        if self.v6:
            head = struct.pack("!BBHI", TCP, 0, (place & 0x1FFF) << 3 | 1, self.random.getrandbits(32))
            return self.packet(44, head + self.random.randbytes(32), self.stranger())
        return self.packet(6, self.random.randbytes(32), self.stranger(), self.random.getrandbits(16), place)

    def arp(self):
        """A question, or an answer to none, of a neighbour that is none."""
        sender, station = self.neighbor()
        operation = self.random.choice([1, 2])
        return b"\xff" * 6 + station + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, operation) + (
            station + sender + b"\0" * 6 + self.address
        )

    def discovery(self, kind, body, source, destination, station):
        """A message of neighbour discovery from a station to a group or to the server."""
        to = b"\x33\x33" + destination[12:] if destination[0] == 0xFF else self.mac
        body = struct.pack("!BBH", kind, 0, 0) + body
        total = checksum(self.pseudo_v6(source, destination, ICMP_V6, len(body)) + body)
        body = body[:2] + struct.pack("!H", total) + body[4:]
        return self.packet_v6(to, station, source, destination, ICMP_V6, body, 255)

    def solicitation(self):
        """A question for the server's address, or for one that nobody has, of a neighbour that is none."""
        sender, station = self.neighbor()
        target = self.random.choice([self.address, sender])
        group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + target[13:]
        return self.discovery(135, bytes(4) + target + b"\x01\x01" + station, sender, group, station)

    def advertisement(self):
        """An answer that nobody asked for: of a neighbour that is none, or of one that has the server's address."""
        sender, station = self.neighbor()
        target = self.address if self.random.getrandbits(3) == 0 else sender
        flags = self.random.choice([0x20, 0x60])
        destination = ALL_NODES if flags == 0x20 else self.address
        return self.discovery(136, bytes([flags, 0, 0, 0]) + target + b"\x02\x01" + station, target, destination, station)

    def conflict(self):
        """The word of another station that it has the server's address: said to all, or, over IPv6, asked for as one does who is
        about to use it (RFC 4862, 5.4.2)."""
        station = b"\x02\x09" + self.random.randbytes(4)
        if not self.v6:
            operation = self.random.choice([1, 2])
            return b"\xff" * 6 + station + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, operation) + (
                station + self.address + b"\0" * 6 + self.address
            )
        if self.random.getrandbits(1):
            group = socket.inet_pton(socket.AF_INET6, "ff02::1:ff00:0")[:13] + self.address[13:]
            return self.discovery(135, bytes(4) + self.address, bytes(16), group, station)
        said = b"\x20\0\0\0" + self.address + b"\x02\x01" + station
        return self.discovery(136, said, self.address, ALL_NODES, station)

    def router(self):
        """A router that is none, with a prefix of its own and an MTU."""
        station = b"\x02\x09" + self.random.randbytes(4)
        sender = socket.inet_pton(socket.AF_INET6, "fe80::")[:8] + self.random.randbytes(8)
        head = struct.pack("!BBHII", 64, 0, self.random.choice([0, 1800, 65535]), 0, 0)
        prefix = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 3600, 3600, 0) + b"\x20\x01\x0d\xb8" + self.random.randbytes(4) + bytes(8)
        mtu = struct.pack("!BBHI", 5, 1, 0, self.random.choice([1280, 1400, 9000]))
        return self.discovery(134, head + prefix + mtu + b"\x01\x01" + station, sender, ALL_NODES, station)

    def redirect(self):
        """A message that a host is better reached otherwise, about a segment that the server may have sent."""
        far, router = self.stranger(), self.stranger()
        quoted = struct.pack("!HHI", self.port, 1024 | self.random.getrandbits(15), self.random.getrandbits(32))
        if self.v6:
            router = socket.inet_pton(socket.AF_INET6, "fe80::")[:8] + self.random.randbytes(8)
            return self.discovery(137, bytes(4) + router + far, router, self.address, self.own_mac)
        head = struct.pack("!BBHHHBBH", 0x45, 0, 60, 1, 0x4000, 64, TCP, 0) + self.address + far
        head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
        body = struct.pack("!BBH", 5, 1, 0) + router + head + quoted
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        return self.packet(ICMP, body, self.stranger())

    def ping(self):
        """An echo request."""
        if self.v6:
            source, body = self.stranger(), struct.pack("!BBHI", 128, 0, 0, self.random.getrandbits(32)) + b"p" * 32
            total = checksum(self.pseudo_v6(source, self.address, ICMP_V6, len(body)) + body)
            return self.packet(ICMP_V6, body[:2] + struct.pack("!H", total) + body[4:], source)
        body = struct.pack("!BBHI", 8, 0, 0, self.random.getrandbits(32)) + b"p" * 32
        body = body[:2] + struct.pack("!H", checksum(body)) + body[4:]
        return self.packet(1, body, self.stranger())

    def datagram(self):
        """Garbage over UDP, half of it to the port of the server."""
        data = self.random.randbytes(64)
        port = self.port if data[0] & 1 else self.random.randrange(1, 65_536)
        head = struct.pack("!HHHH", 1024 | self.random.getrandbits(15), port, 8 + len(data), 0)
        return self.transport(17, head, 6, data, self.stranger())

    def any(self):
        """One of all that."""
        kinds = [
            lambda: self.segment(SYN),
            lambda: self.segment(ACK | PSH, b"get key\r\n"),
            self.fragment,
            self.solicitation if self.v6 else self.arp,
            self.ping,
            self.datagram,
        ]
        return self.random.choice(kinds)()

    def cut(self):
        """A frame that ends early."""
        frame = self.any()
        return frame[: self.random.randrange(15, len(frame))]

    def mutated(self):
        """A frame with a few wrong bytes, none of them of the address of the station: it would go nowhere."""
        frame = bytearray(self.any())
        for _ in range(self.random.randrange(1, 5)):
            frame[self.random.randrange(12, len(frame))] = self.random.getrandbits(8)
        return bytes(frame)

    def frames(self, kind, count):
        """Frames of a kind: `count`, or as many as are made in a moment."""
        flags = {"syn": SYN, "ack": ACK, "rst": RST | ACK, "fin": FIN | ACK}
        if kind in flags:
            return self.segments(flags[kind], count)
        if kind in ("bent", "astray"):
            return self.spoiled(kind, count)
        makers = {"data": lambda: self.segment(ACK | PSH, b"get key\r\n"), "fragment": self.fragment, "arp": self.arp}
        makers |= {"ns": self.solicitation, "na": self.advertisement, "ra": self.router, "redirect": self.redirect}
        makers["conflict"] = self.conflict
        makers |= {"icmp": self.ping, "udp": self.datagram, "cut": self.cut, "mutated": self.mutated}
        return [makers[kind]() for _ in range(min(count, DISTINCT))]


KINDS = ["syn", "ack", "rst", "fin", "data", "fragment", "icmp", "udp", "redirect", "conflict", "cut", "mutated", "bent", "astray"]
# Of one family alone.
KINDS_V4, KINDS_V6 = ["arp"], ["ns", "na", "ra"]


class Batches:
    """Sends frames by sendmmsg(2), which Python does not have."""

    def __init__(self, interface, frames):
        self.link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.link.bind((interface, 0))
        # PACKET_QDISC_BYPASS (packet(7)).
        self.link.setsockopt(263, 20, 1)
        self.kept = ctypes.create_string_buffer(b"".join(frames))
        base, self.places = ctypes.addressof(self.kept), []
        for frame in frames:
            self.places.append((base, len(frame)))
            base += len(frame)
        # struct iovec: base, length; struct mmsghdr: name, its length, iovec, their number, control, its length, flags, length.
        self.iovecs = (ctypes.c_uint64 * (2 * BATCH))()
        first = ctypes.addressof(self.iovecs)
        heads = [word for at in range(BATCH) for word in (0, 0, first + 16 * at, 1, 0, 0, 0, 0)]
        self.heads = (ctypes.c_uint64 * (8 * BATCH))(*heads)
        self.library = ctypes.CDLL(None, use_errno=True)
        self.next = 0

    def send(self, count):
        """Sends the next `count` frames, at most a batch; returns how many the kernel took."""
        for at in range(count):
            self.iovecs[2 * at], self.iovecs[2 * at + 1] = self.places[self.next]
            self.next = (self.next + 1) % len(self.places)
        taken = self.library.sendmmsg(self.link.fileno(), self.heads, count, 0)
        if taken < 0 and ctypes.get_errno() not in (errno.ENOBUFS, errno.EAGAIN):
            raise OSError(ctypes.get_errno(), "sendmmsg")
        return max(taken, 0)


def main():
    """Makes the frames, says `ready`, sends them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=[*KINDS, *KINDS_V4, *KINDS_V6])
    parser.add_argument("--interface", required=True)
    parser.add_argument("--mac", required=True, help="the station of the host that is flooded")
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--address", default="10.77.0.2")
    parser.add_argument("--port", type=int, default=11211)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if not (0 < options.rate <= MOST_PER_SECOND and 0 < options.seconds <= MOST_SECONDS):
        parser.error(f"at most {MOST_PER_SECOND} frames a second, for at most {MOST_SECONDS} seconds")
    if options.kind in (KINDS_V4 if ":" in options.address else KINDS_V6):
        parser.error(f"{options.kind} is not of the family of {options.address}")
    with open(f"/sys/class/net/{options.interface}/address", encoding="ascii") as file:
        own_mac = bytes.fromhex(file.read().strip().replace(":", ""))
    mac = bytes.fromhex(options.mac.replace(":", ""))
    maker = Maker(own_mac, mac, options.address, options.port, options.seed)
    batches = Batches(options.interface, maker.frames(options.kind, int(options.rate * options.seconds)))
    print("ready", flush=True)
    begin = time.monotonic()
    sent, refused = 0, 0
    while (now := time.monotonic() - begin) < options.seconds:
        due = int(now * options.rate) - sent - refused
        if due <= 0:
            time.sleep(0.0002)
            continue
        asked = min(due, BATCH)
        taken = batches.send(asked)
        sent, refused = sent + taken, refused + asked - taken
    print(f"sent {sent} in {time.monotonic() - begin:.2f} s, refused {refused}", flush=True)


main()
