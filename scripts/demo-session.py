"""A session of a stock client against the demo's server: each line shows a call and what came back.

usage: demo-session.py ADDRESS PORT
"""

import sys

from pymemcache.client.base import Client


def main():
    client = Client((sys.argv[1], int(sys.argv[2])), connect_timeout=10, timeout=10, no_delay=True)
    failures = 0

    def show(call, found, expected):
        nonlocal failures
        right = found == expected
        failures += not right
        text = repr(found) if len(repr(found)) < 70 else f"{type(found).__name__} of {len(found)}"
        print(f"   {call:58} -> {text}{'' if right else f'   WRONG, expected {expected!r:.80}'}")

    show("version()", client.version()[:1], b"1")
    show("set('greeting', 'hello')", client.set("greeting", "hello", noreply=False), True)
    show("get('greeting')", client.get("greeting"), b"hello")
    show("get('nothing')", client.get("nothing"), None)
    show("add('greeting', 'again')", client.add("greeting", "again", noreply=False), False)
    show("append('greeting', ' world')", client.append("greeting", " world", noreply=False), True)
    value, unique = client.gets("greeting")
    show("gets('greeting')", value, b"hello world")
    show("cas('greeting', 'bye', the unique)", client.cas("greeting", "bye", unique, noreply=False), True)
    show("cas('greeting', 'late', the same unique)", client.cas("greeting", "late", unique, noreply=False), False)
    client.set("visits", "10", noreply=False)
    show("incr('visits', 32)", client.incr("visits", 32), 42)
    show("decr('visits', 100)", client.decr("visits", 100), 0)
    many = {f"key-{number}": b"%d" % number for number in range(1000)}
    show("set_many(1000 keys)", client.set_many(many, noreply=False), [])
    show("get_many(1000 keys)", client.get_many(list(many)), many)
    large = bytes(range(250)) * 4000
    show("set('large', a value of 1,000,000 bytes)", client.set("large", large, noreply=False), True)
    show("get('large')", client.get("large"), large)
    show("touch('greeting', 3600)", client.touch("greeting", 3600, noreply=False), True)
    show("delete('greeting')", client.delete("greeting", noreply=False), True)
    show("get('greeting')", client.get("greeting"), None)
    show("stats()['curr_items']", int(client.stats()[b"curr_items"]), 1002)
    show("flush_all()", client.flush_all(noreply=False), True)
    show("get('large')", client.get("large"), None)
    client.close()
    return 1 if failures else 0


sys.exit(main())
