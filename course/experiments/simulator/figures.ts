/** Numbers as the report writes them. */

const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });
const DIGITS = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });

export const whole = (value: number): string => WHOLE.format(value);

/** `1 key`, `2,000 keys`. @param one the noun in the singular */
export const counted = (count: number, one: string): string =>
  `${whole(count)} ${one}${count === 1 ? '' : 's'}`;

/** Three digits of a share: `9.87 %`, `52.1 %`, `100 %`. */
export function percent(share: number): string {
  const digits = share < 0.09995 ? 2 : share < 0.9995 ? 1 : 0;
  return `${(share * 100).toFixed(digits)} %`;
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB'];

/** `1.23 MB`: three digits, in thousands. */
export function bytes(count: number): string {
  const rounded = Number(count.toPrecision(3));
  const power = Math.min(UNITS.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, rounded)) / 3)));
  return `${DIGITS.format(rounded / 1000 ** power)} ${UNITS[power]}`;
}

/** `1`, `940`, `60.7k`: for an axis. */
export function short(count: number): string {
  if (count < 1000) return String(count);
  const [size, unit] = count < 1e6 ? [count / 1e3, 'k'] : [count / 1e6, 'M'];
  return `${DIGITS.format(size)}${unit}`;
}
