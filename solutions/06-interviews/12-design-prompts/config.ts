import { nodesFor, peakPerSecond } from '../01-capacity/capacity';
import { BILLION, exactly, gbits, hoursOf, NODE } from './plan';

const PROCESSES = 20_000;
const SNAPSHOT_BYTES = 500_000;
const DELTA_BYTES = 1000;
const NOTHING_NEW_BYTES = 200;
const POLL_SECONDS = 10;
const RESTART_SECONDS = 60;
const CHANGES_PER_DAY = 200;
const CHILDREN = 100;
const READS_PER_PROCESS = 50_000;
const perSecond = (requests: number) => ({ requestsPerDay: 86_400 * requests, peakToAverage: 1 });

export function config() {
  const polls = PROCESSES / POLL_SECONDS;
  const starts = PROCESSES / RESTART_SECONDS;
  const servers = nodesFor({
    memoryBytes: SNAPSHOT_BYTES,
    traffic: perSecond(starts + polls),
    node: NODE,
    replyBytes: (starts * SNAPSHOT_BYTES + polls * NOTHING_NEW_BYTES) / (starts + polls),
    spare: 1,
  }).nodes;
  return exactly('config', [
    ['processes', 'processes that read the configuration', PROCESSES, 'processes'],
    ['size', 'size of the whole configuration', SNAPSHOT_BYTES / 1000, 'kB'],
    ['changes', 'changes a day', CHANGES_PER_DAY, 'changes'],
    [
      'reads',
      'reads in all processes, at 50,000 a second in each',
      (PROCESSES * READS_PER_PROCESS) / BILLION,
      'billion reads/s',
    ],
    ['polls', 'polls, one each ten seconds', peakPerSecond(perSecond(polls)), 'requests/s'],
    ['polls-empty', 'polls of a day for each change', (polls * 86_400) / CHANGES_PER_DAY, 'polls'],
    [
      'poll-network',
      'traffic of the answers "nothing new"',
      gbits(polls, NOTHING_NEW_BYTES) * 1000,
      'Mbit/s',
    ],
    [
      'full',
      'traffic during ten seconds if each change sends everything',
      gbits(polls, SNAPSHOT_BYTES),
      'Gbit/s',
    ],
    [
      'delta',
      'traffic during ten seconds if it sends 1 kB of differences',
      gbits(polls, DELTA_BYTES) * 1000,
      'Mbit/s',
    ],
    ['restart', 'traffic if all processes start within a minute', gbits(starts, SNAPSHOT_BYTES), 'Gbit/s'],
    ['servers', 'servers of the configuration, one of them spare', servers, 'nodes'],
    ['cost', 'node-hours a month', hoursOf(servers), 'node-hours'],
    ['relays', 'relays with 100 children each, for push', PROCESSES / CHILDREN, 'relays'],
    ['memory', 'memory of the copies, all processes together', (PROCESSES * SNAPSHOT_BYTES) / 1e9, 'GB'],
  ]);
}
