import { Redis } from 'ioredis';
import { describe, expect, onTestFinished, test } from 'vitest';
import { collectGarbage } from '#kit/effort';
import { ownRedis } from '#kit/own-redis';
import { Lru, replay } from '#kit/policies';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { databaseLoad, memoryFor, missRatioCurve, nodesFor, peakPerSecond } from './capacity';
import { type Demand, HotKeyError, InputError, MIN_SAMPLED_KEYS, type Misses } from './given';

const GB = 1e9;
const MILLION = 1e6;
const PAGES = { entries: MILLION, keyBytes: 20, valueBytes: 300, ttl: false, replicas: 0 };
/** 86.4 million requests a day are 1,000 in an average second. */
const TRAFFIC = { requestsPerDay: 86.4 * MILLION, peakToAverage: 4 };
/** 100,000 in an average second, and 430,000 in the busiest. */
const BUSY = { requestsPerDay: 8640 * MILLION, peakToAverage: 4.3 };
/** 20,000 replies in the busiest second: 32 Gbit/s. */
const LARGE = { traffic: { ...TRAFFIC, peakToAverage: 20 }, replyBytes: 200_000 };
const NODE = { memoryBytes: 10 * GB, requestsPerSecond: 100_000, bitsPerSecond: 10e9 };

describe('Core', () => {
  test('memory counts the key, the value, an overhead for each entry, its TTL and every replica', () => {
    const bytes = memoryFor(PAGES);
    const each = 'bytes for each of a million entries, key of 20 bytes and value of 300';
    expect(bytes / MILLION, `${each}: a server needs more than the 320 bytes`).toBeGreaterThan(340);
    expect(bytes / MILLION, `${each}: not this many`).toBeLessThan(640);
    const more = (entries: Partial<typeof PAGES>) => memoryFor({ ...PAGES, ...entries }) / bytes;
    expect(more({ keyBytes: 220 }), 'memory with keys of 220 bytes, against 20').toBeGreaterThan(1.4);
    expect(more({ valueBytes: 3000 }), 'memory with values of 3,000 bytes, against 300').toBeGreaterThan(5);
    expect(more({ entries: 4 * MILLION }), 'memory of four million entries, against one').toBeCloseTo(4, 0);
    expect(more({ ttl: true }), 'memory with a TTL, against none').toBeGreaterThan(1.02);
    expect(more({ replicas: 2 }), 'memory with 2 replicas, against none').toBeCloseTo(3, 5);
  });

  test('nodes are enough for the memory and for the peak, whichever needs more', () => {
    expect(peakPerSecond(TRAFFIC), 'requests in the busiest second').toBeCloseTo(4000, 5);
    expect(nodesWith({ memoryBytes: 25 * GB }), 'plan for 25 GB and 4,000 requests/s').toEqual({
      nodes: 3,
      decidedBy: 'memory',
    });
    expect(nodesWith({ traffic: BUSY }), 'plan for 5 GB and 430,000 requests/s at the peak').toEqual({
      nodes: 5,
      decidedBy: 'requests',
    });
    expect(nodesWith({ memoryBytes: 0.1 * GB }).nodes, 'nodes for very little').toBe(1);
  });

  test('the database gets the misses of the peak', () => {
    for (const [hitRatio, queries] of [
      [0.9, 400],
      [0.99, 40],
    ] as const) {
      // It may be rounded.
      expect(
        loadWith({ hitRatio }).steady,
        `queries/s: 4,000 requests/s with a hit ratio of ${hitRatio}`,
      ).toBeCloseTo(queries, -1);
    }
  });

  test('after the loss of a node, the database gets what that node answered too', () => {
    for (const [hitRatio, nodes, times] of [
      [0.9, 4, 3.25],
      [0.99, 4, 25.75],
      [0.999, 8, 125.875],
      [0.9, 1, 10],
    ] as const) {
      const { steady, nodeLoss } = loadWith({ traffic: BUSY, hitRatio, nodes });
      expect(
        nodeLoss / steady,
        `queries after the loss of one of ${nodes} nodes, against those before it, with a hit ratio of ${hitRatio}`,
      ).toBeCloseTo(times, 0);
    }
  });

  test('the curve has the miss ratio of an LRU cache for every size', () => {
    const trace = zipfTrace({ requests: 3000, keys: 300, skew: 0.8 });
    const curve = missRatioCurve(trace);
    for (const size of [1, 2, 10, 100, 1000]) {
      expect(curve.missRatio(size), `miss ratio of a cache of ${size} entries`).toBeCloseTo(
        lruMisses(trace, size),
        9,
      );
    }
    // Distances of 1, 3 and 2.
    const short = missRatioCurve('aabcaccd'[Symbol.iterator]());
    expect(
      [0, 1, 2, 3, 4].map((size) => short.missRatio(size)),
      'miss ratios of 0 to 4 entries: a a b c a c c d',
    ).toEqual([1, 0.75, 0.625, 0.5, 0.5]);
  });

  test('the curve says how many entries a hit ratio costs, or that no cache has it', () => {
    const trace = zipfTrace({ requests: 3000, keys: 300, skew: 0.8 });
    const curve = missRatioCurve(trace);
    for (const hitRatio of [0.401, 0.601, 0.801]) {
      const entries = curve.entriesFor(hitRatio) ?? Number.NaN;
      const what = `which is said to be the smallest with a hit ratio of ${hitRatio}`;
      expect(
        1 - lruMisses(trace, entries),
        `hit ratio of a cache of ${entries} entries, ${what}`,
      ).toBeGreaterThanOrEqual(hitRatio);
      expect(
        1 - lruMisses(trace, entries - 1),
        `hit ratio of one entry fewer than ${entries}, ${what}`,
      ).toBeLessThan(hitRatio);
    }
    expect(
      curve.entriesFor(0.99),
      'entries for a hit ratio of 0.99: a tenth of the requests are the first of their key',
    ).toBeUndefined();
  });
});

describe('In production', () => {
  test('memory is within 20 % of what Redis uses, for three sizes of values, with and without a TTL', async () => {
    const { url } = await ownRedis();
    const { used, tolerance } = await meter(url);
    for (const valueBytes of [20, 200, 2000]) {
      for (const ttl of [false, true]) {
        // Fewer, and the buffers of a client count: some 16 kB.
        const shape = { entries: 4000, keyBytes: 12, valueBytes, ttl, replicas: 0 };
        const bytes = await used(shape);
        const about = `a value of ${valueBytes} bytes ${ttl ? 'with' : 'without'} a TTL, key of 12 bytes`;
        const seen = `bytes for an entry: ${about}. This Redis uses ${Math.round(bytes / shape.entries)}`;
        const each = memoryFor(shape) / shape.entries;
        expect(each, `${seen}, and 20 % less is too few`).toBeGreaterThan((0.8 * bytes) / shape.entries);
        expect(each, `${seen}, and this is too many`).toBeLessThan((tolerance * bytes) / shape.entries);
      }
    }
  });

  test('a node keeps part of its memory free for fragmentation and snapshots', () => {
    expect(
      nodesWith({ memoryBytes: 25 * GB, reserve: 0.4 }),
      'plan for 25 GB: nodes of 10 GB, 40 % free',
    ).toEqual({
      nodes: 5,
      decidedBy: 'memory',
    });
    expect(
      nodesWith({ memoryBytes: 25 * GB, reserve: 0.1 }).nodes,
      'nodes for 25 GB: 10 GB each, 10 % free',
    ).toBe(3);
  });

  test('the node of the hottest key carries an equal part of the rest too, and a key too hot for a node is refused', () => {
    // 64,500 for the hottest key. 35,500 are left of each node for the other 365,500: 10.3 nodes.
    expect(
      nodesWith({ traffic: BUSY, hottestKeyShare: 0.15 }),
      'plan for 430,000 requests/s, 15 % of them for one key',
    ).toEqual({ nodes: 11, decidedBy: 'requests' });
    for (const [demand, load] of [
      [
        { traffic: BUSY, hottestKeyShare: 0.25 },
        '107,500 requests/s are for one key, and a node can do 100,000',
      ],
      [
        { node: { ...NODE, requestsPerSecond: 2000 }, hottestKeyShare: 0.5 },
        '2,000 requests/s are for one key, and a node can do 2,000: nothing is left for a part of the rest',
      ],
    ] as const) {
      expect(
        thrownBy(() => nodesWith(demand)),
        `error of nodesFor: ${load}`,
      ).toBeInstanceOf(HotKeyError);
    }
  });

  test('large replies need as many nodes as the network of each can carry', () => {
    expect(nodesWith(LARGE), 'plan for 20,000 replies/s of 200 kB: 32 Gbit/s, nodes of 10 Gbit/s').toEqual({
      nodes: 4,
      decidedBy: 'bandwidth',
    });
    expect(
      nodesWith({ ...LARGE, replyBytes: 200, memoryBytes: 25 * GB }),
      'plan for 20,000 replies/s of 200 bytes, and 25 GB',
    ).toEqual({ nodes: 3, decidedBy: 'memory' });
    // 6.4 Gbit/s for the hottest key. 3.6 Gbit/s are left of each node for the other 25.6: 7.1 nodes.
    expect(
      nodesWith({ ...LARGE, hottestKeyShare: 0.2 }).nodes,
      'nodes for 32 Gbit/s, 20 % of them for one key, nodes of 10 Gbit/s',
    ).toBe(8);
    expect(
      thrownBy(() => nodesWith({ ...LARGE, hottestKeyShare: 0.4 })),
      'error of nodesFor: 12.8 Gbit/s are for one key, and a node has 10 Gbit/s',
    ).toBeInstanceOf(HotKeyError);
  });

  test('the nodes that a loss leaves still carry the peak', () => {
    for (const spare of [1, 2]) {
      expect(
        nodesWith({ traffic: BUSY, spare }).nodes,
        `nodes: ${spare} may be lost, and 5 carry the peak`,
      ).toBe(5 + spare);
      expect(
        nodesWith({ memoryBytes: 25 * GB, spare }).nodes,
        `nodes: ${spare} may be lost, and 3 have the memory`,
      ).toBe(3 + spare);
    }
    expect(
      nodesWith({ traffic: BUSY, hottestKeyShare: 0.15, spare: 1 }).nodes,
      'nodes: 1 may be lost, and 11 carry the peak with its hottest key',
    ).toBe(12);
  });

  test('an overload of the database is named: always, after the loss of a node, at a cold start', () => {
    // With 1,000 writes/s: 1,120, then 4,090, then 13,000.
    const shop = { hitRatio: 0.99, nodes: 4, queriesPerMiss: 3, writesPerSecond: 1000 };
    const { steady, nodeLoss, coldStart = Number.NaN } = loadWith(shop);
    for (const [when, load, right] of [
      ['always', steady, 1120],
      ['after the loss of a node', nodeLoss, 4090],
      ['at a cold start', coldStart, 13_000],
    ] as const) {
      expect(load, `queries/s ${when}: 3 for each miss, and 1,000 writes`).toBeCloseTo(right, -1);
    }
    for (const [limit, overloaded] of [
      [20_000, []],
      [5000, ['coldStart']],
      [3000, ['nodeLoss', 'coldStart']],
      [1100, ['steady', 'nodeLoss', 'coldStart']],
    ] as const) {
      expect(
        loadWith({ ...shop, limit }).overloaded ?? [],
        `overloads of a database that can do ${limit} queries/s, and gets 1,120, 4,090 or 13,000`,
      ).toEqual(overloaded);
    }
  });

  test('a curve from a tenth of the keys is within 0.02 of the exact one', () => {
    const next = zipf({ n: 300_000, skew: 1.2, random: seeded(1) });
    const ranks = Array.from({ length: 100_000 }, next);
    const keys = new Set(ranks).size;
    const sizes = [0.05, 0.1, 0.2, 0.4, 0.8].map((part) => Math.round(part * keys));
    const exact = missRatioCurve(ranks.map(String));
    // With each name of the keys, other hot keys are in the sample: the hottest has a fifth of all requests.
    const errors = ['article', 'page', 'user'].flatMap((name) => {
      const sampled = missRatioCurve(
        ranks.map((rank) => `${name}:${rank}`),
        { rate: 0.1 },
      );
      const share = (sampled.sampledKeys ?? Number.NaN) / keys;
      expect(share, 'sampledKeys against all keys, with a rate of 0.1').toBeGreaterThan(0.07);
      expect(share, 'sampledKeys against all keys, with a rate of 0.1').toBeLessThan(0.13);
      expect(sampled.missRatio(0), 'miss ratio of no cache, from a sample').toBeLessThanOrEqual(1);
      const entries = sampled.entriesFor(0.8) ?? Number.NaN;
      expect(
        exact.missRatio(entries),
        `exact miss ratio of ${entries} entries: a sample of a tenth gives them a hit ratio of 0.8`,
      ).toBeCloseTo(0.2, 1);
      return sizes.map((size) => Math.abs(sampled.missRatio(size) - exact.missRatio(size)));
    });
    expect(
      errors.reduce((sum, error) => sum + error) / errors.length,
      'mean difference of the sampled miss ratios from the exact ones: three samples of a tenth, five sizes',
    ).toBeLessThan(0.02);
  });

  test('a curve from a sample of fewer than 500 keys is marked', () => {
    const of = (keys: number) => Array.from({ length: 2 * keys }, (_, nth) => `user:${nth % keys}`);
    expect(missRatioCurve(of(3000), { rate: 0.1 }).tooFewKeys, 'tooFewKeys: about 300 keys of 3,000').toBe(
      true,
    );
    expect(
      missRatioCurve(of(8000), { rate: 0.1 }).tooFewKeys ?? false,
      'tooFewKeys: about 800 keys of 8,000',
    ).toBe(false);
    expect(missRatioCurve(of(300)).tooFewKeys ?? false, 'tooFewKeys: all keys of 300, which is exact').toBe(
      false,
    );
    expect(
      missRatioCurve(of(3000), { maxKeys: MIN_SAMPLED_KEYS / 2 }).tooFewKeys,
      'tooFewKeys: at most 250 keys of 3,000',
    ).toBe(true);
  });

  test('a long trace of many keys is sampled in bounded memory', () => {
    const keys = 75_000;
    const maxKeys = 4000;
    const trace = zipfTrace({ requests: 30_000, keys: 20_000, skew: 0.9 });
    const small = missRatioCurve(trace, { maxKeys });
    const sampled = small.sampledKeys ?? Number.NaN;
    expect(sampled, `sampledKeys, with maxKeys ${maxKeys}`).toBeLessThanOrEqual(maxKeys);
    expect(sampled, `sampledKeys, with maxKeys ${maxKeys}: some must be left`).toBeGreaterThan(maxKeys / 8);
    const exact = missRatioCurve(trace);
    for (const size of [1000, 4000, 8000]) {
      expect(
        Math.abs(small.missRatio(size) - exact.missRatio(size)),
        `difference of the miss ratios at ${size} entries, with maxKeys ${maxKeys} and exact`,
      ).toBeLessThan(0.04);
    }
    let kept = Number.NaN;
    function* stream() {
      const before = heapBytes();
      for (let nth = 0; nth < keys; nth++) yield `product:${nth}:price`;
      kept = heapBytes() - before;
    }
    const streamed = missRatioCurve(stream(), { maxKeys: 500 });
    expect(kept / 1e6, `MB kept after ${keys} keys, with maxKeys 500`).toBeLessThan(3);
    expect(
      streamed.missRatio(100),
      'miss ratio of a trace that can be read once, in which every key is new',
    ).toBeGreaterThan(0.7);
  });

  test('an input that cannot be is refused by name', () => {
    for (const [field, value, call] of [
      ['hitRatio', 99, () => loadWith({ hitRatio: 99 })],
      ['nodes', 0, () => loadWith({ nodes: 0 })],
      ['peakToAverage', 0.5, () => peakPerSecond({ ...TRAFFIC, peakToAverage: 0.5 })],
      ['requestsPerDay', Number.NaN, () => peakPerSecond({ ...TRAFFIC, requestsPerDay: Number.NaN })],
      ['entries', -1, () => memoryFor({ ...PAGES, entries: -1 })],
      ['reserve', 40, () => nodesWith({ reserve: 40 })],
      ['hottestKeyShare', 15, () => nodesWith({ hottestKeyShare: 15 })],
      ['requestsPerSecond', 0, () => nodesWith({ node: { ...NODE, requestsPerSecond: 0 } })],
      ['rate', 10, () => missRatioCurve(['a', 'b'], { rate: 10 })],
      ['maxKeys', 0, () => missRatioCurve(['a', 'b'], { maxKeys: 0 })],
    ] as const) {
      const error = thrownBy(call);
      expect(error, `error for ${field}: ${value}`).toBeInstanceOf(InputError);
      expect(String(error), `message of the error for ${field}: ${value}`).toContain(field);
    }
    expect(memoryFor({ ...PAGES, entries: 0 }), 'bytes of no entries').toBe(0);
  });
});

const nodesWith = (demand: Partial<Demand>) =>
  nodesFor({ memoryBytes: 5 * GB, traffic: TRAFFIC, node: NODE, ...demand });

const loadWith = (misses: Partial<Misses>) =>
  databaseLoad({ traffic: TRAFFIC, hitRatio: 0.9, nodes: 4, ...misses });

/** Keys that have little to do with their popularity. */
function zipfTrace({
  requests,
  keys,
  skew,
  seed = 1,
}: {
  requests: number;
  keys: number;
  skew: number;
  seed?: number;
}) {
  const next = zipf({ n: keys, skew, random: seeded(seed) });
  return Array.from({ length: requests }, () => `product:${seed}:${next() * 7919}`);
}

const lruMisses = (trace: Iterable<string>, size: number): number =>
  size < 1 ? 1 : 1 - replay(new Lru<string>(size), trace).hitRatio;

function thrownBy(call: () => unknown): unknown {
  try {
    return call();
  } catch (error) {
    return error;
  }
}

function heapBytes(): number {
  collectGarbage();
  return process.memoryUsage().heapUsed;
}

interface Shape {
  readonly entries: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  readonly ttl: boolean;
}

/** What entries take in a Redis, by the difference of used_memory. */
async function meter(url: string) {
  const watcher = new Redis(url);
  onTestFinished(() => watcher.disconnect());
  const usedMemory = async () => Number(/^used_memory:(\d+)/m.exec(await watcher.info('memory'))?.[1]);
  const version = /^(?:valkey|redis)_version:(\d+)/gm;
  const newest = Math.max(
    ...[...(await watcher.info('server')).matchAll(version)].map(([, major]) => Number(major)),
  );
  const used = async ({ entries, keyBytes, valueBytes, ttl }: Shape) => {
    await watcher.flushall('SYNC');
    const before = await usedMemory();
    const filler = new Redis(url);
    const value = 'v'.repeat(valueBytes);
    for (let from = 0; from < entries; from += 1000) {
      const pipeline = filler.pipeline();
      for (let nth = from; nth < from + 1000; nth++) {
        const key = String(nth).padStart(keyBytes, 'k');
        if (ttl) pipeline.set(key, value, 'PX', 3_600_000);
        else pipeline.set(key, value);
      }
      await pipeline.exec();
    }
    // Its buffers are memory too, until it has left.
    await filler.quit();
    while (/\n./.test(String(await watcher.client('LIST')).trim())) {}
    return (await usedMemory()) - before;
  };
  // The first clients leave something behind.
  await used({ entries: 1000, keyBytes: 12, valueBytes: 20, ttl: true });
  // Valkey 8 and 9 pack small entries more densely. A plan for Redis 7 is safe there.
  return { used, tolerance: newest >= 8 ? 1.8 : 1.2 };
}
