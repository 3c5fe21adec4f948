"""What Prometheus' memcached_exporter (0.16, pkg/exporter/exporter.go) reads of a server, found and read as there: the same
metrics as of memcached 1.6.45 after the same requests.
"""

import re

from conftest import ADDRESS, PORT, connect, exchange, store

OPERATIONS = ["get", "delete", "incr", "decr", "cas", "touch"]
# Asked for by name: what is not there is passed over in silence, and a graph stays empty.
STATS = (
    [f"{name}_{end}" for name in OPERATIONS for end in ("hits", "misses")]
    + "uptime time cas_badval cmd_flush cmd_set bytes limit_maxbytes curr_items total_items bytes_read bytes_written "
    "curr_connections total_connections rejected_connections conn_yields listen_disabled_num evictions reclaimed "
    "store_too_large store_no_memory lru_crawler_starts direct_reclaims crawler_items_checked crawler_reclaimed "
    "moves_to_cold moves_to_warm moves_within_lru total_malloced accepting_conns".split()
)
TIMES = ["rusage_user", "rusage_system"]
SETTINGS = "maxconns lru_crawler_sleep lru_crawler_tocrawl hot_lru_pct warm_lru_pct hot_max_factor warm_max_factor".split()
YES_OR_NO = ["lru_crawler", "lru_maintainer_thread"]
ITEMS = (
    "number age hits_to_hot hits_to_warm hits_to_cold hits_to_temp crawler_reclaimed evicted evicted_nonzero "
    "evicted_time evicted_unfetched expired_unfetched outofmemory reclaimed tailrepairs mem_requested moves_to_cold "
    "moves_to_warm moves_within_lru number_hot number_warm number_cold number_temp age_hot age_warm"
).split()
SLABS = [f"{name}_hits" for name in OPERATIONS] + (
    "cas_badval cmd_set chunk_size chunks_per_page total_pages total_chunks used_chunks free_chunks free_chunks_end "
    "mem_requested"
).split()
# What depends on the requests alone. Commands are not counted by slab class here.
EQUAL = {("", f"{name}_{end}") for name in OPERATIONS for end in ("hits", "misses")} | {
    (group, name)
    for group, names in {
        "": "cas_badval cmd_flush cmd_set curr_items total_items evictions reclaimed rejected_connections store_no_memory "
        "store_too_large listen_disabled_num limit_maxbytes accepting_conns maxconns",
        "items": "number evicted evicted_nonzero evicted_time outofmemory reclaimed tailrepairs",
        "slabs": "chunk_size chunks_per_page used_chunks",
    }.items()
    for name in names.split()
}


def ask(connection, group):
    """The lines of a list, as (name, value)."""
    connection.sendall(b"stats" + (b" " + group if group else b"") + b"\r\n")
    lines = []
    with connection.makefile("r", newline="\r\n") as reply:
        while (line := reply.readline().rstrip("\r\n")) != "END":
            lines.append(re.fullmatch(r"STAT (\S+) (.*)", line).groups())
    return lines


def number(value):
    """As strconv.ParseFloat of Go, of what servers say."""
    assert re.fullmatch(r"[+-]?\d+(\.\d+)?", value), f"{value!r} is no number"
    return float(value)


def timeval(value):
    """Seconds and microseconds, with one point between."""
    seconds, microseconds = value.split(".")
    return number(seconds) + number(microseconds) / 1e6


def scrape(connection):
    """What the exporter shows: {(list, slab class, name): value}."""
    shown = {}
    lists = {group: ask(connection, group.encode()) for group in ("", "slabs", "items", "settings")}
    general = dict(lists[""] + [pair for pair in lists["slabs"] if pair[0] == "total_malloced"])
    settings = dict(lists["settings"])
    for read, names, values in [
        (number, STATS, general),
        (timeval, TIMES, general),
        (number, SETTINGS, settings),
        (["no", "yes"].index, YES_OR_NO, settings),
        (str, ["version"], general),
    ]:
        shown |= {("", 0, name): read(values[name]) for name in names if name in values}
    for group, names in [("items", ITEMS), ("slabs", SLABS)]:
        for key, value in lists[group]:
            if (found := re.fullmatch(r"(?:items:)?(\d+):(\w+)", key)) and found[2] in names:
                shown[group, int(found[1]), found[2]] = number(value)
    return shown


def use(connection):
    """Some of every request that is counted, on items of three classes."""
    for length in (10, 1_000, 50_000):
        requests = [
            (store(b"k%d" % length, b"7" * length), b"STORED\r\n"),
            (b"get missing\r\n", b"END\r\n"),
            (b"delete missing\r\n", b"NOT_FOUND\r\n"),
            (b"incr missing 1\r\n", b"NOT_FOUND\r\n"),
            (b"decr missing 1\r\n", b"NOT_FOUND\r\n"),
            (b"touch missing 1\r\n", b"NOT_FOUND\r\n"),
            (b"touch k%d 0\r\n" % length, b"TOUCHED\r\n"),
            (b"cas missing 0 0 1 1\r\nx\r\n", b"NOT_FOUND\r\n"),
            (b"cas k%d 0 0 1 999999999\r\nx\r\n" % length, b"EXISTS\r\n"),
            (store(b"number", b"10"), b"STORED\r\n"),
            (b"incr number 5\r\n", b"15\r\n"),
            (b"decr number 5\r\n", b"10\r\n"),
            (b"get k%d\r\n" % length, b"VALUE k%d 0 %d\r\n%s\r\nEND\r\n" % (length, length, b"7" * length)),
            (store(b"gone", b"x"), b"STORED\r\n"),
            (b"delete gone\r\n", b"DELETED\r\n"),
        ]
        exchange(connection, b"".join(sent for sent, _ in requests), b"".join(reply for _, reply in requests))


def test_the_exporter_finds_the_same_metrics_as_of_memcached_with_sensible_values(server, oracle):
    shown = []
    for address, port in [(ADDRESS, PORT), ("127.0.0.1", oracle)]:
        connection = connect(port, address)
        use(connection)
        shown.append(scrape(connection))
    ours, theirs = shown
    wanted = {("", 0, name) for name in STATS + TIMES + SETTINGS + YES_OR_NO + ["version"]}
    assert wanted <= theirs.keys(), "the list above is wrong"
    # memcached keeps the classes of items that have been deleted, and pages that it has moved there.
    assert wanted <= ours.keys(), wanted - ours.keys()
    assert {key for key in theirs if key[0]} == {key for key in ours if key[0]}
    different = {key: (ours[key], theirs[key]) for key in theirs if (key[0], key[2]) in EQUAL and ours[key] != theirs[key]}
    assert not different
    for name, value in ours.items():
        assert isinstance(value, str) or 0 <= value < 2**63, (name, value)
    assert 0 < ours["", 0, "bytes"] <= ours["", 0, "total_malloced"] <= ours["", 0, "limit_maxbytes"]
