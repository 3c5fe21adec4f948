<?php
// PHP's extension memcached over libmemcached: what it does, told line by line; ../run.py reads it and has the other side.
// The first argument is text or binary, then address and port. The same operations as in ../python/session.py.

declare(strict_types=1);

// Close to the largest value that memcached takes by default, 1,048,576 bytes with key and header.
const LARGE_BYTES = 1_000_000;
const MANY = 300;
// Attempts that a client may fail before it has noticed that its connection was closed.
const ATTEMPTS = 10;

function tell(array $line): void
{
    fwrite(STDOUT, json_encode($line) . "\n");
}

// Asks the driver, which has the other side of the server.
function ask(string $what, array $fields = []): array
{
    tell(['ask' => $what] + $fields);
    return json_decode(fgets(STDIN), true);
}

// Fails where the two differ, and says where.
function same(string $what, mixed $found, mixed $expected): void
{
    if ($found === $expected) {
        return;
    }
    if (is_string($found) && strlen($found) > 80) {
        throw new Exception("$what: " . strlen($found) . ' bytes, expected ' . strlen((string) $expected));
    }
    throw new Exception("$what: " . substr(json_encode($found) ?: '', 0, 200) . ', expected ' . substr(json_encode($expected) ?: '', 0, 200));
}

function connect(string $protocol, string $address, int $port): Memcached
{
    $client = new Memcached();
    $client->setOptions([
        Memcached::OPT_BINARY_PROTOCOL => $protocol === 'binary',
        Memcached::OPT_COMPRESSION => false,
        Memcached::OPT_TCP_NODELAY => true,
        // Milliseconds, the last two microseconds. Without the second libmemcached leaves a server alone for two seconds.
        Memcached::OPT_CONNECT_TIMEOUT => 10_000,
        Memcached::OPT_RETRY_TIMEOUT => 0,
        Memcached::OPT_POLL_TIMEOUT => 10_000,
        Memcached::OPT_SEND_TIMEOUT => 10_000_000,
        Memcached::OPT_RECV_TIMEOUT => 10_000_000,
    ]);
    $client->addServer($address, $port);
    return $client;
}

// Null where there is no such item, as the others have it.
function get(Memcached $client, string $key): mixed
{
    $value = $client->get($key);
    return $client->getResultCode() === Memcached::RES_NOTFOUND ? null : $value;
}

// Ends the server and starts it again; the client must go on.
function after(Memcached $client, string $end): string
{
    $client->set('reconnect', 'before');
    ask($end);
    $errors = [];
    while (!$client->set('reconnect', 'after')) {
        $errors[] = $client->getResultMessage();
        if (count($errors) === ATTEMPTS) {
            throw new Exception(ATTEMPTS . " attempts failed, the last with {$client->getResultMessage()}");
        }
        // Some libmemcached call a server dead for a second, whatever it does.
        usleep(500_000);
    }
    same('get', get($client, 'reconnect'), 'after');
    same('get of what the old server held', get($client, 'many-1'), null);
    $client->set('many-1', 'held');
    return $errors ? "$end: after " . count($errors) . " error(s), the first: $errors[0]" : '';
}

$operations = [
    'set' => function (Memcached $client): void {
        same('set', $client->set('set', 'first'), true);
        same('set again', $client->set('set', 'second'), true);
        same('what the server holds', ask('read', ['key' => 'set'])['value'], bin2hex('second'));
        same('set with an end', $client->set('ends', 'value', 5000), true);
        $ttl = ask('ttl', ['key' => 'ends'])['ttl'];
        same('its time to live', 4000 < $ttl && $ttl <= 5000, true);
    },
    'get' => function (Memcached $client): void {
        $client->set('get', "a\r\nEND\r\n\0b");
        same('get', get($client, 'get'), "a\r\nEND\r\n\0b");
        same('get of nothing', get($client, 'nothing'), null);
        $client->set('empty', '');
        same('get of an empty value', get($client, 'empty'), '');
        // Types are flags.
        foreach ([17, 2.5, true, [1, 'two' => 3]] as $value) {
            $client->set('typed', $value);
            same('get of a typed value', get($client, 'typed'), $value);
        }
        $client->set(str_repeat('k', 250), 'long key');
        same('get of a key of 250 bytes', get($client, str_repeat('k', 250)), 'long key');
    },
    'multi-get' => function (Memcached $client): void {
        $hits = $keys = [];
        for ($number = 0; $number < MANY; $number++) {
            $hits["many-$number"] = str_repeat((string) $number, $number % 40);
            array_push($keys, "many-$number", "missing-$number");
        }
        same('set of many', $client->setMulti($hits), true);
        $found = $client->getMulti($keys);
        ksort($found);
        ksort($hits);
        same('get of many', $found, $hits);
        same('get of many missing', $client->getMulti(array_filter($keys, fn ($key) => $key[1] === 'i')), []);
    },
    'cas' => function (Memcached $client): void {
        $client->set('swap', 'first');
        $found = $client->get('swap', null, Memcached::GET_EXTENDED);
        same('gets', $found['value'], 'first');
        same('cas with the unique', $client->cas($found['cas'], 'swap', 'swapped'), true);
        same('cas with the old unique', $client->cas($found['cas'], 'swap', 'late'), false);
        same('its result', $client->getResultCode(), Memcached::RES_DATA_EXISTS);
        same('get', get($client, 'swap'), 'swapped');
    },
    'incr' => function (Memcached $client): void {
        // A number is stored with a flag, text without.
        $client->set('incr', '10');
        same('incr', $client->increment('incr', 5), 15);
        same('decr', $client->decrement('incr', 3), 12);
        same('decr below zero', $client->decrement('incr', 100), 0);
        same('incr of nothing', $client->increment('incr-missing', 5), false);
        $client->set('incr', 'word');
        same('incr of a word', $client->increment('incr', 1), false);
        same('get', get($client, 'incr'), 'word');
    },
    'touch' => function (Memcached $client): void {
        $client->set('touch', 'value', 1000);
        same('touch', $client->touch('touch', 100_000), true);
        $ttl = ask('ttl', ['key' => 'touch'])['ttl'];
        same('its time to live', 90_000 < $ttl && $ttl <= 100_000, true);
        same('get', get($client, 'touch'), 'value');
        same('touch of nothing', $client->touch('nothing', 100), false);
    },
    'delete' => function (Memcached $client): void {
        $client->set('delete', 'value');
        same('delete', $client->delete('delete'), true);
        same('get', get($client, 'delete'), null);
        same('delete of nothing', $client->delete('delete'), false);
        same('append to nothing', $client->append('delete', 'x'), false);
        same('delete of many', $client->deleteMulti(['set', 'gone']), ['set' => true, 'gone' => Memcached::RES_NOTFOUND]);
    },
    'large' => function (Memcached $client): void {
        foreach (['large-1', 'large-2'] as $key) {
            $there = random_bytes(LARGE_BYTES);
            $back = random_bytes(LARGE_BYTES);
            same('set', $client->set($key, $there), true);
            same('what the server holds', ask('read', ['key' => $key])['value'], bin2hex($there));
            same('get', get($client, $key), $there);
            ask('write', ['key' => $key, 'value' => bin2hex($back)]);
            same('get of another', get($client, $key), $back);
            $kept[$key] = $back;
        }
        same('get of both', $client->getMulti(['large-1', 'nothing', 'large-2']), $kept);
        same('set of too much', $client->set('huge', str_repeat('h', 2_000_000)), false);
    },
    'noreply' => function (Memcached $client): void {
        $client->setOption(Memcached::OPT_NOREPLY, true);
        for ($number = 0; $number < 100; $number++) {
            $client->set("noreply-$number", "value $number");
        }
        $client->setOption(Memcached::OPT_NOREPLY, false);
        same('get of the last', get($client, 'noreply-99'), 'value 99');
        same('get of the first', get($client, 'noreply-0'), 'value 0');
        $client->setOption(Memcached::OPT_NOREPLY, true);
        $client->delete('noreply-0');
        $client->setOption(Memcached::OPT_NOREPLY, false);
        same('get of what was deleted', get($client, 'noreply-0'), null);
        same('get of another', get($client, 'noreply-1'), 'value 1');
    },
    'reconnect' => fn (Memcached $client): string => implode('; ', array_filter([after($client, 'restart'), after($client, 'crash')])),
];

[, $protocol, $address, $port] = $argv;
$client = connect($protocol, $address, (int) $port);
foreach ($operations as $operation => $act) {
    [$verdict, $note] = ['ok', ''];
    try {
        $note = $act($client) ?? '';
    } catch (Throwable $error) {
        [$verdict, $note] = ['FAILED', get_class($error) . ": {$error->getMessage()}"];
    }
    tell(['operation' => $operation, 'verdict' => $verdict, 'note' => $note]);
}
