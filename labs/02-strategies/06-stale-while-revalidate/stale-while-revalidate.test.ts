import type { RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { startProcesses } from '#kit/processes';
import { openProxy } from '#kit/proxy';
import { useServers } from '#kit/servers';
import { soon, unhandledRejections, until } from '#kit/waiting';
import {
  createSwr,
  decode,
  encode,
  entryKey,
  LoadTimeoutError,
  lockKey,
  type SwrOptions,
} from './stale-while-revalidate';
import subjectFile from './stale-while-revalidate?file';

const servers = useServers('products');

const T0 = 1_700_000_000_000;
const SOFT_MS = 10_000;
const HARD_MS = 60_000;
const KEY = 'product:1';
const MUG = 'Enamel mug, 350 ml';

interface Product {
  readonly name: string;
  readonly updatedAt: Date;
}

test('a fresh value is served without a load, whoever stored it', async () => {
  const clock = fakeClock(T0);
  const source = productSource();
  const cold = open(source.load, { now: clock.now });
  const first = await cold.get(KEY);
  expect(first, 'nothing is cached: load it').toMatchObject({ name: MUG });
  await cold.settled();

  const other = open(source.load, { now: clock.now, redis: servers.connectRedis() });
  clock.advance(SOFT_MS - 1);
  const [hit, same] = await Promise.all([other.get(KEY), other.get(KEY)]);
  await other.settled();
  expect(source.loads, 'the entry in Redis says itself how old it is: another process must not load').toBe(1);
  expect(hit?.updatedAt, 'a Date must be a Date on a hit too').toEqual(first?.updatedAt);
  expect(hit, 'each caller gets a value of its own').not.toBe(same);

  clock.advance(1);
  await other.get(KEY);
  await other.settled();
  expect(source.loads, 'another process must know when the entry is no longer fresh, and refresh it').toBe(2);
});

test('a soft-expired value is returned at once and refreshed once', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.mysqlUrl);
  const source = productSource(servers.connectDb({}, proxy.url));
  const swr = open(source.load, { now: clock.now });
  await swr.get(KEY);
  await servers.db.query("UPDATE products SET name = 'Steel mug' WHERE id = 1");
  clock.advance(SOFT_MS);

  const gate = proxy.hold(/SELECT .* FROM products/i);
  const stale = await soon(swr.get(KEY));
  expect(stale, 'the SELECT is still held: the reader must not wait for the refresh').toMatchObject({
    name: MUG,
  });
  await gate.arrived;
  const readers = await soon(Promise.all(Array.from({ length: 20 }, () => swr.get(KEY))));
  expect(readers, 'a refresh is under way: the others get the stale value too').toHaveLength(20);
  expect(new Set<unknown>(readers).size, 'they share the entry, but no object').toBe(20);
  gate.release();
  await swr.settled();
  expect(source.loads, '21 readers saw the stale value: one refresh is enough').toBe(2);
  const refreshed = await swr.get(KEY);
  await swr.settled();
  expect(refreshed?.name, 'the refresh has ended: serve what it has loaded').toBe('Steel mug');
  expect(source.loads, 'what was refreshed is fresh again for softTtlMs').toBe(2);
});

test('a missing or hard-expired value waits for one load', async () => {
  const clock = fakeClock(T0);
  const names = ['first', 'second', 'third', 'fourth', 'fifth', 'sixth'];
  let loads = 0;
  const swr = open(
    async () => {
      const name = names[loads++] ?? 'one too many';
      await new Promise((resolve) => setImmediate(resolve));
      clock.advance(4_000);
      return { name, updatedAt: new Date(0) };
    },
    { now: clock.now },
  );
  const readers = await Promise.all(Array.from({ length: 20 }, () => swr.get(KEY)));
  await swr.settled();
  expect(loads, '20 readers missed at once: they share one load').toBe(1);
  expect(new Set(readers).size, 'they share the load, but no object').toBe(20);
  const left = await servers.redis.pttl(entryKey(KEY));
  expect(left, 'the entry must leave Redis by itself, when hardTtlMs ends: PX').toBeGreaterThan(HARD_MS / 2);
  expect(
    left,
    'the value was 4 s old when its load ended: what is left of hardTtlMs counts from the beginning of the load',
  ).toBeLessThanOrEqual(HARD_MS - 4_000);

  for (const [what, expected] of [
    ['a miss', 2],
    ['a refresh', 3],
  ] as const) {
    clock.advance(SOFT_MS - 4_000);
    await swr.get(KEY);
    await swr.settled();
    expect(
      loads,
      `softTtlMs too counts from the beginning of the load, after ${what}: the value is no longer fresh`,
    ).toBe(expected);
    expect(
      await servers.redis.pttl(entryKey(KEY)),
      'a refreshed value too was 4 s old when its load ended: its PX is what is left of hardTtlMs',
    ).toBeLessThanOrEqual(HARD_MS - 4_000);
  }

  const byKey = open(async (key) => ({ name: key, updatedAt: new Date(0) }), { now: clock.now });
  const both = await Promise.all([byKey.get('product:2'), byKey.get('product:3')]);
  expect(
    both.map((product) => product?.name),
    'two keys missed at once: each has a load of its own',
  ).toEqual(['product:2', 'product:3']);

  await servers.redis.del(entryKey(KEY));
  expect((await swr.get(KEY))?.name, 'nothing is left to serve: wait for the load').toBe('fourth');
  await swr.settled();

  const bytes = await servers.redis.getBuffer(entryKey(KEY));
  clock.advance(HARD_MS);
  await servers.redis.set(entryKey(KEY), bytes ?? '', 'PX', HARD_MS);
  expect(
    (await swr.get(KEY))?.name,
    'a SET that waited in a queue came late, with a full PX: the entry is past hardTtlMs by its own time, do not serve it',
  ).toBe('fifth');
  await swr.settled();

  await servers.redis.set(entryKey(KEY), 'written by the release of last week', 'PX', HARD_MS);
  expect(
    await swr.get(KEY).catch((error: Error) => error),
    'bytes that are no entry are a miss, not the matter of the reader',
  ).toMatchObject({ name: 'sixth' });
  await swr.settled();
  expect(
    (await swr.get(KEY))?.name,
    'store the loaded value over the bytes that are no entry, or each read loads',
  ).toBe('sixth');
});

test('a failing refresh keeps the stale value until its hard end', async () => {
  const clock = fakeClock(T0);
  const down = new Error('connect ECONNREFUSED');
  const source = productSource();
  const told: unknown[] = [];
  let loads = 0;
  let failing = false;
  const swr = open(
    (key, signal) => {
      loads++;
      return failing ? Promise.reject(down) : source.load(key, signal);
    },
    {
      now: clock.now,
      onRefreshError(error) {
        told.push(error);
        throw new Error('the log is down too');
      },
    },
  );
  await swr.get(KEY);
  clock.advance(SOFT_MS);
  await servers.redis.pexpire(entryKey(KEY), 5_000);
  failing = true;
  const unhandled = unhandledRejections();
  const stale = await soon(swr.get(KEY).catch((error: Error) => error.message));
  expect(stale, 'the reader did not ask for the refresh: its failure is not his').toMatchObject({
    name: MUG,
  });
  // Before settled, which may catch it.
  await until(() => told.length > 0);
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(
    unhandled(),
    'nobody awaits a refresh: catch whatever it throws, and what onRefreshError throws',
  ).toEqual([]);
  await swr.settled();
  expect(told, 'the refresh failed in the background: tell onRefreshError, or nobody ever knows').toEqual([
    down,
  ]);
  const left = await servers.redis.pttl(entryKey(KEY));
  expect(left, 'the stale value must stay: it is all there is').toBeGreaterThan(0);
  expect(
    left,
    'nothing was confirmed: a failed refresh must not prolong the life of the value',
  ).toBeLessThanOrEqual(5_000);

  for (let i = 0; i < 5; i++) {
    expect(await swr.get(KEY), 'serve the stale value as long as it lives').toMatchObject({ name: MUG });
    await swr.settled();
  }
  expect(loads, 'the source has just failed: do not ask it at every read, wait until the lock expires').toBe(
    2,
  );

  failing = false;
  await servers.redis.del(lockKey(KEY));
  await swr.get(KEY);
  await swr.settled();
  expect(loads, 'the lock has gone: try again').toBe(3);
  expect(
    await servers.redis.pttl(entryKey(KEY)),
    'this refresh was good: the new value has a hardTtlMs of its own',
  ).toBeGreaterThan(5_000);
});

test('there is one refresh across processes', async () => {
  const clock = fakeClock(T0);
  const source = productSource();
  const here = open(source.load, { now: clock.now });
  await here.get(KEY);
  clock.advance(SOFT_MS);

  const proxy = await openProxy(servers.mysqlUrl);
  const gate = proxy.hold(/SELECT .* FROM products/i);
  const args = {
    redis: servers.redisUrl,
    mysql: proxy.url,
    softTtlMs: SOFT_MS,
    hardTtlMs: HARD_MS,
    now: clock.now(),
  };
  const [peer] = await startProcesses<typeof import('./stale-while-revalidate'), typeof args, number>(
    1,
    subjectFile,
    args,
    async ({ subject, args, Redis, mysql }) => {
      const db = mysql.createPool({ uri: args.mysql });
      let loads = 0;
      const swr = subject.createSwr({
        redis: new Redis(args.redis),
        softTtlMs: args.softTtlMs,
        hardTtlMs: args.hardTtlMs,
        loadDeadlineMs: 10_000,
        cacheDeadlineMs: 10_000,
        now: () => args.now,
        load: async () => {
          loads++;
          await db.query('SELECT name FROM products WHERE id = 1');
          return { name: 'refreshed by the peer', updatedAt: new Date(0) };
        },
      });
      await Promise.all(Array.from({ length: 10 }, () => swr.get('product:1')));
      await swr.settled();
      return loads;
    },
  );
  // The peer's SELECT is held while this process reads the stale value too.
  await Promise.race([gate.arrived, peer?.result]);
  await soon(Promise.all(Array.from({ length: 10 }, () => here.get(KEY))));
  await soon(here.settled());
  gate.release();
  expect(
    [await peer?.result, source.loads - 1],
    'two processes saw the stale value (theirs loads, ours does not): take a lock in Redis before you load',
  ).toEqual([1, 0]);
  expect((await here.get(KEY))?.name, 'what another process has refreshed is fresh for all').toBe(
    'refreshed by the peer',
  );

  clock.advance(SOFT_MS);
  const redisProxy = await openProxy(servers.redisUrl);
  const late = open(source.load, { now: clock.now, redis: servers.connectRedis({}, redisProxy.url) });
  const lock = redisProxy.hold(/swr:lock:/);
  await soon(late.get(KEY));
  await lock.arrived;
  const before = source.loads;
  await here.get(KEY);
  await here.settled();
  lock.release();
  await late.settled();
  expect(
    source.loads - before,
    'this one saw the stale value too, but got the lock when another had refreshed the entry: look again before you load',
  ).toBe(1);
  expect(
    await servers.redis.exists(lockKey(KEY)),
    'nothing was left to do: release the lock, or the next refresh waits for it',
  ).toBe(0);
});

test('the lock is freed by its owner or by its expiry', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.redisUrl);
  const queue: ((name: string) => void)[] = [];
  const load = () =>
    new Promise<Product>((resolve) => {
      queue.push((name) => resolve({ name, updatedAt: new Date(0) }));
    });
  const swr = open(load, {
    redis: servers.connectRedis({}, proxy.url),
    now: clock.now,
    loadDeadlineMs: 60_000,
    cacheDeadlineMs: 5_000,
  });
  let loads = 0;
  /** A reader comes, and the next load begins. */
  const read = async () => {
    loads++;
    const reader = soon(swr.get(KEY)).catch(() => {});
    await until(() => queue.length === loads);
    return { reader };
  };
  const { reader } = await read();
  queue.at(-1)?.('first');
  await reader;
  await swr.settled();

  let withoutExpiry = 0;
  proxy.schedule(async () => {
    if ((await servers.redis.pttl(lockKey(KEY))) === -1) withoutExpiry++;
  });
  clock.advance(SOFT_MS);
  await read();
  const ttl = await servers.redis.pttl(lockKey(KEY));
  expect(
    ttl,
    'if this process is killed now, nobody refreshes any more: the lock must expire by itself',
  ).toBeGreaterThan(0);
  expect(
    ttl,
    'a refresh may take loadDeadlineMs + 3 × cacheDeadlineMs: a lock that expires before that lets a second one in',
  ).toBeGreaterThan(70_000);
  expect(
    ttl,
    'the crash of its owner must not stop the refreshes for much longer than a refresh takes',
  ).toBeLessThanOrEqual(150_000);
  expect(
    withoutExpiry,
    'a process that is killed between two commands leaves its lock for ever: take it and give it its expiry in one step',
  ).toBe(0);

  const newer = () => encode({ value: { name: 'newer', updatedAt: new Date(0) }, loadedAt: clock.now() });
  const losses = {
    'another holds the lock': () =>
      servers.redis
        .multi()
        .set(entryKey(KEY), newer(), 'PX', HARD_MS)
        .set(lockKey(KEY), 'the token of another', 'PX', HARD_MS)
        .exec(),
    'another has had the lock': () =>
      servers.redis.multi().set(entryKey(KEY), newer(), 'PX', HARD_MS).del(lockKey(KEY)).exec(),
    'a writer has deleted entry and lock': () => servers.redis.del(entryKey(KEY), lockKey(KEY)),
  };
  const inRedis = async () => {
    const [bytes, lock] = await Promise.all([
      servers.redis.getBuffer(entryKey(KEY)),
      servers.redis.get(lockKey(KEY)),
    ]);
    return { name: bytes && decode<Product>(bytes).value.name, lock };
  };
  for (const [what, lose] of Object.entries(losses)) {
    // The lock is lost before the 1st command that follows the load; next time before the 2nd; until there is no such command.
    let nth = 0;
    let sent: number;
    do {
      nth++;
      sent = 0;
      let lost = await inRedis();
      proxy.schedule(async () => {
        if (++sent !== nth) return;
        clock.advance(1);
        await lose();
        lost = await inRedis();
      });
      queue.at(-1)?.('of the one that lost its lock');
      await soon(swr.settled());
      proxy.schedule();
      const now = await inRedis();
      if (sent >= nth) {
        const when = `${what}, since just before command ${nth} after the load`;
        expect(now.lock, `${when}: compare the token and delete the lock in one step`).toBe(lost.lock);
        expect(now.name, `${when}: compare the token and store the value in one step`).toBe(lost.name);
      } else {
        expect(now.lock, 'this time it has kept its lock: release it').toBeNull();
      }
      await servers.redis.multi().set(entryKey(KEY), newer(), 'PX', HARD_MS).del(lockKey(KEY)).exec();
      clock.advance(SOFT_MS);
      await read();
    } while (sent >= nth);
  }
  // The load of a refresh is running.
  const refresh = queue.length - 1;
  await servers.redis.del(entryKey(KEY), lockKey(KEY));
  const { reader: missed } = await read();
  if (queue.length - 1 > refresh) queue.at(-1)?.('read after the write');
  await missed;
  queue[refresh]?.('read before the write');
  await soon(swr.settled());
  await soon(missed);
  expect(
    (await inRedis()).name,
    'a writer has cancelled the refresh, then this process missed: a miss must not join the load of the refresh and store it without the lock',
  ).toBe('read after the write');
});

test('a deleted row stops being served', async () => {
  const clock = fakeClock(T0);
  const source = productSource();
  const swr = open(source.load, { now: clock.now });
  await swr.get(KEY);
  await servers.db.query('DELETE FROM products WHERE id = 1');
  clock.advance(SOFT_MS);
  await swr.get(KEY);
  await swr.settled();
  const gone = await swr.get(KEY);
  expect(
    gone,
    'the refresh found no such row: delete the entry, do not serve it to its hard end',
  ).toBeUndefined();
  await swr.settled();

  await servers.db.query(
    "INSERT INTO products (id, name, price, stock, category_id, updated_at, description) VALUES (1, 'Mug, again', 9.90, 1, 1, NOW(), '')",
  );
  expect((await swr.get(KEY))?.name, 'undefined is not stored: the row is back').toBe('Mug, again');
});

test('a hung load ends at its deadline and poisons nothing', async () => {
  const clock = fakeClock(T0);
  const told: unknown[] = [];
  const signals: AbortSignal[] = [];
  const hung: ((late: Product) => void)[] = [];
  const source = productSource();
  let hanging = true;
  const swr = open(
    (key, signal) => {
      signals.push(signal);
      return hanging ? new Promise<Product>((resolve) => hung.push(resolve)) : source.load(key, signal);
    },
    { now: clock.now, loadDeadlineMs: 120, onRefreshError: (error) => told.push(error) },
  );
  const first = await soon(swr.get(KEY).catch((error: unknown) => error));
  expect(first, 'the load hangs: stop waiting after loadDeadlineMs').toBeInstanceOf(LoadTimeoutError);
  expect(signals[0]?.aborted, 'nobody waits for this load any more: abort its signal').toBe(true);
  hanging = false;
  const second = await soon(swr.get(KEY).catch((error: unknown) => error));
  expect(second, 'the next reader must not join the load that hangs').toMatchObject({ name: MUG });
  await swr.settled();

  clock.advance(SOFT_MS);
  hanging = true;
  expect(await soon(swr.get(KEY)), 'the refresh hangs: not the reader').toMatchObject({ name: MUG });
  const ended = await soon(swr.settled().then(() => 'settled'));
  expect(ended, 'a refresh ends at loadDeadlineMs too').toBe('settled');
  expect(told[0], 'a refresh that ran out of time has failed: tell').toBeInstanceOf(LoadTimeoutError);
  expect(signals.at(-1)?.aborted, 'nobody waits for the load of a refresh either: abort its signal').toBe(
    true,
  );
  expect(
    await servers.redis.exists(lockKey(KEY)),
    'the load has hung: keep the lock, or the next reader starts another that hangs',
  ).toBe(1);
  for (const answer of hung) answer({ name: 'too late', updatedAt: new Date(0) });
  await new Promise((resolve) => setImmediate(resolve));
  hanging = false;
  await servers.redis.del(lockKey(KEY));
  await swr.get(KEY);
  await swr.settled();
  expect((await swr.get(KEY))?.name, 'the hung refresh is forgotten: the next one must run').toBe(MUG);
  expect(source.loads, 'the hung refresh is forgotten: the next one must run').toBe(2);
});

test('without Redis, get loads, within its deadlines', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({ maxRetriesPerRequest: null, retryStrategy: () => 10 }, proxy.url);
  onTestFinished(() => redis.disconnect());
  const source = productSource();
  const told: unknown[] = [];
  let meanwhile = async () => {};
  let loads = 0;
  const openWithin = (cacheDeadlineMs: number) =>
    open(
      async (key, signal) => {
        loads++;
        await meanwhile();
        return source.load(key, signal);
      },
      { redis, now: clock.now, cacheDeadlineMs, onRefreshError: (error) => told.push(error) },
    );
  await redis.ping();
  /** Redis answers again, and has done all that was asked of it meanwhile. */
  const healed = async () => {
    await proxy.heal();
    await until(() => redis.status === 'ready');
    await redis.ping();
  };

  const faults = { 'gives no answer': () => proxy.stall(), 'refuses connections': () => proxy.refuse() };
  for (const [what, fail] of Object.entries(faults)) {
    const swr = openWithin(40);
    const before = loads;
    await fail();
    // Both readers have given up on Redis by the time that the first load ends.
    meanwhile = () => new Promise((resolve) => setTimeout(resolve, 30));
    const reads = await soon(
      Promise.all([swr.get(KEY), swr.get(KEY)]).catch((error: Error) => error.message),
    );
    expect(reads, `Redis ${what}: load, after cacheDeadlineMs at most`).toMatchObject([
      { name: MUG },
      { name: MUG },
    ]);
    expect(loads - before, `Redis ${what}: now of all times, readers must share a load`).toBe(1);
    expect(new Set<unknown>(reads).size, `Redis ${what}: readers share the load, but no object`).toBe(2);
    await swr.settled();
    await healed();
    expect(
      await servers.redis.exists(entryKey(KEY)),
      `Redis ${what}: who could not read the entry must not write it, a SET that waits comes late`,
    ).toBe(0);
  }

  const swr = openWithin(100);
  // Redis falls silent while two loads run: that of a refresh and that of a miss.
  await open(source.load, { now: clock.now }).get(KEY);
  clock.advance(SOFT_MS);
  const before = loads;
  meanwhile = async () => {
    await until(() => loads === before + 2);
    proxy.stall();
  };
  const [stale, missed] = [soon(swr.get(KEY)), soon(swr.get('product:2'))];
  expect(await stale, 'a refresh that Redis has failed is not the matter of the reader').toMatchObject({
    name: MUG,
  });
  expect(
    await missed,
    'the SET gets no answer: return the value that was loaded, after cacheDeadlineMs at most',
  ).toMatchObject({ name: MUG });
  expect(
    await soon(swr.settled().then(() => 'settled')),
    'the last command of a refresh gets no answer: give it cacheDeadlineMs like any other',
  ).toBe('settled');
  expect(told.length, 'a refresh that Redis has failed is told').toBe(1);
  await healed();
  meanwhile = async () => {};

  await servers.redis.del(entryKey(KEY), lockKey(KEY));
  await open(source.load, { now: clock.now }).get(KEY);
  clock.advance(SOFT_MS);
  proxy.schedule(async (request) => {
    if (request.includes('swr:lock:')) proxy.blackHole();
  });
  expect(
    await soon(swr.get(KEY)),
    'Redis fell silent when the lock was asked for: that is not the matter of the reader',
  ).toMatchObject({ name: MUG });
  expect(await soon(swr.settled().then(() => 'settled')), 'the refresh must give up on Redis too').toBe(
    'settled',
  );
  expect(told.length, 'a refresh that Redis has failed is told').toBe(2);
});

/** As the test file's own servers allow: deadlines that no test meets unless it means to. */
const open = (load: SwrOptions<Product>['load'], options: Partial<SwrOptions<Product>> = {}) =>
  createSwr<Product>({
    redis: servers.redis,
    softTtlMs: SOFT_MS,
    hardTtlMs: HARD_MS,
    loadDeadlineMs: 3_000,
    cacheDeadlineMs: 3_000,
    load,
    ...options,
  });

/** Reads product 1, and counts how often. */
function productSource(db = servers.db) {
  const source = {
    loads: 0,
    async load(_key: string, _signal: AbortSignal): Promise<Product | undefined> {
      source.loads++;
      const [[row]] = await db.query<RowDataPacket[]>('SELECT name, updated_at FROM products WHERE id = 1');
      return row && { name: row.name, updatedAt: row.updated_at };
    },
  };
  return source;
}
