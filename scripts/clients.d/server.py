"""The server under test and what may be asked of it beside the client: restart, an item's bytes, its time to live.

Runs in the client namespace of the lab. Invariant: one server at a time, ready when `Server()` returns, and every wait
is bounded by HANG_SECONDS. Read first: scripts/lab.
"""

import os
import select
import signal
import socket
import subprocess
import time

# The server's, in the lab's networks; of an IPv6 address alone the second.
ADDRESS, ADDRESS_V6 = "10.77.0.2", "fd77::2"
PORT = 11211
# How long anything may take before it counts as hung; no speed is asserted.
HANG_SECONDS = 30


class Server:
    """One run of the server: `kind` is sidestep or memcached, `binary` its program, `address` its only one."""

    def __init__(self, kind, binary, address):
        self.kind, self.binary, self.address = kind, binary, address
        self.namespace = "sidestep-server" + os.environ["SIDESTEP_LAB_SUFFIX"]
        self.process = None
        if kind == "memcached":
            nodad = ["nodad"] if ":" in address else []
            self._in_namespace("ip", "address", "replace", self._with_prefix(), "dev", "ss0", *nodad)
        self.start()

    def _with_prefix(self):
        return self.address + ("/64" if ":" in self.address else "/24")

    def _in_namespace(self, *command):
        subprocess.run(["ip", "netns", "exec", self.namespace, *command], check=True, timeout=HANG_SECONDS)

    def start(self):
        """Returns once requests are answered; two threads, each with a queue of its own."""
        own = ["-u", "root", "-l", self.address]
        if self.kind == "sidestep":
            own = ["--interface", "ss0", "--address", self._with_prefix()]
        common = ["-p", str(PORT), "-t", "2", "-m", "64", "-c", "4096"]
        # `ip netns exec` becomes the server, so that the pid is the server's own.
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, self.binary, *own, *common],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        if self.kind == "sidestep":
            self._wait_for_its_word()
            # In its first second an IPv6 address is asked for, and takes nothing (RFC 4862, 5.4). Some go to each core.
            for _ in range(10 if ":" in self.address else 0):
                socket.create_connection((self.address, PORT), timeout=HANG_SECONDS).close()
        else:
            self._wait_until_it_accepts()

    def _wait_for_its_word(self):
        said = b""
        while select.select([self.process.stdout], [], [], HANG_SECONDS)[0]:
            part = os.read(self.process.stdout.fileno(), 65536)
            said += part
            if b"\nready: " in b"\n" + said:
                return
            if not part:
                break
        raise RuntimeError(f"the server did not become ready: {said.decode()} {self._killed()}")

    def _wait_until_it_accepts(self):
        deadline = time.monotonic() + HANG_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection((self.address, PORT), timeout=HANG_SECONDS).close()
                return
            except OSError:
                select.select([], [], [], 0.01)
        raise RuntimeError(f"the server did not become ready: {self._killed()}")

    def _killed(self):
        self.process.kill()
        return self.process.communicate(timeout=HANG_SECONDS)[1].decode()

    def stop(self):
        """Asks the server to end, which closes every connection, and waits until it has."""
        if self.process.poll() is not None:
            raise RuntimeError(f"the server had ended by itself with {self.process.returncode}: {self._killed()}")
        self.process.send_signal(signal.SIGTERM)
        try:
            errors = self.process.communicate(timeout=HANG_SECONDS)[1].decode()
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"the server did not end within {HANG_SECONDS} s of SIGTERM: {self._killed()}") from None
        if self.process.returncode != 0:
            raise RuntimeError(f"the server ended with {self.process.returncode}: {errors}")

    def kill(self):
        """Ends it whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self._killed()

    def restart(self):
        """Every connection is closed, and the items are gone."""
        self.stop()
        self.start()

    def crash(self):
        """As `restart`, but the server is killed.

        A stack in user space dies without a word: clients learn from the reset with which the next server answers what
        they send. memcached's kernel closes its connections at once.
        """
        self.kill()
        self.start()

    def time_to_live(self, key):
        """Seconds an item has left, -1 for no end, None where there is no such item."""
        with self._conversation(b"mg %s t\r\n" % key) as stream:
            words = stream.readline().split()
            return int(words[1][1:]) if words[0] == b"HD" else None

    def read(self, key):
        """An item's value, None where there is no such item."""
        with self._conversation(b"get %s\r\n" % key) as stream:
            words = stream.readline().split()
            if words[0] == b"END":
                return None
            value = stream.read(int(words[3]))
            if stream.read(7) != b"\r\nEND\r\n":
                raise RuntimeError("a value is not followed by END")
            return value

    def write(self, key, value):
        """Stores a value with flags 0 and without an end."""
        with self._conversation(b"set %s 0 0 %d\r\n%s\r\n" % (key, len(value), value)) as stream:
            line = stream.readline()
            if line != b"STORED\r\n":
                raise RuntimeError(f"set answered {line!r}")

    def _conversation(self, request):
        connection = socket.create_connection((self.address, PORT), timeout=HANG_SECONDS)
        connection.sendall(request)
        stream = connection.makefile("rb")
        # The stream keeps the connection open until it is closed itself.
        connection.close()
        return stream
