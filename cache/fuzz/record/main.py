"""Records what stock clients say to memcached, as inputs of the fuzz targets.

    main.py SEEDS [TESTS]

SEEDS gets a folder for each target; TESTS is memcached's source tree, whose t/*.t are recorded too. scripts/fuzz-seed
calls this with the clients of requirements.txt; everything stays on loopback. Needs root to see frames.
"""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import capture
import clients
import proxy

HERE = Path(__file__).resolve().parent

# memcached's tests that say much in little time. Those that store for minutes or look at the machine are left out.
TESTS = """
64bit ascii-auth binary binary-get bogus-commands cas chunked-items dash-M expirations flags flush-all getandtouch getset
incrdecr issue_104 issue_108 issue_14 issue_152 issue_163 issue_192 issue_22 issue_29 issue_3 issue_41 issue_42 issue_50
issue_68 issue_70 item_size_max lru-crawler malicious-commands metaget multiversioning noreply quit stats stats-detail
strtol-testing touch udp watcher watcher_connid
""".split()

# Longest that one of them may take.
TEST_SECONDS = 60


def start_memcached(arguments=()):
    """memcached on free ports of loopback: the process, the port of TCP, and that of UDP."""
    with tempfile.TemporaryDirectory() as folder:
        ports = Path(folder) / "ports"
        command = ["memcached", *(["-u", "nobody"] if os.geteuid() == 0 else []), *arguments, "-l", "127.0.0.1", "-p", "-1", "-U", "-1"]
        os.chmod(folder, 0o777)
        server = subprocess.Popen(command, env={**os.environ, "MEMCACHED_PORT_FILENAME": str(ports)})
        for _ in range(500):
            # Renamed into place when it is whole.
            if ports.exists():
                found = dict(line.split(" INET: ") for line in ports.read_text().splitlines())
                return server, int(found["TCP"]), int(found["UDP"])
            if server.poll() is not None:
                break
            time.sleep(0.02)
    sys.exit("record: memcached did not start; run it by hand to see why")


def write_inputs(folder, inputs):
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def write(seeds, name, said, datagrams):
    counts = []
    for target, inputs in {**proxy.inputs(said), "udp": proxy.datagram_inputs(datagrams)}.items():
        write_inputs(seeds / target, [set_up + piece for piece in inputs for set_up in proxy.SET_UPS])
        if inputs:
            counts.append(f"{len(inputs)} {target}")
    print(f"record: {name}: {', '.join(counts) or 'nothing'}", flush=True)


def record_client(seeds, session):
    server, port, udp_port = start_memcached()
    try:
        recorder = proxy.Proxy(port, udp_upstream=udp_port)
        frames = capture.Capture(recorder.port)
        try:
            session(recorder.port)
        finally:
            write(seeds, session.__name__, recorder.close(), recorder.datagrams)
            write_inputs(seeds / "frames", frames.close())
    finally:
        server.kill()
        server.wait()


def record_test(seeds, tests, name):
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "RECORD_FOLDER": folder}
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        test = subprocess.Popen(["perl", f"t/{name}.t"], cwd=tests, env=environment, start_new_session=True, **quiet)
        try:
            test.wait(TEST_SECONDS)
        except subprocess.TimeoutExpired:
            print(f"record: {name}.t is ended after {TEST_SECONDS} s")
        end_group(test.pid)
        test.wait()
        said, datagrams, base = [], [], 0
        for file in sorted(Path(folder).iterdir()):
            part, more = pickle.loads(file.read_bytes())
            datagrams += more
            said += [(base + connection, data) for connection, data in part]
            base += 1 + max((connection for connection, _ in part), default=0)
        write(seeds, f"{name}.t", said, datagrams)


def end_group(group):
    """Ends a test and its servers, which write what they have heard when they are told to end."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        for _ in range(seconds * 20):
            try:
                os.killpg(group, number)
                os.waitpid(-group, os.WNOHANG)
            except ProcessLookupError:
                return
            except ChildProcessError:
                pass
            time.sleep(0.05)


def main():
    seeds = Path(sys.argv[1])
    for session in clients.SESSIONS:
        record_client(seeds, session)
    if len(sys.argv) > 2:
        tests = Path(sys.argv[2])
        stand_in = tests / "memcached-debug"
        stand_in.unlink(missing_ok=True)
        stand_in.symlink_to(HERE / "memcached-debug")
        for name in TESTS:
            record_test(seeds, tests, name)


if __name__ == "__main__":
    main()
