import type { Claim } from './claims';

const THREE_DIGITS = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });
const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** For people: three significant digits; a count up to 99,999 in full. */
export function figure(value: number, unit: string): string {
  const exact = Number.isInteger(value) && Math.abs(value) < 100_000;
  const digits = exact ? WHOLE.format(value) : THREE_DIGITS.format(value);
  if (unit === '') return digits;
  return unit === '×' ? `${digits}×` : `${digits} ${unit}`;
}

type Bounded = Pick<Claim, 'unit' | 'atLeast' | 'atMost'>;

/** "at least 1.5×"; empty without a bound. */
export function bound({ unit, atLeast, atMost }: Bounded): string {
  const parts: string[] = [];
  if (atLeast !== undefined) parts.push(`at least ${figure(atLeast, unit)}`);
  if (atMost !== undefined) parts.push(`at most ${figure(atMost, unit)}`);
  return parts.join(', ');
}

export const isBounded = ({ atLeast, atMost }: Bounded): boolean =>
  atLeast !== undefined || atMost !== undefined;

export const holds = ({ value, atLeast, atMost }: Claim): boolean =>
  Number.isFinite(value) &&
  value >= (atLeast ?? Number.NEGATIVE_INFINITY) &&
  value <= (atMost ?? Number.POSITIVE_INFINITY);
