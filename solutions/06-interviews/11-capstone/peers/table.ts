import type { Matrix } from '#claims';
import type { Across } from './bus';
import type { Outage } from './outage';
import type { Races } from './races';
import type { Seen } from './readers';
import type { Speed } from './tiers';

export interface Row {
  readonly name: string;
  readonly seen: Seen;
  readonly raced: Races;
  readonly away: Outage;
  readonly across: Across | undefined;
}

export const matrices = (rows: readonly Row[], speed: readonly Speed[]): Matrix[] => [
  matrix('loads', rows, {
    '1,000 readers of a cold key, 4 processes': ({ seen }) => counted(seen.coldLoads),
    '80 readers, TTL 1 s, for 5 s': ({ seen }) => counted(seen.steadyLoads),
    'of their reads, waited for a load': ({ seen }) => String(seen.blocked),
    'oldest value': ({ seen }) => `${(seen.oldestMs / 1000).toFixed(1)} s`,
    '50 callers of a load that fails': ({ raced }) => raced.failing,
    'second caller, when the first load never ends': ({ raced }) => raced.hung,
  }),
  matrix('consistency', rows, {
    'late fill, by key': ({ raced }) => marked(raced.stored),
    'late fill, by tag': ({ raced }) => marked(raced.storedByTag),
    'read after it, old load under way': ({ raced }) => marked(raced.joined),
    'L1 of another process': ({ across }) => marked(across?.heard ?? 'no L1'),
    'after its bus was down': ({ across }) => marked(across?.afterCut ?? 'no L1'),
  }),
  matrix('outages', rows, {
    'read, Redis stalled': ({ away }) => shownMs(away.stalledMs),
    'read, Redis gone': ({ away }) => shownMs(away.refusedMs),
    'invalidation in a partition': ({ away }) => away.told,
    'the read after it': ({ away }) => marked(away.after),
  }),
  matrix('speed', speed, {
    'hits through Redis': ({ redisHits }) => `${redisHits.toFixed(2)}×`,
    'hits of L1': ({ localHits }) => (localHits ? `${localHits.toFixed(1)}×` : 'no L1'),
  }),
];

/** A column for each cell. */
const matrix = <T extends { readonly name: string }>(
  name: string,
  rows: readonly T[],
  cells: Readonly<Record<string, (row: T) => string>>,
): Matrix => ({
  name,
  columns: Object.keys(cells),
  rows: rows.map((row) => [row.name, ...Object.values(cells).map((cell) => cell(row))]),
});

const counted = (loads: number): string => `${loads} load${loads === 1 ? '' : 's'}`;

const marked = (end: string): string => (end === 'stale' ? '**stale**' : end);

const shownMs = (ms: number): string => (Number.isFinite(ms) ? `${Math.round(ms)} ms` : 'none within 3 s');
