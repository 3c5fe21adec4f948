"""Records headers of TCP on rc0 and rs0 until killed: python capture.py OUT"""
import socket, struct, sys, time, select, signal
out = open(sys.argv[1], 'wb')
socks = {}
for name, n in (('rc0', 0), ('rs0', 1)):
    s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    s.setsockopt(socket.SOL_SOCKET, 33, 1 << 26)  # SO_RCVBUFFORCE
    s.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS
    s.bind((name, 0)); s.setblocking(False); socks[s] = n
stop = []
signal.signal(signal.SIGTERM, lambda *a: stop.append(1))
print('ready', flush=True)
while not stop:
    for s in select.select(list(socks), [], [], 0.1)[0]:
        try:
            while True:
                data, anc, _, addr = s.recvmsg(128, 128)
                t = struct.unpack('qq', anc[0][2][:16]) if anc else (0, 0)
                out.write(struct.pack('<BBHQ', socks[s], addr[2], len(data), t[0] * 10**9 + t[1]) + data)
        except BlockingIOError: pass
out.close()
