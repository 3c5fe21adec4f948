// memjs, whose protocol is binary.
'use strict';

const { Client, Server } = require('memjs');
const { main, NotOffered } = require('./session');

const text = (buffer) => (buffer === null ? null : buffer.toString('latin1'));

main((address, port) => {
  // Time-outs in seconds. What it would log are the errors that it hands over as well.
  const options = { timeout: 10, conntimeout: 10, logger: { log() {} } };
  // The text that `create` takes is cut at its first colon, so that an IPv6 address has to be given as a Server.
  const client = address.includes(':')
    ? new Client([new Server(address, Number(port), undefined, undefined, options)], options)
    : Client.create(`${address}:${port}`, options);
  return {
    binary: true,
    // The server makes what is missing: memjs always sends an initial value.
    incrCreates: true,
    set: (key, value, ttl) => client.set(key, Buffer.from(value, 'latin1'), { expires: ttl }),
    get: async (key) => text((await client.get(key)).value),
    gets: async () => {
      throw new NotOffered('memjs has no cas');
    },
    incr: async (key, number) => (await client.increment(key, number, { initial: 0 })).value,
    decr: async (key, number) => (await client.decrement(key, number, { initial: 0 })).value,
    touch: (key, ttl) => client.touch(key, ttl),
    remove: (key) => client.delete(key),
    setNoreply: async () => {
      throw new NotOffered('memjs waits for every reply');
    },
    close: () => client.close(),
  };
});
