import type { Traffic } from '../../../labs/06-interviews/01-capacity/given';
import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import {
  BILLION,
  exactly,
  fleetFor,
  GB,
  hoursOf,
  loadsWithTtl,
  MILLION,
  NONE,
  nodesForLoss,
  RESERVE,
} from './plan';

const ENTRIES = 20 * MILLION;
const world = { requestsPerDay: 1.5 * BILLION, peakToAverage: 4 };
const EUROPE = 0.3;
const AMERICA = 0.5;
const europe = { ...world, requestsPerDay: EUROPE * world.requestsPerDay };
const america = { ...world, requestsPerDay: AMERICA * world.requestsPerDay };
const writes = { requestsPerDay: 5 * MILLION, peakToAverage: 4 };
const TTL_SECONDS = 3600;
const LIMIT = 20_000;
const OCEAN_MS = 80;
/** Of Europe's users, whose keys America has not cached. */
const FOREIGN_HIT_RATIO = 0.6;
const LAG_SECONDS = 1;

export function region() {
  const memory = memoryFor({ entries: ENTRIES, keyBytes: 20, valueBytes: 1000, ttl: true, ...NONE });
  const demand = { memoryBytes: memory, traffic: europe, reserve: RESERVE.cache, replyBytes: 1000 };
  const hitRatioOf = (traffic: Traffic) => {
    const requestsPerSecond = peakPerSecond(traffic);
    return (
      1 - loadsWithTtl({ keys: ENTRIES, requestsPerSecond, ttlSeconds: TTL_SECONDS }) / requestsPerSecond
    );
  };
  const hitRatio = hitRatioOf(europe);
  const misses = { traffic: europe, hitRatio, limit: LIMIT };
  const nodes = Math.max(fleetFor(demand, 0).nodes, nodesForLoss(misses));
  const local = databaseLoad({ ...misses, nodes });
  const own = databaseLoad({ traffic: america, hitRatio: hitRatioOf(america), nodes: 1 });
  const foreign = databaseLoad({ traffic: europe, hitRatio: FOREIGN_HIT_RATIO, nodes: 1 });
  const cold = peakPerSecond(europe);
  return exactly('region', [
    ['reads', 'reads a day, worldwide', world.requestsPerDay / BILLION, 'billion reads'],
    [
      'europe',
      'reads of Europe at the peak: 30 % of them, four times the average',
      peakPerSecond(europe),
      'reads/s',
    ],
    ['america', 'reads of America at the peak: half of them', peakPerSecond(america), 'reads/s'],
    ['writes', 'invalidations at the peak, sent to every region', peakPerSecond(writes), 'writes/s'],
    ['memory', 'memory of 20 million entries of 1 kB, in each region', memory / GB, 'GB'],
    ['nodes', 'nodes in each region, so that the loss of one is within the limit', nodes, 'nodes'],
    ['cost', 'node-hours a month, three regions', hoursOf(3 * nodes), 'node-hours'],
    ['hits', 'hit ratio in Europe, if popularity follows Zipf: TTLs of an hour', 100 * hitRatio, '%'],
    ['database', "queries of Europe's replicas", local.steady, 'queries/s'],
    ['loss', 'queries after one node of Europe is lost', local.nodeLoss, 'queries/s'],
    [
      'ocean',
      'mean time of a read whose miss crosses the ocean, for the round trip alone',
      (1 - hitRatio) * OCEAN_MS,
      'ms',
    ],
    [
      'marked',
      'reads at the peak that lag of a second sends to the primary, if each writer reads five times',
      5 * peakPerSecond(writes) * LAG_SECONDS,
      'reads/s',
    ],
    [
      'takeover',
      "queries in America after it takes over Europe's readers at a hit ratio of 0.6",
      own.steady + foreign.steady,
      'queries/s',
    ],
    ['takeover-cold', 'the same if every first read of theirs misses', own.steady + cold, 'queries/s'],
    ['limit', 'queries that the replicas of one region can do', LIMIT, 'queries/s'],
  ]);
}
