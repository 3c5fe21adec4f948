"""read.py FILE: per exchange of 1 MB sets: time, frames lost on the way to the server, how soon and how the server answers."""
import struct, sys
def frames(path):
    data = open(path, 'rb').read(); at = 0
    while at < len(data):
        n, kind, ln, t = struct.unpack_from('<BBHQ', data, at); at += 12
        f = data[at:at+ln]; at += ln
        if len(f) < 54 or f[12:14] != b'\x08\0' or f[23] != 6: continue
        ip = (f[14] & 15) * 4; p = 14 + ip
        total = struct.unpack_from('>H', f, 16)[0]
        sp, dp, seq, ack = struct.unpack_from('>HHII', f, p)
        off = (f[p+12] >> 4) * 4; flags = f[p+13]; win = struct.unpack_from('>H', f, p+14)[0]
        opts = f[p+20:p+off]; sack = []; scale = None; i = 0
        while i < len(opts):
            k = opts[i]
            if k == 0: break
            if k == 1: i += 1; continue
            if i + 1 >= len(opts): break
            l = opts[i+1]
            if k == 5:
                sack = [struct.unpack_from('>II', opts, i+2+8*j) for j in range((l-2)//8) if i+10+8*j <= len(opts)]
            if k == 3: scale = opts[i+2]
            i += max(l, 2)
        yield dict(at=n, out=kind == 4, t=t, sp=sp, dp=dp, seq=seq, ack=ack, len=total-ip-off, flags=flags, win=win, sack=sack, scale=scale)
fs = list(frames(sys.argv[1]))
conns = {}
for f in fs:
    port = f['sp'] if f['dp'] == 11211 else f['dp'] if f['sp'] == 11211 else None
    if port: conns.setdefault(port, []).append(f)
for port, c in conns.items():
    to = [f for f in c if f['dp'] == 11211]; back = [f for f in c if f['sp'] == 11211]
    syn = next((f for f in to if f['flags'] & 2), None); sa = next((f for f in back if f['flags'] & 2), None)
    if not syn or not sa: continue
    scale = sa['scale'] or 0
    isn = syn['seq']
    left = [f for f in to if f['at'] == 0 and f['len'] > 0]; came = [f for f in to if f['at'] == 1 and f['len'] > 0]
    lost = len(left) - len(came)
    again = len(left) - len({f['seq'] for f in left})
    # the server's answers at rs0, in order
    ev = sorted([f for f in c if f['at'] == 1], key=lambda f: f['t'])
    nxt = (isn + 1) & 0xffffffff; edge = None; shrunk = 0; late = []; wrong = 0; holes = 0
    seen = []
    d = lambda a, b: ((a - b + 2**31) % 2**32) - 2**31
    for i, f in enumerate(ev):
        if f['dp'] == 11211 and f['len']:
            ooo = d(f['seq'], nxt) > 0
            old = d(f['seq'] + f['len'], nxt) <= 0
            if ooo or old:
                holes += 1
                ans = next((g for g in ev[i+1:] if g['sp'] == 11211), None)
                if ans: late.append((ans['t'] - f['t']) / 1e6)
                if ooo and ans and not any(d(f['seq'], a) >= 0 and d(b, f['seq'] + f['len']) >= 0 for a, b in ans['sack']): wrong += 1
            if not ooo:
                nxt = max(nxt, f['seq'] + f['len'], key=lambda x: d(x, isn)) & 0xffffffff
                # swallow what was seen beyond
                moved = True
                while moved:
                    moved = False
                    for s in seen:
                        if d(s[0], nxt) <= 0 < d(s[1], nxt): nxt = s[1]; moved = True
                seen = [s for s in seen if d(s[1], nxt) > 0]
            else: seen.append((f['seq'], (f['seq'] + f['len']) & 0xffffffff))
        if f['sp'] == 11211 and not f['flags'] & 2 and f['flags'] & 16:
            e = (f['ack'] + (f['win'] << scale)) & 0xffffffff
            if edge is not None and d(e, edge) < 0: shrunk += 1
            if edge is None or d(e, edge) > 0: edge = e
    late.sort()
    print(f"port {port}: data frames sent {len(left)}, lost {lost}, sent again {again}, out of order or old at the server {holes}, answered after ms median {late[len(late)//2] if late else 0:.3f} max {late[-1] if late else 0:.3f}, answers whose SACK lacks it {wrong}, window edge taken back {shrunk}, ACK frames {len([f for f in back if f['at']==1])}")
    # requests: exchanges by the server's replies with data
    rep = [f for f in back if f['at'] == 0 and f['len'] > 0]
    req = sorted([f for f in to if f['at'] == 0], key=lambda f: f['t'])
    start = None; bounds = []
    rs = sorted({(f['seq']): f for f in reversed(rep)}.values(), key=lambda f: f['t'])
    t0 = None; out = []
    ends = [f['t'] for f in rs]
    begin = 0
    data = sorted(left, key=lambda f: f['t'])
    came_t = sorted(((f['seq'], f['len']) for f in came))
    from collections import Counter
    for e in ends:
        seg = [f for f in data if begin <= f['t'] < e]
        if seg:
            arr = Counter((f['seq'], f['len']) for f in came if begin <= f['t'] < e)
            l = len(seg) - sum(arr.values())
            gaps = [b['t'] - a['t'] for a, b in zip(seg, seg[1:])]
            out.append(f"{(e - seg[0]['t'])/1e6:.1f}ms/{l} lost/longest gap {max(gaps, default=0)/1e6:.0f}")
        begin = e
    print('   ' + '; '.join(out))
