"""pymemcache, whose protocol is text."""

from pymemcache.client.base import Client
from session import Adapter, main


class Pymemcache(Adapter):
    def __init__(self, client):
        self.client = client

    @classmethod
    async def connect(cls, address, port):
        return cls(Client((address, port), default_noreply=False, timeout=10, connect_timeout=10, no_delay=True))

    async def set(self, key, value, ttl):
        return self.client.set(key, value, expire=ttl)

    async def get(self, key):
        return self.client.get(key)

    async def get_many(self, keys):
        return self.client.get_many(keys)

    async def gets(self, key):
        return self.client.gets(key)

    async def cas(self, key, value, unique):
        return self.client.cas(key, value, unique)

    async def incr(self, key, number):
        return self.client.incr(key, number)

    async def decr(self, key, number):
        return self.client.decr(key, number)

    async def touch(self, key, ttl):
        return self.client.touch(key, ttl)

    async def delete(self, key):
        return self.client.delete(key)

    async def set_noreply(self, key, value):
        self.client.set(key, value, noreply=True)

    async def delete_noreply(self, key):
        self.client.delete(key, noreply=True)


main(Pymemcache.connect)
