import { type ChildProcess, fork } from 'node:child_process';
import { dirname } from 'node:path';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { TYPESCRIPT } from '../base/root';

/** A number of a lesson. With a bound it is checked by `npm run verify`; without one it is a figure for context. */
export interface Claim {
  /** Unique in its lesson; names it in the prose: `<!-- measured:get-vs-select -->`. */
  readonly name: string;
  /** What was compared with what: "Redis GET against primary-key SELECT, p50". */
  readonly says: string;
  readonly value: number;
  /** `×`, `%`, `ms`, `ops/s`, or a noun in the plural: `loads`. A claim with a bound is a ratio or a share of one run. */
  readonly unit: string;
  readonly atLeast?: number;
  readonly atMost?: number;
  /** Computed from given numbers, not timed: each machine must find the recorded value. */
  readonly exact?: true;
}

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
}

export interface Plot {
  /** File name without ending; the SVG goes to `chapters/<chapter>/images/<lab>-<name>.svg`. */
  readonly name: string;
  /** One sentence: the title and the alternative text. */
  readonly title: string;
  readonly x: { readonly label: string; readonly scale: 'linear' | 'log' };
  readonly y: { readonly label: string; readonly scale: 'linear' | 'log' };
  readonly series: readonly Series[];
}

/** One number for each of a few subjects, as lengths side by side. Its marker is that of a plot. */
export interface Bars {
  readonly name: string;
  /** One sentence: the title and the alternative text. */
  readonly title: string;
  /** What the numbers are: `loads`, `stale reads (%)`. */
  readonly label: string;
  readonly bars: readonly (readonly [subject: string, value: number])[];
}

/** A table of many subjects by many properties, where a list of claims would not be read: `<!-- measured:matrix NAME -->`. */
export interface Matrix {
  readonly name: string;
  readonly columns: readonly string[];
  /** The subject, then a cell for each column. */
  readonly rows: readonly (readonly [subject: string, ...cells: string[]])[];
}

export interface Measurement {
  readonly claims: readonly Claim[];
  /** Left out of the quick mode, as a rule: nothing checks it. */
  readonly matrices?: readonly Matrix[];
  readonly plots?: readonly (Plot | Bars)[];
  /** Servers that the measure started itself, with their versions: "Redis 7.0.15". Those of `servers` are known. */
  readonly servers?: readonly string[];
}

export interface MeasureServers {
  readonly redis: Redis;
  readonly db: Pool;
  readonly redisUrl: string;
  readonly mysqlUrl: string;
  /** Loads the large data set: 10k products, 50k reviews, 200k events. */
  loadShop(): Promise<void>;
}

export interface Measure {
  /** Opened only when asked for. */
  readonly needs?: 'servers';
  /** @param quick about a second in all, for `npm run verify`; bounds must hold in both modes */
  run(context: { quick: boolean; servers: () => MeasureServers }): Promise<Measurement>;
}

/** The default export of a `measure.ts`. */
export const defineMeasure = (measure: Measure): Measure => measure;

/** The value below which a share `p` (0…1) of the samples lies, by nearest rank. */
export function percentile(samples: readonly number[], p: number): number {
  const sorted = Float64Array.from(samples).sort();
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN;
}

export const median = (samples: readonly number[]): number => percentile(samples, 0.5);

/** "Redis 7.0.15": for the `servers` of a measurement that started its own. */
export async function redisVersion(redis: Redis): Promise<string> {
  const info = await redis.info('server');
  const valkey = /^valkey_version:(\S+)/m.exec(info)?.[1];
  return valkey ? `Valkey ${valkey}` : `Redis ${/^redis_version:(\S+)/m.exec(info)?.[1]}`;
}

/** A process of its own for a TypeScript file beside the measure. @param execArgv options of Node */
export const forkScript = (
  file: string,
  args: readonly string[],
  execArgv: readonly string[] = [],
): ChildProcess => fork(file, args, { cwd: dirname(file), execArgv: [...execArgv, '--require', TYPESCRIPT] });
