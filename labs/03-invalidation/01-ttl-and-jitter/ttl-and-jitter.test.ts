import { expect, test } from 'vitest';
import { fakeClock } from '#kit/clock';
import { ownRedis } from '#kit/own-redis';
import { openProxy } from '#kit/proxy';
import { seeded } from '#kit/random';
import { useServers } from '#kit/servers';
import { outcome } from '#kit/waiting';
import { createTtlPolicy } from './ttl-and-jitter';

const servers = useServers();

/** The application's clock is years behind that of Redis: whoever mixes the two is found out. */
const T0 = 1_500_000_000_000;
const MINUTE = 60_000;
const MUG = { name: 'Enamel mug', price: '9.90' };

test('a deadline is a point in time within ±spread of the base, counted from the question', () => {
  const clock = fakeClock(T0);
  let drawn = 0;
  const policy = createTtlPolicy({ now: clock.now, random: () => drawn });
  const ends = (baseMs: number, spread: number) =>
    [0, 1 - Number.EPSILON].map((random) => {
      drawn = random;
      return policy.deadline(baseMs, { spread });
    });
  expect(ends(MINUTE, 0), 'without a spread it is now + baseMs, in ms since the epoch').toEqual([
    T0 + MINUTE,
    T0 + MINUTE,
  ]);
  clock.advance(5000);
  expect(
    policy.deadline(MINUTE, { spread: 0, since: T0 }),
    'the load has taken 5 s, and the value is as old as the question: count from `since`',
  ).toBe(T0 + MINUTE);
  for (const [baseMs, spread] of [
    [MINUTE, 0.1],
    [2000, 0.25],
    [50, 0.5],
    [3, 0.5],
  ] as const) {
    const [low, high] = ends(baseMs, spread)
      .map((end) => end - clock.now())
      .sort((a, b) => a - b);
    const ofBase = `base ${baseMs} ms, spread ${spread}`;
    expect(
      Math.abs((low ?? 0) - baseMs * (1 - spread)),
      `${ofBase}: ±spread is a share of the base, and the draws reach down to base × (1 - spread), here ${low} ms from now`,
    ).toBeLessThanOrEqual(1);
    expect(
      Math.abs((high ?? 0) - baseMs * (1 + spread)),
      `${ofBase}: ±spread is a share of the base, and the draws reach up to base × (1 + spread), here ${high} ms from now`,
    ).toBeLessThanOrEqual(1);
    expect(
      (low ?? 0) >= baseMs * (1 - spread) && (high ?? 0) <= baseMs * (1 + spread),
      `${ofBase}: from ${low} to ${high} ms is further than the spread: round its width down`,
    ).toBe(true);
  }
  for (const baseMs of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => policy.deadline(baseMs, { spread: 0.1 }), `a base of ${baseMs} ms is refused`).toThrow(
      RangeError,
    );
  for (const spread of [-0.1, 1, 10, Number.NaN])
    expect(() => policy.deadline(MINUTE, { spread }), `a spread of ${spread} is refused`).toThrow(RangeError);
});

test('draws are even and centred on the base, at 2 s as at 50 ms', () => {
  const policy = createTtlPolicy({ now: () => T0, random: seeded(31) });
  const draws = (count: number, baseMs: number, spread: number) =>
    Array.from({ length: count }, () => policy.deadline(baseMs, { spread }) - T0);
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

  const seconds = draws(20_000, 2000, 0.1);
  expect(
    new Set(seconds).size,
    'base 2 s, ±10 %: there are 401 lifetimes in whole milliseconds; in whole seconds there is one',
  ).toBeGreaterThan(380);
  expect(
    Math.abs(mean(seconds) - 2000),
    'as much is taken off as is added: the mean is the base',
  ).toBeLessThan(6);
  // 20 bins of 20 ms, 1,000 draws expected in each: with 19 degrees of freedom one seed in 100,000 is above 57.
  const [chiSquare, bins] = unevenness(seconds, 20, (ms) => Math.min(19, Math.floor((ms - 1800) / 20)));
  expect(
    chiSquare,
    `each part of the range is as likely as any other; draws in each 20 ms: ${bins.join(' ')}`,
  ).toBeLessThan(57);

  const short = draws(20_000, 50, 0.2);
  expect(new Set(short).size, 'base 50 ms, ±20 %: the jitter is of milliseconds').toBeGreaterThan(15);
  expect(Math.abs(mean(short) - 50), 'base 50 ms: the mean is the base').toBeLessThan(1);
  // 21 lifetimes: with 20 degrees of freedom one seed in 100,000 is above 59.
  const [ofShort, each] = unevenness(short, 21, (ms) => ms - 40);
  expect(
    ofShort,
    `base 50 ms, ±20 %: 40 and 60 ms are as likely as each lifetime between them; draws of each: ${each.join(' ')}`,
  ).toBeLessThan(59);
});

test('a composite ends with its first part', () => {
  const policy = createTtlPolicy({ now: () => T0 });
  expect(
    policy.earliest(T0 + 30_000, T0 + 5000, T0 + 90_000),
    'a page is as old as its oldest part: take the earliest deadline',
  ).toBe(T0 + 5000);
  expect(policy.earliest(T0 + 7), 'one part: its own deadline').toBe(T0 + 7);
  expect(
    () => policy.earliest(),
    'nothing has no deadline: Infinity would be a page that never ends',
  ).toThrow(RangeError);
  for (const wrong of [Number.NaN, Number.POSITIVE_INFINITY])
    expect(() => policy.earliest(T0, wrong), `${wrong} is no deadline`).toThrow(RangeError);
});

test('an entry gets the time that is left, in the command that stores it', async () => {
  const clock = fakeClock(T0);
  const policy = createTtlPolicy({ now: clock.now, random: seeded(4) });
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  await redis.ping();
  const endless: string[] = [];
  proxy.schedule(async (request) => {
    for (const key of ['mug', 'a', 'b'])
      if ((await servers.redis.pttl(key)) === -1) endless.push(`${key}, before ${request.split(' ')[0]}`);
  });

  const deadline = T0 + 2 * MINUTE;
  expect(await policy.store(redis, 'mug', MUG, deadline), 'it was stored: return true').toBe(true);
  await policy.storeAll(
    redis,
    new Map([
      ['a', 1],
      ['b', 2],
    ]),
    MINUTE,
    { spread: 0 },
  );
  await redis.ping();
  proxy.schedule();
  expect(
    endless,
    'a process that dies between two commands must not leave an entry without a TTL: set both in one',
  ).toEqual([]);
  const left = () => servers.redis.pttl('mug');
  expect(
    await left(),
    'the TTL is what is left by now: Redis counts it by its own clock, which may differ from ours',
  ).toSatisfy(within(2 * MINUTE));
  for (const key of ['a', 'b'])
    expect(await servers.redis.pttl(key), `${key}, of a batch, must have the drawn TTL`).toSatisfy(
      within(MINUTE),
    );

  clock.advance(90_000);
  await policy.store(redis, 'mug', { ...MUG, price: '12.00' }, deadline);
  expect(await left(), '90 s later 30 s are left, and no more').toSatisfy(within(30_000));
  expect(
    await outcome(policy.store(redis, 'short', MUG, clock.now() + 400.7)),
    '400.7 ms are a lifetime, and PX takes whole milliseconds',
  ).toBe(true);
  expect(
    await servers.redis.pttl('short'),
    '400 ms are left: a TTL in whole seconds would be none, or too long',
  ).toBeLessThanOrEqual(400);
  const entry = await policy.read<typeof MUG>(redis, 'mug');
  expect(entry?.value, 'the entry holds the new value').toEqual({ ...MUG, price: '12.00' });
  await policy.storeAll(redis, [['slow', null]], 1000, { spread: 0, since: clock.now() - 600 });
  expect(
    await servers.redis.pttl('slow'),
    'the load of a batch took 600 ms of its second: its TTL too is what is left',
  ).toBeLessThanOrEqual(400);
});

test('with no time left nothing is stored, and nothing old stays', async () => {
  const clock = fakeClock(T0);
  const policy = createTtlPolicy({ now: clock.now });
  for (const [what, leftMs] of [
    ['the load took longer than the value lives', -20],
    ['the deadline is now', 0],
    ['half a millisecond is left', 0.5],
  ] as const) {
    await policy.store(servers.redis, 'mug', 'the old price', T0 + MINUTE);
    const stored = await policy.store(servers.redis, 'mug', MUG, T0 + leftMs).catch(String);
    expect(stored, `${what}: return false, and send Redis no TTL that it refuses`).toBe(false);
    expect(await servers.redis.pttl('mug'), `${what}: never store without a TTL`).not.toBe(-1);
    expect(
      await servers.redis.exists('mug'),
      `${what}: remove what the key held before, since it is older still`,
    ).toBe(0);
  }
  for (const key of ['a', 'b']) await policy.store(servers.redis, key, 'the old price', T0 + MINUTE);
  const late = policy.storeAll(
    servers.redis,
    [
      ['a', 1],
      ['b', 2],
    ],
    MINUTE,
    { spread: 0, since: T0 - MINUTE },
  );
  expect(await outcome(late), 'a batch that took longer than its values live is no failure').toBeUndefined();
  expect(
    await servers.redis.exists('a', 'b'),
    'a batch with no time left: remove what its keys held before, since it is older still',
  ).toBe(0);
  for (const deadline of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const refused = await policy.store(servers.redis, 'mug', MUG, deadline).catch((error: unknown) => error);
    expect(refused, `a deadline of ${deadline} is refused`).toBeInstanceOf(RangeError);
  }
  expect(await servers.redis.exists('mug'), 'what is refused is not stored').toBe(0);
});

test('each entry of a batch draws its own deadline, in one round trip', async () => {
  const policy = createTtlPolicy({ now: () => T0, random: seeded(6) });
  const proxy = await openProxy(servers.redisUrl);
  const redis = servers.connectRedis({}, proxy.url);
  await redis.ping();
  const entries = Array.from({ length: 200 }, (_, n) => [`item:${n}`, n] as const);
  proxy.stall();
  const last = proxy.hold(/item:199/);
  // Can be iterated once, as Iterable says.
  const storing = policy.storeAll(redis, entries.values(), MINUTE, { spread: 0.2 });
  storing.catch(() => {});
  const sent = await Promise.race([
    last.arrived.then(() => true),
    after(1000, false),
    storing.then(() => true),
  ]);
  last.release();
  await proxy.heal();
  expect(sent, 'do not wait for an answer before the last entry is sent: a pipeline is one round trip').toBe(
    true,
  );
  await storing;

  const stored = await Promise.all(entries.map(([key]) => policy.read<number>(servers.redis, key)));
  expect(
    stored.map((entry) => entry?.value),
    'each value under its own key',
  ).toEqual(entries.map(([, n]) => n));
  const lifetimes = stored.map((entry) => (entry?.deadline ?? Number.NaN) - T0);
  expect(
    new Set(lifetimes).size,
    'entries that share a draw expire together: draw for each (24,001 lifetimes are possible here)',
  ).toBeGreaterThan(180);
  expect(
    lifetimes.every((ms) => ms >= 0.8 * MINUTE - 1 && ms <= 1.2 * MINUTE + 1),
    'within ±spread of the base',
  ).toBe(true);

  await policy.storeAll(redis, [['slow', 1]], MINUTE, { spread: 0, since: T0 - 20_000 });
  expect(
    (await policy.read(servers.redis, 'slow'))?.deadline,
    'this batch took 20 s to load: its deadlines count from `since` too',
  ).toBe(T0 + 40_000);
  const percent = await Promise.resolve()
    .then(() => policy.storeAll(redis, [['ten', 10]], MINUTE, { spread: 10 }))
    .catch((error: unknown) => error);
  expect(percent, 'a spread of 10 is no share: refuse it').toBeInstanceOf(RangeError);
  expect(await servers.redis.exists('ten'), 'what is refused is not sent').toBe(0);
});

test('a command that Redis refuses makes the method reject', async () => {
  const clock = fakeClock(T0);
  const policy = createTtlPolicy({ now: clock.now });
  const guarded = servers.connectRedis({}, (await ownRedis()).url);
  await guarded.acl('SETUSER', 'default', 'resetkeys', '~item:*');
  const batch = [
    ['item:1', 1],
    ['other:2', 2],
    ['item:3', 3],
  ] as const;
  const local = new Map<string, string>();
  await policy.store(servers.redis, 'other:2', MUG, T0 + MINUTE);
  await policy.readNear(local, servers.redis, 'other:2');
  expect(
    await outcome(policy.readNear<typeof MUG>(local, guarded, 'other:2')),
    'there is a copy in the process: do not ask Redis at all',
  ).toMatchObject({ value: MUG });
  clock.advance(MINUTE);
  const refused: Record<string, () => Promise<unknown>> = {
    'a batch of which Redis refuses one: exec() resolves, with the error among the replies': () =>
      policy.storeAll(guarded, batch, MINUTE, { spread: 0.2 }),
    'a SET that Redis refuses: who stores must hear of it': () =>
      policy.store(guarded, 'other:2', MUG, clock.now() + MINUTE),
    'a DEL that Redis refuses leaves an old value: who stores must hear of it': () =>
      policy.store(guarded, 'other:2', MUG, clock.now() - 1),
    'a GET that Redis refuses is no miss': () => policy.read(guarded, 'other:2'),
    'a GET that Redis refuses is no miss, in readNear either': () =>
      policy.readNear(local, guarded, 'other:2'),
  };
  for (const [what, call] of Object.entries(refused))
    expect(String(await outcome(call())), `${what}. Reject with its error`).toMatch(/^rejected: .*NOPERM/);
  expect(local.size, 'a copy that has ended is removed, whatever Redis answers').toBe(0);
});

test('a copy keeps the deadline of the original, through every layer', async () => {
  const clock = fakeClock(T0);
  const policy = createTtlPolicy({ now: clock.now, random: seeded(7) });
  const deadline = policy.deadline(MINUTE, { spread: 0.1 });
  await policy.store(servers.redis, 'original', MUG, deadline);

  clock.advance(20_000);
  const original = await policy.read<typeof MUG>(servers.redis, 'original');
  expect(original, 'read gives the value and the deadline that it was stored with').toEqual({
    value: MUG,
    deadline,
  });
  await policy.store(servers.redis, 'second', original?.value, original?.deadline ?? 0);

  clock.advance(20_000);
  const local = new Map<string, string>();
  const filled = await policy.readNear<{ name: string }>(local, servers.redis, 'second');
  expect(filled?.deadline, 'the second copy ends when the original does').toBe(deadline);
  await servers.redis.del('second');
  expect(local.has('second'), 'the copy lies in `local` under the same key').toBe(true);
  if (filled) filled.value.name = 'scribbled on';
  clock.advance(5000);
  for (let hit = 0; hit < 2; hit++) {
    const near = await policy.readNear<{ name: string }>(local, servers.redis, 'second');
    expect(near?.deadline, 'Redis has lost it, and the copy in the process ends when the original does').toBe(
      deadline,
    );
    expect(near?.value, 'what one caller does to its value is not seen by the next').toEqual(MUG);
    if (near) near.value.name = 'scribbled on';
  }
  const near = await policy.readNear(local, servers.redis, 'second');

  await policy.store(servers.redis, 'third', near?.value, near?.deadline ?? 0);
  expect((await policy.read(servers.redis, 'third'))?.deadline, 'the third copy too').toBe(deadline);
  expect(
    await servers.redis.pttl('third'),
    '45 s have passed: the third copy has what is left of the minute',
  ).toSatisfy(within(deadline - clock.now()));
});

test('past its deadline an entry is a miss in every layer', async () => {
  const clock = fakeClock(T0);
  const policy = createTtlPolicy({ now: clock.now });
  const local = new Map<string, string>();
  await policy.store(servers.redis, 'mug', MUG, T0 + MINUTE);
  await policy.readNear(local, servers.redis, 'mug');
  await policy.store(servers.redis, 'other', null, T0 + 2 * MINUTE);
  expect(await policy.readNear(local, servers.redis, 'other'), 'null is a value').toMatchObject({
    value: null,
  });
  clock.advance(MINUTE - 1);
  expect(await policy.read(servers.redis, 'mug'), 'there is a millisecond left').toBeDefined();
  expect(await policy.readNear(local, servers.redis, 'mug'), 'there is a millisecond left').toBeDefined();

  clock.advance(1);
  expect(await servers.redis.exists('mug'), 'Redis has not seen a minute pass').toBe(1);
  expect(
    await policy.read(servers.redis, 'mug'),
    'PX counts from the arrival of a SET, which can be late: the deadline in the entry decides',
  ).toBeUndefined();
  expect(
    await policy.readNear(local, servers.redis, 'mug'),
    'no copy in the process outlives the deadline, and none is made',
  ).toBeUndefined();
  expect(local.has('mug'), 'a copy that has ended is removed').toBe(false);
  expect(local.has('other'), 'the other copy has a minute left: leave it').toBe(true);

  const proxy = await openProxy(servers.redisUrl);
  const far = servers.connectRedis({}, proxy.url);
  for (const read of [policy.read, policy.readNear.bind(null, new Map())]) {
    await policy.store(servers.redis, 'slow', MUG, clock.now() + MINUTE);
    const gate = proxy.hold(/slow/);
    const reading = read(far, 'slow');
    await gate.arrived;
    clock.advance(MINUTE);
    gate.release();
    expect(
      await outcome(reading),
      'its time came while Redis was answering: look at the clock after the answer',
    ).toBeUndefined();
  }

  await policy.store(servers.redis, 'other', null, clock.now() + MINUTE);
  for (const text of [
    '{"value":',
    'null',
    '"text"',
    '7',
    '{"value":1}',
    '{"deadline":9e12}',
    '{"value":1,"deadline":"9e12"}',
  ]) {
    await servers.redis.set('mug', text, 'PX', MINUTE);
    const entry = await policy.read(servers.redis, 'mug').catch(String);
    expect(entry, `${text} is no entry: a miss`).toBeUndefined();
    local.set('other', text);
    expect(
      await outcome(policy.readNear(local, servers.redis, 'other')),
      `${text} in the process is no entry: ask Redis, which has one`,
    ).toMatchObject({ value: null });
  }
});

/** Redis's own clock goes on during a test: up to 20 s may be gone. */
const within = (ms: number) => (pttl: number) => pttl <= ms && pttl > ms - 20_000 && pttl > 0;

/** Chi square of the draws over their bins, and what is in each. */
function unevenness(draws: readonly number[], bins: number, binOf: (ms: number) => number) {
  const seen = new Array<number>(bins).fill(0);
  for (const ms of draws) {
    const bin = Math.max(0, Math.min(bins - 1, binOf(ms)));
    seen[bin] = (seen[bin] ?? 0) + 1;
  }
  const expected = draws.length / bins;
  return [seen.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0), seen] as const;
}

const after = <T>(ms: number, value: T) =>
  new Promise<T>((resolve) => {
    setTimeout(() => resolve(value), ms).unref();
  });
