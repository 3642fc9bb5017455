import { bold, dim, wrap } from '../../screen/terminal';
import { chart, legend } from './chart';
import { counted, whole } from './figures';
import { doublings, meaning } from './meaning';
import type { Simulation } from './simulate';
import { table } from './table';

export interface Named {
  /** Where the trace comes from: a file, the demo. */
  readonly name: string;
  readonly format: string;
  /** Of an entry in memory, key and overhead included. */
  readonly entryBytes: number;
  /** Where this figure comes from. */
  readonly entryBytesFrom: string;
}

/** All that is printed, no row wider than `columns` (80 or more). */
export function report(
  simulation: Simulation,
  { name, format, entryBytes, entryBytesFrom }: Named,
  columns: number,
): string {
  const { requests, distinct, sampled } = simulation;
  const buys = doublings(simulation, entryBytes);
  return [
    bold(wrap(`${name}: ${counted(requests, 'request')} for ${counted(distinct, 'key')} (${format})`)),
    ...(sampled === undefined ? [] : [wrap(sampledNote(sampled))]),
    '',
    'Miss ratio (up) over size in entries (across)',
    ...chart(simulation, columns),
    legend(simulation),
    dim('Letters side by side are of one size. + is more letters than fit. The dots are'),
    dim('below Belady, where no policy gets.'),
    '',
    'Miss ratio in %; * is the least of a row without Belady',
    ...table(simulation, entryBytes),
    '',
    ...(buys.length === 0 ? [] : [bold('What the next megabyte buys, with LRU'), ...buys, '']),
    ...meaning(simulation, entryBytes).map((text) => wrap(text)),
    dim(wrap(`An entry is taken to need ${whole(entryBytes)} bytes: ${entryBytesFrom}.`)),
  ].join('\n');
}

const sampledNote = (keys: number): string =>
  `Estimated from a sample of ${whole(keys)} keys; without --quick the figures are exact.`;
