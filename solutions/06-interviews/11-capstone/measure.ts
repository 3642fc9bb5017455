import { type Claim, defineMeasure } from '#claims';
import { CONTENDERS } from './peers/contenders';
import { outage } from './peers/outage';
import { inProcesses } from './peers/processes';
import { races } from './peers/races';
import { LOAD_MS, TTL_MS } from './peers/scene';
import { matrices, type Row } from './peers/table';
import { acrossProcesses, type Speed, speeds, TIERED } from './peers/tiers';

const OURS = 'this lab';

export default defineMeasure({
  needs: 'servers',
  async run({ quick, servers }) {
    const { redis, redisUrl: url } = servers();
    const names = quick ? [OURS] : Object.keys(CONTENDERS);
    const speed = await speeds(redis, url, names, quick ? 2_000 : 10_000, quick ? 3 : 5);
    const steadyMs = quick ? 1_200 : 5_000;
    const rows: Row[] = [];
    // One after the other: they would take the processor from each other.
    for (const name of names) {
      const counting = inProcesses(name, url, quick ? 2 : 4, steadyMs);
      if (!quick) await counting;
      // Nearly all of this is waiting.
      const [seen, away, raced, across] = await Promise.all([
        counting,
        outage(name, url),
        races(name, url),
        TIERED.includes(name) ? acrossProcesses(name, url) : undefined,
      ]);
      rows.push({ name, seen, away, raced, across });
    }
    // The first of the contenders is this lab.
    const [[ours], [our]] = [rows, speed];
    if (!ours || !our) throw new Error('this lab was not measured');
    const claims = claimsOf(ours, our, steadyMs);
    if (quick) return { claims };
    const bars = speed.flatMap(({ name, localHits }) => (localHits ? [[name, localHits] as const] : []));
    const title = 'L1 hits of 1 kB in the time of one GET of ioredis';
    return {
      claims,
      matrices: matrices(rows, speed),
      plots: [{ name: 'hits', title, label: 'hits', bars }],
    };
  },
});

function claimsOf({ seen, raced, away, across }: Row, speed: Speed, steadyMs: number): Claim[] {
  const ends = [raced.stored, raced.storedByTag, raced.joined, across?.heard, across?.afterCut];
  return [
    {
      name: 'cold-loads',
      says: '1,000 readers of a cold key in several processes',
      value: seen.coldLoads,
      unit: 'loads',
      atMost: 1,
    },
    {
      name: 'steady-loads',
      says: '20 readers in each process, TTL 1 s: loads for each TTL that passes, over all processes',
      value: seen.steadyLoads / (steadyMs / TTL_MS),
      unit: 'loads',
      atMost: 1.2,
    },
    {
      name: 'steady-blocked',
      says: 'reads of them that waited for a load',
      value: seen.blocked,
      unit: 'reads',
      atMost: 0,
    },
    {
      name: 'stale',
      says: 'races with an invalidation that end in an old value: fill by key, fill by tag, joined load, L1, L1 after a cut',
      value: ends.filter((end) => end !== 'fresh').length,
      unit: 'races',
      atMost: 0,
    },
    {
      name: 'lost',
      says: 'invalidations in a partition that were reported as done, or lost',
      value: Number(away.told !== 'rejects') + Number(away.after !== 'fresh'),
      unit: 'invalidations',
      atMost: 0,
    },
    {
      name: 'stalled-ratio',
      says: 'Redis stalled: time of a read against that of its load, median of 200 at once',
      value: away.stalledMs / LOAD_MS,
      unit: '×',
      atMost: 4,
    },
    {
      name: 'stalled-ms',
      says: 'Redis stalled: median of 200 reads at once, a load of 100 ms',
      value: away.stalledMs,
      unit: 'ms',
    },
    {
      name: 'refused-ms',
      says: 'Redis gone: median of 200 reads at once, a load of 100 ms',
      value: away.refusedMs,
      unit: 'ms',
    },
    {
      name: 'local-hits',
      says: 'L1 hits of 1 kB in the time of one GET of ioredis and JSON.parse, 50 readers',
      value: speed.localHits ?? Number.NaN,
      unit: '×',
      atLeast: 15,
    },
    {
      name: 'redis-hits',
      says: 'the same without L1: hits through Redis',
      value: speed.redisHits,
      unit: '×',
    },
  ];
}
