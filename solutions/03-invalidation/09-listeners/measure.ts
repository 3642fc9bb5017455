import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { type Claim, defineMeasure, type MeasureServers, median, percentile } from '#claims';
import { seeded } from '#kit/random';
import { BEGINNING, eventsOf, publish, STREAM } from './given';
import { createLocalCache } from './listeners';

const CHANNEL = 'invalidated';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const opened = servers();
    const claims: Claim[] = [];
    for (const measure of [away, trimmed, hits, latency, backlog]) {
      await opened.redis.del(STREAM);
      claims.push(...(await measure(opened, quick)));
    }
    await opened.redis.del(STREAM);
    return { claims };
  },
});

const figure = (name: string, says: string, value: number, unit: string): Claim => ({
  name,
  says,
  value,
  unit,
});

const percent = (part: number, of: number) => (100 * part) / of;

type Cache = ReturnType<typeof createLocalCache>;

async function keepOld(cache: Cache, keys: readonly string[]): Promise<void> {
  for (const key of keys) await cache.get(key, async () => 'old');
}

async function catchUp(cache: Cache): Promise<void> {
  while ((await cache.poll()) > 0);
}

async function stillOld(cache: Cache, keys: readonly string[]): Promise<number> {
  const values = await Promise.all(keys.map((key) => cache.get(key, async () => 'new')));
  return values.filter((value) => value === 'old').length;
}

const numbered = (prefix: string, count: number) => Array.from({ length: count }, (_, n) => `${prefix}:${n}`);

/** A cache with a place in the stream. */
async function openCache(redis: Redis): Promise<Cache> {
  const cache = createLocalCache({ redis });
  await publish(redis, ['product:0']);
  await catchUp(cache);
  return cache;
}

/** Two listeners that are away for the middle third of the events. */
async function away({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const parts = numbered('part', 3).map((part) => numbered(part, quick ? 50 : 1_000));
  const keys = parts.flat();
  const cache = await openCache(redis);
  await keepOld(cache, keys);
  const lost = new Set(keys);
  const subscriber = redis.duplicate();
  subscriber.on('message', (_channel, key) => lost.delete(key));
  try {
    for (const [at, part] of parts.entries()) {
      if (at === 1) await subscriber.unsubscribe(CHANNEL);
      else await subscriber.subscribe(CHANNEL);
      await publish(redis, part);
      for (const key of part) await redis.publish(CHANNEL, key);
      if (at !== 1) await catchUp(cache);
      await subscriber.ping();
    }
  } finally {
    subscriber.disconnect();
  }
  const listener = 'a listener that is away for a third of the events:';
  return [
    {
      ...figure('away-pubsub', `${listener} lost with Pub/Sub`, percent(lost.size, keys.length), '%'),
      atLeast: 30,
    },
    {
      ...figure(
        'away-stream',
        `${listener} lost with a stream`,
        percent(await stillOld(cache, keys), keys.length),
        '%',
      ),
      atMost: 0,
    },
  ];
}

/** Half of the events are trimmed before they are read. */
async function trimmed({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const keys = numbered('product', quick ? 100 : 2_000);
  const cache = await openCache(redis);
  await keepOld(cache, keys);
  const unchecked = new Set(keys);
  let place = (await redis.xrevrange(STREAM, '+', '-', 'COUNT', 1))[0]?.[0] ?? BEGINNING;
  await publish(redis, keys);
  await redis.xtrim(STREAM, 'MAXLEN', keys.length / 2);
  await catchUp(cache);
  for (let more = true; more; ) {
    const events = eventsOf(await redis.xread('COUNT', 100, 'STREAMS', STREAM, place));
    for (const { key = '' } of events) unchecked.delete(key);
    place = events.at(-1)?.id ?? place;
    more = events.length > 0;
  }
  const says = 'half of the missed events were trimmed: values that stay old,';
  return [
    {
      ...figure(
        'trimmed-unchecked',
        `${says} by a listener that reads on`,
        percent(unchecked.size, keys.length),
        '%',
      ),
      atLeast: 45,
    },
    {
      ...figure(
        'trimmed-checked',
        `${says} by one that looks for its place`,
        percent(await stillOld(cache, keys), keys.length),
        '%',
      ),
      atMost: 0,
    },
  ];
}

/** A hit in the process against a hit in Redis. */
async function hits({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const rounds = quick ? 200 : 10_000;
  const text = JSON.stringify({ id: 1, name: 'mug', description: 'x'.repeat(950) });
  await redis.set('product:1', text);
  const cache = await openCache(redis);
  const value = JSON.parse(text);
  const timeOf = async (action: () => Promise<unknown>) => {
    const taken: number[] = [];
    for (let n = 0; n < rounds; n++) {
      const start = performance.now();
      await action();
      taken.push((performance.now() - start) * 1000);
    }
    return median(taken);
  };
  const localUs = await timeOf(() => cache.get('product:1', async () => value));
  const redisUs = await timeOf(async () => JSON.parse((await redis.get('product:1')) ?? ''));
  await redis.del('product:1');
  return [
    {
      ...figure('hit-ratio', 'a hit of 1 kB: Redis against the local cache, p50', redisUs / localUs, '×'),
      atLeast: 5,
    },
    figure('hit-local', 'a hit of 1 kB in the local cache, p50', localUs, 'µs'),
    figure('hit-redis', 'a hit of 1 kB in Redis, with JSON.parse, p50', redisUs, 'µs'),
  ];
}

/** From the answer of an XADD to the moment at which a key is gone. */
async function latency({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const random = seeded(39);
  const cache = await openCache(redis);
  const stop = new AbortController();
  const running = cache.run(stop.signal);
  const taken: number[] = [];
  for (let n = 0; n < (quick ? 10 : 300); n++) {
    const key = `latency:${n}`;
    await keepOld(cache, [key]);
    await sleep(random() * 5);
    await publish(redis, [key]);
    const start = performance.now();
    while ((await stillOld(cache, [key])) > 0) await new Promise(setImmediate);
    taken.push(performance.now() - start);
  }
  stop.abort();
  await running;
  return [
    figure('latency-p50', 'from the answer of XADD to a dropped key, p50', median(taken), 'ms'),
    figure('latency-p99', 'from the answer of XADD to a dropped key, p99', percentile(taken, 0.99), 'ms'),
  ];
}

/** What a listener reads that was away for a full stream. */
async function backlog({ redis }: MeasureServers, quick: boolean): Promise<Claim[]> {
  const count = quick ? 1_000 : 10_000;
  const cache = await openCache(redis);
  await publish(redis, numbered('product', count), 2 * count);
  const start = performance.now();
  await catchUp(cache);
  const taken = performance.now() - start;
  return [figure('backlog', '1,000 missed events: until all are read', (1000 * taken) / count, 'ms')];
}
