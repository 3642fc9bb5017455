import { bold } from '../../screen/terminal';
import { bytes, whole } from './figures';
import { BELADY } from './policies';
import type { Simulation } from './simulate';

const WIDTHS = { size: 9, memory: 9 } as const;
const GAP = 2;

/** The miss ratio of every policy at every size; the least of a row, without Belady, has a star. */
export function table({ sizes, curves, requests }: Simulation, entryBytes: number): string[] {
  const widths = curves.map(({ policy }) => Math.max(6, policy.length) + GAP);
  const head =
    'entries'.padStart(WIDTHS.size) +
    'memory'.padStart(WIDTHS.memory) +
    curves.map(({ policy }, at) => policy.padStart((widths[at] ?? 0) - 1).padEnd(widths[at] ?? 0)).join('');
  const rows = sizes.map((size, row) => {
    const best = bestAt(curves, row);
    const cells = curves.map(({ policy, misses }, at) => {
      const figure = (((misses[row] ?? 0) / requests) * 100).toFixed(2).padStart((widths[at] ?? 0) - 1);
      return best.includes(policy) ? bold(`${figure}*`) : `${figure} `;
    });
    return (
      whole(size).padStart(WIDTHS.size) + bytes(size * entryBytes).padStart(WIDTHS.memory) + cells.join('')
    );
  });
  return [head, ...rows].map((line) => line.trimEnd());
}

/** The policies with the fewest misses at a size, Belady left out; none where all are alike. */
export function bestAt(curves: Simulation['curves'], at: number): string[] {
  const real = curves.filter(({ policy }) => policy !== BELADY);
  const least = Math.min(...real.map(({ misses }) => misses[at] ?? 0));
  const best = real.filter(({ misses }) => misses[at] === least);
  return best.length === real.length ? [] : best.map(({ policy }) => policy);
}
