import { drawBars } from './bars';
import type { Claim, Matrix } from './claims';
import { bound, figure } from './figures';
import { drawPlot } from './plot';
import type { MeasuredRecord } from './record';

const MARKER = /<!-- measured:(.+?) -->([\s\S]*?)<!-- \/measured -->/g;
/** What may stand before a block: nothing, a list item or a quotation. */
const LINE_START = /^(\s|[-*+>]|\d+[.)])*$/;

/** The lesson with the record's table, plots and figures between its markers. @throws where a marker names nothing. */
export function render(lesson: string, record: MeasuredRecord, id: string): string {
  return lesson.replace(MARKER, (found: string, name: string, between: string, at: number) => {
    const refuse = (what: string) => {
      const line = lesson.slice(0, at).split('\n').length;
      return new Error(`lesson ${id}, line ${line}: <!-- measured:${name} --> ${what}`);
    };
    if (between.includes('<!-- measured:')) throw refuse('is not closed. End it with <!-- /measured -->.');
    const open = found.slice(0, found.indexOf('-->') + '-->'.length);
    const filled = (text: string) => `${open}${text}<!-- /measured -->`;

    if (/^table\b/.test(name)) {
      const claims = tableClaims(name, record, lesson);
      if (!claims) throw refuse(unknown('claim', record.claims, id));
      return filled(`\n\n${table({ ...record, claims }, id)}\n\n`);
    }
    if (name.startsWith('plot ')) {
      const plot = record.plots.find((candidate) => `plot ${candidate.name}` === name);
      if (!plot) throw refuse(unknown('plot', record.plots, id));
      return filled(`\n\n![${escapeAlt(plot.title)}](images/${fileName(id, plot.name)})\n\n`);
    }
    if (name.startsWith('matrix ')) {
      const matrix = record.matrices?.find((candidate) => `matrix ${candidate.name}` === name);
      if (!matrix) throw refuse(unknown('matrix', record.matrices ?? [], id));
      return filled(`\n\n${matrixTable(matrix)}\n\n`);
    }
    const claim = record.claims.find((candidate) => candidate.name === name);
    if (!claim) throw refuse(unknown('claim', record.claims, id));
    const before = lesson.slice(lesson.lastIndexOf('\n', at - 1) + 1, at);
    if (LINE_START.test(before)) {
      throw refuse('begins its line, which makes the whole line raw HTML in Markdown. Put a word before it.');
    }
    return filled(figure(claim.value, claim.unit));
  });
}

/**
 * `table` has all claims, `table cold-loads hard-loads` those that it names, `table rest` those that no other table of
 * the lesson names. Undefined where a name is unknown.
 */
function tableClaims(marker: string, { claims }: MeasuredRecord, lesson: string): Claim[] | undefined {
  const names = marker.split(' ').slice(1);
  if (names.length === 0) return [...claims];
  if (names.join() === 'rest') {
    const shown = [...lesson.matchAll(MARKER)].flatMap(([, other = '']) => other.split(' ').slice(1));
    return claims.filter(({ name }) => !shown.includes(name));
  }
  const chosen = names.map((name) => claims.find((claim) => claim.name === name));
  return chosen.every((claim) => claim !== undefined) ? chosen : undefined;
}

/** The record's plots: file name in the chapter's `images` folder, and SVG. */
export const plots = (record: MeasuredRecord, id: string): [file: string, svg: string][] =>
  record.plots.map((plot) => [fileName(id, plot.name), 'bars' in plot ? drawBars(plot) : drawPlot(plot)]);

const fileName = (id: string, plot: string) => `${id}-${plot}.svg`;

function table({ claims, date, node, servers, cpu }: MeasuredRecord, id: string): string {
  const rows = claims.map((claim) => {
    return `| ${escapeCell(claim.says)} | ${figure(claim.value, claim.unit)} | ${bound(claim) || '–'} |`;
  });
  const machine = [`${cpu.count} × ${cpu.model}`, `Node ${node}`, ...servers].join(', ');
  return [
    '| Compared | Here | Bound |',
    '| --- | ---: | --- |',
    ...rows,
    '',
    `Measured on ${machine}, on ${date}. Again on yours: \`npm run measure -- ${id}\`.`,
  ].join('\n');
}

function matrixTable({ columns, rows }: Matrix): string {
  const line = (cells: readonly string[]) => `| ${cells.map(escapeCell).join(' | ')} |`;
  return [line(['', ...columns]), line(['---', ...columns.map(() => '---')]), ...rows.map(line)].join('\n');
}

const escapeCell = (text: string) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');
const escapeAlt = (text: string) => text.replace(/[[\]\\]/g, '\\$&').replaceAll('<', '&lt;');

function unknown(kind: string, known: readonly { readonly name: string }[], id: string): string {
  const names = known.map(({ name }) => name).join(', ') || 'none';
  return (
    `names no ${kind} of measure.ts. Its ${kind}s: ${names}. Correct the marker; ` +
    `if measure.ts has changed, run npm run measure -- ${id} --write`
  );
}
