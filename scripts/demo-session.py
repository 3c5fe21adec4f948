"""One session of a stock client, shown line by line; ends with exit code 1 at the first answer that is not right."""

import sys

from pymemcache.client.base import Client


def show(what, answer, right):
    text = repr(answer)
    print(f"  {what:<42} {text if len(text) < 60 else text[:40] + f'... ({len(answer)} bytes)'}")
    if answer != right:
        sys.exit(f"demo: {what}: expected {right!r:.100}")


def main(address, port):
    client = Client((address, int(port)), default_noreply=False, timeout=10)
    print(f"  {'version()':<42} {client.version().decode()}")
    show("set('greeting', 'hello')", client.set("greeting", "hello"), True)
    show("get('greeting')", client.get("greeting"), b"hello")
    show("add('greeting', 'again')", client.add("greeting", "again"), False)
    show("append('greeting', ', world')", client.append("greeting", ", world"), True)
    value, unique = client.gets("greeting")
    show("gets('greeting')", value, b"hello, world")
    show("cas('greeting', 'swapped', its unique)", client.cas("greeting", "swapped", unique), True)
    show("cas('greeting', 'late', the old unique)", client.cas("greeting", "late", unique), False)
    show("set('counter', 41)", client.set("counter", "41"), True)
    show("incr('counter', 1)", client.incr("counter", 1), 42)
    # These keys belong to both cores' shards; the answer comes in the order asked.
    many = {f"key-{number}": str(number).encode() for number in range(100)}
    show("set_many(100 keys)", client.set_many(many), [])
    show("len(get_many(100 keys))", len(client.get_many(list(many))), 100)
    large = bytes(range(256)) * 4000
    show("set('large', 1,024,000 bytes)", client.set("large", large), True)
    show("get('large')", client.get("large"), large)
    show("touch('counter', 60)", client.touch("counter", 60), True)
    show("delete('counter')", client.delete("counter"), True)
    show("get('counter')", client.get("counter"), None)
    client.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
