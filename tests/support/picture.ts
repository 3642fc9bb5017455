import { stripVTControlCharacters } from 'node:util';

/** A terminal's text as an SVG picture: what the README shows of the course. */

const COLUMN = 8.4;
const ROW = 19;
const MARGIN = 16;

/** By number of SGR; those that the course uses. Both read well on the dark ground. */
const COLOURS: Readonly<Record<string, string>> = {
  31: '#ff7b72',
  32: '#7ee787',
  33: '#e3b341',
  36: '#79c0ff',
};

const DIM = '#8b949e';

interface Style {
  readonly colour?: string | undefined;
  readonly bold?: boolean;
  readonly dim?: boolean;
}

/** @param text what a command prints with FORCE_COLOR=1 @param title what a reader hears who does not see it */
export function picture(text: string, title: string): string {
  const rows = text.replace(/\s+$/, '').split('\n');
  const plain = rows.map((row) => stripVTControlCharacters(row));
  const width = Math.max(...plain.map((row) => row.length)) * COLUMN + 2 * MARGIN;
  const height = rows.length * ROW + 2 * MARGIN;
  let style: Style = {};
  const lines = rows.map((row, at) => {
    const parts = `m${row}`.split('\x1b[').map((part, first) => {
      const end = part.indexOf('m');
      if (first > 0) style = part.slice(0, end).split(';').reduce(restyled, style);
      const words = part.slice(end + 1);
      return words ? span(words, style) : '';
    });
    return `<text x="${MARGIN}" y="${MARGIN + (at + 0.75) * ROW}">${parts.join('')}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width.toFixed(0)} ${height}" width="${width.toFixed(0)}" role="img" xml:space="preserve">`,
    `<title>${escaped(title)}</title>`,
    '<style>text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#e6edf3}</style>',
    `<rect width="100%" height="100%" rx="8" fill="#0d1117"/>`,
    ...lines.filter((line) => !line.endsWith('"></text>')),
    '</svg>\n',
  ].join('\n');
}

/** What stands on a picture, for a test that holds it against the text. */
export const wordsOf = (svg: string): string =>
  [...svg.matchAll(/<text[^>]*>(.*?)<\/text>/g)]
    .map(([, line = '']) =>
      line
        .replace(/<[^>]+>/g, '')
        .replaceAll('&lt;', '<')
        .replaceAll('&amp;', '&'),
    )
    .join('\n');

function restyled(style: Style, code: string): Style {
  if (code === '' || code === '0') return {};
  if (code === '1') return { ...style, bold: true };
  if (code === '2') return { ...style, dim: true };
  if (code === '22') return { ...style, bold: false, dim: false };
  if (code === '39') return { ...style, colour: undefined };
  return { ...style, colour: COLOURS[code] ?? style.colour };
}

function span(words: string, { colour, bold, dim }: Style): string {
  const fill = colour ?? (dim ? DIM : undefined);
  const how = [fill && `fill="${fill}"`, bold && 'font-weight="bold"'].filter(Boolean);
  return how.length > 0 ? `<tspan ${how.join(' ')}>${escaped(words)}</tspan>` : escaped(words);
}

const escaped = (text: string): string => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
