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
      hits('zipf-fifo', 'stable popularity: hit ratio of FIFO', percentHitsOf('FIFO', zipfTrace), [61, 66]),
      hits('zipf-lru', 'stable popularity: hit ratio of LRU', percentHitsOf('LRU', zipfTrace), [65, 70]),
      hits('zipf-lfu', 'stable popularity: hit ratio of LFU', percentHitsOf('LFU', zipfTrace), [70, 76]),
      hits(
        'zipf-sieve',
        'stable popularity: hit ratio of SIEVE',
        percentHitsOf('SIEVE', zipfTrace),
        [70, 76],
      ),
      hits(
        'zipf-belady',
        'stable popularity: hit ratio of Belady',
        100 * belady(zipfTrace, CACHE).hitRatio,
        [78, 84],
      ),
      {
        name: 'lru-size-zipf',
        says: 'stable popularity: keys that an LRU needs for the hit ratio of a SIEVE of 1,000 keys, against 1,000',
        value: lruSizeForSieve(zipfTrace),
        unit: '×',
        atLeast: 1.2,
      },
      {
        name: 'lru-size-scan',
        says: 'stable popularity with scans: keys that an LRU needs for the hit ratio of a SIEVE of 1,000 keys, against 1,000',
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
        says: `keys of a warm cache of 1,000 that one scan of 1,000 new keys leaves: ${name}`,
        value,
        unit: '%',
        ...bounds,
      });
    }
    claims.push(
      hits('loop-lru', 'a loop over 1,001 keys: hit ratio of LRU', percentHitsOf('LRU', oneTooMany), [0, 0]),
      hits(
        'loop-sieve',
        'a loop over 1,001 keys: hit ratio of SIEVE',
        percentHitsOf('SIEVE', oneTooMany),
        [0, 0],
      ),
      hits(
        'loop-random',
        'a loop over 1,001 keys: hit ratio of Random',
        percentHitsOf('Random', oneTooMany),
        [80, 99],
      ),
      hits(
        'shift-fifo',
        'popularity that shifts at once: hit ratio of FIFO',
        percentHitsOf('FIFO', shiftTrace),
        [50, 80],
      ),
      hits(
        'shift-lru',
        'popularity that shifts at once: hit ratio of LRU',
        percentHitsOf('LRU', shiftTrace),
        [50, 80],
      ),
      hits(
        'shift-lfu',
        'popularity that shifts at once: hit ratio of LFU',
        percentHitsOf('LFU', shiftTrace),
        [0, 50],
      ),
      hits(
        'shift-sieve',
        'popularity that shifts at once: hit ratio of SIEVE',
        percentHitsOf('SIEVE', shiftTrace),
        [30, 70],
      ),
      {
        name: 'shift-misses',
        says: 'popularity that shifts at once: misses of SIEVE against those of LRU, cache of 1,000 keys',
        value: missed('SIEVE', shiftTrace) / missed('LRU', shiftTrace),
        unit: '×',
        atLeast: 1.1,
      },
      hits('fade-lru', 'popularity that fades: hit ratio of LRU', percentHitsOf('LRU', fadeTrace), [60, 68]),
      hits(
        'fade-sieve',
        'popularity that fades: hit ratio of SIEVE',
        percentHitsOf('SIEVE', fadeTrace),
        [66, 73],
      ),
      {
        name: 'random-spread',
        says: 'stable popularity: hit ratio of Random, best of ten seeds minus worst',
        value: randomSpread(zipfTrace),
        unit: 'points',
        atMost: 1,
      },
    );
    return {
      claims,
      plots: quick
        ? []
        : [
            plot('zipf', 'Hit ratio by cache size: stable popularity, 10,000 keys', zipfTrace, sizes),
            plot(
              'scan',
              'Hit ratio by cache size: stable popularity, and a scan in every 10,000 requests',
              scanTrace,
              sizes,
            ),
            plot('loop', 'Hit ratio by cache size: a loop over 5,000 keys', loop(5_000), sizes),
            plot('shift', 'Hit ratio by cache size: popularity that shifts at once', shiftTrace, sizes),
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
