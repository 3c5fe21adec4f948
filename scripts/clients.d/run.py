"""Runs stock clients one after the other against one server and prints a table, then suites of tests that others wrote, and
prints another; called by scripts/clients.

A client's program tells of each operation in one line of JSON on its standard output:
    {"operation": "cas", "verdict": "ok" | "n/a" | "FAILED", "note": "..."}
and may ask for what no client can do for itself, answered by one line of JSON on its standard input:
    {"ask": "restart"}                               close all connections: the server is ended and started again
    {"ask": "crash"}                                 the same without a word: the server is killed and started again
    {"ask": "ttl", "key": KEY}                       {"ttl": seconds}
    {"ask": "read", "key": KEY}                      {"value": hex}, the bytes that the server holds
    {"ask": "write", "key": KEY, "value": hex}       {}
Ends with 1 unless every operation that a client has is ok, and every test of a suite passes.
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

from server import ADDRESS, ADDRESS_V6, PORT, Server

HERE = pathlib.Path(__file__).parent
OPERATIONS = ["set", "get", "multi-get", "cas", "incr", "touch", "delete", "large", "noreply", "reconnect"]
# Longest that one client may take for all its operations.
CLIENT_SECONDS = 120

PYTHON = "target/python/clients/bin/python"
NODE_MODULES = "target/clients/node/node_modules"
RUST = "target/clients/rust/release/sidestep-rust-clients"

# pylibmc as distributions have it, over the system's libmemcached. That of its wheel looks for IPv4 addresses alone (issue 2 of
# awesomized/libmemcached).
PYLIBMC = "target/clients/pylibmc"
# Those that open sockets of IPv4 alone, and where they do.
IPV4_ALONE = {"async-memcached": "it opens sockets of IPv4 alone (TcpSocket::new_v4 in its connection.rs)"}

DJANGO = "target/clients/django"
# Longest that one suite may take; Django's wait for items to expire.
SUITE_SECONDS = 300

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
    ("php-memcached-text", "php-memcached", "Debian", "text", ["php", HERE / "php/with_memcached.php", "text"]),
    ("php-memcached-binary", "php-memcached", "Debian", "binary", ["php", HERE / "php/with_memcached.php", "binary"]),
]

# Suite, package, its home, what runs: Django's tests of its cache, once over pymemcache and once over pylibmc.
SUITES = [
    ("django-pymemcache", "Django", "PyPI", "cache.tests.PyMemcacheCacheTests"),
    ("django-pylibmc", "Django", "PyPI", "cache.tests.PyLibMCCacheTests"),
]


KNOWN = [row[0] for row in CLIENTS] + [suite[0] for suite in SUITES]


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
    for package in {package for _, package, home, *_ in CLIENTS if home == "Debian"}:
        # What is installed: Debian's release pins it.
        query = ["dpkg-query", "-W", "-f", "${Version}", package]
        found["Debian", package] = subprocess.run(query, capture_output=True, text=True, check=True).stdout
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


def is_v6(server):
    return ":" in server.address


def run(server, name, command):
    """Runs one client's program; returns {operation: (verdict, note)}, and says on standard error how long each took."""
    environment = os.environ | {"NODE_PATH": os.path.abspath(NODE_MODULES), "PYTHONDONTWRITEBYTECODE": "1"}
    if is_v6(server):
        environment["PYTHONPATH"] = os.path.abspath(PYLIBMC)
    process = subprocess.Popen(
        [*map(str, command), server.address, str(PORT)],
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
    if is_v6(server) and name in IPV4_ALONE and all(verdict == "FAILED" for verdict, _ in told.values()):
        told = {operation: ("n/a", "") for operation in OPERATIONS} | {OPERATIONS[0]: ("n/a", IPV4_ALONE[name])}
    return told


def run_suite(server, name, tests):
    """Runs one suite of Django's; returns how many of its tests passed, failed and were skipped, and what it said if any failed."""
    host = f"[{server.address}]" if is_v6(server) else server.address
    folders = [str((HERE / "python").resolve()), *([os.path.abspath(PYLIBMC)] if is_v6(server) else [])]
    environment = os.environ | {"SIDESTEP_SERVER": f"{host}:{PORT}", "PYTHONPATH": os.pathsep.join(folders)}
    command = [os.path.abspath(PYTHON), "runtests.py", "--settings=django_settings", "--parallel=1", tests]
    began = time.monotonic()
    try:
        ended = subprocess.run(
            command, cwd=f"{DJANGO}/tests", env=environment, capture_output=True, text=True, timeout=SUITE_SECONDS
        )
    except subprocess.TimeoutExpired:
        return 0, 1, 0, f"not finished after {SUITE_SECONDS} s"
    print(f"clients: {name}: {time.monotonic() - began:.2f} s", file=sys.stderr)
    said = ended.stderr
    ran = re.search(r"^Ran (\d+) tests? in ", said, re.MULTILINE)
    ran = int(ran[1]) if ran else 0
    failed, skipped = (
        sum(int(number) for number in re.findall(pattern, said)) for pattern in (r"(?:failures|errors)=(\d+)", r"skipped=(\d+)")
    )
    if ran == 0 or (ended.returncode != 0 and failed == 0):
        failed = max(failed, 1)
    return max(ran - failed - skipped, 0), failed, skipped, said[-4000:] if failed else ""


def show(rows, markdown):
    """The table, then the notes."""
    titles = ["client", "version", "protocol", *OPERATIONS]
    show_table([titles] + [[package, version, protocol, *[told[name][0] for name in OPERATIONS]]
                           for package, version, protocol, told in rows], markdown)
    for package, _, protocol, told in rows:
        for name in OPERATIONS:
            verdict, note = told[name]
            if note:
                print(f"{'- ' if markdown else ''}{package} ({protocol}), {name}: {verdict}: {note}")


def show_table(lines, markdown):
    """A table whose first line is its titles, and an empty line."""
    titles = lines[0]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    separator = " | " if markdown else "  "
    edge = "|" if markdown else ""
    for number, line in enumerate(lines):
        cells = separator.join(cell.ljust(width) for cell, width in zip(line, widths))
        print(f"{edge} {cells} {edge}".strip() if markdown else cells.rstrip())
        if markdown and number == 0:
            print("|" + "|".join("---" for _ in titles) + "|")
    print()


def main():
    parser = argparse.ArgumentParser(prog="scripts/clients")
    parser.add_argument("--server", choices=["sidestep", "memcached"], default="sidestep")
    parser.add_argument("--binary", required=True)
    parser.add_argument("--v6", action="store_true", help="the server has an IPv6 address and no other")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("clients", nargs="*", help="rows and suites to run; all without: " + " ".join(KNOWN))
    options = parser.parse_args()
    unknown = set(options.clients) - set(KNOWN)
    if unknown:
        parser.error(f"unknown clients {' '.join(sorted(unknown))}; there are {' '.join(KNOWN)}")

    began = time.monotonic()
    version = re.search(r"\S+$", subprocess.run([options.binary, "-V"], capture_output=True, text=True).stdout.strip())
    pinned = versions()
    rows, suites, troubles = [], [], []
    server = Server(options.server, options.binary, ADDRESS_V6 if options.v6 else ADDRESS)
    try:
        for name, package, home, protocol, command in CLIENTS:
            if options.clients and name not in options.clients:
                continue
            if is_v6(server) and package == "pylibmc":
                home = f"{home}, Debian's libmemcached"
                pinned[home, package] = pinned["PyPI", package]
            rows.append((f"{package} ({home})", pinned[home, package], protocol, run(server, name, command)))
            if server.process.poll() is not None:
                rows[-1][3]["reconnect"] = ("FAILED", f"the server is gone: {server.process.returncode}")
                server.start()
        for name, package, home, tests in SUITES:
            if options.clients and name not in options.clients:
                continue
            *counts, trouble = run_suite(server, name, tests)
            if is_v6(server) and name == "django-pylibmc":
                tests += ", Debian's libmemcached"
            suites.append([f"{package} ({home}), {tests.rpartition('.')[2]}", pinned[home, package], *map(str, counts)])
            if trouble:
                troubles.append(f"{name}: {trouble}")
        server.stop()
    finally:
        server.kill()
    if rows:
        show(rows, options.markdown)
    if suites:
        print()
        show_table([["tests of others", "version", "passed", "failed", "skipped"], *suites], options.markdown)
    print("\n".join(troubles))
    verdicts = [told[name][0] for *_, told in rows for name in OPERATIONS]
    failed = verdicts.count("FAILED")
    bad = sum(int(suite[3]) for suite in suites)
    print(
        f"clients: {datetime.date.today()}, {options.server} {version[0] if version else ''} at {server.address}: {len(rows)} rows, "
        f"{verdicts.count('ok')} ok, {verdicts.count('n/a')} n/a, {failed} failed; {len(suites)} suites, "
        f"{sum(int(suite[2]) for suite in suites)} tests passed, {bad} failed, {time.monotonic() - began:.0f} s"
    )
    return 1 if failed or bad else 0


if __name__ == "__main__":
    sys.exit(main())
