import { type Claim, defineMeasure } from '#claims';
import { Lru } from '#kit/policies';
import { seeded } from '#kit/random';
import { zipf } from '#kit/workload';
import { databaseLoad, missRatioCurve } from './capacity';
import { costOfNextPercent, rawOf, sampleClaims } from './curve-claims';
import { hash } from './given';
import { memoryClaims } from './memory-claims';

const TRAFFIC = { requestsPerDay: 86_400_000, peakToAverage: 1 };

export default defineMeasure({
  async run({ quick }) {
    const memory = await memoryClaims(quick);
    const ranks = zipfRanks(
      quick ? { requests: 200_000, keys: 40_000 } : { requests: 1_000_000, keys: 300_000 },
    );
    const trace = ranks.map((rank) => `product:${rank}`);
    const exact = timed(() => missRatioCurve(trace));
    const sampled = timed(() => missRatioCurve(trace, { rate: 0.1 }));
    const sizes = Array.from({ length: 15 }, (_, nth) => 2 ** (nth + 3)).filter(
      (size) => size < (exact.result.sampledKeys ?? 0),
    );
    const hitRatio = (size: number) => 100 * (1 - exact.result.missRatio(size));
    const each = (curve: (size: number) => number) => sizes.map((size) => [size, 100 * curve(size)] as const);
    const raw = rawOf(trace, 0.1, sampled.result);
    return {
      servers: [memory.server],
      claims: [
        ...memory.claims,
        ...lossClaims(quick),
        ...sampleClaims(ranks, exact.result),
        {
          name: 'faster',
          says: 'time of the exact curve against the one of a tenth of the keys',
          value: exact.ms / sampled.ms,
          unit: '×',
        },
        {
          name: 'next-percent',
          says: 'entries for one percent more hits at 75 % of hits, against at 50 %',
          value: costOfNextPercent(exact.result, 0.75) / costOfNextPercent(exact.result, 0.5),
          unit: '×',
          atLeast: 4,
        },
        ...[0.5, 0.75].map((hitRatio) => ({
          name: `percent-${100 * hitRatio}`,
          says: `more entries for one percent more hits, at ${100 * hitRatio} % of hits`,
          value: (100 * costOfNextPercent(exact.result, hitRatio)) / (exact.result.entriesFor(hitRatio) ?? 0),
          unit: '%',
          atLeast: 5,
          atMost: 40,
        })),
      ],
      plots: [
        {
          name: 'curve',
          title: 'Miss ratio of an LRU cache, by its size: exact, and from a tenth of the keys',
          x: { label: 'entries', scale: 'log' },
          y: { label: 'misses (%)', scale: 'linear' },
          series: [
            { name: 'exact', points: each((size) => exact.result.missRatio(size)) },
            { name: 'SHARDS, adjusted', points: each((size) => sampled.result.missRatio(size)) },
            { name: 'SHARDS, raw', points: each(raw) },
          ],
        },
        {
          name: 'doubling',
          title: 'What each doubling of the cache buys',
          label: 'more hits (% of all requests)',
          bars: sizes
            .slice(4)
            .map((size) => [`${size / 2} → ${size}`, hitRatio(size) - hitRatio(size / 2)] as const),
        },
      ],
    };
  },
});

/** Zipf 1.0: the first rank has about 8 % of the requests. */
function zipfRanks({ requests, keys }: { requests: number; keys: number }): number[] {
  return Array.from({ length: requests }, zipf({ n: keys, skew: 1, random: seeded(7) }));
}

function timed<Result>(run: () => Result): { result: Result; ms: number } {
  const start = performance.now();
  const result = run();
  return { result, ms: performance.now() - start };
}

/** Four LRU nodes, warm. Then the keys of one node are asked of the database. */
function lossClaims(quick: boolean): Claim[] {
  const nodes = Array.from({ length: 4 }, () => new Lru<number>(5000));
  const next = zipf({ n: 20_000, skew: 1, random: seeded(3) });
  const nodeOf = (rank: number) => Math.floor(hash(`node:${rank}`) * nodes.length);
  const missesIn = (requests: number, lost?: number) => {
    let misses = 0;
    for (let nth = 0; nth < requests; nth++) {
      const rank = next();
      const at = nodeOf(rank);
      if (at === lost || !nodes[at]?.access(rank).hit) misses++;
    }
    return misses;
  };
  const requests = quick ? 60_000 : 400_000;
  missesIn(requests);
  const steady = missesIn(requests);
  const hitRatio = 1 - steady / requests;
  const lost = nodes.map((_, at) => missesIn(requests, at) / steady);
  const replayed = lost.reduce((sum, times) => sum + times) / lost.length;
  const computed = databaseLoad({ traffic: TRAFFIC, hitRatio, nodes: nodes.length });
  const of = (ratio: number, count: number) => {
    const { steady: before, nodeLoss } = databaseLoad({ traffic: TRAFFIC, hitRatio: ratio, nodes: count });
    return nodeLoss / before;
  };
  return [
    loss('loss-99', 'hit ratio 0.99, one of 4 nodes is lost: queries of the database, computed', of(0.99, 4)),
    loss('loss-90', 'hit ratio 0.90, one of 4 nodes is lost: queries of the database, computed', of(0.9, 4)),
    loss(
      'loss-999',
      'hit ratio 0.999, one of 8 nodes is lost: queries of the database, computed',
      of(0.999, 8),
    ),
    {
      ...loss(
        'loss-replay',
        'queries after a loss in a replay of 4 LRU nodes (mean over the node that is lost), against the computed ones',
        replayed / (computed.nodeLoss / computed.steady),
      ),
      atLeast: 0.7,
      atMost: 1.4,
    },
  ];
}

const loss = (name: string, says: string, value: number): Claim => ({ name, says, value, unit: '×' });
