import { memoryFor, peakPerSecond } from '../01-capacity/capacity';
import { sortedSetMemory } from '../01-capacity/sorted-set';
import { canCarry, exactly, GB, hoursOf, MILLION, NODE, RESERVE } from './plan';

const PLAYERS = 50 * MILLION;
const WEEKLY = 10 * MILLION;
const MEMBER_BYTES = 12;
const scores = { requestsPerDay: 100 * MILLION, peakToAverage: 4 };
const views = { requestsPerDay: 200 * MILLION, peakToAverage: 4 };
/** Both boards get each score. A view is a rank and its neighbours; the top is in the processes. */
const COMMANDS = { score: 2, view: 2 };
/** A step in a skip list of millions costs more than a GET. */
const COMMANDS_PER_SECOND = NODE.requestsPerSecond / 2;
const ADDS_PER_SECOND = 100_000;
const SCORE_BITS = 32;
const DOUBLE_BITS = 53;

export function board() {
  const all = sortedSetMemory({ entries: PLAYERS, keyBytes: MEMBER_BYTES, replicas: 0 });
  const weekly = sortedSetMemory({ entries: WEEKLY, keyBytes: MEMBER_BYTES, replicas: 0 });
  const asKeys = memoryFor({
    entries: PLAYERS,
    keyBytes: MEMBER_BYTES,
    valueBytes: 8,
    ttl: false,
    replicas: 0,
  });
  const requestsPerDay = COMMANDS.score * scores.requestsPerDay + COMMANDS.view * views.requestsPerDay;
  const traffic = { requestsPerDay, peakToAverage: 4 };
  const node = { ...NODE, requestsPerSecond: COMMANDS_PER_SECOND };
  if (!canCarry({ memoryBytes: all + weekly, traffic, node, reserve: RESERVE.state, hottestKeyShare: 1 })) {
    throw new Error('one node does not carry the board: the page says that it does');
  }
  const nodes = 2;
  return exactly('board', [
    ['players', 'players on the board of all times', PLAYERS / MILLION, 'million players'],
    ['weekly', 'players on the board of a week', WEEKLY / MILLION, 'million players'],
    [
      'scores',
      'scores at the peak, four times the average of 100 million a day',
      peakPerSecond(scores),
      'scores/s',
    ],
    ['views', 'views of a board at the peak', peakPerSecond(views), 'views/s'],
    [
      'commands',
      'commands at the peak: two for a score, two for a view',
      peakPerSecond(traffic),
      'commands/s',
    ],
    ['limit', 'commands on a large sorted set that one node can do', COMMANDS_PER_SECOND, 'commands/s'],
    ['memory', 'memory of both boards', (all + weekly) / GB, 'GB'],
    ['member', 'bytes for each member of the large board', all / PLAYERS, 'bytes'],
    ['keys', 'memory of the same scores as plain keys, without ranks', asKeys / GB, 'GB'],
    [
      'room',
      'memory of one node that data may fill, with 40 % free',
      (NODE.memoryBytes * (1 - RESERVE.state)) / GB,
      'GB',
    ],
    ['nodes', 'nodes: a primary and a replica', nodes, 'nodes'],
    ['cost', 'node-hours a month', hoursOf(nodes), 'node-hours'],
    [
      'rebuild',
      'minutes to build the large board from MySQL, at 100,000 members a second',
      PLAYERS / ADDS_PER_SECOND / 60,
      'minutes',
    ],
    [
      'tie',
      'bits of a double that are left for the time, with scores of 32 bits',
      DOUBLE_BITS - SCORE_BITS,
      'bits',
    ],
    ['tie-days', 'days that these bits count in seconds', 2 ** (DOUBLE_BITS - SCORE_BITS) / 86_400, 'days'],
  ]);
}
