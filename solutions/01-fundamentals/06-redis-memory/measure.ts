import { Redis } from 'ioredis';
import { type Claim, defineMeasure, type Plot, redisVersion } from '#claims';
import { type RedisSettings, startRedis } from '../../../course/servers/redis';
import { write } from './redis-memory';

const FIELD_BYTES = 20;
const PAGE = 'x'.repeat(1000);
const TTL_MS = 600_000;

export default defineMeasure({
  async run({ quick }) {
    const claims: Claim[] = [];
    const plots: Plot[] = [];
    const servers: string[] = [];
    await withRedis({}, async (redis) => {
      servers.push(await redisVersion(redis));
      claims.push(...(await encodings(redis)));
      const curve = await hashCurve(redis, quick);
      claims.push(curve.step);
      plots.push(curve.plot);
    });
    claims.push(...(await outage(quick)));
    const [lru, volatileLru] = await Promise.all([
      stateLost('allkeys-lru', quick),
      stateLost('volatile-lru', quick),
    ]);
    claims.push(
      share(
        'state-lost-allkeys',
        'sessions and counters, idle for an hour, that a filling cache evicts under allkeys-lru',
        lru,
        {
          atLeast: 90,
        },
      ),
      share(
        'state-lost-volatile',
        'sessions and counters without a TTL that a filling cache evicts under volatile-lru',
        volatileLru,
        {
          atMost: 0,
        },
      ),
    );
    const [random, five, ten] = await Promise.all([
      oldestEvicted('allkeys-random', 5, quick),
      oldestEvicted('allkeys-lru', 5, quick),
      oldestEvicted('allkeys-lru', 10, quick),
    ]);
    claims.push(
      share('oldest-random', 'evicted keys that were of the older half: allkeys-random', random, {
        atMost: 65,
      }),
      share(
        'oldest-5',
        'evicted keys that were of the older half: allkeys-lru with 5 samples (the default)',
        five,
        { atLeast: 75 },
      ),
      share('oldest-10', 'evicted keys that were of the older half: allkeys-lru with 10 samples', ten, {
        atLeast: 80,
      }),
    );
    return { claims, plots, servers };
  },
});

const share = (
  name: string,
  says: string,
  part: number,
  bound: Pick<Claim, 'atLeast' | 'atMost'>,
): Claim => ({
  name,
  says,
  value: part * 100,
  unit: '%',
  ...bound,
});

async function withRedis<Result>(
  settings: RedisSettings,
  use: (redis: Redis) => Promise<Result>,
): Promise<Result> {
  const server = await startRedis(settings);
  const redis = new Redis(server.url);
  try {
    return await use(redis);
  } finally {
    redis.disconnect();
    await server.close();
  }
}

/** Bytes by MEMORY USAGE, each collection once in its compact encoding and once forced into the other. */
async function encodings(redis: Redis): Promise<Claim[]> {
  const field = (n: number) => [`field:${n}`, 'v'.repeat(FIELD_BYTES)];
  const many = <Item>(count: number, make: (n: number) => Item) =>
    Array.from({ length: count }, (_, n) => make(n));

  await redis.set('s:int', '1234567');
  await redis.set('s:embstr', 'x'.repeat(44));
  await redis.set('s:raw', 'x'.repeat(45));
  const fill = async (prefix: string) => {
    await redis.hset(`${prefix}:hash`, ...many(100, field).flat());
    await redis.zadd(`${prefix}:zset`, ...many(100, (n) => [n, `member:${n}`]).flat());
    await redis.sadd(`${prefix}:set`, ...many(100, (n) => 100_000 + n));
  };
  await fill('small');
  for (const limit of ['hash-max-listpack-entries', 'zset-max-listpack-entries', 'set-max-intset-entries']) {
    await redis.config('SET', limit, 0);
  }
  // Redis 7.2 and later would take a listpack for a set that may not be an intset.
  await redis.config('SET', 'set-max-listpack-entries', 0).catch(() => {});
  await fill('large');
  await redis.config('SET', 'hash-max-listpack-entries', 512);

  const strings = redis.pipeline();
  const buckets = redis.pipeline();
  for (let n = 0; n < 1000; n++) {
    strings.set(`name:${n}`, `user number ${n}`);
    buckets.hset(`names:${Math.floor(n / 100)}`, n % 100, `user number ${n}`);
  }
  await Promise.all([strings.exec(), buckets.exec()]);
  const asStrings = await bytesOf(
    redis,
    many(1000, (n) => `name:${n}`),
  );
  const asBuckets = await bytesOf(
    redis,
    many(10, (n) => `names:${n}`),
  );

  const bytes = (key: string) => bytesOf(redis, [key]);
  const small = {
    hash: await bytes('small:hash'),
    zset: await bytes('small:zset'),
    set: await bytes('small:set'),
  };
  const large = {
    hash: await bytes('large:hash'),
    zset: await bytes('large:zset'),
    set: await bytes('large:set'),
  };
  const figure = (name: string, says: string, value: number): Claim => ({ name, says, value, unit: 'bytes' });
  const ratio = (name: string, says: string, value: number, atLeast: number): Claim => ({
    name,
    says,
    value,
    unit: '×',
    atLeast,
  });
  return [
    figure('string-int', 'a string that is a number (int), with its key', await bytes('s:int')),
    figure('string-embstr', 'a string of 44 bytes (embstr), with its key', await bytes('s:embstr')),
    figure('string-raw', 'a string of 45 bytes (raw), with its key', await bytes('s:raw')),
    figure('hash-listpack', 'a hash of 100 fields of 20 bytes, listpack', small.hash),
    ratio(
      'hash-ratio',
      'a hash of 100 fields as a hash table, against a listpack',
      large.hash / small.hash,
      1.2,
    ),
    figure('zset-listpack', 'a sorted set of 100 members, listpack', small.zset),
    ratio(
      'zset-ratio',
      'a sorted set of 100 members as a skip list, against a listpack',
      large.zset / small.zset,
      2,
    ),
    figure('set-intset', 'a set of 100 integers, intset', small.set),
    ratio('set-ratio', 'a set of 100 integers as a hash table, against an intset', large.set / small.set, 3),
    ratio(
      'bucket-ratio',
      '1,000 short strings, each with a key of its own, against 10 listpack hashes of 100 fields',
      asStrings / asBuckets,
      1.5,
    ),
  ];
}

async function bytesOf(redis: Redis, keys: readonly string[]): Promise<number> {
  const pipeline = redis.pipeline();
  for (const key of keys) pipeline.memory('USAGE', key, 'SAMPLES', 0);
  const replies = (await pipeline.exec()) ?? [];
  return replies.reduce((sum, [, bytes]) => sum + Number(bytes), 0);
}

/** Bytes a field of one hash that grows past hash-max-listpack-entries. */
async function hashCurve(redis: Redis, quick: boolean): Promise<{ step: Claim; plot: Plot }> {
  const limit = 128;
  await redis.config('SET', 'hash-max-listpack-entries', limit);
  const points: [number, number][] = [];
  const stride = quick ? 16 : 4;
  const stops = new Set([limit + 1]);
  for (let fields = stride; fields <= 2 * limit; fields += stride) stops.add(fields);
  let filled = 0;
  for (const fields of [...stops].sort((a, b) => a - b)) {
    const pipeline = redis.pipeline();
    for (; filled < fields; filled++) pipeline.hset('curve', `field:${filled}`, 'v'.repeat(FIELD_BYTES));
    await pipeline.exec();
    points.push([fields, (await bytesOf(redis, ['curve'])) / fields]);
  }
  const bytesAt = new Map(points.map(([fields, each]) => [fields, fields * each]));
  const step: Claim = {
    name: 'hash-step',
    says: `one hash with ${limit + 1} fields against ${limit} fields, hash-max-listpack-entries being ${limit}`,
    value: (bytesAt.get(limit + 1) ?? Number.NaN) / (bytesAt.get(limit) ?? Number.NaN),
    unit: '×',
    atLeast: 1.2,
  };
  const plot: Plot = {
    name: 'hash',
    title: `Bytes per field of one hash, hash-max-listpack-entries ${limit}`,
    x: { label: 'fields in the hash', scale: 'linear' },
    y: { label: 'bytes per field', scale: 'linear' },
    series: [{ name: 'MEMORY USAGE / fields', points }],
  };
  return { step, plot };
}

/** A cache that fills under noeviction: what becomes of the writes and of the reads after that. */
function outage(quick: boolean): Promise<Claim[]> {
  return withRedis({ maxmemory: '4mb' }, async (redis) => {
    let stored = 0;
    while ((await write(redis, `page:${stored}`, PAGE, TTL_MS)) === 'stored') stored++;
    const rounds = quick ? 200 : 5000;
    let refused = 0;
    let served = 0;
    for (let n = 0; n < rounds; n++) {
      if ((await write(redis, `new:${n}`, PAGE, TTL_MS)) === 'full') refused++;
      if ((await redis.get(`page:${n % stored}`)) !== null) served++;
    }
    return [
      share('writes-refused', 'new entries that a full Redis refuses under noeviction', refused / rounds, {
        atLeast: 99,
      }),
      share(
        'reads-served',
        'reads of stored entries that a full Redis serves under noeviction',
        served / rounds,
        { atLeast: 100 },
      ),
    ];
  });
}

/** Share of the sessions and counters, idle for an hour and without a TTL, that a filling cache pushes out. */
function stateLost(policy: string, quick: boolean): Promise<number> {
  return withRedis({ maxmemory: '3mb', 'maxmemory-policy': policy }, async (redis) => {
    await redis.set('session:0', 'user 1234567');
    const dump = await redis.dumpBuffer('session:0');
    const state = redis.pipeline();
    for (const kind of ['session', 'limit']) {
      for (let n = 0; n < 500; n++)
        state.call('RESTORE', `${kind}:${n}`, 0, dump, 'REPLACE', 'IDLETIME', 3600);
    }
    await state.exec();
    const pages = quick ? 1500 : 10_000;
    for (let n = 0; n < pages; ) {
      const batch = redis.pipeline();
      for (const end = n + 50; n < end; n++) batch.set(`page:${n}`, PAGE.repeat(4), 'PX', TTL_MS);
      await batch.exec();
    }
    const left = [...(await redis.keys('session:*')), ...(await redis.keys('limit:*'))];
    return 1 - left.length / 1000;
  });
}

/**
 * Keys whose idle times differ by a second each (RESTORE … IDLETIME); room for half of them. Of the evicted, the share
 * that were of the older half: exact LRU has 1, chance .5.
 */
function oldestEvicted(policy: string, samples: number, quick: boolean): Promise<number> {
  return withRedis({ 'maxmemory-policy': policy, 'maxmemory-samples': String(samples) }, async (redis) => {
    const keys = quick ? 2000 : 20_000;
    await redis.set('shape', PAGE);
    const dump = await redis.dumpBuffer('shape');
    await redis.del('shape');
    const empty = await usedMemory(redis);
    const load = redis.pipeline();
    // Shuffled, so that age has nothing to do with where the hash table keeps a key.
    for (let n = 0; n < keys; n++) {
      const age = (n * 7919) % keys;
      load.call('RESTORE', `page:${age}`, 0, dump, 'IDLETIME', 100 + age);
    }
    await load.exec();
    const full = await usedMemory(redis);
    await redis.config('SET', 'maxmemory', Math.round(empty + (full - empty) / 2));
    while ((await usedMemory(redis)) > empty + (full - empty) / 2) await redis.set('push', 1);
    const kept = new Set(await redis.keys('page:*'));
    const evicted = Array.from({ length: keys }, (_, age) => age).filter((age) => !kept.has(`page:${age}`));
    return evicted.filter((age) => age >= keys / 2).length / evicted.length;
  });
}

async function usedMemory(redis: Redis): Promise<number> {
  return Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
}
