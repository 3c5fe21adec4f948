"""emcache, whose protocol is text."""

import emcache
from session import Adapter, main


class Emcache(Adapter):
    @classmethod
    async def connect(cls, address, port):
        return cls(await emcache.create_client([emcache.MemcachedHostAddress(address, port)], timeout=10))

    async def set(self, key, value, ttl):
        await self.client.set(key.encode(), value, exptime=ttl)
        return True

    async def get(self, key):
        item = await self.client.get(key.encode())
        return item and item.value

    async def get_many(self, keys):
        items = await self.client.get_many([key.encode() for key in keys])
        return {key.decode(): item.value for key, item in items.items()}

    async def gets(self, key):
        item = await self.client.gets(key.encode())
        return item.value, item.cas

    async def cas(self, key, value, unique):
        try:
            await self.client.cas(key.encode(), value, unique)
        except emcache.NotStoredStorageCommandError:
            return False
        return True

    async def _found(self, act, *arguments):
        try:
            return await act(*arguments)
        except emcache.NotFoundCommandError:
            return False

    async def incr(self, key, number):
        found = await self._found(self.client.increment, key.encode(), number)
        return None if found is False else found

    async def decr(self, key, number):
        found = await self._found(self.client.decrement, key.encode(), number)
        return None if found is False else found

    async def touch(self, key, ttl):
        return await self._found(self.client.touch, key.encode(), ttl) is None

    async def delete(self, key):
        return await self._found(self.client.delete, key.encode()) is None

    async def set_noreply(self, key, value):
        await self.client.set(key.encode(), value, noreply=True)

    async def delete_noreply(self, key):
        await self.client.delete(key.encode(), noreply=True)

    async def close(self):
        await self.client.close()


main(Emcache.connect)
