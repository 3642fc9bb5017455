import { databaseLoad, memoryFor, peakPerSecond } from '../01-capacity/capacity';
import { BILLION, exactly, fleetFor, GB, hoursOf, MILLION, NONE, nodesForLoss, RESERVE } from './plan';

const USERS = 60 * MILLION;
const SESSIONS = 2 * USERS;
const IN_USE = 4 * MILLION;
const requests = { requestsPerDay: 3 * BILLION, peakToAverage: 3 };
/** The session and the version of its user: one MGET in one slot, and two lookups. */
const reads = { ...requests, requestsPerDay: 2 * requests.requestsPerDay };
const logins = { requestsPerDay: 4 * MILLION, peakToAverage: 3 };
const TTL_SECONDS = 600;
const LIMIT = 20_000;
const SESSION = { keyBytes: 44, valueBytes: 300, ttl: true, ...NONE };
const VERSION = { keyBytes: 14, valueBytes: 4, ttl: true, ...NONE };

export function session() {
  const cached = memoryFor({ entries: IN_USE, ...SESSION }) + memoryFor({ entries: IN_USE, ...VERSION });
  const hitRatio = 1 - IN_USE / TTL_SECONDS / peakPerSecond(requests);
  const misses = { traffic: requests, hitRatio, limit: LIMIT };
  const nodes = nodesForLoss(misses);
  const load = databaseLoad({ ...misses, nodes });
  const busy = fleetFor({ memoryBytes: cached, traffic: reads, reserve: RESERVE.cache, replyBytes: 160 }, 0);
  if (nodes < busy.nodes) throw new Error('the requests decide: the page says that the database does');
  const stored = memoryFor({ entries: SESSIONS, ...SESSION }) + memoryFor({ entries: USERS, ...VERSION });
  const state = fleetFor({ memoryBytes: stored, traffic: reads, reserve: RESERVE.state, replyBytes: 160 }, 1);
  return exactly('session', [
    [
      'sessions',
      'sessions that live: two for each of 60 million users',
      SESSIONS / MILLION,
      'million sessions',
    ],
    ['in-use', 'sessions used within ten minutes, at the peak', IN_USE / MILLION, 'million sessions'],
    ['requests', 'requests a day', requests.requestsPerDay / BILLION, 'billion requests'],
    ['peak', 'requests at the peak, three times the average', peakPerSecond(requests), 'requests/s'],
    ['lookups', 'keys read at the peak: session and version', peakPerSecond(reads), 'lookups/s'],
    ['logins', 'log-ins at the peak', peakPerSecond(logins), 'log-ins/s'],
    ['memory', 'memory of the sessions and versions in use', cached / GB, 'GB'],
    ['hits', 'hit ratio, if each session in use is loaded every ten minutes', 100 * hitRatio, '%'],
    ['database', 'queries at the peak', load.steady, 'queries/s'],
    ['busy', 'nodes that the requests need, one of them spare', busy.nodes, 'nodes'],
    ['nodes', 'nodes until a loss is within the limit, without replicas', nodes, 'nodes'],
    ['loss', 'queries after one of them is lost', load.nodeLoss, 'queries/s'],
    ['limit', 'sessions that the database can read', LIMIT, 'queries/s'],
    ['cost', 'node-hours a month', hoursOf(nodes), 'node-hours'],
    ['stored', 'memory of all sessions and versions, in Redis alone', stored / GB, 'GB'],
    ['state-nodes', 'nodes for them, with a spare and replicas', state.nodes, 'nodes'],
    [
      'signed-out',
      'users who are signed out if one of these primaries and its replica are lost',
      USERS / state.primaries / MILLION,
      'million users',
    ],
  ]);
}
