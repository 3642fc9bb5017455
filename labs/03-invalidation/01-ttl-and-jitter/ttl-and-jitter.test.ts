import type { Redis } from 'ioredis';
import { describe, expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { expectTtl } from '#kit/expect-ttl';
import { redisBehindProxy } from '#kit/faulty-redis';
import { ownRedis } from '#kit/own-redis';
import { seeded } from '#kit/random';
import { useServers } from '#kit/servers';
import { outcome, rejectionOf, soon } from '#kit/waiting';
import { encode } from './given';
import { createTtlPolicy, type TtlPolicy } from './ttl-and-jitter';

const servers = useServers();

/** The clock of the application is years behind that of Redis. */
const T0 = 1_500_000_000_000;
const BASE = 61_300;
const MUG = { name: 'Enamel mug', price: '9.90' };

describe('Core', () => {
  test('a deadline lies within ±spread of the base', () => {
    for (const [baseMs, spread] of [
      [BASE, 0],
      [BASE, 0.1],
      [2000, 0.25],
      [70, 0.5],
    ] as const) {
      const drawn = (random: number) =>
        createTtlPolicy({ now: () => T0, random: () => random }).deadline(baseMs, { spread }) - T0;
      const [low, middle, high] = [drawn(0), drawn(0.5), drawn(1 - Number.EPSILON)];
      const seen = `base ${baseMs} ms, spread ${spread}: ms from now to the deadline`;
      expectNear(Math.min(low, high), baseMs * (1 - spread), `${seen}, the shortest that can be drawn`);
      expectNear(Math.max(low, high), baseMs * (1 + spread), `${seen}, the longest that can be drawn`);
      expectNear(middle, baseMs, `${seen}, in the middle of the draws`);
      for (const ms of [low, middle, high]) {
        expect(ms, `${seen}: whole milliseconds`).toSatisfy(Number.isInteger);
        expect(ms, `${seen}: never below the spread`).toBeGreaterThanOrEqual(baseMs * (1 - spread));
        expect(ms, `${seen}: never above the spread`).toBeLessThanOrEqual(baseMs * (1 + spread));
      }
    }
  });

  test('draws are spread evenly, also at a base of 2 s', () => {
    const policy = createTtlPolicy({ now: () => T0, random: seeded(31) });
    const draws = Array.from({ length: 20_000 }, () => policy.deadline(2000, { spread: 0.1 }) - T0);
    expect(
      new Set(draws).size,
      'different lifetimes in 20,000 draws, base 2 s ±10 %: there are 401 in whole milliseconds, and one in whole seconds',
    ).toBeGreaterThan(380);
    const mean = draws.reduce((sum, ms) => sum + ms, 0) / draws.length;
    expect(Math.abs(mean - 2000), 'ms from the mean of all draws to the base of 2,000 ms').toBeLessThan(6);
    // 20 bins of 20 ms, 1,000 draws expected in each: with 19 degrees of freedom one seed in 100,000 is above 57.
    const bins = new Array<number>(20).fill(0);
    for (const ms of draws) {
      const bin = Math.max(0, Math.min(19, Math.floor((ms - 1800) / 20)));
      bins[bin] = (bins[bin] ?? 0) + 1;
    }
    const chiSquare = bins.reduce((sum, count) => sum + (count - 1000) ** 2 / 1000, 0);
    expect(
      chiSquare,
      `chi square of the draws in each 20 ms, from 1,800 to 2,200 ms: ${bins.join(' ')}. About 1,000 must fall into each`,
    ).toBeLessThan(57);
  });

  test('an entry gets the time that is left, in the command that stores it', async () => {
    const clock = fakeClock(T0);
    const policy = createTtlPolicy({ now: clock.now });
    const { redis, bare } = await watchedRedis('mug');
    const stored = await outcome(policy.store(redis, 'mug', MUG, T0 + 2 * BASE));
    await redis.ping();
    expect(stored, 'the entry was stored: store must return true').toBe(true);
    expect(
      bare,
      'requests that were sent while the entry had no TTL: a process that dies before them leaves it forever',
    ).toEqual([]);
    await expectLeft('mug', 2 * BASE, 'nothing has passed since the draw');
    clock.advance(1.5 * BASE);
    await outcome(policy.store(redis, 'mug', MUG, T0 + 2 * BASE));
    await expectLeft('mug', 0.5 * BASE, 'most of the time has passed since the draw');
    await outcome(policy.store(redis, 'short', MUG, clock.now() + 400));
    expect(
      await servers.redis.pttl('short'),
      'ms to live: 400 ms are left, and not a whole second',
    ).toBeLessThanOrEqual(400);
  });

  test('an entry is read with the deadline that it was stored with', async () => {
    const clock = fakeClock(T0);
    const policy = createTtlPolicy({ now: clock.now, random: seeded(7) });
    const deadline = policy.deadline(BASE, { spread: 0.1 });
    expect(await outcome(policy.read(servers.redis, 'mug')), 'Redis has no such entry').toBeUndefined();
    await outcome(policy.store(servers.redis, 'mug', MUG, deadline));
    clock.advance(20_000);
    const read = await policy.read<typeof MUG>(servers.redis, 'mug');
    expect(read, 'the value, and the deadline that was drawn for it').toEqual({ value: MUG, deadline });
    await outcome(policy.store(servers.redis, 'copy', read?.value, read?.deadline ?? Number.NaN));
    clock.advance(20_000);
    expect(
      await policy.read(servers.redis, 'copy'),
      'a copy under another key ends with the original',
    ).toEqual({
      value: MUG,
      deadline,
    });
    await outcome(policy.store(servers.redis, 'none', null, deadline));
    expect(await policy.read(servers.redis, 'none'), 'null is a value').toEqual({ value: null, deadline });
  });

  test('a copy in the process ends with the original', async () => {
    const clock = fakeClock(T0);
    const policy = createTtlPolicy({ now: clock.now });
    const local = new Map<string, string>();
    const near = (key: string) => outcome(policy.readNear(local, servers.redis, key));
    const deadline = T0 + BASE;
    await policy.store(servers.redis, 'mug', MUG, deadline);
    await policy.store(servers.redis, 'other', null, T0 + 3 * BASE);
    clock.advance(BASE - 1000);
    expect(await near('mug'), 'from Redis').toEqual({ value: MUG, deadline });
    await near('other');
    await servers.redis.del('mug', 'other');
    for (const hit of [1, 2, 3]) {
      expect(
        await near('mug'),
        `hit ${hit}: Redis has lost the entry, and the copy in the process has a second left`,
      ).toEqual({ value: MUG, deadline });
    }
    clock.advance(2000);
    expect(
      await near('mug'),
      'the copy in the process ended a second ago, and Redis has nothing',
    ).toBeUndefined();
    expect(
      [...local.keys()],
      'copies in the process: the one that has ended must be removed, or it takes the place of a live one',
    ).toEqual(['other']);
  });

  test('a page ends with its first part', () => {
    const policy = createTtlPolicy({ now: () => T0 });
    expect(
      policy.earliest(T0 + 30_000, T0 + 5000, T0 + 90_000),
      'the deadline of a page whose parts end after 30, 5 and 90 s',
    ).toBe(T0 + 5000);
    expect(policy.earliest(T0 + 7), 'the deadline of a page with one part').toBe(T0 + 7);
  });
});

describe('In production', () => {
  test('a base or a spread that is out of range is refused', async () => {
    const policy = createTtlPolicy({ now: () => T0 });
    const draws: [baseMs: number, spread: number][] = [
      ...[0, -1, Number.NaN, Number.POSITIVE_INFINITY].map((baseMs) => [baseMs, 0.1] as [number, number]),
      ...[-0.1, 1, 10, Number.NaN].map((spread) => [BASE, spread] as [number, number]),
    ];
    for (const [baseMs, spread] of draws) {
      expect(
        await rejectionOf(() => policy.deadline(baseMs, { spread })),
        `deadline with a base of ${baseMs} ms and a spread of ${spread} must throw a RangeError`,
      ).toBeInstanceOf(RangeError);
      expect(
        await rejectionOf(() => storeAll(policy, servers.redis, [['mug', MUG]], baseMs, { spread })),
        `storeAll with a base of ${baseMs} ms and a spread of ${spread} must reject with a RangeError`,
      ).toBeInstanceOf(RangeError);
    }
    expect(await servers.redis.exists('mug'), 'entries of refused draws in Redis').toBe(0);
  });

  test('a value of no parts, or with a deadline that is not finite, is refused', async () => {
    const policy = createTtlPolicy({ now: () => T0 });
    const { NaN: nan, POSITIVE_INFINITY: infinity } = Number;
    for (const parts of [[], [nan], [T0 + BASE, nan], [infinity]]) {
      expect(
        await rejectionOf(() => policy.earliest(...parts)),
        `earliest(${parts.join(', ')}) must throw a RangeError`,
      ).toBeInstanceOf(RangeError);
    }
    for (const deadline of [nan, infinity]) {
      expect(
        await rejectionOf(() => policy.store(servers.redis, 'mug', MUG, deadline)),
        `store with a deadline of ${deadline} must reject with a RangeError`,
      ).toBeInstanceOf(RangeError);
    }
    expect(await servers.redis.exists('mug'), 'entries without a deadline in Redis').toBe(0);
  });

  test('a deadline counts from the question', async () => {
    const clock = fakeClock(T0);
    const policy = createTtlPolicy({ now: clock.now });
    clock.advance(5000);
    expect(
      policy.deadline(BASE, { spread: 0, since: T0 }) - T0,
      'ms from the question to the deadline: the load began 5 s ago, and the row is as old as the question',
    ).toBe(BASE);
    await storeAll(policy, servers.redis, [['mug', MUG]], BASE, { spread: 0, since: T0 });
    expect(
      await outcome(policy.read(servers.redis, 'mug')),
      'an entry of a batch whose load began 5 s ago',
    ).toEqual({ value: MUG, deadline: T0 + BASE });
    await expectLeft('mug', BASE - 5000, 'an entry of a batch whose load began 5 s ago');
  });

  test('an entry with no time left is not stored, and the older one is removed', async () => {
    const policy = createTtlPolicy({ now: () => T0 });
    for (const leftMs of [-20, 0]) {
      await servers.redis.set('mug', encode({ value: 'the old price', deadline: T0 + BASE }), 'PX', BASE);
      expect(
        await outcome(policy.store(servers.redis, 'mug', MUG, T0 + leftMs)),
        `${leftMs} ms are left: store must return false`,
      ).toBe(false);
      expect(
        await servers.redis.get('mug'),
        `Redis after a store with ${leftMs} ms left: the older value must be gone, and the new one has ended`,
      ).toBeNull();
    }
    const batch = [
      ['a', 1],
      ['b', 2],
    ] as const;
    for (const [key] of batch) await servers.redis.set(key, 'the old price', 'PX', BASE);
    expect(
      await outcome(storeAll(policy, servers.redis, batch, BASE, { spread: 0, since: T0 - BASE - 20 })),
      'the load of the batch took longer than its values live: this is not an error',
    ).toBeUndefined();
    expect(
      await servers.redis.mget('a', 'b'),
      'Redis after the late batch: the older values must be gone, and the new ones have ended',
    ).toEqual([null, null]);
  });

  test('each entry of a batch draws its own deadline, in one round trip', async () => {
    const policy = createTtlPolicy({ now: () => T0, random: seeded(6) });
    const { proxy, redis } = await redisBehindProxy(servers);
    const entries = Array.from({ length: 200 }, (_, n) => [`item:${n}`, n] as const);
    proxy.stall();
    const last = proxy.hold(/item:199/);
    // An iterator: it can be read once.
    const storing = outcome(storeAll(policy, redis, entries.values(), BASE, { spread: 0.2 }));
    const sent = await soon(Promise.race([last.arrived.then(() => 'sent'), storing]));
    last.release();
    await proxy.heal();
    expect(
      sent,
      'the last of 200 entries, while Redis has answered nothing: it must be sent without a wait for the answers',
    ).toBe('sent');
    expect(await storing, 'Redis has accepted all entries: storeAll must resolve').toBeUndefined();
    expect(
      await outcome(storeAll(policy, redis, [], BASE, { spread: 0.2 })),
      'a batch of no entries: storeAll must resolve',
    ).toBeUndefined();

    const stored = await Promise.all(entries.map(([key]) => policy.read<number>(servers.redis, key)));
    expect(
      stored.map((entry) => entry?.value),
      'the values of the 200 keys, in order',
    ).toEqual(entries.map(([, n]) => n));
    expect(
      new Set(stored.map((entry) => entry?.deadline)).size,
      'different deadlines of 200 entries: those that share a deadline expire together',
    ).toBeGreaterThan(180);
    for (const [n, entry] of stored.entries()) {
      await expectLeft(`item:${n}`, (entry?.deadline ?? 0) - T0, 'the entry of a batch');
    }
  });

  test('a command that Redis refuses makes the call reject', async () => {
    const policy = createTtlPolicy({ now: () => T0 });
    const guarded = servers.connectRedis({}, (await ownRedis()).url);
    await guarded.acl('SETUSER', 'default', 'resetkeys', '~item:*');
    const batch = [
      ['item:1', 1],
      ['other:2', 2],
      ['item:3', 3],
    ] as const;
    const calls: Record<string, () => Promise<unknown>> = {
      'storeAll, and Redis refuses one of three entries': () =>
        storeAll(policy, guarded, batch, BASE, { spread: 0.2 }),
      store: () => policy.store(guarded, 'other:2', MUG, T0 + BASE),
      'store with no time left, so the older value stays': () =>
        policy.store(guarded, 'other:2', MUG, T0 - BASE),
      'read, and a refusal is not a miss': () => policy.read(guarded, 'other:2'),
      'readNear without a copy in the process, and a refusal is not a miss': () =>
        policy.readNear(new Map(), guarded, 'other:2'),
    };
    for (const [call, start] of Object.entries(calls)) {
      expect(
        await outcome(start()),
        `Redis has refused a command. The call must reject with that error: ${call}`,
      ).toEqual(expect.stringMatching(/^rejected: .*(NOPERM|EXECABORT|ACL failure)/));
    }
  });

  test('past its deadline an entry is a miss, although Redis holds it', async () => {
    const clock = fakeClock(T0);
    const policy = createTtlPolicy({ now: clock.now });
    await servers.redis.set('mug', encode({ value: MUG, deadline: T0 + BASE }), 'PX', 10 * BASE);
    for (const [ms, left] of [
      [BASE - 1, 1],
      [1, 0],
      [2000, -2000],
    ] as const) {
      clock.advance(ms);
      const local = new Map<string, string>();
      const expected = left > 0 ? { value: MUG, deadline: T0 + BASE } : undefined;
      const scene = `its SET arrived late, and ${left} ms are left of its time`;
      expect(await outcome(policy.read(servers.redis, 'mug')), `read: ${scene}`).toEqual(expected);
      expect(await outcome(policy.readNear(local, servers.redis, 'mug')), `readNear: ${scene}`).toEqual(
        expected,
      );
      expect(local.size, `copies in the process: ${scene}`).toBe(left > 0 ? 1 : 0);
    }
  });

  test('an entry that ends while Redis answers is a miss', async () => {
    const clock = fakeClock(T0);
    const policy = createTtlPolicy({ now: clock.now });
    const reads: Record<string, (redis: Redis) => Promise<unknown>> = {
      read: (redis) => policy.read(redis, 'mug'),
      readNear: (redis) => policy.readNear(new Map(), redis, 'mug'),
    };
    const { proxy, redis } = await redisBehindProxy(servers);
    for (const [name, read] of Object.entries(reads)) {
      await servers.redis.set('mug', encode({ value: MUG, deadline: clock.now() + BASE }), 'PX', 10 * BASE);
      const gate = proxy.hold(/mug/);
      const reading = outcome(read(redis));
      await soon(gate.arrived);
      clock.advance(BASE + 2000);
      gate.release();
      expect(
        await reading,
        `${name}: its time was over 2 s before the answer of Redis arrived`,
      ).toBeUndefined();
    }
  });

  test('an entry that cannot be decoded is reported, and is a miss', async () => {
    const reports: unknown[] = [];
    const policy = createTtlPolicy({ now: () => T0, onCacheError: (error) => reports.push(error) });
    const good = { value: MUG, deadline: T0 + BASE };
    const damaged: Record<string, Buffer> = {
      'half of an entry': Buffer.from(encode(good).slice(0, -9)),
      'JSON null': Buffer.from('null'),
      'no deadline': Buffer.from('{"value":1}'),
      'no value': Buffer.from(`{"deadline":${T0 + BASE}}`),
      'no byte': Buffer.alloc(0),
      'not UTF-8': Buffer.from('fffe00', 'hex'),
      'a name that is not UTF-8': Buffer.from(encode({ ...good, value: '\xff' }), 'latin1'),
    };
    for (const [kind, bytes] of Object.entries(damaged)) {
      await servers.redis.set('mug', bytes);
      expect(
        await outcome(policy.read(servers.redis, 'mug')),
        `read, and Redis holds: ${kind}`,
      ).toBeUndefined();
      expect(reports.splice(0), `what onCacheError got. Redis held: ${kind}`).not.toEqual([]);
      await servers.redis.set('mug', encode(good));
      const local = new Map([['mug', bytes.toString()]]);
      expect(
        await outcome(policy.readNear(local, servers.redis, 'mug')),
        `readNear. Redis holds a good entry, and the process holds: ${kind}`,
      ).toEqual(good);
      expect(local.get('mug'), `the process held: ${kind}. The good entry must replace it`).toBe(
        encode(good),
      );
      expect(reports.splice(0), `what onCacheError got. The process held: ${kind}`).not.toEqual([]);
    }
    await servers.redis.set('ended', encode({ value: MUG, deadline: T0 - 1 }));
    for (const key of ['ended', 'missing']) await outcome(policy.readNear(new Map(), servers.redis, key));
    expect(reports, 'what onCacheError got. One entry has ended, one is missing: neither is damaged').toEqual(
      [],
    );
  });
});

/** Nothing, where there is no such method yet. */
async function storeAll(
  policy: TtlPolicy,
  ...batch: Parameters<NonNullable<TtlPolicy['storeAll']>>
): Promise<void> {
  await policy.storeAll?.(...batch);
}

/** Rounding to whole milliseconds is free. */
function expectNear(seen: number, expected: number, what: string) {
  expect(
    Math.abs(seen - expected),
    `${what}: ${seen}, and it must be ${expected}, or 1 ms beside it`,
  ).toBeLessThanOrEqual(1);
}

const expectLeft = (key: string, leftMs: number, scene: string) =>
  expectTtl(
    servers.redis,
    key,
    leftMs,
    `ms to live of ${key} in Redis: ${scene}, and ${leftMs} ms are left of its time`,
  );

/** A client whose requests are noted if they are sent while `key` has no TTL. */
async function watchedRedis(key: string) {
  const { proxy, redis } = await redisBehindProxy(servers);
  const bare: string[] = [];
  proxy.schedule(async (request) => {
    if ((await servers.redis.pttl(key)) === -1) bare.push(request);
  });
  return { redis, bare };
}
