import type { RowDataPacket } from 'mysql2/promise';
import { expect, onTestFinished, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { startProcesses } from '#kit/processes';
import { openProxy } from '#kit/proxy';
import { seeded } from '#kit/random';
import { useServers } from '#kit/servers';
import { soon, unhandledRejections, until } from '#kit/waiting';
import {
  createEarlyCache,
  decode,
  type EarlyCacheOptions,
  encode,
  entryKey,
  LoadTimeoutError,
  lockKey,
  shouldRefresh,
} from './early-expiration';
import subjectFile from './early-expiration?file';

const servers = useServers('products');

const T0 = 1_700_000_000_000;
const KEY = 'product:1';
const MUG = 'Enamel mug, 350 ml';
/** No whole number of seconds. */
const TTL_MS = 59_900;
const TOOK_MS = 4_000;
/** With random() always 0.5, a hit draws when the gap is at most Δ · ln 2 = 0.69 · TOOK_MS. */
const GAP_MS = 2_000;
/** From the end of a load that took TOOK_MS until its value draws. */
const UNTIL_DRAWN_MS = TTL_MS - TOOK_MS - GAP_MS;

test('the probability of a refresh is e to the power of -gap / (delta · beta)', () => {
  const draws = 20_000;
  for (const [gapInDeltas, beta] of [
    [1, 1],
    [2, 1],
    [0.5, 1],
    [1, 0.5],
    [2, 2],
  ] as const) {
    for (const deltaMs of [40, 2_000.5]) {
      const random = seeded(7);
      let refreshes = 0;
      for (let i = 0; i < draws; i++) {
        if (shouldRefresh({ now: T0, expiresAt: T0 + gapInDeltas * deltaMs, deltaMs, beta, random }))
          refreshes++;
      }
      const p = Math.exp(-gapInDeltas / beta);
      const bound = 5 * Math.sqrt((p * (1 - p)) / draws);
      expect(
        Math.abs(refreshes / draws - p),
        `${gapInDeltas} · Δ before the expiry, with Δ = ${deltaMs} ms and β = ${beta}, ${(100 * p).toFixed(1)} % of the hits must refresh, and ${((100 * refreshes) / draws).toFixed(1)} % did`,
      ).toBeLessThan(bound);
    }
  }

  const half = { now: T0, beta: 1, random: () => 0.5 };
  expect(
    [1_000, 2_000, 4_000].map((deltaMs) => shouldRefresh({ ...half, expiresAt: T0 + 1_000, deltaMs })),
    '1 s before the expiry, with rand() = 0.5: what takes 1 s has until Δ · ln 2 = 0.7 s, what takes longer must refresh now',
  ).toEqual([false, true, true]);

  const random = seeded(11);
  let early = 0;
  for (let i = 0; i < 50_000; i++) {
    if (shouldRefresh({ now: T0, expiresAt: T0 + 20 * 100, deltaMs: 100, beta: 1, random })) early++;
  }
  expect(early, '20 · Δ before the expiry a refresh has a probability of 2 in 10^9').toBe(0);

  const edge = { now: T0, beta: 1, random: () => 0 };
  expect(
    shouldRefresh({ ...edge, expiresAt: T0 + 1_000_000, deltaMs: 100 }),
    'random() is 0: ln(0) is -Infinity, and this refresh comes 10,000 · Δ before the expiry',
  ).toBe(false);
  for (const random of [() => 0, () => 0.5, () => 1 - Number.EPSILON / 2]) {
    for (const [deltaMs, beta] of [
      [0, 1],
      [100, 0],
      [100, 1],
    ] as const) {
      const what = `Δ = ${deltaMs}, β = ${beta}, random() = ${random()}`;
      expect(
        [0, 1, 1_000].map((pastMs) =>
          shouldRefresh({ now: T0 + pastMs, expiresAt: T0, deltaMs, beta, random }),
        ),
        `${what}: at the expiry and after it the answer is true (0 · -Infinity is NaN, and NaN is never greater)`,
      ).toEqual([true, true, true]);
      if (deltaMs * beta > 0) continue;
      expect(
        shouldRefresh({ now: T0, expiresAt: T0 + 1, deltaMs, beta, random }),
        `${what}: with Δ · β = 0 there is no refresh before the expiry`,
      ).toBe(false);
    }
  }
});

test('a value that loads fast is left alone until shortly before its end', async () => {
  const clock = fakeClock(T0);
  const source = productSource(clock, 20);
  const ttlMs = 600_000;
  const random = seeded(3);
  let drawn = 0;
  const counted = () => {
    drawn++;
    return random();
  };
  const cache = open({ now: clock.now, ttlMs, random: counted });
  await cache.get(KEY, source.load);
  expect(
    decode(await servers.redis.get(entryKey(KEY)))?.expiresAt,
    'expiresAt is ttlMs after the beginning of the load, for every entry',
  ).toBe(T0 + ttlMs);
  for (const share of [0.5, 0.75, 0.9, 0.99]) {
    clock.advance(T0 + share * ttlMs - clock.now());
    await Promise.all(Array.from({ length: 100 }, () => cache.get(KEY, source.load)));
    await cache.settled();
    expect(
      source.loads,
      `${100 * share} % of the TTL have gone, and the load takes 20 ms: it is far too early for a refresh, however old the value`,
    ).toBe(1);
  }
  expect(drawn, '400 hits, none of them during a refresh: each draws once').toBe(400);
  clock.advance(T0 + ttlMs - 20 - clock.now());
  await Promise.all(Array.from({ length: 100 }, () => cache.get(KEY, source.load)));
  await cache.settled();
  expect(
    source.loads,
    'Δ before the expiry each of 100 hits refreshes with 37 %: one of them must',
  ).toBeGreaterThan(1);
  expect(source.loads, 'many of 100 hits drew at the same time: one load is enough').toBe(2);

  // The entry has more than 500 s left, and Δ · β · ln 2 is 693 s.
  const eager = open({ now: clock.now, ttlMs, beta: 50_000 });
  await eager.get(KEY, source.load);
  await eager.settled();
  expect(source.loads, 'β = 50,000 and rand() = 0.5: hand the `beta` of the options to the draw').toBe(3);
});

test('a refresh keeps nobody waiting, and there is one', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.mysqlUrl);
  const source = productSource(clock, TOOK_MS, servers.connectDb({}, proxy.url));
  const cache = open({ now: clock.now });
  await cache.get(KEY, source.load);
  await servers.db.query("UPDATE products SET name = 'Steel mug' WHERE id = 1");
  clock.advance(UNTIL_DRAWN_MS);

  const gate = proxy.hold(/SELECT .* FROM products/i);
  const cached = await soon(cache.get(KEY, source.load));
  expect(cached, 'the SELECT is still held: the hit that draws must not wait for its refresh').toMatchObject({
    name: MUG,
  });
  expect(
    await soon(gate.arrived.then(() => 'a load')),
    '2 s before the expiry of what takes 4 s to load: this hit must start a refresh',
  ).toBe('a load');
  const readers = await soon(Promise.all(Array.from({ length: 20 }, () => cache.get(KEY, source.load))));
  expect(readers, 'a refresh is under way: all others get the cached value too').toHaveLength(20);
  expect(new Set<unknown>(readers).size, 'they share the entry, but no object').toBe(20);
  gate.release();
  await soon(cache.settled());
  expect(source.loads, '21 hits drew a refresh, one after the other: one load is enough').toBe(2);
  const refreshed = await cache.get(KEY, source.load);
  expect(refreshed.name, 'the refresh has ended: serve what it has loaded').toBe('Steel mug');
  await cache.settled();
  expect(source.loads, 'what was refreshed has its whole TTL before it').toBe(2);

  const ends = new Map<string, () => void>();
  const draw = async (key: string) => {
    await servers.redis.set(entryKey(key), entryThatDraws(clock, 'old'), 'PX', TTL_MS);
    await soon(cache.get(key, () => new Promise((resolve) => ends.set(key, () => resolve({ name: 'new' })))));
    await until(() => ends.has(key));
  };
  await draw('product:2');
  let second = 'running';
  const seen = cache.settled().then(() => second);
  await draw('product:3');
  ends.get('product:2')?.();
  await until(async () => (await servers.redis.exists(lockKey('product:2'))) === 0);
  await servers.redis.ping();
  await new Promise((resolve) => setImmediate(resolve));
  second = 'over';
  ends.get('product:3')?.();
  expect(
    await soon(seen),
    'another refresh began before the first had ended: settled waits until none is going on',
  ).toBe('over');
});

test('what the load took is stored with the value', async () => {
  const clock = fakeClock(T0);
  const slow = productSource(clock, TOOK_MS + 0.25);
  const slower = productSource(clock, 5_000.25);
  const fast = productSource(clock, 100);
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  const here = open({ now: clock.now, redis });
  let withoutExpiry = 0;
  proxy.schedule(async () => {
    if ((await servers.redis.pttl(entryKey(KEY))) === -1) withoutExpiry++;
  });
  await here.get(KEY, slow.load);
  await redis.ping();
  proxy.schedule();
  const entry = decode(await servers.redis.get(entryKey(KEY)));
  expect(entry, 'nothing is stored: PX takes whole milliseconds, and the clock has fractions').toBeDefined();
  expect(
    Math.abs((entry?.deltaMs ?? 0) - TOOK_MS),
    'deltaMs in Redis must be what the load took, in ms by `now`: other processes draw with it',
  ).toBeLessThanOrEqual(1);
  expect(
    entry?.expiresAt,
    'expiresAt is ttlMs after the beginning of the load: the value is as old as the question',
  ).toBe(T0 + TTL_MS);
  const left = await servers.redis.pttl(entryKey(KEY));
  expect(left, 'the PX is what is left until expiresAt, not more').toBeLessThanOrEqual(TTL_MS - TOOK_MS);
  expect(left, 'the PX is what is left until expiresAt, in ms rather than in whole seconds').toBeGreaterThan(
    55_000,
  );

  expect(
    withoutExpiry,
    'a process that is killed between two commands leaves the entry for ever: value and PX are one command',
  ).toBe(0);

  // Another process, so far as this one knows: all it has loaded is something else, and that was fast.
  const there = open({ now: clock.now, redis: servers.connectRedis() });
  await there.get('product:2', fast.load);
  clock.advance(T0 + TTL_MS - GAP_MS - clock.now());
  await there.get(KEY, slower.load);
  await there.settled();
  expect(
    slower.loads,
    'this process has never loaded this key: draw with the deltaMs of the entry, 4 s, not with that of an own load',
  ).toBe(1);
  const refreshed = decode(await servers.redis.get(entryKey(KEY)));
  expect(
    Math.abs((refreshed?.deltaMs ?? 0) - 5_000),
    'a refresh stores what its own load took, not what an earlier one did: the next hits draw with it',
  ).toBeLessThanOrEqual(1);
  expect(
    (refreshed?.expiresAt ?? 0) - (T0 + TTL_MS - GAP_MS),
    'a refresh stores its value for ttlMs from the beginning of its load',
  ).toBe(TTL_MS);
  const leftNow = await servers.redis.pttl(entryKey(KEY));
  expect(
    leftNow,
    'the PX of a refresh is what is left until the new expiresAt, not more',
  ).toBeLessThanOrEqual(TTL_MS - 5_000);
  expect(
    leftNow,
    'the PX of a refresh is what is left until the new expiresAt: without it the entry stays for ever',
  ).toBeGreaterThan(50_000);
  // That refresh took 5 s; product:2 is 1 s from its end.
  await there.get('product:2', fast.load);
  await there.settled();
  expect(
    fast.loads,
    'the last load of this process took 5 s, that of this entry 0.1 s: draw with the deltaMs of the entry',
  ).toBe(1);

  const setBack = productSource(clock, -500);
  await here.get('product:3', setBack.load);
  expect(
    decode(await servers.redis.get(entryKey('product:3')))?.deltaMs,
    'the clock was set back while it loaded: deltaMs is never below 0',
  ).toBe(0);
});

test('a miss waits for one load, and so does an expired entry', async () => {
  const clock = fakeClock(T0);
  const names = ['first', 'second', 'third', 'fourth', 'fifth'];
  let loads = 0;
  const cache = open({ now: clock.now });
  const load = async () => {
    const name = names[loads++] ?? 'one too many';
    await new Promise((resolve) => setImmediate(resolve));
    clock.advance(100);
    return { name };
  };
  const readers = await Promise.all(Array.from({ length: 20 }, () => cache.get(KEY, load)));
  expect(loads, '20 readers missed at once: they share one load').toBe(1);
  expect(readers[19], 'each of them gets the value').toEqual({ name: 'first' });
  expect(new Set(readers).size, 'they share the load, but no object').toBe(20);

  const text = await servers.redis.get(entryKey(KEY));
  // To its expiresAt, to the millisecond.
  clock.advance(T0 + TTL_MS - clock.now());
  await servers.redis.set(entryKey(KEY), text ?? '', 'PX', TTL_MS);
  expect(
    (await cache.get(KEY, load)).name,
    'the SET waited in a queue and came late, with a full PX: an entry has expired when its own expiresAt has come',
  ).toBe('second');
  await cache.settled();

  await servers.redis.set(entryKey(KEY), '{"name":"of the release of last week"}', 'PX', TTL_MS);
  expect(
    await cache.get(KEY, load).catch((error: Error) => error),
    'what is no entry is a miss, not the matter of the reader',
  ).toEqual({ name: 'third' });
  await cache.settled();
  expect(
    await cache.get(KEY, load),
    'store the loaded value over what is no entry, or each read loads',
  ).toEqual({ name: 'third' });
  const both = await Promise.all(
    ['product:2', 'product:3'].map((key) => cache.get(key, async () => ({ name: key, at: new Date(0) }))),
  );
  const at = new Date(0).toJSON();
  expect(
    both,
    'two keys missed at once: each has a load of its own, and each caller what JSON makes of the value',
  ).toEqual([
    { name: 'product:2', at },
    { name: 'product:3', at },
  ]);

  let asked = 0;
  const absent = async () => {
    asked++;
    return null;
  };
  await cache.get('product:4', absent);
  await cache.get('product:4', absent);
  expect(asked, 'null is a value: there is no such product').toBe(1);

  const down = new Error('connect ECONNREFUSED');
  const failed = await Promise.allSettled(
    [1, 2].map(() => cache.get('product:5', () => Promise.reject(down))),
  );
  expect(
    failed.map((outcome) => outcome.status === 'rejected' && outcome.reason),
    'nothing is there and the load fails: its callers get its error',
  ).toEqual([down, down]);
  const unusable = await cache.get('product:5', async () => undefined).catch((error: unknown) => error);
  expect(unusable, 'JSON cannot hold undefined: a TypeError').toBeInstanceOf(TypeError);
  expect(
    await cache.get('product:5', load),
    'what has failed is forgotten: the next caller has a load of its own',
  ).toEqual({ name: 'fourth' });
});

test('one process refreshes, and not what another has just refreshed', async () => {
  const clock = fakeClock(T0);
  const source = productSource(clock, TOOK_MS);
  const here = open({ now: clock.now });
  await here.get(KEY, source.load);
  clock.advance(UNTIL_DRAWN_MS);

  const proxy = await openProxy(servers.mysqlUrl);
  const gate = proxy.hold(/SELECT .* FROM products/i);
  const args = { redis: servers.redisUrl, mysql: proxy.url, ttlMs: TTL_MS, now: clock.now() };
  const [peer] = await startProcesses<typeof import('./early-expiration'), typeof args, number>(
    1,
    subjectFile,
    args,
    async ({ subject, args, Redis, mysql }) => {
      const db = mysql.createPool({ uri: args.mysql });
      let loads = 0;
      const cache = subject.createEarlyCache({
        redis: new Redis(args.redis, { commandTimeout: 10_000 }),
        ttlMs: args.ttlMs,
        loadDeadlineMs: 10_000,
        random: () => 0.5,
        now: () => args.now,
      });
      const load = async () => {
        loads++;
        await db.query('SELECT name FROM products WHERE id = 1');
        return { name: 'refreshed by the peer' };
      };
      await Promise.all(Array.from({ length: 10 }, () => cache.get('product:1', load)));
      await cache.settled();
      return loads;
    },
  );
  // The peer's SELECT is held while the hits of this process draw too.
  await Promise.race([gate.arrived, peer?.result]);
  await soon(Promise.all(Array.from({ length: 10 }, () => here.get(KEY, source.load))));
  await soon(here.settled());
  gate.release();
  expect(
    [await peer?.result, source.loads - 1],
    'hits of two processes drew (theirs loads, ours does not): take a lock in Redis before you load',
  ).toEqual([1, 0]);
  expect((await here.get(KEY, source.load)).name, 'what another process has refreshed is there for all').toBe(
    'refreshed by the peer',
  );

  const redisProxy = await openProxy(servers.redisUrl);
  const late = open({ now: clock.now, redis: servers.connectRedis({}, redisProxy.url) });
  const changes = {
    'another had refreshed the entry': async () => {
      await here.get(KEY, source.load);
      await here.settled();
    },
    'a writer had deleted the entry': () => servers.redis.del(entryKey(KEY)),
    'another had refreshed the entry, and the lock passes to a third': async () => {
      await here.get(KEY, source.load);
      await here.settled();
      redisProxy.schedule(async () => {
        const stolen = await servers.redis.set(lockKey(KEY), 'the token of a third', 'PX', TTL_MS, 'XX');
        if (stolen) holder = 'the token of a third';
      });
    },
  };
  let holder: string | null = null;
  for (const [what, change] of Object.entries(changes)) {
    await servers.redis.set(entryKey(KEY), entryThatDraws(clock, 'old'), 'PX', TTL_MS);
    // A command for the lock, not one that reads it together with the entry.
    const lock = redisProxy.hold(/^(?!mget).*early:lock:/is);
    expect(
      await soon(late.get(KEY, source.load)),
      'the command for the lock is held on its way to Redis: the hit must not wait for it',
    ).toEqual({ name: 'old' });
    await soon(lock.arrived);
    await change();
    const before = source.loads;
    const text = await servers.redis.get(entryKey(KEY));
    lock.release();
    await soon(late.settled());
    redisProxy.schedule();
    expect(
      source.loads - before,
      `its hit drew too, but when it got the lock ${what}: look again before you load`,
    ).toBe(0);
    expect(
      await servers.redis.get(entryKey(KEY)),
      `when it got the lock ${what}: leave the entry as it is`,
    ).toBe(text);
    expect(
      await servers.redis.get(lockKey(KEY)),
      `when it got the lock ${what}: nothing is left to do, so release the lock, if it is still your own`,
    ).toBe(holder);
  }
});

test('the lock is freed by its owner or by its expiry', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.redisUrl);
  const queue: ((name: string) => void)[] = [];
  const load = () => new Promise<Product>((resolve) => queue.push((name) => resolve({ name })));
  const loadDeadlineMs = 60_000;
  const cache = open({ now: clock.now, redis: servers.connectRedis({}, proxy.url), loadDeadlineMs });
  const other = open({ now: clock.now, loadDeadlineMs: 20_000 });
  let loads = 0;
  /** A hit draws, and its load begins. */
  const draw = async (by = cache) => {
    loads++;
    await servers.redis
      .multi()
      .set(entryKey(KEY), entryThatDraws(clock, 'old'), 'PX', TTL_MS)
      .del(lockKey(KEY))
      .exec();
    await soon(by.get(KEY, load));
    await until(() => queue.length === loads);
    expect(queue.length, 'the lock is free, and the hit draws: there must be a refresh').toBe(loads);
  };
  let withoutExpiry = 0;
  proxy.schedule(async () => {
    if ((await servers.redis.pttl(lockKey(KEY))) === -1) withoutExpiry++;
  });
  const ttls: number[] = [];
  const tokens: (string | null)[] = [];
  for (const [by, deadlineMs] of [
    [other, 20_000],
    [cache, loadDeadlineMs],
  ] as const) {
    await draw(by);
    ttls.push((await servers.redis.pttl(lockKey(KEY))) / deadlineMs);
    tokens.push(await servers.redis.get(lockKey(KEY)));
  }
  // What the other object loads is of no use: it has lost its lock.
  queue[0]?.('of the other object');
  await soon(other.settled());
  // A tenth of the deadline for a slow machine.
  expect(
    Math.min(...ttls),
    'if this process is killed now, nobody refreshes any more: the lock must expire by itself, 1.5 × loadDeadlineMs after it was taken, or later',
  ).toBeGreaterThan(1.4);
  expect(
    Math.max(...ttls),
    'the crash of its owner must not stop the refreshes for long: 3 × loadDeadlineMs at most',
  ).toBeLessThanOrEqual(3);
  expect(
    tokens[0],
    'two refreshes of one process may run at the same time when one has lost its lock: each needs a token of its own',
  ).not.toBe(tokens[1]);
  expect(
    withoutExpiry,
    'a process that is killed between two commands leaves its lock for ever: take it and give it its expiry in one step',
  ).toBe(0);

  const newer = () =>
    servers.redis.set(
      entryKey(KEY),
      encode({ value: { name: 'newer' }, deltaMs: 0, expiresAt: clock.now() + TTL_MS }),
      'PX',
      TTL_MS,
    );
  const losses = {
    'another holds the lock': () =>
      Promise.all([newer(), servers.redis.set(lockKey(KEY), 'the token of another', 'PX', TTL_MS)]),
    'another has had the lock': () => Promise.all([newer(), servers.redis.del(lockKey(KEY))]),
    'a writer has deleted entry and lock': () => servers.redis.del(entryKey(KEY), lockKey(KEY)),
  };
  const inRedis = async () => {
    const [text, lock] = await servers.redis.mget(entryKey(KEY), lockKey(KEY));
    return { name: decode<Product>(text ?? null)?.value.name, lock };
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
        await lose();
        lost = await inRedis();
      });
      queue.at(-1)?.('of the one that lost its lock');
      await soon(cache.settled());
      proxy.schedule();
      const now = await inRedis();
      if (sent >= nth) {
        const when = `${what}, since just before command ${nth} after the load`;
        expect(now.lock, `${when}: compare the token and delete the lock in one step`).toBe(lost.lock);
        expect(now.name, `${when}: compare the token and store the value in one step`).toBe(lost.name);
      } else {
        expect(now.lock, 'this time it has kept its lock: release it').toBeNull();
        expect(now.name, 'this time it has kept its lock: store the value').toBe(
          'of the one that lost its lock',
        );
      }
      await draw();
    } while (sent >= nth);
  }
  // The load of a refresh is going on.
  await servers.redis.del(entryKey(KEY), lockKey(KEY));
  expect(
    await soon(cache.get(KEY, async () => ({ name: 'as it was written' }))),
    'a writer has deleted entry and lock: a miss must not join the load of the refresh, which may be older than the write',
  ).toEqual({ name: 'as it was written' });
  queue.at(-1)?.('older than the write');
  await soon(cache.settled());
  expect((await inRedis()).name, 'a writer has deleted entry and lock: the refresh stores nothing').toBe(
    'as it was written',
  );
});

test('a refresh that fails or hangs leaves the value as it is', async () => {
  const clock = fakeClock(T0);
  const told: unknown[] = [];
  const signals: AbortSignal[] = [];
  let loads = 0;
  let answer: () => Promise<Product> = () => Promise.resolve({ name: MUG });
  const load = async (signal: AbortSignal) => {
    loads++;
    signals.push(signal);
    // A lock that is there is not to expire while this test looks on.
    await servers.redis.pexpire(lockKey(KEY), TTL_MS);
    return answer();
  };
  const cache = open({
    now: clock.now,
    loadDeadlineMs: 120,
    onRefreshError(error) {
      told.push(error);
      throw new Error('the log is down too');
    },
  });
  const hung: ((late: Product) => void)[] = [];
  const hang = () => new Promise<Product>((resolve) => hung.push(resolve));
  answer = hang;
  const first = await soon(cache.get(KEY, load).catch((error: unknown) => error));
  expect(first, 'the load hangs: stop waiting after loadDeadlineMs').toBeInstanceOf(LoadTimeoutError);
  expect(signals[0]?.aborted, 'nobody waits for this load any more: abort its signal').toBe(true);
  answer = () => Promise.resolve({ name: MUG });
  const second = await soon(cache.get(KEY, load).catch((error: unknown) => error));
  expect(second, 'the next reader must not join the load that hangs').toEqual({ name: MUG });

  const text = entryThatDraws(clock, MUG);
  const down = new Error('connect ECONNREFUSED');
  const unhandled = unhandledRejections();
  for (const [what, fail, why] of [
    ['fails', () => Promise.reject(down), { message: down.message }],
    ['hangs', hang, { name: 'LoadTimeoutError' }],
  ] as const) {
    await servers.redis.multi().set(entryKey(KEY), text, 'PX', 5_000).del(lockKey(KEY)).exec();
    const before = { loads, told: told.length };
    answer = fail;
    expect(
      await soon(cache.get(KEY, load).catch((error: Error) => error.message)),
      `the refresh ${what}: the reader did not ask for it, and has a value`,
    ).toEqual({ name: MUG });
    // Before settled, which may catch it.
    await until(() => told.length > before.told);
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(
      unhandled(),
      'nobody awaits a refresh: catch whatever it throws, and what onRefreshError throws',
    ).toEqual([]);
    expect(
      await soon(cache.settled().then(() => 'settled')),
      `the refresh ${what}: it ends at loadDeadlineMs at the latest`,
    ).toBe('settled');
    expect(
      told.slice(before.told),
      `the refresh ${what} in the background: tell onRefreshError once, or nobody ever knows`,
    ).toMatchObject([why]);
    for (let i = 0; i < 5; i++) {
      expect(await cache.get(KEY, load), 'serve the value until its expiry').toEqual({ name: MUG });
      await soon(cache.settled());
    }
    expect(
      loads - before.loads,
      `the refresh ${what}: leave its lock, or each hit of the last seconds asks the source again`,
    ).toBe(1);
    const left = await servers.redis.pttl(entryKey(KEY));
    expect(left, `the refresh ${what}: the value must stay, it is all there is`).toBeGreaterThan(0);
    expect(
      left,
      'nothing was confirmed: a failed refresh must not prolong the life of the value',
    ).toBeLessThanOrEqual(5_000);
    expect(await servers.redis.get(entryKey(KEY)), 'a failed refresh leaves the entry as it is').toBe(text);
  }
  expect(signals.at(-1)?.aborted, 'nobody waits for the load of a refresh either: abort its signal').toBe(
    true,
  );
  for (const late of hung) late({ name: 'too late' });
  await new Promise((resolve) => setImmediate(resolve));

  answer = () => Promise.resolve({ name: 'Steel mug' });
  await servers.redis.del(lockKey(KEY));
  await cache.get(KEY, load);
  await soon(cache.settled());
  expect(await cache.get(KEY, load), 'the lock has gone: the next hit that draws must try again').toEqual({
    name: 'Steel mug',
  });
});

test('without Redis, get loads and stores nothing', async () => {
  const clock = fakeClock(T0);
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis(
    { commandTimeout: 60, maxRetriesPerRequest: null, retryStrategy: () => 10 },
    proxy.url,
  );
  onTestFinished(() => redis.disconnect());
  const told: unknown[] = [];
  const cache = open({ now: clock.now, redis, onRefreshError: (error) => told.push(error) });
  const source = productSource(clock, 0);
  let loads = 0;
  let meanwhile = async () => {};
  const load = async () => {
    loads++;
    await meanwhile();
    return { ...(await source.load()), at: new Date(0) };
  };
  const signals: AbortSignal[] = [];
  const hang = (signal: AbortSignal) => {
    signals.push(signal);
    return new Promise<Product>(() => {});
  };
  const impatient = open({ now: clock.now, redis, loadDeadlineMs: 40 });
  await redis.ping();
  /** Redis answers again, and has done all that was asked of it meanwhile. */
  const healed = async () => {
    await proxy.heal();
    await until(() => redis.status === 'ready');
    await redis.ping();
  };

  const faults = { 'gives no answer': () => proxy.stall(), 'refuses connections': () => proxy.refuse() };
  for (const [what, fail] of Object.entries(faults)) {
    const before = loads;
    await fail();
    // Both readers have given up on Redis by the time that the first load ends.
    meanwhile = () => new Promise((resolve) => setTimeout(resolve, 30));
    const hung = soon(impatient.get(KEY, hang).catch((error: unknown) => error));
    const reads = await soon(
      Promise.all([cache.get(KEY, load), cache.get(KEY, load)]).catch((error: Error) => error.message),
    );
    const loaded = { name: MUG, at: new Date(0).toJSON() };
    expect(reads, `Redis ${what}: load, and give each reader what JSON makes of the value`).toEqual([
      loaded,
      loaded,
    ]);
    expect(loads - before, `Redis ${what}: now of all times, readers must share a load`).toBe(1);
    expect(new Set<unknown>(reads).size, `Redis ${what}: readers share the load, but no object`).toBe(2);
    const late = await hung;
    expect(late, `Redis ${what}, and the load hangs: stop waiting after loadDeadlineMs`).toBeInstanceOf(
      LoadTimeoutError,
    );
    expect(signals.at(-1)?.aborted, `Redis ${what}: abort the signal of a load that hangs`).toBe(true);
    await healed();
    expect(
      await servers.redis.exists(entryKey(KEY)),
      `Redis ${what}: who could not read the entry must not write it, a SET that waits comes late`,
    ).toBe(0);
  }

  proxy.stall();
  meanwhile = healed;
  await soon(cache.get(KEY, load));
  await redis.ping();
  expect(
    await servers.redis.exists(entryKey(KEY)),
    'Redis was back by the end of the load, but who could not read the entry does not know what is there: store nothing',
  ).toBe(0);

  // Redis falls silent while two loads run: that of a refresh and that of a miss.
  await servers.redis.set(entryKey(KEY), entryThatDraws(clock, MUG), 'PX', TTL_MS);
  const before = loads;
  meanwhile = async () => {
    await until(() => loads === before + 2);
    proxy.stall();
  };
  const [hit, missed] = [soon(cache.get(KEY, load)), soon(cache.get('product:2', load))];
  expect(await hit, 'a refresh that Redis has failed is not the matter of the reader').toEqual({ name: MUG });
  expect(await missed, 'the SET has failed: return the value that was loaded').toMatchObject({ name: MUG });
  expect(await soon(cache.settled().then(() => 'settled')), 'the refresh must give up on Redis').toBe(
    'settled',
  );
  expect(told.length, 'a refresh that Redis has failed is told').toBe(1);
  await healed();
});

interface Product {
  readonly name: string;
}

/** As the test file's own servers allow: deadlines that no test meets unless it means to. */
const open = (options: Partial<EarlyCacheOptions> = {}) =>
  createEarlyCache({
    redis: servers.redis,
    ttlMs: TTL_MS,
    loadDeadlineMs: 10_000,
    random: () => 0.5,
    ...options,
  });

type Clock = ReturnType<typeof fakeClock>;

/** Reads product 1, for `tookMs` by the clock, and counts how often. */
function productSource(clock: Clock, tookMs: number, db = servers.db) {
  const source = {
    loads: 0,
    async load(): Promise<Product> {
      source.loads++;
      const [[row]] = await db.query<RowDataPacket[]>('SELECT name FROM products WHERE id = 1');
      clock.advance(tookMs);
      return { name: row?.name };
    },
  };
  return source;
}

/** An entry that took TOOK_MS to load, GAP_MS from its end. */
const entryThatDraws = (clock: Clock, name: string) =>
  encode({ value: { name }, deltaMs: TOOK_MS, expiresAt: clock.now() + GAP_MS });
