"""Options as charts, unit files and compose files write them, each of which memcached's getopt and atoi take.

The table holds for memcached too: `scripts/e2e/run --server memcached scripts/e2e/test_options.py` shows it.
"""

import subprocess

import pytest
from conftest import ADDRESS, BINARY, SERVER_NAMESPACE, connect, only_sidestep

# Words given behind `-p 11211 -t 2 -m 64 -c 4096`, a line of `stats settings`, what it then says.
TABLE = [
    (["-m 128"], "maxbytes", 128 << 20),
    (["-m 128 "], "maxbytes", 128 << 20),
    (["-m", " 128 "], "maxbytes", 128 << 20),
    (["-m128"], "maxbytes", 128 << 20),
    (["-m", "+128"], "maxbytes", 128 << 20),
    (["-m", "0128"], "maxbytes", 128 << 20),
    (["-m", "200m"], "maxbytes", 200 << 20),
    (["-m", "200 MB"], "maxbytes", 200 << 20),
    (["-m", "128.9"], "maxbytes", 128 << 20),
    (["-m", "96", "-m", "128"], "maxbytes", 128 << 20),
    (["--memory-limit=128"], "maxbytes", 128 << 20),
    (["--memory-limit", "128"], "maxbytes", 128 << 20),
    (["--memory-limit= 128m"], "maxbytes", 128 << 20),
    (["--memory-l", "128"], "maxbytes", 128 << 20),
    (["-c 512"], "maxconns", 512),
    (["-c", "512 "], "maxconns", 512),
    (["-c", "512k"], "maxconns", 512),
    (["--conn-limit=512"], "maxconns", 512),
    (["--c", "512"], "maxconns", 512),
    (["-t 1"], "num_threads", 1),
    (["-t", "1 thread"], "num_threads", 1),
    (["--threads", " 1"], "num_threads", 1),
    (["-R 33"], "reqs_per_event", 33),
    (["-R", "33x"], "reqs_per_event", 33),
    (["--max-reqs-per-event=33"], "reqs_per_event", 33),
    (["-b 300"], "tcp_backlog", 300),
    (["-b", "300 "], "tcp_backlog", 300),
    (["--listen-backlog", "300", "-b", "301"], "tcp_backlog", 301),
    (["-n 72"], "chunk_size", 72),
    (["-n", "72bytes"], "chunk_size", 72),
    (["--slab-min-size= 72"], "chunk_size", 72),
    (["-f 1.5"], "growth_factor", "1.50"),
    (["-f", "1.5x"], "growth_factor", "1.50"),
    (["-f1.5"], "growth_factor", "1.50"),
    (["--slab-growth-factor=1.5"], "growth_factor", "1.50"),
    (["-I 5m"], "item_size_max", 5 << 20),
    (["-I5M"], "item_size_max", 5 << 20),
    (["-I", "2m", "-I", "512k"], "item_size_max", 512 << 10),
    (["-I", "2097152"], "item_size_max", 2 << 20),
    (["--max-item-size= 2m"], "item_size_max", 2 << 20),
    (["-U 0"], "udpport", 0),
    (["-U", "0 "], "udpport", 0),
    (["-p 11211"], "tcpport", 11211),
    (["-p11211"], "tcpport", 11211),
    (["-p", "11211/tcp"], "tcpport", 11211),
    (["-p", "1", "--port=11211"], "tcpport", 11211),
    (["--po", "11211"], "tcpport", 11211),
    (["-vMC"], "cas_enabled", "no"),
    (["-CC", "-M", "-M"], "evictions", "off"),
    (["-D", "::"], "detail_enabled", "yes"),
    (["-o", "idle_timeout= 30"], "idle_timeout", 30),
    (["-o", "idle_timeout=30s"], "idle_timeout", 30),
    (["-o", "idle_timeout=5", "-o", "no_lru_crawler,idle_timeout=30"], "idle_timeout", 30),
    (["-o", "idle_timeout=30", "-o", "no_maxconns_fast"], "idle_timeout", 30),
    (["-o", "slab_chunk_max=16", "-o", "modern"], "slab_chunk_max", 16384),
    (["-o", "slab_chunk_max=4,slab_chunk_max=16"], "slab_chunk_max", 16384),
    (["--extended=maxconns_fast,hashpower=20 "], "hashpower_init", 20),
    (["memcached", "-m", "128", ""], "maxbytes", 128 << 20),
]


def settings():
    """What `stats settings` says."""
    connection = connect()
    connection.sendall(b"stats settings\r\n")
    with connection.makefile("r", newline="\r\n") as reply:
        lines = iter(lambda: reply.readline().rstrip("\r\n"), "END")
        return dict(line.split(" ", 2)[1:] for line in lines)


@pytest.mark.parametrize("words, name, value", TABLE, ids=[" ".join(words) for words, _, _ in TABLE])
def test_what_getopt_and_atoi_take_is_taken(start, words, name, value):
    start(extra=words).wait_until_ready()
    assert settings()[name] == str(value)
