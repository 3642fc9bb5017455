import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { type Claim, defineMeasure, type Plot } from '#claims';
import { seeded } from '#kit/random';
import { createTtlPolicy } from './ttl-and-jitter';

const KEYS = 2000;
const SPREAD = 0.2;
const PLUS_MINUS = `±${100 * SPREAD} %`;
const BASE_MS = 2000;
const BUCKET_MS = 10;
const READERS = 100;
const LOAD_MS = 20;
const DRAWS = 2000;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis } = servers();
    const hot = await hotKey(redis, quick ? 100 : 150, quick ? 2 : 20);
    const inSeconds = distinct(commonTtl);
    const inMs = distinct((random) =>
      createTtlPolicy({ random, now: () => 0 }).deadline(2000, { spread: 0.1 }),
    );
    const endTogether = await ends(redis, 0);
    const endApart = await ends(redis, SPREAD);
    const seen = quick ? undefined : await fleet(redis);
    const claims: Claim[] = [
      ...(seen?.claims ?? []),
      figure(
        'ends-together',
        `${KEYS} entries stored by one call: the most that end in the same ${BUCKET_MS} ms, with one TTL`,
        endTogether,
        'entries',
      ),
      figure(
        'ends-apart',
        `${KEYS} entries stored by one call: the most that end in the same ${BUCKET_MS} ms, with ${PLUS_MINUS} of jitter`,
        endApart,
        'entries',
      ),
      {
        ...figure(
          'ends-ratio',
          `the most of ${KEYS} entries that end in the same ${BUCKET_MS} ms: one TTL against ${PLUS_MINUS} of jitter`,
          endTogether / endApart,
          '×',
        ),
        atLeast: 8,
      },
      figure(
        'hot-misses',
        `one hot key with ${READERS} readers, a load of ${LOAD_MS} ms: misses at an expiry, with one TTL`,
        hot.fixed,
        'misses',
      ),
      figure(
        'hot-misses-jitter',
        `one hot key with ${READERS} readers, a load of ${LOAD_MS} ms: misses at an expiry, with ${PLUS_MINUS} of jitter`,
        hot.jittered,
        'misses',
      ),
      {
        ...figure(
          'hot-ratio',
          `misses of one hot key at an expiry: one TTL against ${PLUS_MINUS} of jitter`,
          hot.fixed / hot.jittered,
          '×',
        ),
        atLeast: 0.6,
        atMost: 1.6,
      },
      figure(
        'distinct-seconds',
        `different lifetimes in ${DRAWS} draws, base 2 s ±10 %, in whole seconds`,
        inSeconds,
        'lifetimes',
      ),
      figure(
        'distinct-ms',
        `different lifetimes in ${DRAWS} draws, base 2 s ±10 %, in milliseconds`,
        inMs,
        'lifetimes',
      ),
      {
        ...figure(
          'distinct-ratio',
          'different lifetimes at a base of 2 s ±10 %: milliseconds against whole seconds',
          inMs / inSeconds,
          '×',
        ),
        atLeast: 100,
      },
      ...(quick ? [] : await unread(redis)),
    ];
    return { claims, plots: seen ? [seen.plot] : [] };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

/** Of a batch, how many entries end in the fullest bucket of time. */
async function ends(redis: Redis, spread: number): Promise<number> {
  const policy = createTtlPolicy({ random: seeded(4) });
  const keys = Array.from({ length: KEYS }, (_, n) => `measure:ends:${n}`);
  await policy.storeAll?.(
    redis,
    keys.map((key) => [key, 1]),
    BASE_MS,
    { spread },
  );
  const counts = new Map<number, number>();
  for (const text of await redis.mget(keys)) {
    const bucket = Math.floor(JSON.parse(text ?? '{"deadline":0}').deadline / BUCKET_MS);
    counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
  }
  await redis.unlink(keys);
  return Math.max(...counts.values());
}

/** Two fleets side by side, so that both see the same machine. A missing key is stored again at once. */
async function fleet(redis: Redis): Promise<{ claims: Claim[]; plot: Plot }> {
  const policy = createTtlPolicy({ random: seeded(1) });
  const forMs = BASE_MS * 3.6;
  const open = async (name: string, spread: number) => {
    const keys = Array.from({ length: KEYS }, (_, n) => `measure:${name}:${n}`);
    const store = (missing: readonly string[]) =>
      policy.storeAll?.(
        redis,
        missing.map((key) => [key, 1]),
        BASE_MS,
        { spread },
      );
    await store(keys);
    return { keys, store, misses: new Array<number>(Math.ceil(forMs / BUCKET_MS) + 1).fill(0) };
  };
  const together = await open('together', 0);
  const apart = await open('apart', SPREAD);
  const start = performance.now();
  for (let tick = 0; performance.now() - start < forMs; tick++) {
    for (const { keys, store, misses } of [together, apart]) {
      const at = Math.floor((performance.now() - start) / BUCKET_MS);
      const found = await redis.mget(keys);
      const missing = keys.filter((_, n) => found[n] === null);
      misses[at] = (misses[at] ?? 0) + missing.length;
      if (missing.length > 0) await store(missing);
    }
    const wait = (tick + 1) * BUCKET_MS - (performance.now() - start);
    if (wait > 0) await sleep(wait);
  }
  await redis.unlink([...together.keys, ...apart.keys]);

  const peak = (misses: readonly number[]) => Math.max(...misses);
  const total = (misses: readonly number[]) => misses.reduce((sum, n) => sum + n, 0);
  const ratio = (of: (misses: readonly number[]) => number) => of(together.misses) / of(apart.misses);
  const points = (misses: readonly number[]) => misses.map((n, i) => [i * BUCKET_MS, n] as const);
  return {
    claims: [
      figure(
        'peak-together',
        `${KEYS} keys stored at once and read every ${BUCKET_MS} ms: the most misses in ${BUCKET_MS} ms, with one TTL`,
        peak(together.misses),
        'misses',
      ),
      figure(
        'peak-apart',
        `${KEYS} keys stored at once and read every ${BUCKET_MS} ms: the most misses in ${BUCKET_MS} ms, with ${PLUS_MINUS} of jitter`,
        peak(apart.misses),
        'misses',
      ),
      figure(
        'peak-ratio',
        `the most misses in ${BUCKET_MS} ms: one TTL against ${PLUS_MINUS} of jitter`,
        ratio(peak),
        '×',
      ),
      figure(
        'total-ratio',
        `all misses of three lifetimes: one TTL against ${PLUS_MINUS} of jitter`,
        ratio(total),
        '×',
      ),
    ],
    plot: {
      name: 'fleet',
      title: `Misses in each ${BUCKET_MS} ms: ${KEYS} keys stored at once, TTL ${BASE_MS / 1000} s, every key read every ${BUCKET_MS} ms`,
      x: { label: 'time since the keys were stored (ms)', scale: 'linear' },
      y: { label: 'misses in 10 ms', scale: 'linear' },
      series: [
        { name: 'one TTL', points: points(together.misses) },
        { name: `${PLUS_MINUS} of jitter`, points: points(apart.misses) },
      ],
    },
  };
}

/** Misses of one key at an expiry, on average: {@link READERS} readers, each of whom loads when it misses. */
async function hotKey(redis: Redis, baseMs: number, expiries: number) {
  const policy = createTtlPolicy({ random: seeded(2) });
  const missesOf = async (key: string, spread: number) => {
    let misses = 0;
    let loading = 0;
    let stampedes = 0;
    let over = false;
    const fill = async () => policy.store(redis, key, 1, policy.deadline(baseMs, { spread }));
    const reader = async () => {
      while (!over) {
        if (!(await policy.read(redis, key))) {
          if (loading++ === 0) stampedes++;
          misses++;
          await sleep(LOAD_MS);
          await fill();
          if (--loading === 0) over = stampedes >= expiries;
        }
        await sleep(2);
      }
    };
    await fill();
    await Promise.all(Array.from({ length: READERS }, reader));
    await redis.del(key);
    return misses / stampedes;
  };
  const fixed = await missesOf('measure:hot:fixed', 0);
  return { fixed, jittered: await missesOf('measure:hot:jittered', SPREAD) };
}

/** A common version: a base of whole seconds, and a jitter that is cut to whole seconds. In milliseconds. */
const commonTtl = (random: () => number) => 1000 * (2 + Math.trunc(2 * 0.1 * (2 * random() - 1)));

function distinct(draw: (random: () => number) => number): number {
  const random = seeded(3);
  return new Set(Array.from({ length: DRAWS }, () => draw(random))).size;
}

/** How much of what has expired, and is read by nobody, Redis still holds a moment later. */
async function unread(redis: Redis): Promise<Claim[]> {
  const count = 100_000;
  const lifeMs = 3000;
  const before = await redis.dbsize();
  const until = Date.now() + lifeMs;
  for (let n = 0; n < count; n += 5000) {
    const pipeline = redis.pipeline();
    for (let i = n; i < n + 5000; i++) pipeline.set(`measure:unread:${i}`, 1, 'PXAT', until);
    await pipeline.exec();
  }
  const held = async (afterMs: number) => {
    await sleep(Math.max(0, until + afterMs - Date.now()));
    return (100 * ((await redis.dbsize()) - before)) / count;
  };
  const claims: Claim[] = [];
  for (const ms of [20, 200, 1000])
    claims.push(
      figure(
        `unread-${ms}`,
        `of ${count} keys that nobody reads: still in memory ${ms} ms after their end`,
        await held(ms),
        '%',
      ),
    );
  return claims;
}
