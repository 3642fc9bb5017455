import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import { BILLION, exactly, fleetFor, GB, hoursOf, loadsWithTtl, MILLION, NONE, RESERVE } from './plan';

const LINKS = 6 * BILLION;
const HOT_LINKS = 50 * MILLION;
const CODES = 62 ** 7;
const ROW_BYTES = 200;
const redirects = { requestsPerDay: BILLION, peakToAverage: 3 };
/** Redirects to the hot links, each of which is loaded once a day. */
const HOT_SHARE = 0.95;
const TTL_SECONDS = 86_400;
const DISK_READS = 20_000;
const EDGE_SHARE = 0.5;

export function short() {
  const memory = memoryFor({ entries: HOT_LINKS, keyBytes: 9, valueBytes: 120, ttl: true, ...NONE });
  const demand = { memoryBytes: memory, traffic: redirects, reserve: RESERVE.cache, replyBytes: 120 };
  const fleet = fleetFor(demand, 0);
  const peak = peakPerSecond(redirects);
  const reloads = loadsWithTtl({
    keys: HOT_LINKS,
    requestsPerSecond: HOT_SHARE * peak,
    ttlSeconds: TTL_SECONDS,
  });
  const hitRatio = HOT_SHARE - reloads / peak;
  const load = databaseLoad({
    traffic: redirects,
    hitRatio,
    nodes: fleet.primaries,
    limit: DISK_READS,
  });
  const loss = (nodes: number) => databaseLoad({ traffic: redirects, hitRatio, nodes }).nodeLoss;
  return exactly('short', [
    ['links', 'links after five years', LINKS / BILLION, 'billion links'],
    ['rows', 'size of their rows, 200 bytes each', (LINKS * ROW_BYTES) / 1e12, 'TB'],
    ['redirects', 'redirects a day', redirects.requestsPerDay / BILLION, 'billion redirects'],
    ['peak', 'redirects at the peak, three times the average', peakPerSecond(redirects), 'requests/s'],
    [
      'edge',
      'redirects at the peak that an edge leaves that answers half of them',
      peakPerSecond(redirects) * (1 - EDGE_SHARE),
      'requests/s',
    ],
    ['memory', 'memory of the 50 million hottest links', memory / GB, 'GB'],
    ['nodes', 'nodes, one of them spare', fleet.nodes, 'nodes'],
    ['cost', 'node-hours a month', hoursOf(fleet.nodes), 'node-hours'],
    ['hits', 'hit ratio, if 95 % are for hot links, which are loaded once a day', 100 * hitRatio, '%'],
    ['database', 'queries at the peak', load.steady, 'queries/s'],
    ['loss', 'queries after one of the nodes is lost', load.nodeLoss, 'queries/s'],
    ['loss-three', 'queries after one of three nodes is lost', loss(3), 'queries/s'],
    ['cold', 'queries with empty nodes', load.coldStart ?? Number.NaN, 'queries/s'],
    ['limit', 'random reads that the shards of the database can do', DISK_READS, 'queries/s'],
    ['taken', 'share of seven random characters that are links', (100 * LINKS) / CODES, '%'],
    ['filter', 'a Bloom filter of ten bits for each link', (LINKS * 10) / 8 / GB, 'GB'],
  ]);
}
