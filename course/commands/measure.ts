import { nearest } from '../base/nearest';
import { shown } from '../base/root';
import { checkResult, type TargetCheck } from '../claims/check';
import { bound, figure, isBounded } from '../claims/figures';
import { runMeasures } from '../claims/run';
import { extraTargets, hasMeasure, overviewTargets, type Target, targetOf } from '../claims/targets';
import { write } from '../claims/write';
import { find, labs } from '../content/catalog';

export interface MeasureOptions {
  /** Also write measured.json, the lesson's figures and the plots. */
  readonly write: boolean;
  /** A second each instead of up to thirty. Nothing is written from it. */
  readonly quick?: boolean;
}

/** Measures the claims here and prints them beside the lessons'. 0 when every bound holds, 1 when one fails, else 2. */
export async function measure(names: readonly string[], options: MeasureOptions): Promise<number> {
  if (options.write && options.quick) {
    say('--write wants the full measure: leave out --quick.');
    return 2;
  }
  const targets = choose(names);
  if (!targets) return 2;

  let failed = false;
  for await (const measured of runMeasures(targets, options.quick ? 'quick' : 'full')) {
    const check = checkResult(measured);
    const broken = measured.result instanceof Error || check.claims.some(({ holds }) => !holds);
    failed ||= broken;
    say(report(check));
    if (measured.result instanceof Error) say(`  ${measured.result.message}`);
    else if (options.write && broken) say('  Not written: a bound does not hold.');
    else if (options.write) {
      const files = write(measured.target, measured.result);
      say(files.length === 0 ? '  Nothing to write.' : `  Written: ${files.map(shown).join(', ')}`);
    }
    say('');
  }
  return failed ? 1 : 0;
}

/** Undefined, and said, when a name means nothing. */
function choose(names: readonly string[]): Target[] | undefined {
  const known = labs();
  const extras = [...overviewTargets(), ...extraTargets()];
  const isExtra = (name: string) => extras.some(({ id }) => id === name);
  const wanted = names.length === 0 ? ['all'] : names;
  const { found, unknown } = find(
    wanted.filter((name) => !isExtra(name)),
    known,
  );
  if (unknown.length > 0) {
    const candidates = [...known.flatMap(({ id, chapter }) => [id, chapter]), ...extras.map(({ id }) => id)];
    for (const name of unknown) say(unknownName(name, [...new Set(candidates)]));
    return undefined;
  }
  const targets = [
    ...found.map(targetOf),
    ...extras.filter(({ id }) => wanted.includes(id) || wanted.includes('all')),
  ];
  const measured = targets.filter(hasMeasure);
  if (measured.length > 0) return measured;
  say(`${targets.map(({ id }) => id).join(', ') || 'The course'} makes no claims: there is no measure.ts.`);
  return undefined;
}

function unknownName(name: string, candidates: readonly string[]): string {
  const near = nearest(name, candidates);
  const advice = near.length > 0 ? `Did you mean ${near.join(', or ')}?` : 'See them all: npm run list';
  return `Nothing here is called ${name}. ${advice}`;
}

/** One line a claim: here, in the lesson, the bound, and in words what was compared. */
function report({ target, seconds, claims }: TargetCheck): string {
  const rows = claims.map(({ claim, recorded, holds }) => [
    !isBounded(claim) ? ' ' : holds ? '✓' : '✗',
    figure(claim.value, claim.unit),
    recorded === undefined ? '–' : figure(recorded, claim.unit),
    bound(claim),
    claim.says,
  ]);
  const head = `${target.title}  (${target.id}, ${seconds.toFixed(1)} s)`;
  if (rows.length === 0) return head;
  return [head, ...aligned([['', 'here', 'lesson', 'bound', ''], ...rows])].join('\n');
}

/** Numbers end, words begin at one column. */
function aligned(rows: readonly (readonly string[])[]): string[] {
  const width = (column: number) => Math.max(...rows.map((row) => row[column]?.length ?? 0));
  const widths = [0, 1, 2, 3].map(width);
  return rows.map(([mark = '', here = '', lesson = '', limit = '', says = '']) =>
    [
      ` ${mark.padEnd(widths[0] ?? 0)}`,
      here.padStart(widths[1] ?? 0),
      lesson.padStart(widths[2] ?? 0),
      limit.padEnd(widths[3] ?? 0),
      says,
    ]
      .join('  ')
      .trimEnd(),
  );
}

const say = (text: string) => process.stdout.write(`${text}\n`);
