"""Sends packets with nothing in them over a veth, and says how many bytes a second leave.

    scripts/lab up --queues 1 --gro on --offloads on
    scripts/lab server taskset -c 0 python3 packets.py ss0 MAC-OF-sc0 10.77.0.77 SECONDS BYTES 1460

A packet of BYTES of TCP payload is handed to a packet socket with the length at which the kernel is to cut it. The
receiver's kernel drops what it gets, since the address is not its own: this is what sending and crossing the link cost.
"""

import socket
import struct
import sys
import time

link, mac, address, seconds, payload, cut = sys.argv[1:7]
payload, cut = int(payload), int(cut)
PACKET_VNET_HDR, SOL_PACKET, SO_SNDBUFFORCE = 15, 263, 32


def total(data):
    result = sum(struct.unpack(f">{len(data) // 2}H", data))
    while result >> 16:
        result = (result & 0xFFFF) + (result >> 16)
    return result


sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
sender.bind((link, 0))
sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
sender.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 64 << 20)
addresses = socket.inet_aton("10.77.0.2") + socket.inet_aton(address)
ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + payload, 1, 0x4000, 64, 6, 0) + addresses
ip = ip[:10] + struct.pack(">H", 0xFFFF & ~total(ip)) + ip[12:]
pseudo = addresses + struct.pack(">BBH", 0, 6, 20 + payload)
tcp = struct.pack(">HHIIBBHHH", 11211, 40000, 1, 1, 0x50, 0x10, 1000, total(pseudo), 0)
vnet = struct.pack("<BBHHHH", 1, int(payload > cut), 54, cut if payload > cut else 0, 34, 16)
frame = vnet + bytes.fromhex(mac.replace(":", "") + "020000000099" + "0800") + ip + tcp + b"x" * payload
sent, begin = 0, time.monotonic()
while (now := time.monotonic()) - begin < float(seconds):
    for _ in range(64):
        sender.send(frame)
    sent += 64
print(f"{payload} B at once: {sent * payload / (now - begin) / 1e6:.0f} MB/s")
