import { once } from 'node:events';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis, type RedisOptions } from 'ioredis';
import { type Claim, defineMeasure, forkScript, median, percentile } from '#claims';
import { createTwoTier as createCore } from './core';
import { hearing, openPeers, type Peer, PREFIX } from './peers';
import { createTwoTier } from './two-tier';

const TEXT = 'x'.repeat(1_000);
const MAX_SILENCE_MS = 200;

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, redisUrl } = servers();
    const peers = await openPeers(redisUrl);
    try {
      const hits = await costOfHits(redis, peers, quick ? 400 : 8_000, quick ? 3 : 5);
      const races = quick ? 150 : 1_500;
      const guarded = await staleAfterRaces(redis, redisUrl, createTwoTier, races);
      const unguarded = await staleAfterRaces(redis, redisUrl, createCore, races);
      const windows = await staleness(redis, redisUrl, quick ? 100 : 3_000);
      const silentMs = await silentChannel(redis, redisUrl, quick ? 1 : 5);
      const hit = (name: string) =>
        hits.find((each) => each.name === name) ?? { us: Number.NaN, ratio: Number.NaN };
      const getUs = hit('Redis').us;
      const claims: Claim[] = [
        {
          name: 'hit-ratio',
          says: 'a hit of 1 kB: a GET of ioredis against L1 of this lab',
          value: hit('this lab').ratio,
          unit: '×',
          atLeast: 15,
        },
        {
          name: 'stale-core',
          says: 'reads that race a write, old in L1 at the end: each reply is kept',
          value: (100 * unguarded) / races,
          unit: '%',
          atLeast: 1,
        },
        {
          name: 'stale-marks',
          says: 'reads that race a write, old in L1 at the end: a message removes the mark of the read',
          value: (100 * guarded) / races,
          unit: '%',
          atMost: 0,
        },
        {
          name: 'silent-ratio',
          says: 'silent channel: how long L1 gives an old text, against maxSilenceMs',
          value: silentMs / MAX_SILENCE_MS,
          unit: '×',
          atMost: 3,
        },
        {
          name: 'window-p50',
          says: 'from the answer of a write to the moment its key leaves L1 of another process, p50',
          value: percentile(windows, 0.5),
          unit: 'ms',
        },
        {
          name: 'window-p99',
          says: 'from the answer of a write to the moment its key leaves L1 of another process, p99',
          value: percentile(windows, 0.99),
          unit: 'ms',
        },
        { name: 'get-us', says: 'a GET of 1 kB by ioredis, one at a time', value: getUs, unit: 'µs' },
        ...peers.map(
          ({ name }): Claim => ({
            name: `hit-${name.toLowerCase().replaceAll(/\W+/g, '-')}`,
            says: `an L1 hit of 1 kB: ${name}`,
            value: hit(name).us,
            unit: 'µs',
          }),
        ),
      ];
      return {
        claims,
        matrices: quick ? [] : [await hearing(redis, peers, 2_000)],
        plots: [
          {
            name: 'hits',
            title: 'L1 hits of 1 kB in the time of one GET of ioredis',
            label: 'hits',
            bars: peers.map(({ name }) => [name, hit(name).ratio] as const),
          },
        ],
      };
    } finally {
      await Promise.all(peers.map((peer) => peer.close()));
    }
  },
});

/** One read at a time; each round asks all of them in turn. The ratio is against the GET of the same round. */
async function costOfHits(redis: Redis, peers: readonly Peer[], reads: number, rounds: number) {
  const key = `${PREFIX}hit`;
  for (const peer of peers) {
    await peer.fill(key, TEXT);
    // Each must be on its L1: the one that is told of its own write needs a moment.
    for (let i = 0; i < 3; i++) {
      await sleep(10);
      await peer.get(key);
    }
  }
  await redis.set(`${PREFIX}get`, TEXT);
  const read = { name: 'Redis', get: () => redis.get(`${PREFIX}get`) };
  const samples = [read, ...peers].map(({ name, get }) => ({
    name,
    get,
    us: [] as number[],
    ratios: [] as number[],
  }));
  for (let round = 0; round <= rounds; round++) {
    let getUs = Number.NaN;
    for (const { name, get, us, ratios } of samples) {
      const began = performance.now();
      for (let i = 0; i < reads; i++) await get(key);
      const each = (1_000 * (performance.now() - began)) / reads;
      if (name === 'Redis') getUs = each;
      // The first round warms up.
      if (round === 0) continue;
      us.push(each);
      ratios.push(getUs / each);
    }
  }
  return samples.map(({ name, us, ratios }) => ({ name, us: median(us), ratio: median(ratios) }));
}

/** The same clock in all processes of a machine. */
const monotonicMs = () => Number(process.hrtime.bigint()) / 1e6;

type Create = typeof createTwoTier | typeof createCore;

/** A cache that is live, and a way to wait until its channel has heard of a key. */
async function openCache(redis: Redis, url: string, create: Create, maxSilenceMs = 600_000) {
  const reader = new Redis(url);
  const handled = new Map<string, number>();
  const channels: Redis[] = [];
  const connect = (options: RedisOptions) => {
    const channel = new Redis(url, options);
    channel.on('messageBuffer', (_channel: Buffer, keys: unknown) => {
      if (Array.isArray(keys)) for (const key of keys) handled.set(String(key), monotonicMs());
    });
    channels.push(channel);
    return channel;
  };
  const cache = create({ redis: reader, connect, prefix: PREFIX, maxKeys: 10_000, maxSilenceMs });
  const heard = async (key: string): Promise<void> => {
    while (!handled.has(key)) await sleep(1);
  };
  const live = `${PREFIX}live`;
  while (!handled.has(live)) {
    await redis.set(live, 'anything');
    await sleep(1);
  }
  return {
    cache,
    channels,
    handled,
    heard,
    close() {
      cache.close();
      reader.disconnect();
    },
  };
}

/** How many keys are old in L1 after a read and a write of each were sent at once, over two connections. */
async function staleAfterRaces(redis: Redis, url: string, create: Create, races: number): Promise<number> {
  const { cache, handled, heard, close } = await openCache(redis, url, create);
  const keys = Array.from({ length: races }, (_, n) => `${PREFIX}race:${n}`);
  let stale = 0;
  for (let at = 0; at < races; at += 50) {
    const batch = keys.slice(at, at + 50);
    await redis.mset(batch.flatMap((key) => [key, 'old']));
    await Promise.all(batch.map(heard));
    handled.clear();
    await Promise.all(batch.flatMap((key) => [cache.get(key), redis.set(key, 'new')]));
    await Promise.all(batch.map(heard));
    for (const key of batch) if ((await cache.get(key)) === 'old') stale++;
  }
  close();
  await redis.del(keys);
  return stale;
}

/** How long after the answer of a write, in another process, its message is handled here (ms); 0: it came first. */
async function staleness(redis: Redis, url: string, writes: number): Promise<number[]> {
  const { handled, heard, close } = await openCache(redis, url, createTwoTier);
  const writer = forkScript(join(import.meta.dirname, 'writer.ts'), [url, PREFIX, String(writes)]);
  const [answered] = (await once(writer, 'message')) as [[key: string, ms: number][]];
  await heard(`${PREFIX}window:${writes - 1}`);
  close();
  return answered.map(([key, ms]) => Math.max(0, (handled.get(key) ?? Number.NaN) - ms));
}

/** How long L1 gives the old text after its channel has fallen silent (ms), median of some tries. */
async function silentChannel(redis: Redis, url: string, tries: number): Promise<number> {
  const times: number[] = [];
  const key = `${PREFIX}silent`;
  for (let n = 0; n < tries; n++) {
    await redis.set(key, 'old');
    const { cache, channels, close } = await openCache(redis, url, createTwoTier, MAX_SILENCE_MS);
    await cache.get(key);
    for (const channel of channels) channel.stream.pause();
    await redis.set(key, 'new');
    const began = performance.now();
    while ((await cache.get(key)) === 'old') await sleep(1);
    times.push(performance.now() - began);
    close();
  }
  return median(times);
}
