"""Long pipelines, long multi-gets and large values: every byte right, in order, whatever the split."""

import random
import select

import pytest
from conftest import HANG_SECONDS, connect, exchange, expect, found, only_sidestep, store

SEED = 20_240_101


def test_a_pipelined_mix_over_keys_of_both_shards_is_answered_in_order(server):
    draw = random.Random(SEED)
    held, request, reply = {}, bytearray(), bytearray()
    for _ in range(20_000):
        key = b"key%d" % draw.randrange(200)
        match draw.randrange(5):
            case 0:
                held[key] = draw.randbytes(draw.randrange(300))
                request += store(key, held[key], 7)
                reply += b"STORED\r\n"
            case 1:
                request += b"delete %s\r\n" % key
                reply += b"DELETED\r\n" if held.pop(key, None) is not None else b"NOT_FOUND\r\n"
            case 2:
                keys = [b"key%d" % draw.randrange(200) for _ in range(10)]
                request += b"get %s\r\n" % b" ".join(keys)
                reply += b"".join(found(each, held[each], 7) for each in keys if each in held) + b"END\r\n"
            case 3:
                request += b"append %s 0 0 1 noreply\r\n+\r\n" % key
                if key in held:
                    held[key] += b"+"
            case _:
                request += b"get %s\r\n" % key
                reply += (found(key, held[key], 7) if key in held else b"") + b"END\r\n"
    exchange(connect(), bytes(request), bytes(reply))


def test_a_mix_sent_byte_by_byte_is_answered_the_same(server):
    connection = connect()
    request = store(b"a", b"1") + b"incr a 9\r\nget a b\r\n" + store(b"b", b"\r\n") + b"get a b\r\nnonsense\r\n"
    reply = b"STORED\r\n10\r\n" + found(b"a", b"10") + b"END\r\nSTORED\r\n"
    reply += found(b"a", b"10") + found(b"b", b"\r\n") + b"END\r\nERROR\r\n"
    for byte in request:
        connection.sendall(bytes([byte]))
    exchange(connection, b"", reply)


def test_a_get_of_ten_thousand_keys_gathers_in_order(server):
    connection = connect()
    keys = [b"many-%05d" % number for number in range(10_000)]
    values = {key: key * 3 for key in keys if not key.endswith(b"7")}
    exchange(connection, b"".join(store(key, value) for key, value in values.items()), b"STORED\r\n" * len(values))
    random.Random(SEED).shuffle(keys)
    reply = b"".join(found(key, values[key]) for key in keys if key in values) + b"END\r\n"
    exchange(connection, b"get " + b" ".join(keys) + b"\r\n", reply)
    exchange(connection, (b"get " + b" ".join(keys) + b"\r\n") * 3, reply * 3)


@only_sidestep
def test_a_client_may_write_four_megabytes_of_requests_before_it_reads(server):
    connection = connect()
    exchange(connection, store(b"k", b"x" * 100), b"STORED\r\n")
    count = 4_000_000 // len(b"get k\r\n")
    requests, sent = b"get k\r\n" * count, 0
    connection.setblocking(False)
    while sent < len(requests):
        writable = select.select([], [connection], [], HANG_SECONDS)[1]
        assert writable, f"the server takes no more after {sent} of {len(requests)} bytes"
        sent += connection.send(requests[sent : sent + 65536])
    connection.settimeout(HANG_SECONDS)
    reply = found(b"k", b"x" * 100) + b"END\r\n"
    for _ in range(0, count, 1_000):
        expect(connection, reply * min(1_000, count))
        count -= 1_000


@pytest.mark.parametrize("length", [1_000, 65_536, 524_288, 1_000_000, 1_048_000])
def test_a_large_value_goes_each_way(server, length):
    connection, other = connect(), connect()
    value = random.Random(SEED).randbytes(length)
    # Several keys, so that both shards and both directions between the cores are met.
    for number in range(4):
        key = b"large-%d" % number
        exchange(connection, store(key, value, 42), b"STORED\r\n")
        for reader in (connection, other):
            exchange(reader, b"get %s\r\n" % key, found(key, value, 42) + b"END\r\n")
    exchange(other, b"get large-0 large-1 large-2 large-3\r\n" * 2,
             (b"".join(found(b"large-%d" % number, value, 42) for number in range(4)) + b"END\r\n") * 2)


def test_a_value_above_the_limit_is_swallowed_and_refused(server):
    connection = connect()
    request = store(b"k", b"old") + store(b"k", b"x" * 2_000_000) + b"get k\r\n" + store(b"k", b"new") + b"get k\r\n"
    reply = b"STORED\r\nSERVER_ERROR object too large for cache\r\nEND\r\nSTORED\r\n" + found(b"k", b"new") + b"END\r\n"
    exchange(connection, request, reply)
