// The package memcached, whose protocol is text. Its values are text: it reads a connection as UTF-8.
'use strict';

const { promisify } = require('util');
const Memcached = require('memcached');
const { main, NotOffered } = require('./session');

main((address, port) => {
  // One connection, so that requests made at once share it. Times are milliseconds; without `retry` it leaves a server
  // alone for half a minute after an error. The last colon is before the port: an IPv6 address stands without brackets.
  const client = new Memcached(`${address}:${port}`, { poolSize: 1, timeout: 10000, retry: 1, retries: 1 });
  const call = (name) => promisify(client[name]).bind(client);
  const [set, get, getMulti, gets, cas] = ['set', 'get', 'getMulti', 'gets', 'cas'].map(call);
  const [incr, decr, touch, del] = ['incr', 'decr', 'touch', 'del'].map(call);
  const orNull = (value) => (value === undefined ? null : value);
  const orMissing = (value) => (value === false ? null : value);
  return {
    binary: false,
    incrCreates: false,
    set: (key, value, ttl) => set(key, value, ttl),
    get: async (key) => orNull(await get(key)),
    getMany: async (keys) => new Map(Object.entries(await getMulti(keys))),
    gets: async (key) => {
      const found = await gets(key);
      return [found[key], found.cas];
    },
    cas: (key, value, unique) => cas(key, value, unique, 0),
    incr: async (key, number) => orMissing(await incr(key, number)),
    decr: async (key, number) => orMissing(await decr(key, number)),
    touch: (key, ttl) => touch(key, ttl),
    remove: (key) => del(key),
    setNoreply: async () => {
      throw new NotOffered('memcached sends noreply only to the further servers of its option redundancy');
    },
    close: () => client.end(),
  };
});
