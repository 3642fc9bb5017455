import { Redis } from 'ioredis';
import { type Claim, defineMeasure, median, type Plot, redisVersion } from '#claims';
import { startRedis } from '../../../course/servers/redis';
import { generationKey } from './given';
import { createTaggedCache } from './tags-and-generations';

/** Pages that one change makes old. All other keys of the server are somebody else's. */
const PAGES = 500;
const SIZES = [1000, 10_000, 100_000, 1_000_000] as const;
const QUICK_SIZES = [1000, 10_000] as const;
const CHUNK = 50_000;
/** As often a tag is bumped, and its pages are read again, in the measurement of what stays behind. */
const BUMPS = 9;
const TAG = 'mugs';

const FILL = `for i = ARGV[1], ARGV[2] do redis.call('SET', ARGV[3] .. i, 'x', 'PX', 600000) end`;

interface Cost {
  readonly commands: number;
  readonly ms: number;
}

interface AtSize {
  readonly keys: number;
  readonly oneByOne: Cost;
  readonly batched: Cost;
  readonly bump: Cost;
}

export default defineMeasure({
  async run({ quick }) {
    const server = await startRedis();
    const redis = new Redis(server.url);
    const other = new Redis(server.url);
    try {
      const sizes: AtSize[] = [];
      let held = 0;
      for (const keys of quick ? QUICK_SIZES : SIZES) {
        await fill(redis, 'other:', held, keys - PAGES);
        held = keys - PAGES;
        sizes.push({
          keys,
          oneByOne: await cost(redis, () => scanAndDelete(redis, 10, 1)),
          batched: await cost(redis, () => scanAndDelete(redis, 1000, 1000)),
          bump: await cost(redis, () => tagged(redis).bump([TAG])),
        });
      }
      const stall = quick ? undefined : await stallByKeys(redis, other);
      const reads = await readCosts(redis, quick ? 200 : 5000);
      const orphans = await orphanMemory(redis, quick ? 100 : PAGES);
      return {
        claims: claims(sizes, stall, { ...reads, orphans }),
        plots: plots(sizes),
        servers: [await redisVersion(redis)],
      };
    } finally {
      redis.disconnect();
      other.disconnect();
      await server.close();
    }
  },
});

const tagged = (redis: Redis) =>
  createTaggedCache({ redis, name: 'search', ttlMs: 60_000, generationTtlMs: 600_000, loadDeadlineMs: 5000 });

async function fill(redis: Redis, prefix: string, from: number, to: number): Promise<void> {
  for (let first = from + 1; first <= to; first += CHUNK) {
    await redis.eval(FILL, 0, first, Math.min(first + CHUNK - 1, to), prefix);
  }
}

/** A common version: walk over all keys, and delete those whose name begins with it. */
async function scanAndDelete(redis: Redis, count: number, batch: number): Promise<void> {
  let waiting: string[] = [];
  for await (const keys of redis.scanStream({ match: 'search:*', count })) {
    waiting.push(...keys);
    while (waiting.length >= batch) {
      await redis.del(waiting.slice(0, batch));
      waiting = waiting.slice(batch);
    }
  }
  if (waiting.length > 0) await redis.del(waiting);
}

/** Commands that reached the server, counted there, and the time until the invalidation was done. */
async function cost(redis: Redis, invalidate: () => Promise<void>): Promise<Cost> {
  await fill(redis, 'search:', 0, PAGES);
  await redis.config('RESETSTAT');
  const began = performance.now();
  await invalidate();
  const ms = performance.now() - began;
  return { commands: await dataCommands(redis), ms };
}

/** All but those that count. */
async function dataCommands(redis: Redis): Promise<number> {
  const stats = await redis.info('commandstats');
  const calls = [...stats.matchAll(/^cmdstat_(\w+)\S*:calls=(\d+)/gm)];
  return calls
    .filter(([, name]) => !['config', 'info'].includes(name ?? ''))
    .reduce((sum, [, , count]) => sum + Number(count), 0);
}

/** The longest answer to a client that pings while another asks for KEYS, against the median without. */
async function stallByKeys(redis: Redis, other: Redis): Promise<{ ms: number; quietMs: number }> {
  const ping = async () => {
    const began = performance.now();
    await other.ping();
    return performance.now() - began;
  };
  const quiet: number[] = [];
  for (let i = 0; i < 200; i++) quiet.push(await ping());
  let worst = 0;
  for (let round = 0; round < 3; round++) {
    const keys = redis.keys('search:*');
    worst = Math.max(worst, await ping());
    await keys;
  }
  return { ms: worst, quietMs: median(quiet) };
}

const RESULT = {
  items: Array.from({ length: 20 }, (_, id) => ({ id, name: `product ${id}`, price: '12.90' })),
};
const load = async () => RESULT;

/** A hit of the lab (generations, then page) against one GET. */
async function readCosts(redis: Redis, rounds: number): Promise<{ hit: number; generationBytes: number }> {
  const cache = tagged(redis);
  await cache.get({ page: 1 }, [TAG], load);
  await redis.set('plain', JSON.stringify(RESULT), 'PX', 600_000);
  const hits: number[] = [];
  const gets: number[] = [];
  for (let i = 0; i < rounds; i++) {
    const began = performance.now();
    await cache.get({ page: 1 }, [TAG], load);
    const between = performance.now();
    JSON.parse((await redis.get('plain')) ?? '');
    hits.push(between - began);
    gets.push(performance.now() - between);
  }
  const generation = generationKey('search', TAG);
  return {
    hit: median(hits) / median(gets),
    generationBytes: Number(await redis.memory('USAGE', generation)),
  };
}

/** Memory of the server after all pages of a tag were bumped and read again and again, against the pages alone. */
async function orphanMemory(redis: Redis, count: number): Promise<number> {
  const cache = tagged(redis);
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
  const read = () =>
    Promise.all(Array.from({ length: count }, (_, page) => cache.get({ page }, ['lamps'], load)));
  await read();
  await cache.bump(['lamps']);
  const before = await used();
  await read();
  const once = (await used()) - before;
  for (let bump = 1; bump < BUMPS; bump++) {
    await cache.bump(['lamps']);
    await read();
  }
  return 1 + ((await used()) - before) / once;
}

function claims(
  sizes: readonly AtSize[],
  stall: { ms: number; quietMs: number } | undefined,
  reads: { hit: number; generationBytes: number; orphans: number },
): Claim[] {
  const first = sizes[0];
  const largest = sizes.at(-1);
  const ten = sizes.find(({ keys }) => keys === 10_000);
  if (!first || !largest || !ten) throw new Error('nothing was measured');
  const inKeys = (keys: number) => keys.toLocaleString('en-US');
  return [
    {
      name: 'bump-growth',
      says: 'commands of a bump: with 10,000 keys in Redis against 1,000',
      value: ten.bump.commands / first.bump.commands,
      unit: '×',
      atMost: 1,
    },
    {
      name: 'scan-growth',
      says: `commands of SCAN (COUNT 10) and DEL of ${PAGES} pages, one by one: with 10,000 keys in Redis against 1,000`,
      value: ten.oneByOne.commands / first.oneByOne.commands,
      unit: '×',
      atLeast: 1.5,
    },
    {
      name: 'scan-against-bump',
      says: `commands with ${inKeys(10_000)} keys in Redis: SCAN (COUNT 10) and DEL of ${PAGES} pages, one by one, against a bump`,
      value: ten.oneByOne.commands / ten.bump.commands,
      unit: '×',
      atLeast: 500,
    },
    {
      name: 'hit-cost',
      says: 'a hit (generations, then page) against one GET of the same page, p50',
      value: reads.hit,
      unit: '×',
      atMost: 6,
    },
    {
      name: 'generation-bytes',
      says: 'memory of a generation, by MEMORY USAGE',
      value: reads.generationBytes,
      unit: 'bytes',
    },
    {
      name: 'orphan-memory',
      says: `memory of all pages of a tag after ${BUMPS} bumps within one TTL, each read again: against the pages that can be found`,
      value: reads.orphans,
      unit: '×',
      atLeast: 5,
      atMost: 15,
    },
    ...(stall
      ? [
          ...(
            [
              ['scan-million', `SCAN (COUNT 10) and DEL of ${PAGES} pages, one by one`, largest.oneByOne],
              ['batch-million', `SCAN (COUNT 1000) and DEL of ${PAGES} pages, in batches`, largest.batched],
              ['bump-million', `a bump that hides ${PAGES} pages`, largest.bump],
            ] as const
          ).flatMap(([name, says, { commands, ms }]): Claim[] => [
            {
              name: `${name}-commands`,
              says: `commands with ${inKeys(largest.keys)} keys in Redis: ${says}`,
              value: commands,
              unit: '',
            },
            {
              name: `${name}-ms`,
              says: `time with ${inKeys(largest.keys)} keys in Redis: ${says}`,
              value: ms,
              unit: 'ms',
            },
          ]),
          {
            name: 'keys-stall',
            says: `PING while another client runs KEYS, ${inKeys(largest.keys)} keys in Redis, longest of 3`,
            value: stall.ms,
            unit: 'ms',
          },
          {
            name: 'quiet-ping',
            says: `PING without KEYS, ${inKeys(largest.keys)} keys in Redis, p50`,
            value: stall.quietMs,
            unit: 'ms',
          },
        ]
      : []),
  ];
}

function plots(sizes: readonly AtSize[]): Plot[] {
  const series = (name: string, of: (size: AtSize) => Cost) => ({
    name,
    points: sizes.map((size) => [size.keys, of(size).commands] as const),
  });
  return [
    {
      name: 'commands',
      title: `Commands to invalidate ${PAGES} search pages, by the number of keys on the server`,
      x: { label: 'keys on the server', scale: 'log' },
      y: { label: 'commands', scale: 'log' },
      series: [
        series('SCAN, DEL each', ({ oneByOne }) => oneByOne),
        series('SCAN in batches', ({ batched }) => batched),
        series('generation', ({ bump }) => bump),
      ],
    },
  ];
}
