"""The fault relay between two namespaces of its own: what was asked for happens, and by a seed it happens again."""

import os
import subprocess
import sys

import pytest
from conftest import HANG_SECONDS, TOOLS, only_sidestep

SUFFIX = os.environ["SIDESTEP_LAB_SUFFIX"] + "-wire"
CLIENT, SERVER = "sidestep-client" + SUFFIX, "sidestep-server" + SUFFIX
ENVIRONMENT = {**os.environ, "SIDESTEP_LAB_SUFFIX": SUFFIX, "SIDESTEP_RELAY": TOOLS + "/sidestep-relay"}

# Prints its port, then what it hears until the last word, as numbers.
LISTENER = """
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 21)
s.bind(("10.77.0.3", 0))
print(s.getsockname()[1], flush=True)
while (word := s.recv(2000).split()[0]) != b"last":
    print(int(word), flush=True)
"""

# Sends numbered datagrams of so many bytes, then last words until the listener is gone.
SENDER = """
import errno, socket, sys
port, count, size = map(int, sys.argv[1:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.connect(("10.77.0.3", port))
for number in range(count):
    s.send((b"%d " % number).ljust(size, b"."))
s.settimeout(0.01)
for _ in range(1000):
    try:
        s.send(b"last ")
        s.recv(1)
    except TimeoutError:
        continue
    except ConnectionRefusedError:
        break
"""

# One datagram there and back: prints how many microseconds it took.
ROUND_TRIP = """
import socket, subprocess, sys, time
s = socket.create_connection(("10.77.0.3", int(sys.argv[1])))
began = time.monotonic_ns()
s.send(b"x")
s.recv(1)
print((time.monotonic_ns() - began) // 1000)
"""
ECHO = """
import socket
s = socket.create_server(("10.77.0.3", 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.send(c.recv(1))
"""


def relay(*words):
    done = subprocess.run(["scripts/relay", *words], env=ENVIRONMENT, capture_output=True, text=True, timeout=HANG_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def python(namespace, script, *words):
    command = ["ip", "netns", "exec", namespace, sys.executable, "-c", script, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def wire():
    relay("up")
    # Whoever asks for an address draws a fault too: with fixed neighbours the datagrams alone do.
    for namespace, link, peer, far in ((CLIENT, "sc0", "10.77.0.3", SERVER), (SERVER, "ss0", "10.77.0.1", CLIENT)):
        far_link = "ss0" if link == "sc0" else "sc0"
        show = ["ip", "-n", far, "-br", "link", "show", "dev", far_link]
        mac = subprocess.run(show, capture_output=True, text=True, check=True).stdout.split()[2]
        subprocess.run(["ip", "-n", namespace, "neigh", "replace", peer, "lladdr", mac, "dev", link], check=True)
    yield
    relay("down")


def heard(count, size=100):
    with python(SERVER, LISTENER) as listener:
        port = listener.stdout.readline().strip()
        with python(CLIENT, SENDER, port, count, size) as sender:
            numbers = [int(line) for line in listener.stdout]
            sender.wait(HANG_SECONDS)
    return numbers


@only_sidestep
def test_the_same_seed_loses_the_same_frames_and_another_seed_others(wire):
    runs = []
    for seed in (7, 7, 8):
        relay("set", "--seed", str(seed), "--to-right", "loss=20%")
        runs.append(heard(500))
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]
    # 500 draws of a fifth: 100 with a deviation of 9.
    assert 50 < 500 - len(runs[0]) < 150


@only_sidestep
def test_a_frame_is_never_early(wire):
    relay("set", "--both", "delay=5ms")
    with python(SERVER, ECHO) as echo:
        port = echo.stdout.readline().strip()
        with python(CLIENT, ROUND_TRIP, port) as client:
            assert int(client.stdout.readline()) >= 10_000


@only_sidestep
def test_an_mtu_hole_takes_the_long_and_lets_the_short_pass(wire):
    relay("set", "--to-right", "mtu=600")
    assert heard(10, size=572) == list(range(10))
    assert heard(10, size=573) == []


@only_sidestep
def test_a_wrong_word_says_what_would_be_right(wire):
    wrong = subprocess.run(
        ["scripts/relay", "set", "--both", "loss=much"], env=ENVIRONMENT, capture_output=True, text=True, timeout=HANG_SECONDS
    )
    assert wrong.returncode == 1
    assert "'loss=much' is no fault; write loss=SHARE, such as loss=1%" in wrong.stderr
