"""Sessions of clients that no package brings here, over TCP: dalli, gomemcache and spymemcached, as they were recorded between
the client and memcached 1.6.45. What is sent is the client's bytes, and what comes back is what memcached answers.

`cache/tests/transcripts/client-*.txt`; the README beside them says how to read them. cache/tests/sessions/transcript.rs plays the
same files without a network.
"""

import re
import struct
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from conftest import ADDRESS, PORT, connect

SESSIONS = sorted(Path("cache/tests/transcripts").glob("client-*.txt"))


def exchanges(text):
    """[(lines sent, lines expected)]"""
    found = []
    for line in text.splitlines():
        if line.startswith(">"):
            if not found or found[-1][1]:
                found.append(([], []))
            found[-1][0].append(line)
        elif line.startswith("<"):
            found[-1][1].append(line)
    return found


def expand(text, taken):
    """The text with `{3*ab}` and `{x}` written out; escapes stay."""
    text = re.sub(r"\{(\d+)\*([^}]*)\}", lambda found: found[2] * int(found[1]), text)
    return re.sub(r"\{(\w+)\}", lambda found: taken[found[1]], text)


def unescape(text):
    """The bytes, with `\\r \\n \\0 \\\\` for what they stand."""
    plain = {"r": "\r", "n": "\n", "0": "\0"}
    return re.sub(r"\\(.)", lambda found: plain.get(found[1], found[1]), text).encode("ascii")


def packet(words, magic):
    """A packet of `opcode [status] name=value ...`; the bytes of its header and its body. `cas` may be a pattern."""
    parts = dict(word.split("=", 1) for word in words if "=" in word)
    numbers = [int(word, 16) for word in words if "=" not in word]
    extras, key, value = bytes.fromhex(parts.get("extras", "")), *map(unquote_to_bytes, (parts.get("key", ""), parts.get("value", "")))
    status = numbers[1] if len(numbers) > 1 else 0
    lengths = len(extras) + len(key) + len(value)
    head = struct.pack(">BBHBBHII", magic, numbers[0], len(key), len(extras), 0, status, lengths, int(parts.get("opaque", "0"), 16))
    return head, parts.get("cas", "0"), extras + key + value


def sent_bytes(lines, taken):
    """What the client writes."""
    out = b""
    for line in lines:
        if line.startswith(">b"):
            head, cas, body = packet(expand(line[2:], taken).split(), 0x80)
            out += head + struct.pack(">Q", int(cas)) + body
        else:
            out += unescape(expand(line[2:] + ("" if line.startswith(">>") else "\\r\\n"), taken))
    return out


def pattern(lines, taken):
    """What must come back, and whether it is packets."""
    parts = []
    for line in lines:
        if line.startswith("<b"):
            # The version is the server's own, so is the length of that packet.
            if "{=version}" in line:
                head, _, _ = packet(line[2:].split(), 0x81)
                parts.append(re.escape(head[:8]) + rb"\x00{3}(.)" + re.escape(head[12:]) + rb"\x00{8}[-\w.]+")
                continue
            words = re.sub(r"cas=\{=(\w+)\}", r"cas=?\1", line[2:])
            head, cas, body = packet(expand(words, taken).split(), 0x81)
            unique = b"(?P<%s>.{8})" % cas[1:].encode() if cas.startswith("?") else re.escape(struct.pack(">Q", int(cas)))
            parts.append(re.escape(head) + unique + re.escape(body))
        else:
            pieces = re.split(r"\{=(\w+)\}", line[2:] + "\\r\\n")
            for number, piece in enumerate(pieces):
                named = b"(?P<%s>[^ \r]+)" % piece.encode() if number % 2 else re.escape(unescape(expand(piece, taken)))
                parts.append(named)
    return re.compile(b"".join(parts), re.DOTALL)


def play(session, connection):
    """Plays a session to a server; what does not come as expected fails with the lines that asked for it."""
    taken = {}
    for sent, expected in exchanges(session.read_text(encoding="ascii")):
        connection.sendall(sent_bytes(sent, taken))
        wanted, found = pattern(expected, taken), b""
        while not (reply := wanted.fullmatch(found)):
            try:
                part = connection.recv(65536)
            except TimeoutError:
                part = b""
            assert part, f"{session.name}: to {sent} came {found[:500]!r}, expected {expected}"
            found += part
        for name, value in reply.groupdict().items():
            binary = expected[0].startswith("<b")
            taken[name] = str(struct.unpack(">Q", value)[0]) if binary else value.decode("ascii")


def test_there_are_sessions_of_three_clients():
    names = {session.stem.split("-")[1] for session in SESSIONS}
    assert names == {"dalli", "gomemcache", "spymemcached"}


@pytest.mark.parametrize("session", SESSIONS, ids=[session.stem for session in SESSIONS])
def test_a_recorded_client_is_answered_as_memcached_answers_it(server, oracle, session):
    play(session, connect(oracle, "127.0.0.1"))
    # On each core.
    for _ in range(8):
        connection = connect(PORT, ADDRESS)
        play(session, connection)
        connection.close()
