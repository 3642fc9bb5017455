import { type ScaleContinuousNumeric, scaleLinear, scaleLog } from 'd3-scale';
import type { Plot } from './claims';

export type Scale = ScaleContinuousNumeric<number, number>;

export interface Axis {
  readonly scale: Scale;
  readonly ticks: readonly { readonly value: number; readonly text: string }[];
}

/** @param range pixels of the least and of the greatest value */
export function axis(plot: Plot, along: 'x' | 'y', range: readonly [number, number]): Axis {
  const values = plot.series.flatMap(({ points }) => points.map(([x, y]) => (along === 'x' ? x : y)));
  const { scale: kind } = plot[along];
  const wrong = values.find((value) => !Number.isFinite(value) || (kind === 'log' && value <= 0));
  if (values.length === 0 || wrong !== undefined) {
    throw new Error(
      `plot ${plot.name}: ${values.length === 0 ? 'there are no points' : `${wrong} cannot stand on a ${kind} ${along} axis`}. ` +
        'Leave such points out in measure.ts, or choose the other scale.',
    );
  }
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  return kind === 'log' ? logAxis(least, greatest, along, range) : linearAxis(least, greatest, along, range);
}

function linearAxis(
  least: number,
  greatest: number,
  along: 'x' | 'y',
  range: readonly [number, number],
): Axis {
  // Heights are compared with the ground; along x, what is far from zero need not begin there.
  const low = least > 0 && (along === 'y' || least < greatest / 4) ? 0 : least;
  const high = greatest === low ? low + 1 : greatest;
  const scale = scaleLinear([low, high], range);
  if (along === 'y') scale.nice(5);
  return { scale, ticks: scale.ticks(along === 'y' ? 5 : 7).map(withText) };
}

const MANTISSAS = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]];

function logAxis(least: number, greatest: number, along: 'x' | 'y', range: readonly [number, number]): Axis {
  const high = greatest === least ? least * 10 : greatest;
  const shown = (tick: number) => along === 'y' || (tick >= least && tick <= high);
  const choices = MANTISSAS.map((mantissas) => logTicks(least, high, mantissas).filter(shown));
  // The coarsest that still shows how the scale runs.
  const ticks = choices.find(({ length }) => length >= 4) ?? choices.at(-1) ?? [];
  const domain = along === 'x' ? [least, high] : [Math.min(least, ...ticks), Math.max(high, ...ticks)];
  return { scale: scaleLog(domain, range), ticks: ticks.map(withText) };
}

/** With the next tick on either side of what is shown. */
function logTicks(least: number, greatest: number, mantissas: readonly number[]): number[] {
  const decades: number[] = [];
  const last = Math.ceil(Math.log10(greatest));
  for (let power = Math.floor(Math.log10(least)); power <= last; power++) decades.push(power);
  const all = decades.flatMap((power) => mantissas.map((mantissa) => Number(`${mantissa}e${power}`)));
  const first = all.findLastIndex((tick) => tick <= least);
  const end = all.findIndex((tick) => tick >= greatest);
  return all.slice(Math.max(0, first), end === -1 ? undefined : end + 1);
}

const withText = (value: number) => ({ value, text: tickText(value) });

const PLAIN = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 6 });

function tickText(value: number): string {
  const size = Math.abs(value);
  if (size >= 1e9) return `${PLAIN.format(value / 1e9)}G`;
  if (size >= 1e6) return `${PLAIN.format(value / 1e6)}M`;
  if (size >= 1e4) return `${PLAIN.format(value / 1e3)}k`;
  return PLAIN.format(value);
}
