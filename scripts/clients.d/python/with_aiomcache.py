"""aiomcache, whose protocol is text."""

import aiomcache
from session import Adapter, NotOffered, main


class Aiomcache(Adapter):
    @classmethod
    async def connect(cls, address, port):
        return cls(aiomcache.Client(address, port, pool_size=1))

    async def set(self, key, value, ttl):
        return await self.client.set(key.encode(), value, exptime=ttl)

    async def get(self, key):
        return await self.client.get(key.encode())

    async def get_many(self, keys):
        values = await self.client.multi_get(*(key.encode() for key in keys))
        return {key: value for key, value in zip(keys, values) if value is not None}

    async def gets(self, key):
        return await self.client.gets(key.encode())

    async def cas(self, key, value, unique):
        return await self.client.cas(key.encode(), value, unique)

    async def _arithmetic(self, act, key, number):
        try:
            return await act(key.encode(), number)
        except aiomcache.ClientException as error:
            if "NOT_FOUND" in str(error):
                return None
            raise

    async def incr(self, key, number):
        return await self._arithmetic(self.client.incr, key, number)

    async def decr(self, key, number):
        return await self._arithmetic(self.client.decr, key, number)

    async def touch(self, key, ttl):
        return await self.client.touch(key.encode(), ttl)

    async def delete(self, key):
        return await self.client.delete(key.encode())

    async def set_noreply(self, key, value):
        raise NotOffered("aiomcache waits for every reply")

    async def close(self):
        await self.client.close()


main(Aiomcache.connect)
