"""meta-memcache, whose protocol is the meta commands."""

import socket

from meta_memcache import CacheClient, ServerAddress, connection_pool_factory_builder
from meta_memcache.base.base_serializer import BaseSerializer, EncodedValue
from meta_memcache.connection.pool import ConnectionPool
from session import Adapter, main


class Plain(BaseSerializer):
    """Bytes as they are: the default serializer would compress them."""

    def serialize(self, key, value):
        return EncodedValue(value, 0)

    def unserialize(self, data, encoding_id):
        # delta_and_get wants a number as text.
        data = bytes(data)
        return data.decode() if data.isdigit() else data


def pool_of_any_family(server):
    """A pool as connection_pool_factory_builder makes it, but for its sockets, which would be of IPv4 alone: the pool takes a
    function that makes others."""

    def connect():
        connection = socket.create_connection((server.host, server.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    return ConnectionPool(server=str(server), socket_factory_fn=connect, initial_pool_size=1, max_pool_size=3)


def as_bytes(value):
    return value.encode() if isinstance(value, str) else value


class MetaMemcache(Adapter):
    @classmethod
    async def connect(cls, address, port):
        of_ipv4 = connection_pool_factory_builder(connection_timeout=10, recv_timeout=10)
        pool = pool_of_any_family if ":" in address else of_ipv4
        servers = [ServerAddress(address, port)]
        return cls(CacheClient.cache_client_from_servers(servers, pool, serializer=Plain()))

    async def set(self, key, value, ttl):
        return self.client.set(key, value, ttl)

    async def get(self, key):
        return as_bytes(self.client.get(key))

    async def get_many(self, keys):
        return {k.key: as_bytes(value) for k, value in self.client.multi_get(keys).items() if value is not None}

    async def gets(self, key):
        value, unique = self.client.get_cas(key)
        return as_bytes(value), unique

    async def cas(self, key, value, unique):
        return self.client.set(key, value, 0, cas_token=unique)

    async def incr(self, key, number):
        return self.client.delta_and_get(key, number)

    async def decr(self, key, number):
        return self.client.delta_and_get(key, -number)

    async def touch(self, key, ttl):
        return self.client.touch(key, ttl)

    async def delete(self, key):
        return self.client.delete(key)

    async def set_noreply(self, key, value):
        self.client.set(key, value, 0, no_reply=True)

    async def delete_noreply(self, key):
        self.client.delete(key, no_reply=True)


main(MetaMemcache.connect)
