"""What every Python client does, told line by line; scripts/clients.d/run.py reads it and has the other side.

A client's program gives `main` a class with these coroutines, or raises NotOffered where the client has no such thing:
    set(key, value, ttl) -> bool        get(key) -> bytes or None           get_many(keys) -> {key: bytes}
    gets(key) -> (bytes, unique)        cas(key, value, unique) -> bool     incr, decr(key, n) -> int, None if missing
    touch(key, ttl) -> bool             delete(key) -> bool                 set_noreply, delete_noreply
Keys are str, values bytes. Attributes say what a client does its own way: `incr_creates`, `delete_tells`,
`pause_seconds`.
"""

import asyncio
import json
import random
import sys

# Close to the largest value that memcached takes by default, 1,048,576 bytes with key and header.
LARGE_BYTES = 1_000_000
MANY = 300
# Attempts that a client may fail before it has noticed that its connection was closed.
ATTEMPTS = 10


class NotOffered(Exception):
    """The client has no such operation; the text says what there is instead."""


def with_port(address, port):
    """Address and port in one text: an IPv6 address stands in brackets (RFC 3986)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Adapter:
    """What most clients have in common."""

    incr_creates = False
    delete_tells = True
    pause_seconds = 0

    def __init__(self, client):
        self.client = client

    async def close(self):
        """Nothing to do for most."""


class Blocking(Adapter):
    """A client without an event loop, whose methods have memcached's names."""

    async def get(self, key):
        return self.client.get(key)

    async def gets(self, key):
        return self.client.gets(key)

    async def cas(self, key, value, unique):
        return self.client.cas(key, value, unique)

    async def incr(self, key, number):
        return self.client.incr(key, number)

    async def decr(self, key, number):
        return self.client.decr(key, number)

    async def touch(self, key, ttl):
        return self.client.touch(key, ttl)

    async def delete(self, key):
        return self.client.delete(key)


async def ask(what, **fields):
    """Asks the driver, which has the other side of the server; the event loop goes on, as it would in a program."""
    print(json.dumps({"ask": what, **fields}), flush=True)
    return json.loads(await asyncio.to_thread(sys.stdin.readline))


def same(what, found, expected):
    """Fails where the two differ, and says where."""
    if found == expected:
        return
    if isinstance(found, bytes) and isinstance(expected, bytes) and len(found) > 80:
        at = next((i for i, pair in enumerate(zip(found, expected)) if pair[0] != pair[1]), len(expected))
        raise AssertionError(f"{what}: {len(found)} bytes, expected {len(expected)}; they differ at {at}")
    raise AssertionError(f"{what}: {repr(found):.200}, expected {repr(expected):.200}")


class Session:
    """The operations, one a method; a returned text is a note."""

    def __init__(self, client):
        self.client = client

    async def set(self):
        same("set", await self.client.set("set", b"first", 0), True)
        same("set again", await self.client.set("set", b"second", 0), True)
        same("what the server holds", (await ask("read", key="set"))["value"], b"second".hex())
        same("set with an end", await self.client.set("ends", b"value", 5000), True)
        ttl = (await ask("ttl", key="ends"))["ttl"]
        same("its time to live", 4000 < ttl <= 5000, True)

    async def get(self):
        await self.client.set("get", b"a\r\nEND\r\n\0b", 0)
        same("get", await self.client.get("get"), b"a\r\nEND\r\n\0b")
        same("get of nothing", await self.client.get("nothing"), None)
        await self.client.set("empty", b"", 0)
        same("get of an empty value", await self.client.get("empty"), b"")
        await self.client.set("k" * 250, b"long key", 0)
        same("get of a key of 250 bytes", await self.client.get("k" * 250), b"long key")

    async def multi_get(self):
        hits = {f"many-{number}": str(number).encode() * (number % 40) for number in range(MANY)}
        for key, value in hits.items():
            await self.client.set(key, value, 0)
        keys = [key for number in range(MANY) for key in (f"many-{number}", f"missing-{number}")]
        same("get of many", await self.client.get_many(keys), hits)
        same("get of many missing", await self.client.get_many(keys[1::2]), {})

    async def cas(self):
        await self.client.set("swap", b"first", 0)
        value, unique = await self.client.gets("swap")
        same("gets", value, b"first")
        same("cas with the unique", await self.client.cas("swap", b"swapped", unique), True)
        same("cas with the old unique", await self.client.cas("swap", b"late", unique), False)
        same("get", await self.client.get("swap"), b"swapped")

    async def incr(self):
        await self.client.set("incr", b"10", 0)
        same("incr", await self.client.incr("incr", 5), 15)
        same("decr", await self.client.decr("incr", 3), 12)
        same("decr below zero", await self.client.decr("incr", 100), 0)
        missing = await self.client.incr("incr-missing", 5)
        same("incr of nothing", missing, 0 if self.client.incr_creates else None)
        await self.client.set("incr", b"word", 0)
        try:
            found = await self.client.incr("incr", 1)
        except Exception:  # each client has its own
            pass
        else:
            raise AssertionError(f"incr of a word gave {found!r}")
        note = await self.until_it_works(self.client.get, "incr") if self.client.pause_seconds else ""
        same("get", await self.client.get("incr"), b"word")
        return note

    async def touch(self):
        await self.client.set("touch", b"value", 1000)
        same("touch", await self.client.touch("touch", 100_000), True)
        ttl = (await ask("ttl", key="touch"))["ttl"]
        same("its time to live", 90_000 < ttl <= 100_000, True)
        same("get", await self.client.get("touch"), b"value")
        same("touch of nothing", await self.client.touch("nothing", 100), False)

    async def delete(self):
        await self.client.set("delete", b"value", 0)
        same("delete", await self.client.delete("delete"), True)
        same("get", await self.client.get("delete"), None)
        if self.client.delete_tells:
            same("delete of nothing", await self.client.delete("delete"), False)

    async def large(self):
        seed = random.randrange(1 << 32)
        note = f"seed {seed}"
        values, kept = random.Random(seed), {}
        try:
            for key in ("large-1", "large-2"):
                there, back = values.randbytes(LARGE_BYTES), values.randbytes(LARGE_BYTES)
                same("set", await self.client.set(key, there, 0), True)
                same("what the server holds", bytes.fromhex((await ask("read", key=key))["value"]), there)
                same("get", await self.client.get(key), there)
                await ask("write", key=key, value=back.hex())
                same("get of another", await self.client.get(key), back)
                kept[key] = back
            same("get of both", await self.client.get_many(["large-1", "nothing", "large-2"]), kept)
        except AssertionError as error:
            raise AssertionError(f"{error}; {note}") from None

    async def noreply(self):
        for number in range(100):
            await self.client.set_noreply(f"noreply-{number}", b"value %d" % number)
        await self.client.set_noreply("noreply-large", b"\r\n" * (LARGE_BYTES // 2))
        same("get of a large one", await self.client.get("noreply-large"), b"\r\n" * (LARGE_BYTES // 2))
        same("get of the last", await self.client.get("noreply-99"), b"value 99")
        same("get of the first", await self.client.get("noreply-0"), b"value 0")
        await self.client.delete_noreply("noreply-0")
        same("get of what was deleted", await self.client.get("noreply-0"), None)
        same("get of another", await self.client.get("noreply-1"), b"value 1")

    async def reconnect(self):
        notes = [await self.after(end) for end in ("restart", "crash")]
        return "; ".join(filter(None, notes))

    async def after(self, end):
        """Ends the server and starts it again; the client must go on."""
        await self.client.set("reconnect", b"before", 0)
        await ask(end)
        note = await self.until_it_works(self.client.set, "reconnect", b"after", 0)
        same("get", await self.client.get("reconnect"), b"after")
        same("get of what the old server held", await self.client.get("many-1"), None)
        await self.client.set("many-1", b"held", 0)
        return f"{end}: {note}" if note else ""

    async def until_it_works(self, act, *arguments):
        """Calls `act` until it neither raises nor returns False; returns a note on the errors before."""
        errors = []
        while len(errors) < ATTEMPTS:
            try:
                if await act(*arguments) is not False:
                    return f"after {len(errors)} error(s), the first: {errors[0]}" if errors else ""
                errors.append("not stored")
            except Exception as error:  # each client has its own
                errors.append(f"{type(error).__name__}: {error}"[:100])
            # Some clients call a server dead for a while, whatever it does.
            await asyncio.sleep(self.client.pause_seconds)
        raise AssertionError(f"{ATTEMPTS} attempts failed, the last with {errors[-1]}")


async def run(connect):
    session = Session(await connect(sys.argv[-2], int(sys.argv[-1])))
    for operation in ["set", "get", "multi-get", "cas", "incr", "touch", "delete", "large", "noreply", "reconnect"]:
        try:
            verdict, note = "ok", await getattr(session, operation.replace("-", "_"))() or ""
        except NotOffered as reason:
            verdict, note = "n/a", str(reason)
        except Exception as error:
            verdict, note = "FAILED", f"{type(error).__name__}: {error}"
        print(json.dumps({"operation": operation, "verdict": verdict, "note": note}), flush=True)
    await session.client.close()


def main(connect):
    """`connect(address, port)` is a coroutine that returns the client."""
    asyncio.run(run(connect))
