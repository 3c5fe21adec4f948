"""pymemcache, whose protocol is text."""

from pymemcache.client.base import Client
from session import Blocking, main


class Pymemcache(Blocking):
    @classmethod
    async def connect(cls, address, port):
        return cls(Client((address, port), default_noreply=False, timeout=10, connect_timeout=10, no_delay=True))

    async def set(self, key, value, ttl):
        return self.client.set(key, value, expire=ttl)

    async def get_many(self, keys):
        return self.client.get_many(keys)

    async def set_noreply(self, key, value):
        self.client.set(key, value, noreply=True)

    async def delete_noreply(self, key):
        self.client.delete(key, noreply=True)


main(Pymemcache.connect)
