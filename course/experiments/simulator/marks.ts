import { bold, cyan, dim, green, red, yellow } from '../../screen/terminal';
import { BELADY } from './policies';

export interface Mark {
  /** One letter: it tells the policies apart without colour. */
  readonly letter: string;
  readonly paint: (text: string) => string;
}

const MARKS: Readonly<Record<string, Mark>> = {
  LRU: { letter: 'L', paint: cyan },
  FIFO: { letter: 'F', paint: yellow },
  LFU: { letter: 'U', paint: red },
  SIEVE: { letter: 'S', paint: green },
  'S3-FIFO': { letter: '3', paint: bold },
  'W-TinyLFU': { letter: 'W', paint: (text) => text },
  [BELADY]: { letter: 'B', paint: dim },
};

export const markOf = (policy: string): Mark =>
  MARKS[policy] ?? { letter: policy[0] ?? '?', paint: (text) => text };
