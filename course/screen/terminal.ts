import { stripVTControlCharacters, styleText } from 'node:util';

type Style = Parameters<typeof styleText>[0];

// styleText asks the stream, NO_COLOR, FORCE_COLOR and TERM whether colour is wanted.
const style = (name: Style) => (text: string) => styleText(name, text, { stream: process.stdout });

export const bold = style('bold');
export const dim = style('dim');
export const red = style('red');
export const green = style('green');
export const yellow = style('yellow');
export const cyan = style('cyan');

/** Columns to fill: the terminal's, but never so many that a line gets hard to read. */
export const width = (): number => Math.min(process.stdout.columns || 80, 100);

/** Breaks `text` at spaces so that no line, its indent included, is wider than the terminal. */
export function wrap(text: string, indent = ''): string {
  const room = Math.max(20, width() - indent.length);
  return folded(text, room)
    .map((line) => (indent + line).trimEnd())
    .join('\n');
}

/** The lines of a text, each of at most `room` characters, broken at spaces. */
export const folded = (text: string, room: number): string[] =>
  text.split('\n').flatMap((line) => {
    const lines: string[] = [];
    let rest = line;
    while (rest.length > room) {
      const space = rest.lastIndexOf(' ', room);
      const end = space > 0 ? space : room;
      lines.push(rest.slice(0, end));
      rest = rest.slice(end).trimStart();
    }
    return [...lines, rest];
  });

const HARD_SPACE = '\u00a0';

/** A command or a count that `foldRows` does not break. */
export const whole = (text: string): string => text.replaceAll(' ', HARD_SPACE);

/**
 * Breaks rows that are too wide for the terminal at spaces; colours take no columns. What follows stands below what
 * the label of the row is followed by, or has the indent of the row.
 */
export const foldRows = (text: string): string =>
  text
    .split('\n')
    .map((row) => (columnsOf(row) > width() ? broken(row) : row))
    .join('\n')
    .replaceAll(HARD_SPACE, ' ');

function broken(row: string): string {
  const [head = ''] = /^(?:[A-Z]\w* {2,}| *)/.exec(stripVTControlCharacters(row)) ?? [];
  const [first = '', ...words] = row.split(' ');
  const rows = [first];
  for (const word of words) {
    const last = rows.at(-1) ?? '';
    const longer = `${last} ${word}`;
    // A word that is wider than the terminal stays beside its label.
    const stays = columnsOf(longer) <= width() || columnsOf(last) <= head.length;
    if (stays) rows[rows.length - 1] = longer;
    else rows.push(' '.repeat(head.length) + word);
  }
  return rows.map((each) => each.trimEnd()).join('\n');
}

const columnsOf = (row: string): number => stripVTControlCharacters(row).length;

/** A row of at most `room` characters. */
export const cut = (row: string, room: number): string =>
  row.length > room ? `${row.slice(0, room - 1)}…` : row;

/** `25:00` */
export function minutes(ms: number): string {
  const seconds = Math.floor(ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}
