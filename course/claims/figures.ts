import type { Claim } from './claims';

const THREE_DIGITS = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });
const PLURAL = new Intl.PluralRules('en');
const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** For people: three significant digits; a count up to 99,999 in full. */
export function figure(value: number, unit: string): string {
  const exact = Number.isInteger(value) && Math.abs(value) < 100_000;
  const digits = exact ? WHOLE.format(value) : THREE_DIGITS.format(value);
  if (unit === '') return digits;
  if (unit === '×') return `${digits}×`;
  return `${digits} ${PLURAL.select(value) === 'one' ? singular(unit) : unit}`;
}

/** A claim's unit is the plural, whatever its value is: `loads`, `queries`, `misses`. Signs and rates have one form. */
function singular(unit: string): string {
  if (!/^[a-z]{3,}s$/.test(unit)) return unit;
  return unit
    .replace(/ies$/, 'y')
    .replace(/(ss|x|ch|sh)es$/, '$1')
    .replace(/([^s])s$/, '$1');
}

type Bounded = Pick<Claim, 'unit' | 'atLeast' | 'atMost'>;

/** "at least 1.5×", "2 % to 5 %", "exactly 0 %"; empty without a bound. */
export function bound({ unit, atLeast, atMost }: Bounded): string {
  if (atLeast === undefined) return atMost === undefined ? '' : `at most ${figure(atMost, unit)}`;
  if (atMost === undefined) return `at least ${figure(atLeast, unit)}`;
  return atLeast === atMost
    ? `exactly ${figure(atLeast, unit)}`
    : `${figure(atLeast, unit)} to ${figure(atMost, unit)}`;
}

export const isBounded = ({ atLeast, atMost }: Bounded): boolean =>
  atLeast !== undefined || atMost !== undefined;

export const holds = ({ value, atLeast, atMost }: Claim): boolean =>
  Number.isFinite(value) &&
  value >= (atLeast ?? Number.NEGATIVE_INFINITY) &&
  value <= (atMost ?? Number.POSITIVE_INFINITY);
