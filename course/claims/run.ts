import { pathToFileURL } from 'node:url';
import { shown } from '../catalog';
import type { Measure, Measurement } from './claims';
import { holds } from './figures';
import { type MeasuredRecord, recordOf } from './record';
import { type OpenMeasureStack, openMeasureStack } from './stack';
import type { Target } from './targets';

/** `quick` is for `npm run verify`: about a second each. */
export type Mode = 'quick' | 'full';

export interface Outcome {
  readonly target: Target;
  readonly seconds: number;
  /** What was seen, or why nothing was. */
  readonly result: MeasuredRecord | Error;
}

/** Runs the measures one after the other, so that none disturbs another. The stack is opened when the first needs it. */
export async function* runMeasures(targets: readonly Target[], mode: Mode): AsyncGenerator<Outcome> {
  let stack: OpenMeasureStack | undefined;
  const open = async () => {
    if (stack) await stack.clean();
    else stack = await openMeasureStack();
    return stack;
  };
  try {
    for (const target of targets) {
      const start = performance.now();
      const measure = await load(target);
      const result =
        measure instanceof Error
          ? measure
          : await run(target, measure, mode, measure.needs === 'stack' ? await open() : undefined);
      yield { target, seconds: (performance.now() - start) / 1000, result };
    }
  } finally {
    await stack?.close();
  }
}

/** tsx loads TypeScript by require; Vitest, which runs our own tests, by import. */
const loadModule = async (path: string) =>
  typeof require === 'function' ? require(path) : import(/* @vite-ignore */ pathToFileURL(path).href);

async function load(target: Target): Promise<Measure | Error> {
  try {
    const module = await loadModule(target.measure);
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
  stack: OpenMeasureStack | undefined,
): Promise<MeasuredRecord | Error> {
  const context = {
    quick: mode === 'quick',
    stack: () => {
      if (stack) return stack;
      throw new Error("the measure asks for the stack. Add needs: 'stack' to its defineMeasure({ … }).");
    },
  };
  try {
    let measurement = await measure.run(context);
    check(measurement);
    // A neighbour on the machine can spoil a second of measuring, and hardly the next one too.
    if (mode === 'quick' && !measurement.claims.every(holds)) {
      await stack?.clean();
      measurement = await measure.run(context);
      check(measurement);
    }
    return recordOf(measurement, stack?.servers ?? []);
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
