import { type Change, diffLines } from 'diff';
import type { TestError } from '../run/messages';
import { cut, dim, green, red, width, wrap } from './terminal';

const INDENT = '  ';

/** Why a test failed: which behaviour is missing, what was expected, what was seen. */
export function explain({ name, message, expected, actual }: TestError): string[] {
  if (/not implemented/.test(message)) return [`${INDENT}not implemented yet`];
  if (name !== 'AssertionError') return [wrap(short(`${name}: ${message}`, 12), INDENT)];
  // Vitest puts its own account behind the sentence of the test.
  const [, sentence, account = ''] = /^([\s\S]*?)(?::\s|^)(expected [\s\S]*\b(?:to|not)\b[\s\S]*)$/.exec(
    message,
  ) ?? ['', message];
  const said = sentence ? [wrap(short(sentence, 12), INDENT)] : [];
  if (actual !== undefined && expected === undefined) return [...said, ...labelled('seen', actual, red)];
  if (actual !== undefined && expected === actual && / not to /.test(account)) {
    return [...said, ...labelled('expected', 'another value', green), ...labelled('seen', actual, red)];
  }
  if (expected === undefined || actual === undefined || expected === actual) {
    return account ? [...said, wrap(short(rounded(account), 4), INDENT)] : said;
  }
  return [...said, ...compared(expected, actual)];
}

/** Nobody reads the tenth digit of a time. */
const rounded = (text: string): string =>
  text.replace(/\d+\.\d{4,}/g, (number) => String(Number(Number(number).toPrecision(4))));

/** At most `rows` rows of a text. */
export function short(text: string, rows: number): string {
  const all = text.trimEnd().split('\n');
  if (all.length <= rows) return all.join('\n');
  return [...all.slice(0, rows), `… (${all.length - rows} more lines)`].join('\n');
}

/** Both on a line of their own where they fit, else around the place where they part. */
function compared(expected: string, seen: string): string[] {
  const [a, b] = [flat(expected), flat(seen)];
  const room = width() - 12;
  if (!a.includes('\n') && !b.includes('\n')) {
    const [shownA, shownB] = a.length <= room && b.length <= room ? [a, b] : aroundDifference(a, b, room);
    return [...labelled('expected', shownA, green), ...labelled('seen', shownB, red)];
  }
  const rows = diffLines(`${expected}\n`, `${seen}\n`).flatMap(stretch);
  return [`${INDENT}${green('- expected')}  ${red('+ seen')}`, ...rows.slice(0, 24)];
}

/** Lines that both have, shown where they meet a difference; or lines of one side, shown so that both sides are seen. */
function stretch({ value, removed, added }: Change, index: number, all: readonly Change[]): string[] {
  const lines = value.trimEnd().split('\n');
  const [sign, paint] = removed ? ['-', green] : added ? ['+', red] : [' ', dim];
  const head = removed || added ? 6 : index > 0 ? 2 : 0;
  const tail = removed || added || index === all.length - 1 ? 0 : 2;
  const kept =
    lines.length <= head + tail + 1
      ? lines
      : [
          ...lines.slice(0, head),
          `… (${lines.length - head - tail} lines)`,
          ...lines.slice(lines.length - tail),
        ];
  return kept.map((row) => INDENT + paint(`${sign} ${cut(row, width() - 4)}`));
}

function labelled(label: string, text: string, colour: (text: string) => string): string[] {
  const [first = '', ...rest] = short(flat(text), 6)
    .split('\n')
    .map((row) => cut(row, width() - 12));
  return [
    `${INDENT}${dim(label.padEnd(8))}  ${colour(first)}`,
    ...rest.map((row) => `${' '.repeat(12)}${colour(row)}`),
  ];
}

/** Lists and objects in one line: `["a", "b"]`. Text stays as it is. */
function flat(text: string): string {
  if (!/^[^\n]*[[{]\n[\s\S]*\n[\]}]$/.test(text)) return text;
  const line = text
    .replace(/\n\s*/g, ' ')
    .replace(/,( [\]}])/g, '$1')
    .replace(/\[ | \]/g, (bracket) => bracket.trim());
  return line.length <= width() - 12 ? line : text;
}

/** The same stretch of two long lines, from a little before they part. */
function aroundDifference(a: string, b: string, room: number): [string, string] {
  let same = 0;
  while (same < a.length && a[same] === b[same]) same++;
  const start = Math.max(0, same - 20);
  const part = (text: string) => cut(start > 0 ? `…${text.slice(start)}` : text, room);
  return [part(a), part(b)];
}
