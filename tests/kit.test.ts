import { join } from 'node:path';
import { Redis } from 'ioredis';
import mysql, { type RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { explore } from '#kit/explore';
import { startProxy } from '#kit/faulty-proxy';
import { type Inside, startProcesses } from '#kit/processes';
import { seeded } from '#kit/random';
import { useServers } from '#kit/servers';

const servers = useServers('users');

function client(url: string) {
  const redis = new Redis(url, {
    retryStrategy: () => 10,
    commandTimeout: 100,
    maxRetriesPerRequest: 1,
    autoResendUnfulfilledCommands: false,
  });
  redis.on('error', () => {});
  onTestFinished(() => redis.disconnect());
  return redis;
}

test('work is counted at the servers', async () => {
  const work = await servers.work(async () => {
    await servers.redis.get('a');
    await servers.redis.mget('a', 'b');
    await servers.db.execute('SELECT id FROM users WHERE id = ?', [1]);
    await servers.db.query('SELECT 1');
  });
  expect([work.redis(), work.redis('get'), work.redis('get', 'mget'), work.redis('set')]).toEqual([
    2, 1, 2, 0,
  ]);
  expect([work.sql(), work.sql('select'), work.sql('insert')]).toEqual([2, 2, 0]);
});

test('a refused proxy refuses, and heals', async () => {
  const proxy = await startProxy(servers.redisUrl);
  const redis = client(proxy.url);
  expect(await redis.set('a', '1')).toBe('OK');
  await proxy.refuse();
  await expect(redis.get('a')).rejects.toThrow();
  await proxy.heal();
  await expect.poll(() => redis.get('a').catch(() => 'down')).toBe('1');
});

test('a cut proxy ends what was open and takes new connections', async () => {
  const proxy = await startProxy(servers.mysqlUrl);
  const connection = await mysql.createConnection(proxy.url);
  connection.on('error', () => {});
  await connection.query('SELECT 1');
  proxy.cut();
  await expect(connection.query('SELECT 1')).rejects.toThrow();
  const next = await mysql.createConnection(proxy.url);
  await next.query('SELECT 1');
  await next.end();
});

test('a stalled proxy delivers when healed', async () => {
  const proxy = await startProxy(servers.redisUrl);
  const redis = client(proxy.url);
  await redis.set('a', '1');
  proxy.stall();
  await expect(redis.incr('a')).rejects.toThrow('timed out');
  expect(await servers.redis.get('a')).toBe('1');
  await proxy.heal();
  await expect.poll(() => servers.redis.get('a')).toBe('2');
});

test('a black hole loses what was sent', async () => {
  const proxy = await startProxy(servers.redisUrl);
  const redis = client(proxy.url);
  await redis.set('a', '1');
  proxy.blackHole();
  await expect(redis.incr('a')).rejects.toThrow('timed out');
  await proxy.heal();
  await expect.poll(() => redis.get('a').catch(() => 'down')).toBe('1');
});

test('a delay keeps the order of answers', async () => {
  const proxy = await startProxy(servers.redisUrl);
  const redis = client(proxy.url);
  await redis.ping();
  proxy.delay(20);
  const answers: string[] = [];
  await Promise.all(['a', 'b', 'c'].map((word) => redis.echo(word).then((answer) => answers.push(answer))));
  expect(answers).toEqual(['a', 'b', 'c']);
});

test('a gate holds one command before the server sees it', async () => {
  const proxy = await startProxy(servers.redisUrl);
  const redis = client(proxy.url);
  const gate = proxy.hold(/^set b /i);
  const before = redis.set('a', '1');
  const held = redis.set('b', '1');
  await gate.arrived;
  await before;
  expect(await servers.redis.mget('a', 'b')).toEqual(['1', null]);
  gate.release();
  await held;
  expect(await servers.redis.get('b')).toBe('1');
});

test.each(['query', 'execute'] as const)(
  'a gate holds one SQL %s, prepared before or not',
  async (method) => {
    const proxy = await startProxy(servers.mysqlUrl);
    const connection = await mysql.createConnection(proxy.url);
    onTestFinished(() => connection.destroy());
    const sql = 'UPDATE users SET name = ? WHERE id = 1';
    const values = () => [String(Math.random())];
    const rename = () =>
      method === 'query' ? connection.query(sql, values()) : connection.execute(sql, values());
    await rename();
    const nameNow = async () =>
      JSON.stringify((await servers.db.query('SELECT name FROM users WHERE id = 1'))[0]);
    const before = await nameNow();
    const gate = proxy.hold(/UPDATE users/);
    const held = rename();
    await gate.arrived;
    expect(await nameNow()).toBe(before);
    gate.release();
    await held;
    expect(await nameNow()).not.toBe(before);
  },
);

test('processes run at once, tell words, and can be killed', async () => {
  type Subject = { seeded: (seed: number) => () => number };
  const peers = await startProcesses(
    2,
    join(import.meta.dirname, '../course/kit/random.ts'),
    { url: servers.redisUrl },
    async ({ subject, args, tell, Redis }: Inside<Subject, { url: string }>) => {
      const redis = new Redis(args.url);
      const place = await redis.incr('processes');
      tell('counted');
      if (place === 2) await new Promise((resolve) => setTimeout(resolve, 60_000));
      redis.disconnect();
      return subject.seeded(7)();
    },
  );
  await Promise.all(peers.map((peer) => peer.heard('counted')));
  expect(await servers.redis.get('processes')).toBe('2');
  expect(await Promise.race(peers.map(({ result }) => result))).toBe(seeded(7)());
  await Promise.all(peers.map((peer) => peer.kill()));
  const ends = await Promise.allSettled(peers.map(({ result }) => result));
  expect(ends.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
});

test('explore finds the interleaving that plain cache-aside loses, the same one each time', {
  timeout: 30_000,
}, async () => {
  const plain = (held: boolean) =>
    explore(servers, {
      prepare: async () => {
        await servers.redis.del('name');
        await servers.db.query("UPDATE users SET name = 'old' WHERE id = 1");
      },
      actors: {
        reader: async ({ redis, db }) => {
          if (await redis.get('name')) return;
          const [[user]] = await db.query<RowDataPacket[]>('SELECT name FROM users WHERE id = 1');
          if (!held) await redis.set('name', user?.name);
        },
        writer: async ({ redis, db }) => {
          await db.query("UPDATE users SET name = 'new' WHERE id = 1");
          await redis.del('name');
        },
      },
      verdict: async () =>
        (await servers.redis.get('name')) === 'old' ? 'the cache must not keep the old name' : undefined,
    });
  const loss = await plain(false).catch((error) => String(error));
  expect(
    String(loss).replace(/interleaving \d+/, 'interleaving n'),
  ).toBe(`AssertionError: the cache must not keep the old name

  1. reader: get name
  2. reader: SELECT name FROM users WHERE id = 1
  3. writer: UPDATE users SET name = 'new' WHERE id = 1
  4. writer: del name
  5. reader: set name old

(interleaving n of 80, seed 2026)`);
  await plain(true);
});
