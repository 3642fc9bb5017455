import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import {
  canCarry,
  exactly,
  fleetFor,
  GB,
  hoursOf,
  loadsWithTtl,
  MILLION,
  NODE,
  NONE,
  nodesForLoss,
  RESERVE,
} from './plan';

const PRODUCTS = 2 * MILLION;
const CATEGORIES = 5000;
const PARTS = {
  core: { keys: PRODUCTS, valueBytes: 1500, ttlSeconds: 600 },
  rating: { keys: PRODUCTS, valueBytes: 60, ttlSeconds: 600 },
  stock: { keys: PRODUCTS, valueBytes: 12, ttlSeconds: 20 },
  category: { keys: CATEGORIES, valueBytes: 500, ttlSeconds: 3600 },
  list: { keys: CATEGORIES, valueBytes: 4000, ttlSeconds: 120 },
};
const PARTS_OF_PAGE = Object.keys(PARTS).length;
const views = { requestsPerDay: 200 * MILLION, peakToAverage: 5 };
/** Two MGETs: the parts of the product share a slot, those of its category another. */
const reads = { ...views, requestsPerDay: 2 * views.requestsPerDay };
const lookups = { ...views, requestsPerDay: PARTS_OF_PAGE * views.requestsPerDay };
const PAGE_BYTES = 6000;
const LIMIT = 20_000;

const UNITS = 10_000;
const BUYERS = MILLION;
const RUSH_SECONDS = 10;
const LOCK_MS = 2;
/** A script costs about as much as two GETs. */
const SCRIPTS_PER_SECOND = NODE.requestsPerSecond / 2;

export function catalogue() {
  const memory = Object.values(PARTS).reduce(
    (sum, { keys, valueBytes }) =>
      sum + memoryFor({ entries: keys, keyBytes: 24, valueBytes, ttl: true, ...NONE }),
    0,
  );
  const loadsOf = (part: { keys: number; ttlSeconds: number }) =>
    loadsWithTtl({ ...part, requestsPerSecond: peakPerSecond(views) });
  const loads = Object.values(PARTS).reduce((sum, part) => sum + loadsOf(part), 0);
  const hitRatio = 1 - loads / peakPerSecond(lookups);
  const demand = { memoryBytes: memory, traffic: reads, reserve: RESERVE.cache, replyBytes: PAGE_BYTES / 2 };
  const busy = fleetFor(demand, 0).nodes;
  const misses = { traffic: lookups, hitRatio, limit: LIMIT };
  const nodes = Math.max(busy, nodesForLoss(misses));
  const load = databaseLoad({ ...misses, nodes });
  const rush = BUYERS / RUSH_SECONDS;
  const oneGate = canCarry({
    memoryBytes: 0,
    traffic: { requestsPerDay: 86_400 * rush, peakToAverage: 1 },
    node: { ...NODE, requestsPerSecond: SCRIPTS_PER_SECOND },
    hottestKeyShare: 1,
  });
  if (oneGate) throw new Error('one gate carries the rush: the page says that it does not');
  return exactly('catalogue', [
    [
      'products',
      'products, each with a core of 1.5 kB, a rating and a stock',
      PRODUCTS / MILLION,
      'million products',
    ],
    ['views', 'page views a day', views.requestsPerDay / MILLION, 'million views'],
    ['peak', 'pages at the peak, five times the average', peakPerSecond(views), 'pages/s'],
    ['reads', 'Redis requests at the peak: two MGETs a page', peakPerSecond(reads), 'requests/s'],
    ['memory', 'memory of all product parts, one copy', memory / GB, 'GB'],
    ['lookups', 'parts looked up at the peak: five a page', peakPerSecond(lookups), 'lookups/s'],
    [
      'hits',
      'hit ratio, if popularity follows Zipf: TTLs of 10 min, 20 s for the stock',
      100 * hitRatio,
      '%',
    ],
    ['stock', 'queries for the stock alone', loadsOf(PARTS.stock), 'queries/s'],
    ['database', 'queries at the peak', load.steady, 'queries/s'],
    ['busy', 'nodes that memory and requests need, one of them spare', busy, 'nodes'],
    [
      'loss-busy',
      'queries after one of these is lost',
      databaseLoad({ ...misses, nodes: busy }).nodeLoss,
      'queries/s',
    ],
    ['limit', 'queries that the database can do', LIMIT, 'queries/s'],
    ['nodes', 'nodes, so that the loss of one is within the limit', nodes, 'nodes'],
    ['loss', 'queries after one of them is lost', load.nodeLoss, 'queries/s'],
    ['cost', 'node-hours a month', hoursOf(nodes), 'node-hours'],
    ['rush', 'buyers that press "buy" in each of the first ten seconds', rush, 'requests/s'],
    ['gate', 'scripts that one node can do', SCRIPTS_PER_SECOND, 'scripts/s'],
    ['orders', 'orders of one row, locked for 2 ms each', 1000 / LOCK_MS, 'orders/s'],
    ['sold', 'seconds until ten thousand units are sold', (UNITS * LOCK_MS) / 1000, 'seconds'],
  ]);
}
