import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import { BILLION, exactly, fleetFor, GB, gbits, MILLION, NODE, NONE, RESERVE } from './plan';

const ENTRIES = 2 * BILLION;
const VALUE_BYTES = 500;
const traffic = { requestsPerDay: 100 * BILLION, peakToAverage: 2.5 };
const HIT_RATIO = 0.97;
const LIMIT = 150_000;
const ZONES = 3;
/** Hits of the hottest fifth, which a second zone holds too. */
const HOT_HIT_RATIO = 0.9;
const HOT_SHARE = 0.2;
const YEARS_BETWEEN_FAILURES = 3;

export function fleet() {
  const peak = peakPerSecond(traffic);
  const memory = memoryFor({ entries: ENTRIES, keyBytes: 30, valueBytes: VALUE_BYTES, ttl: true, ...NONE });
  const { nodes, hours } = fleetFor(
    { memoryBytes: memory, traffic, reserve: RESERVE.cache, replyBytes: VALUE_BYTES, hottestKeyShare: 0.01 },
    0,
  );
  const misses = { traffic, hitRatio: HIT_RATIO, limit: LIMIT };
  const load = databaseLoad({ ...misses, nodes });
  const zone = databaseLoad({ ...misses, nodes: ZONES });
  const hitRatioWithCopies = ((ZONES - 1) * HIT_RATIO + HOT_HIT_RATIO) / ZONES;
  return exactly('fleet', [
    ['entries', 'entries of 500 bytes', ENTRIES / BILLION, 'billion entries'],
    ['requests', 'requests a day', traffic.requestsPerDay / 1e9, 'billion requests'],
    ['peak', 'requests at the peak, 2.5 times the average', peak / MILLION, 'million requests/s'],
    ['memory', 'memory of the entries, one copy', memory / 1e12, 'TB'],
    ['overhead', 'bytes for an entry beside its key and value', memory / ENTRIES - 530, 'bytes'],
    ['network', 'traffic of the replies at the peak', gbits(peak, VALUE_BYTES), 'Gbit/s'],
    [
      'crossing',
      'the part that crosses zones, if keys lie in any of three',
      gbits(peak, VALUE_BYTES) * (1 - 1 / ZONES),
      'Gbit/s',
    ],
    ['nodes', 'nodes, one of them spare', nodes, 'nodes'],
    ['node-peak', 'requests of one node at the peak', peak / nodes, 'requests/s'],
    [
      'hot',
      'share of all requests for one key that fills a node alone',
      (100 * NODE.requestsPerSecond) / peak,
      '%',
    ],
    ['database', 'queries at a hit ratio of 0.97', load.steady, 'queries/s'],
    ['loss', 'queries after one node is lost', load.nodeLoss, 'queries/s'],
    [
      'zone-peak',
      'requests of each node after that, at the peak',
      peak / (nodes * (1 - 1 / ZONES)),
      'requests/s',
    ],
    ['zone', 'queries after one of three zones is lost', zone.nodeLoss, 'queries/s'],
    [
      'zone-copies',
      'the same, if the hottest fifth is in a second zone too',
      databaseLoad({ ...misses, hitRatio: hitRatioWithCopies, nodes }).steady,
      'queries/s',
    ],
    ['copies', 'nodes for these copies', Math.ceil(HOT_SHARE * nodes), 'nodes'],
    ['overhead-all', 'memory for all of these', (memory - ENTRIES * 530) / GB, 'GB'],
    ['limit', 'queries that the database can do', LIMIT, 'queries/s'],
    [
      'failures',
      'nodes that fail in a year, if each lasts three years',
      Math.round(nodes / YEARS_BETWEEN_FAILURES),
      'failures',
    ],
    ['moved', 'keys that move when one node joins', 100 / (nodes + 1), '%'],
    ['cost', 'node-hours a month', hours, 'node-hours'],
    [
      'room',
      'memory of one node that data may fill, with 25 % free',
      (NODE.memoryBytes * (1 - RESERVE.cache)) / GB,
      'GB',
    ],
  ]);
}
