import { type Claim, defineMeasure, type Plot } from '#claims';
import { belady, Fifo, Lru, type Policy, Random, replay } from '#kit/policies';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { Lfu, Sieve } from './eviction';

// Everything is seeded, so every run on every machine gives the same figures.
const REQUESTS = 100_000;
const KEYS = 10_000;
const CACHE = 1_000;

type Make = (capacity: number) => Policy<number>;
const POLICIES: Record<string, Make> = {
  FIFO: (capacity) => new Fifo(capacity),
  LRU: (capacity) => new Lru(capacity),
  LFU: (capacity) => new Lfu(capacity),
  SIEVE: (capacity) => new Sieve(capacity),
  Random: (capacity) => new Random(capacity, seeded(2)),
};

type Trace = readonly number[];
const trace = (key: (i: number) => number): Trace => Array.from({ length: REQUESTS }, (_, i) => key(i));
const popularity = () => zipf({ n: KEYS, skew: 1, random: seeded(1) });

/** The same few keys stay popular. */
function stable(): Trace {
  return trace(popularity());
}

/** As `stable`, and of every 10,000 requests the last 2,000 read keys in order that are read once: a report, a crawler. */
function withScans(): Trace {
  const draw = popularity();
  return trace((i) => (i % 10_000 < 8_000 ? draw() : KEYS + i));
}

/** The same keys in the same order, again and again. */
function loop(length: number): Trace {
  return trace((i) => i % length);
}

/** Every 10,000 requests the ranks are dealt out anew among the same keys: another campaign, another country awake. */
function shifting(): Trace {
  const draw = popularity();
  return trace((i) => (draw() * 7_919 + Math.floor(i / 10_000) * 3_571) % KEYS);
}

/** Every 20 requests a new key becomes the most popular one, and every other key falls by one rank: news, feeds. */
function fading(): Trace {
  const draw = popularity();
  return trace((i) => KEYS + Math.floor(i / 20) - draw());
}

const percentHits = (make: Make, requests: Trace, capacity = CACHE) =>
  100 * replay(make(capacity), requests).hitRatio;

const percentHitsOf = (name: keyof typeof POLICIES, requests: Trace, capacity = CACHE) =>
  percentHits(POLICIES[name] as Make, requests, capacity);

function plot(name: string, title: string, requests: Trace, sizes: readonly number[]): Plot {
  const policies = Object.entries(POLICIES).map(([policy, make]) => ({
    name: policy,
    points: sizes.map((size) => [size, percentHits(make, requests, size)] as const),
  }));
  const ceiling = sizes.map((size) => [size, 100 * belady(requests, size).hitRatio] as const);
  return {
    name,
    title,
    x: { label: 'cache size, keys', scale: 'log' },
    y: { label: 'hit ratio, %', scale: 'linear' },
    series: [...policies, { name: 'Belady', points: ceiling }],
  };
}

/** How much larger an LRU must be to have the hit ratio of a SIEVE of 1,000 keys. A larger LRU never has fewer hits. */
function lruSizeForSieve(requests: Trace): number {
  const wanted = percentHitsOf('SIEVE', requests);
  let [tooSmall, enough] = [CACHE, 16 * CACHE];
  while (enough - tooSmall > 20) {
    const middle = Math.floor((tooSmall + enough) / 2);
    if (percentHitsOf('LRU', requests, middle) < wanted) tooSmall = middle;
    else enough = middle;
  }
  return enough / CACHE;
}

/** Of the keys in a warm cache, the share still there after one scan over as many new keys as fit into it. */
function percentSurvivingScan(make: Make, requests: Trace): number {
  const policy = make(CACHE);
  const before = new Set<number>();
  for (const key of requests) {
    const { evicted } = policy.access(key);
    if (evicted !== undefined) before.delete(evicted);
    before.add(key);
  }
  for (let i = 0; i < CACHE; i++) {
    const { evicted } = policy.access(10 * KEYS + i);
    if (evicted !== undefined) before.delete(evicted);
  }
  return (100 * before.size) / CACHE;
}

function randomSpread(requests: Trace): number {
  const ratios = Array.from({ length: 10 }, (_, seed) =>
    percentHits((capacity) => new Random(capacity, seeded(seed + 1)), requests),
  );
  return Math.max(...ratios) - Math.min(...ratios);
}

export default defineMeasure({
  async run({ quick }) {
    const sizes = [50, 100, 200, 500, 1_000, 2_000, 3_000, 5_000, 7_000];
    const [zipfTrace, scanTrace, shiftTrace, fadeTrace] = [stable(), withScans(), shifting(), fading()];
    const oneTooMany = loop(CACHE + 1);
    const missed = (name: keyof typeof POLICIES, requests: Trace) => 100 - percentHitsOf(name, requests);

    const claims: Claim[] = [
      hits('zipf-fifo', 'FIFO, Zipf: hits', percentHitsOf('FIFO', zipfTrace), [61, 66]),
      hits('zipf-lru', 'LRU, Zipf: hits', percentHitsOf('LRU', zipfTrace), [65, 70]),
      hits('zipf-lfu', 'LFU, Zipf: hits', percentHitsOf('LFU', zipfTrace), [70, 76]),
      hits('zipf-sieve', 'SIEVE, Zipf: hits', percentHitsOf('SIEVE', zipfTrace), [70, 76]),
      hits('zipf-belady', 'Belady, Zipf: hits', 100 * belady(zipfTrace, CACHE).hitRatio, [78, 84]),
      {
        name: 'lru-size-zipf',
        says: 'Zipf: size of an LRU with the hits of a SIEVE of 1,000 keys, against 1,000',
        value: lruSizeForSieve(zipfTrace),
        unit: '×',
        atLeast: 1.2,
      },
      {
        name: 'lru-size-scan',
        says: 'Zipf with scans: size of an LRU with the hits of a SIEVE of 1,000 keys, against 1,000',
        value: lruSizeForSieve(scanTrace),
        unit: '×',
        atLeast: 2,
      },
    ];
    for (const name of ['LRU', 'FIFO', 'LFU', 'SIEVE'] as const) {
      const value = percentSurvivingScan(POLICIES[name] as Make, zipfTrace);
      const bounds = name === 'LRU' || name === 'FIFO' ? { atMost: 0 } : { atLeast: 50 };
      claims.push({
        name: `scan-leaves-${name.toLowerCase()}`,
        says: `${name}: keys of a warm cache that survive one scan of 1,000 new keys`,
        value,
        unit: '%',
        ...bounds,
      });
    }
    claims.push(
      hits('loop-lru', 'LRU, a loop over 1,001 keys: hits', percentHitsOf('LRU', oneTooMany), [0, 0]),
      hits('loop-sieve', 'SIEVE, a loop over 1,001 keys: hits', percentHitsOf('SIEVE', oneTooMany), [0, 0]),
      hits(
        'loop-random',
        'Random, a loop over 1,001 keys: hits',
        percentHitsOf('Random', oneTooMany),
        [80, 99],
      ),
      hits('shift-fifo', 'FIFO, shifting popularity: hits', percentHitsOf('FIFO', shiftTrace), [50, 80]),
      hits('shift-lru', 'LRU, shifting popularity: hits', percentHitsOf('LRU', shiftTrace), [50, 80]),
      hits('shift-lfu', 'LFU, shifting popularity: hits', percentHitsOf('LFU', shiftTrace), [0, 50]),
      hits('shift-sieve', 'SIEVE, shifting popularity: hits', percentHitsOf('SIEVE', shiftTrace), [30, 70]),
      {
        name: 'shift-misses',
        says: 'Shifting popularity: misses of SIEVE against those of LRU',
        value: missed('SIEVE', shiftTrace) / missed('LRU', shiftTrace),
        unit: '×',
        atLeast: 1.1,
      },
      hits('fade-lru', 'LRU, fading popularity: hits', percentHitsOf('LRU', fadeTrace), [60, 68]),
      hits('fade-sieve', 'SIEVE, fading popularity: hits', percentHitsOf('SIEVE', fadeTrace), [66, 73]),
      {
        name: 'random-spread',
        says: 'Random, Zipf: best hit ratio minus worst over ten seeds, in percentage points',
        value: randomSpread(zipfTrace),
        unit: 'pp',
        atMost: 1,
      },
    );
    return {
      claims,
      plots: quick
        ? []
        : [
            plot('zipf', 'Hit ratio by cache size: Zipf(1) over 10,000 keys', zipfTrace, sizes),
            plot(
              'scan',
              'Hit ratio by cache size: the same with a scan in every 10,000 requests',
              scanTrace,
              sizes,
            ),
            plot('loop', 'Hit ratio by cache size: a loop over 5,000 keys', loop(5_000), sizes),
            plot('shift', 'Hit ratio by cache size: popularity that moves on', shiftTrace, sizes),
          ],
    };
  },
});

function hits(
  name: string,
  says: string,
  value: number,
  [atLeast, atMost]: readonly [number, number],
): Claim {
  return { name, says: `${says}, cache of 1,000 keys`, value, unit: '%', atLeast, atMost };
}
