import { shown } from '../base/root';
import type { Measure, Measurement } from './claims';
import { holds } from './figures';
import { type MeasuredRecord, recordOf } from './record';
import { type OpenMeasureServers, openMeasureServers } from './servers';
import type { Target } from './targets';

/** `quick` is for `npm run verify`: about a second each. */
export type Mode = 'quick' | 'full';

export interface MeasureResult {
  readonly target: Target;
  readonly seconds: number;
  /** What was seen, or why nothing was. */
  readonly result: MeasuredRecord | Error;
}

/** Runs the measures one after the other, so that none disturbs another. The servers are opened when the first needs it. */
export async function* runMeasures(targets: readonly Target[], mode: Mode): AsyncGenerator<MeasureResult> {
  let servers: OpenMeasureServers | undefined;
  const open = async () => {
    if (servers) await servers.clean();
    else servers = await openMeasureServers();
    return servers;
  };
  try {
    for (const target of targets) {
      const start = performance.now();
      const measure = await load(target);
      const result =
        measure instanceof Error
          ? measure
          : await run(target, measure, mode, measure.needs === 'servers' ? await open() : undefined);
      yield { target, seconds: (performance.now() - start) / 1000, result };
    }
  } finally {
    await servers?.close();
  }
}

async function load(target: Target): Promise<Measure | Error> {
  try {
    const module = await import(/* @vite-ignore */ target.measure);
    if (typeof module.default?.run === 'function') return module.default;
    return new Error(`${shown(target.measure)}: export default defineMeasure({ … }) is missing. Add it.`);
  } catch (error) {
    return named(target, error);
  }
}

async function run(
  target: Target,
  measure: Measure,
  mode: Mode,
  servers: OpenMeasureServers | undefined,
): Promise<MeasuredRecord | Error> {
  const context = {
    quick: mode === 'quick',
    servers: () => {
      if (servers) return servers;
      throw new Error("the measure asks for the servers. Add needs: 'servers' to its defineMeasure({ … }).");
    },
  };
  try {
    let measurement = await measure.run(context);
    check(measurement);
    // A neighbour on the machine can spoil a second of measuring, and hardly the next one too.
    if (mode === 'quick' && !measurement.claims.every(holds)) {
      await servers?.clean();
      measurement = await measure.run(context);
      check(measurement);
    }
    return recordOf(measurement, servers?.servers ?? []);
  } catch (error) {
    return named(target, error);
  }
}

const NAME = /^[a-z0-9]+(-[a-z0-9]+)*$/;

/** @throws what its author has to mend */
function check({ claims, plots = [] }: Measurement): void {
  for (const [kind, list] of Object.entries({ claim: claims, plot: plots })) {
    const names = list.map(({ name }) => name);
    for (const [index, name] of names.entries()) {
      if (!NAME.test(name) || name === 'table') {
        throw new Error(`"${name}" cannot name a ${kind}. Use small letters, digits and hyphens.`);
      }
      if (names.indexOf(name) !== index) throw new Error(`two ${kind}s are named ${name}. Rename one.`);
    }
  }
  const empty = claims.find(({ value }) => !Number.isFinite(value));
  if (empty) throw new Error(`claim ${empty.name} is ${empty.value}. Take it from samples that are there.`);
}

function named(target: Target, error: unknown): Error {
  const reason = error instanceof Error ? error.message : String(error);
  return new Error(`${shown(target.measure)}: ${reason}`, { cause: error });
}
