"""pylibmc over the libmemcached in its wheel; the first argument is text or binary."""

import sys

import pylibmc
from session import Blocking, main, with_port


class Pylibmc(Blocking):
    # libmemcached leaves a server alone for `retry_timeout` seconds (at least 1) after a lost connection, and after an
    # error of the binary protocol; with binary, asking meanwhile begins them anew (issue 12 of its repository).
    pause_seconds = 2

    @classmethod
    async def connect(cls, address, port):
        # Time-outs of connect are in milliseconds, the others in microseconds, as libmemcached has them.
        behaviors = {
            "tcp_nodelay": True,
            "cas": True,
            "retry_timeout": 1,
            "connect_timeout": 10_000,
            "send_timeout": 10_000_000,
            "receive_timeout": 10_000_000,
        }
        return cls(pylibmc.Client([with_port(address, port)], binary=sys.argv[1] == "binary", behaviors=behaviors))

    async def set(self, key, value, ttl):
        return self.client.set(key, value, time=ttl)

    async def get_many(self, keys):
        return self.client.get_multi(keys)

    async def _arithmetic(self, act, key, number):
        try:
            return act(key, number)
        except pylibmc.NotFound:
            return None

    async def incr(self, key, number):
        return await self._arithmetic(self.client.incr, key, number)

    async def decr(self, key, number):
        return await self._arithmetic(self.client.decr, key, number)

    async def set_noreply(self, key, value):
        self.client.behaviors["_noreply"] = True
        self.client.set(key, value)
        self.client.behaviors["_noreply"] = False

    async def delete_noreply(self, key):
        self.client.behaviors["_noreply"] = True
        self.client.delete(key)
        self.client.behaviors["_noreply"] = False


main(Pylibmc.connect)
