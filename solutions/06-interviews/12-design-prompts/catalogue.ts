import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import { canCarry, exactly, fleetFor, GB, MILLION, NODE, NONE, nodesForLoss, RESERVE } from './plan';

const PRODUCTS = 2 * MILLION;
const PARTS = { core: 1500, rating: 60, stock: 12 };
const PARTS_OF_PAGE = 5;
const views = { requestsPerDay: 200 * MILLION, peakToAverage: 5 };
/** Two MGETs: the parts of the product share a slot, those of its category another. */
const reads = { ...views, requestsPerDay: 2 * views.requestsPerDay };
const lookups = { ...views, requestsPerDay: PARTS_OF_PAGE * views.requestsPerDay };
const PAGE_BYTES = 6000;
const HIT_RATIO = 0.98;
const LIMIT = 10_000;

const UNITS = 10_000;
const BUYERS = MILLION;
const RUSH_SECONDS = 10;
const LOCK_MS = 2;
/** A script costs about as much as two GETs. */
const SCRIPTS_PER_SECOND = NODE.requestsPerSecond / 2;

export function catalogue() {
  const memory = Object.values(PARTS).reduce(
    (sum, valueBytes) => sum + memoryFor({ entries: PRODUCTS, keyBytes: 24, valueBytes, ttl: true, ...NONE }),
    0,
  );
  const fleet = fleetFor(
    { memoryBytes: memory, traffic: reads, reserve: RESERVE.cache, replyBytes: PAGE_BYTES / 2 },
    1,
  );
  const misses = { traffic: lookups, hitRatio: HIT_RATIO, limit: LIMIT };
  const load = databaseLoad({ ...misses, nodes: fleet.primaries });
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
    ['database', 'queries at a hit ratio of 0.98', load.steady, 'queries/s'],
    ['loss', 'queries after one of two primaries is lost without a replica', load.nodeLoss, 'queries/s'],
    ['limit', 'queries that the database can do', LIMIT, 'queries/s'],
    [
      'nodes-for-loss',
      'nodes without replicas until one loss is within the limit',
      nodesForLoss(misses),
      'nodes',
    ],
    ['nodes', 'nodes: two primaries, each with a replica', fleet.nodes, 'nodes'],
    ['cost', 'node-hours a month', fleet.hours, 'node-hours'],
    ['rush', 'buyers that press "buy" in each of the first ten seconds', rush, 'requests/s'],
    ['gate', 'scripts that one node can do', SCRIPTS_PER_SECOND, 'scripts/s'],
    ['orders', 'orders of one row, locked for 2 ms each', 1000 / LOCK_MS, 'orders/s'],
    ['sold', 'seconds until ten thousand units are sold', (UNITS * LOCK_MS) / 1000, 'seconds'],
  ]);
}
