import { defineMeasure } from '#claims';
import { board } from './board';
import { catalogue } from './catalogue';
import { cdn } from './cdn';
import { config } from './config';
import { feed } from './feed';
import { fleet } from './fleet';
import { exactly, GB, NODE, RESERVE } from './plan';
import { region } from './region';
import { session } from './session';
import { short } from './short';

/** Nothing is timed here: the calculator of lab 6.1, with the numbers of each prompt. */
export default defineMeasure({
  async run() {
    return {
      claims: [
        ...exactly('node', [
          ['memory', 'memory of a node', NODE.memoryBytes / GB, 'GB'],
          ['requests', 'requests that a node can do', NODE.requestsPerSecond, 'requests/s'],
          ['network', 'network of a node', NODE.bitsPerSecond / 1e9, 'Gbit/s'],
          ['reserve', 'memory that stays free in a cache', 100 * RESERVE.cache, '%'],
          ['reserve-state', 'memory that stays free where data is saved to disk', 100 * RESERVE.state, '%'],
        ]),
        ...catalogue(),
        ...feed(),
        ...short(),
        ...session(),
        ...region(),
        ...cdn(),
        ...board(),
        ...config(),
        ...fleet(),
      ],
    };
  },
});
