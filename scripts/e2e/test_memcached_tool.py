"""Debian's `memcached-tool` with each of its words says of us what it says of memcached 1.6.45 that holds the same items."""

import re
import subprocess

import pytest
from conftest import ADDRESS, PORT, connect, exchange, store

TOOL = "/usr/share/memcached/scripts/memcached-tool"
SIZES = {"short": 10, "middle": 1_000, "long": 50_000}
# Five of each size, and one that ends.
ITEMS = 16


def tool(server, *words):
    """The lines that it prints, and those on standard error."""
    run = subprocess.run(["perl", TOOL, f"{server[0]}:{server[1]}", *words], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines(), run.stderr.splitlines()


def items(server, word, lines_each=1):
    """The lines of a word that lists the items. memcached's crawler passes over one that its maintainer moves just then (once in
    some hundred lists): it is asked until it has told of all. We must at once."""
    lines = tool(server, word)[0]
    tries = 0
    while server[0] != ADDRESS and len(lines) < ITEMS * lines_each and tries < 100:
        lines, tries = tool(server, word)[0], tries + 1
    return lines


@pytest.fixture
def both(server, oracle):
    """Two servers with the same items: ours and memcached."""
    servers = [(ADDRESS, PORT), ("127.0.0.1", oracle)]
    for address, port in servers:
        connection = connect(port, address)
        for name, length in SIZES.items():
            for number in range(5):
                exchange(connection, store(b"%s-%d" % (name.encode(), number), b"v" * length, 7), b"STORED\r\n")
        exchange(connection, b"set ends 0 4000 1\r\nx\r\nget short-1 nothing\r\n", b"STORED\r\nVALUE short-1 7 10\r\nvvvvvvvvvv\r\nEND\r\n")
    return servers


@pytest.mark.parametrize("word", ["display", "move"])
def test_display_and_move_show_the_slab_classes(both, word):
    words = {"display": ["display"], "move": ["move", "6", "7"]}[word]
    ours, theirs = (tool(server, *words) for server in both)
    assert ours[1] == theirs[1] == []
    assert ours[0][0] == theirs[0][0] == "  #  Item_Size  Max_age   Pages   Count   Full?  Evicted Evict_Time OOM"

    def rows(lines):
        """Number, size, items, evicted, time of eviction and refusals of each class; age, pages and full are the store's."""
        words = [line.split() for line in lines[1:]]
        assert all(len(row) == 9 and row[2].endswith("s") and int(row[3]) > 0 and row[5] in ("yes", "no") for row in words)
        return [(row[0], row[1], row[4], *row[6:]) for row in words]

    assert rows(ours[0]) == rows(theirs[0])
    assert tool(both[0]) == tool(both[0], "display"), "the word that is meant where none is given"


def test_stats_and_settings_show_the_same_names(both):
    for word in ["stats", "settings"]:
        ours, theirs = (tool(server, word)[0] for server in both)
        assert re.fullmatch(r"#\S+ +Field +Value", ours[0]), ours[0]
        names = [{line.split()[0] for line in lines[1:]} for lines in (ours, theirs)]
        # Those of TLS are there too, as in a memcached built with it.
        more = {name for name in names[0] if name.startswith("ssl_")} if word == "settings" else set()
        assert names[0] - more == names[1], names[0] ^ names[1]
        assert [line for line in ours[1:] if len(line.split()) < 2] == [
            line for line in theirs[1:] if len(line.split()) < 2
        ], "a name without a value"


def test_sizes_says_that_they_are_not_tracked(both):
    ours, theirs = (tool(server, "sizes")[0][1:] for server in both)
    assert ours == theirs
    assert ours[0].split() == ["sizes_status", "disabled"]


def test_keys_lists_every_item_and_no_more_than_asked_for(both):
    def keys(lines):
        pattern = r"key=(\S+) exp=(-?\d+) la=\d+ cas=\d+ fetch=(yes|no) cls=(\d+) size=(\d+)( flags=\d+)? ?"
        found = [re.fullmatch(pattern, line) for line in lines]
        assert all(found), lines
        return sorted((line[1], line[2] == "-1", *line.groups()[2:]) for line in found)

    ours, theirs = (keys(items(server, "keys")) for server in both)
    assert ours == theirs and len(ours) == ITEMS
    # The OK before the items is one of the lines that it counts.
    assert [len(tool(server, "keys", "3")[0]) for server in both] == [2, 2]


def test_dump_prints_commands_that_store_the_items_again(both, start):
    def commands(lines):
        """The commands, with an end that is told to the second made one of two."""
        heads = [re.sub(r"(?<=^add ends 0 )\d{10}", "TIME", line) for line in lines[::2]]
        return sorted(zip(heads, lines[1::2]))

    ours, theirs = (commands(items(server, "dump", 2)) for server in both)
    assert ours == theirs and len(ours) == ITEMS
    assert [len(commands(tool(server, "dump", "4")[0])) for server in both] == [3, 3]
    # It prints \n behind the \r of every line, which is what a server wants.
    run = subprocess.run(["perl", TOOL, f"{ADDRESS}:{PORT}", "dump"], capture_output=True, timeout=60, check=True)
    connection = connect()
    exchange(connection, b"flush_all\r\n" + run.stdout, b"OK\r\n" + b"STORED\r\n" * ITEMS)
    exchange(connection, b"get short-1\r\n", b"VALUE short-1 7 10\r\nvvvvvvvvvv\r\nEND\r\n")
