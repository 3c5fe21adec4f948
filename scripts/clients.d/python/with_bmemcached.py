"""python-binary-memcached without authentication; its protocol is binary."""

import bmemcached
from session import Blocking, NotOffered, main, with_port


class Bmemcached(Blocking):
    # Its incr sends an initial value, so that the server makes the item; its delete says True for nothing as well.
    incr_creates = True
    delete_tells = False

    @classmethod
    async def connect(cls, address, port):
        return cls(bmemcached.Client((with_port(address, port),), socket_timeout=10, raw_data=True))

    async def set(self, key, value, ttl):
        return self.client.set(key, value, time=ttl)

    async def get_many(self, keys):
        return self.client.get_multi(keys)

    async def touch(self, key, ttl):
        raise NotOffered("python-binary-memcached has no touch")

    async def set_noreply(self, key, value):
        # Quiet sets (SetQ) and a Noop.
        failed = self.client.set_multi({key: value, key + "-beside": value})
        if failed:
            raise AssertionError(f"set_multi could not store {failed}")

    async def delete_noreply(self, key):
        self.client.delete(key)

    async def close(self):
        self.client.disconnect_all()


main(Bmemcached.connect)
