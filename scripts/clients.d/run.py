"""Runs stock clients one after the other against one server and prints a table; called by scripts/clients.

A client's program tells of each operation in one line of JSON on its standard output:
    {"operation": "cas", "verdict": "ok" | "n/a" | "FAILED", "note": "..."}
and may ask for what no client can do for itself, answered by one line of JSON on its standard input:
    {"ask": "restart"}                               close all connections: the server is ended and started again
    {"ask": "crash"}                                 the same without a word: the server is killed and started again
    {"ask": "ttl", "key": KEY}                       {"ttl": seconds}
    {"ask": "read", "key": KEY}                      {"value": hex}, the bytes that the server holds
    {"ask": "write", "key": KEY, "value": hex}       {}
Ends with 1 unless every operation that a client has is ok.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import selectors
import subprocess
import sys
import time
import tomllib

from server import ADDRESS, PORT, Server

HERE = pathlib.Path(__file__).parent
OPERATIONS = ["set", "get", "multi-get", "cas", "incr", "touch", "delete", "large", "noreply", "reconnect"]
# Longest that one client may take for all its operations.
CLIENT_SECONDS = 120

PYTHON = "target/python/clients/bin/python"
NODE_MODULES = "target/clients/node/node_modules"
RUST = "target/clients/rust/release/sidestep-rust-clients"

# Row, package, its home, protocol, program.
CLIENTS = [
    ("pymemcache", "pymemcache", "PyPI", "text", [PYTHON, HERE / "python/with_pymemcache.py"]),
    ("pylibmc-text", "pylibmc", "PyPI", "text", [PYTHON, HERE / "python/with_pylibmc.py", "text"]),
    ("pylibmc-binary", "pylibmc", "PyPI", "binary", [PYTHON, HERE / "python/with_pylibmc.py", "binary"]),
    ("aiomcache", "aiomcache", "PyPI", "text", [PYTHON, HERE / "python/with_aiomcache.py"]),
    ("emcache", "emcache", "PyPI", "text", [PYTHON, HERE / "python/with_emcache.py"]),
    ("bmemcached", "python-binary-memcached", "PyPI", "binary", [PYTHON, HERE / "python/with_bmemcached.py"]),
    ("meta-memcache", "meta-memcache", "PyPI", "meta", [PYTHON, HERE / "python/with_meta_memcache.py"]),
    ("memjs", "memjs", "npm", "binary", ["node", HERE / "node/with_memjs.js"]),
    ("node-memcached", "memcached", "npm", "text", ["node", HERE / "node/with_memcached.js"]),
    ("memcache-binary", "memcache", "crate", "binary", [RUST, "memcache-binary"]),
    ("memcache-text", "memcache", "crate", "text", [RUST, "memcache-text"]),
    ("async-memcached", "async-memcached", "crate", "text, meta", [RUST, "async-memcached"]),
]


def versions():
    """What is pinned: {(home, package): version}."""
    found = {}
    for line in (HERE / "python/requirements.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        found["PyPI", name] = version
    lock = json.loads((HERE / "node/package-lock.json").read_text())
    for path, package in lock["packages"].items():
        found["npm", path.removeprefix("node_modules/")] = package.get("version")
    for package in tomllib.loads((HERE / "rust/Cargo.lock").read_text())["package"]:
        found["crate", package["name"]] = package["version"]
    return found


def answer(server, line):
    """Carries out what a client's program asks for."""
    key = line.get("key", "").encode()
    match line["ask"]:
        case "restart":
            server.restart()
            return {}
        case "crash":
            server.crash()
            return {}
        case "ttl":
            return {"ttl": server.time_to_live(key)}
        case "read":
            value = server.read(key)
            return {"value": value.hex() if value is not None else None}
        case "write":
            server.write(key, bytes.fromhex(line["value"]))
            return {}
    raise RuntimeError(f"unknown question {line}")


def run(server, name, command):
    """Runs one client's program; returns {operation: (verdict, note)}, and says on standard error how long each took."""
    environment = os.environ | {"NODE_PATH": os.path.abspath(NODE_MODULES), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [*map(str, command), ADDRESS, str(PORT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    told, trouble, times = {}, "", []
    last = time.monotonic()
    deadline = last + CLIENT_SECONDS
    parts = {process.stdout: b"", process.stderr: b""}
    try:
        with selectors.DefaultSelector() as selector:
            for stream in parts:
                selector.register(stream, selectors.EVENT_READ)
            while selector.get_map():
                events = selector.select(max(0, deadline - time.monotonic()))
                if not events:
                    trouble = f"not finished after {CLIENT_SECONDS} s"
                    break
                for entry, _ in events:
                    part = os.read(entry.fd, 1 << 20)
                    parts[entry.fileobj] += part
                    if not part:
                        selector.unregister(entry.fileobj)
                *lines, parts[process.stdout] = parts[process.stdout].split(b"\n")
                for line in map(json.loads, lines):
                    if "ask" in line:
                        process.stdin.write(json.dumps(answer(server, line)).encode() + b"\n")
                        process.stdin.flush()
                    else:
                        told[line["operation"]] = (line["verdict"], line["note"])
                        now = time.monotonic()
                        times.append(f"{line['operation']} {now - last:.2f} s")
                        last = now
    except (OSError, RuntimeError, ValueError) as error:
        trouble = str(error)
    finally:
        if trouble:
            process.kill()
        process.wait(CLIENT_SECONDS)
        print(f"clients: {name}: {', '.join(times)}", file=sys.stderr)
    errors = parts[process.stderr].decode(errors="replace").strip()
    if not trouble and process.returncode != 0:
        trouble = f"its program ended with {process.returncode}: {errors[-800:]}"
    for operation in OPERATIONS:
        told.setdefault(operation, ("FAILED", trouble or f"its program does not tell of it: {errors[-800:]}"))
    if trouble and all(verdict != "FAILED" for verdict, _ in told.values()):
        told[OPERATIONS[-1]] = ("FAILED", trouble)
    return told


def show(rows, markdown):
    """The table, then the notes."""
    titles = ["client", "version", "protocol", *OPERATIONS]
    lines = [titles] + [[package, version, protocol, *[told[name][0] for name in OPERATIONS]]
                        for package, version, protocol, told in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    separator = " | " if markdown else "  "
    edge = "|" if markdown else ""
    for number, line in enumerate(lines):
        cells = separator.join(cell.ljust(width) for cell, width in zip(line, widths))
        print(f"{edge} {cells} {edge}".strip() if markdown else cells.rstrip())
        if markdown and number == 0:
            print("|" + "|".join("---" for _ in titles) + "|")
    print()
    for package, _, protocol, told in rows:
        for name in OPERATIONS:
            verdict, note = told[name]
            if note:
                print(f"{'- ' if markdown else ''}{package} ({protocol}), {name}: {verdict}: {note}")


def main():
    parser = argparse.ArgumentParser(prog="scripts/clients")
    parser.add_argument("--server", choices=["sidestep", "memcached"], default="sidestep")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("clients", nargs="*", help="rows to run; all without: " + " ".join(row[0] for row in CLIENTS))
    options = parser.parse_args()
    unknown = set(options.clients) - {row[0] for row in CLIENTS}
    if unknown:
        parser.error(f"unknown clients {' '.join(sorted(unknown))}; there are {' '.join(row[0] for row in CLIENTS)}")

    began = time.monotonic()
    version = re.search(r"\S+$", subprocess.run([options.binary, "-V"], capture_output=True, text=True).stdout.strip())
    pinned = versions()
    rows = []
    server = Server(options.server, options.binary)
    try:
        for name, package, home, protocol, command in CLIENTS:
            if options.clients and name not in options.clients:
                continue
            rows.append((f"{package} ({home})", pinned[home, package], protocol, run(server, name, command)))
            if server.process.poll() is not None:
                rows[-1][3]["reconnect"] = ("FAILED", f"the server is gone: {server.process.returncode}")
                server.start()
        server.stop()
    finally:
        server.kill()
    show(rows, options.markdown)
    verdicts = [told[name][0] for *_, told in rows for name in OPERATIONS]
    failed = verdicts.count("FAILED")
    print(
        f"\nclients: {datetime.date.today()}, {options.server} {version[0] if version else ''}: {len(rows)} rows, "
        f"{verdicts.count('ok')} ok, {verdicts.count('n/a')} n/a, {failed} failed, {time.monotonic() - began:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
