// What every Node client does, told line by line; ../run.py reads it and has the other side.
//
// A client's program gives `main` a function (address, port) that returns an object with these functions, each giving a
// promise, throwing NotOffered where the client has no such thing (no getMany at all where there is no multi-get):
//     set(key, text, ttl) -> bool     get(key) -> text or null               getMany(keys) -> Map
//     gets(key) -> [text, unique]     cas(key, text, unique) -> bool         incr, decr(key, n) -> number or null
//     touch(key, ttl) -> bool         remove(key) -> bool                    setNoreply(key, text), removeNoreply(key)
// Values are text of one byte a character; `binary` says that a client takes any byte, `incrCreates` that its incr
// makes the item.
'use strict';

const crypto = require('crypto');
const readline = require('readline');

// Close to the largest value that memcached takes by default, 1,048,576 bytes with key and header.
const LARGE_BYTES = 1000000;
const MANY = 300;
// Attempts that a client may fail before it has noticed that its connection was closed.
const ATTEMPTS = 10;
// What an attempt may take: memcached never calls back a request in flight on a connection that is reset.
const PATIENCE_MS = 5000;

class NotOffered extends Error {}

const answers = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

function tell(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

// Asks the driver, which has the other side of the server.
async function ask(what, fields) {
  tell({ ask: what, ...fields });
  return JSON.parse((await answers.next()).value);
}

const hex = (text) => Buffer.from(text, 'latin1').toString('hex');

// Fails where the two differ, and says where.
function same(what, found, expected) {
  if (found === expected) return;
  if (typeof found === 'string' && found.length > 80) {
    let at = 0;
    while (at < found.length && found[at] === expected[at]) at++;
    throw new Error(`${what}: ${found.length} bytes, expected ${expected.length}; they differ at ${at}`);
  }
  throw new Error(`${what}: ${String(found).slice(0, 200)}, expected ${String(expected).slice(0, 200)}`);
}

// Bytes that no compressor and no pattern helps with: a keystream, cut to what the client takes.
function large(seed, label, binary) {
  const key = crypto.createHash('sha256').update(`${seed} ${label}`).digest();
  const bytes = crypto.createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(LARGE_BYTES));
  if (!binary) for (let at = 0; at < bytes.length; at++) bytes[at] = 32 + (bytes[at] % 95);
  return bytes.toString('latin1');
}

const operations = {
  async set(client) {
    same('set', await client.set('set', 'first', 0), true);
    same('set again', await client.set('set', 'second', 0), true);
    same('what the server holds', (await ask('read', { key: 'set' })).value, hex('second'));
    same('set with an end', await client.set('ends', 'value', 5000), true);
    const ttl = (await ask('ttl', { key: 'ends' })).ttl;
    same('its time to live', 4000 < ttl && ttl <= 5000, true);
  },

  async get(client) {
    const value = client.binary ? 'a\r\nEND\r\n\0b\xff' : 'a\r\nEND\r\nb';
    await client.set('get', value, 0);
    same('get', await client.get('get'), value);
    same('get of nothing', await client.get('nothing'), null);
    await client.set('empty', '', 0);
    same('get of an empty value', await client.get('empty'), '');
    await client.set('k'.repeat(250), 'long key', 0);
    same('get of a key of 250 bytes', await client.get('k'.repeat(250)), 'long key');
    // As a program of Node would: many at once, answered in any order it likes.
    const keys = Array.from({ length: MANY }, (_, number) => `at-once-${number}`);
    await Promise.all(keys.map((key) => client.set(key, key, 0)));
    const found = await Promise.all(keys.map((key) => client.get(key)));
    same('gets at once', found.join(), keys.join());
  },

  async 'multi-get'(client) {
    if (!client.getMany) throw new NotOffered('it has no multi-get; gets at once are part of get');
    const hits = new Map();
    const keys = [];
    for (let number = 0; number < MANY; number++) {
      hits.set(`many-${number}`, String(number).repeat(number % 40));
      keys.push(`many-${number}`, `missing-${number}`);
    }
    for (const [key, value] of hits) await client.set(key, value, 0);
    const found = await client.getMany(keys);
    same('keys found', found.size, MANY);
    for (const [key, value] of hits) same(`get of ${key}`, found.get(key), value);
    same('get of many missing', (await client.getMany(keys.filter((key) => key.startsWith('missing')))).size, 0);
  },

  async cas(client) {
    await client.set('swap', 'first', 0);
    const [value, unique] = await client.gets('swap');
    same('gets', value, 'first');
    same('cas with the unique', await client.cas('swap', 'swapped', unique), true);
    same('cas with the old unique', await client.cas('swap', 'late', unique), false);
    same('get', await client.get('swap'), 'swapped');
  },

  async incr(client) {
    await client.set('incr', '10', 0);
    same('incr', await client.incr('incr', 5), 15);
    same('decr', await client.decr('incr', 3), 12);
    same('decr below zero', await client.decr('incr', 100), 0);
    same('incr of nothing', await client.incr('incr-missing', 5), client.incrCreates ? 0 : null);
    await client.set('incr', 'word', 0);
    let failure = null;
    const found = await client.incr('incr', 1).catch((error) => (failure = error));
    if (failure === null) throw new Error(`incr of a word gave ${found}`);
    same('get', await client.get('incr'), 'word');
  },

  async touch(client) {
    await client.set('touch', 'value', 1000);
    same('touch', await client.touch('touch', 100000), true);
    const ttl = (await ask('ttl', { key: 'touch' })).ttl;
    same('its time to live', 90000 < ttl && ttl <= 100000, true);
    same('get', await client.get('touch'), 'value');
    same('touch of nothing', await client.touch('nothing', 100), false);
  },

  async delete(client) {
    await client.set('delete', 'value', 0);
    same('delete', await client.remove('delete'), true);
    same('get', await client.get('delete'), null);
    same('delete of nothing', await client.remove('delete'), false);
  },

  async large(client) {
    const seed = crypto.randomInt(2 ** 32);
    const kept = new Map();
    try {
      for (const key of ['large-1', 'large-2']) {
        const there = large(seed, `${key} there`, client.binary);
        const back = large(seed, `${key} back`, client.binary);
        same('set', await client.set(key, there, 0), true);
        same('what the server holds', (await ask('read', { key })).value, hex(there));
        same('get', await client.get(key), there);
        await ask('write', { key, value: hex(back) });
        same('get of another', await client.get(key), back);
        kept.set(key, back);
      }
      const both = client.getMany ? await client.getMany(['large-1', 'nothing', 'large-2']) : kept;
      for (const [key, value] of kept) same('get of both', both.get(key), value);
    } catch (error) {
      throw new Error(`${error.message}; seed ${seed}`);
    }
  },

  async noreply(client) {
    await client.setNoreply('noreply', 'value');
    same('get', await client.get('noreply'), 'value');
    await client.removeNoreply('noreply');
    same('get of what was deleted', await client.get('noreply'), null);
  },

  async reconnect(client) {
    const notes = [await after(client, 'restart'), await after(client, 'crash')];
    return notes.filter(Boolean).join('; ');
  },
};

// Fails where there is no answer in time.
function inTime(answer) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  return Promise.race([answer, late]).finally(() => clearTimeout(timer));
}

// Ends the server and starts it again; the client must go on.
async function after(client, end) {
  await client.set('reconnect', 'before', 0);
  await ask(end);
  const errors = [];
  for (;;) {
    try {
      await inTime(client.set('reconnect', 'after', 0));
      break;
    } catch (error) {
      errors.push(String(error).slice(0, 100));
      if (errors.length === ATTEMPTS) throw new Error(`${ATTEMPTS} attempts failed, the last with ${error}`);
    }
  }
  same('get', await client.get('reconnect'), 'after');
  same('get of what the old server held', await client.get('at-once-1'), null);
  await client.set('at-once-1', 'held', 0);
  return errors.length ? `${end}: after ${errors.length} error(s), the first: ${errors[0]}` : '';
}

async function main(connect) {
  const [address, port] = process.argv.slice(-2);
  const client = connect(address, port);
  for (const [operation, act] of Object.entries(operations)) {
    let verdict = 'ok';
    let note = '';
    try {
      note = (await act(client)) || '';
    } catch (error) {
      verdict = error instanceof NotOffered ? 'n/a' : 'FAILED';
      note = error.message || String(error);
    }
    tell({ operation, verdict, note });
  }
  client.close();
  // A request that is never called back would keep the program going.
  process.exit();
}

module.exports = { main, NotOffered };
