import { stripVTControlCharacters } from 'node:util';
import { bold, cut, dim, green, red, yellow } from '../../screen/terminal';
import { type Column, chart } from './chart';
import { NAIVE, REMEDIES, type Remedy } from './remedies';

/** What was seen in one stretch of SAMPLE_MS. */
export interface Sample {
  /** Readers served in time, in percent of those that came; NaN where none came. */
  readonly goodput: number;
  readonly queued: number;
  /** What happened in it: `f`, `k`, `0` to `8`, `+`, `-`; empty where nothing did. */
  readonly event: string;
}

/** All that is drawn. */
export interface View {
  /** Readers a second. */
  readonly offered: number;
  readonly remedy: Remedy;
  readonly redis: 'up' | 'down';
  readonly products: number;
  /** GETs that found their product (%). */
  readonly hits: number;
  readonly busy: number;
  readonly connections: number;
  /** Queries a second. */
  readonly queries: number;
  /** Of them, for readers that had left (%). */
  readonly wasted: number;
  /** Oldest first. */
  readonly samples: readonly Sample[];
}

export const SAMPLE_MS = 500;
const GOODPUT_ROWS = 6;
const QUEUE_ROWS = 3;
/** Before a chart: the numbers of its axis. */
const AXIS = 7;
const WHOLE = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 });

/** The numbers of the remedies are their keys. */
export const CHOICES: readonly Remedy[] = [NAIVE, ...REMEDIES];

/** The screen as rows of text, none wider than `columns`. */
export function drawScreen(view: View, columns: number): string {
  const room = columns - AXIS - 1;
  const samples = view.samples.slice(-room);
  const seconds = `last ${Math.round((room * SAMPLE_MS) / 1000)} s`;
  const last = samples.at(-1);
  const most = Math.max(10, ...samples.map(({ queued }) => queued));
  return rows(columns, [
    bold('A cold cache, live: real Redis, real MySQL'),
    '',
    `Readers   ${WHOLE.format(view.offered)} a second, for ${view.products} products`,
    `Remedy    ${CHOICES.indexOf(view.remedy)} ${view.remedy.name}: ${view.remedy.about}`,
    `Redis     ${view.redis === 'up' ? `up, ${percent(view.hits)} of the reads are hits` : red('killed; it comes back empty')}`,
    `Database  ${view.busy} of ${view.connections} busy, ${WHOLE.format(view.queries)} queries a second, ${percent(view.wasted)} for readers that have left`,
    '',
    `Goodput: ${percent(last?.goodput ?? Number.NaN)} of the readers are served in time ${dim(`(${seconds})`)}`,
    ...chart(
      samples.map(({ goodput }): Column => [goodput, goodput >= 80 ? green : goodput >= 40 ? yellow : red]),
      { rows: GOODPUT_ROWS, most: 100, axis: AXIS, unit: '%' },
    ),
    dim(' '.repeat(AXIS) + samples.map(({ event }) => event || ' ').join('')),
    `Queue: ${WHOLE.format(last?.queued ?? 0)} waiting for a connection`,
    ...chart(
      samples.map(({ queued }): Column => [queued, dim]),
      { rows: QUEUE_ROWS, most, axis: AXIS, unit: '' },
    ),
    '',
    `${key('Up')}/${key('Down')} load  ${key('f')} flush  ${key('k')} kill Redis  ${key('0')}-${key('8')} remedy  ${key('h')} help  ${key('q')} quit`,
  ]);
}

export const drawHelp = (columns: number): string =>
  rows(columns, [
    bold('A cold cache, live'),
    '',
    'A database that carries 200 queries a second has four times as many readers.',
    'A reader leaves after 80 ms. Nothing is stored for a reader that has left.',
    '',
    'Try this: f, and wait. Lower the load: is it enough? Then choose a remedy.',
    '',
    ...CHOICES.map(({ name, about }, at) => `${key(String(at))}  ${name.padEnd(21)}${about}`),
    '',
    `${key('Up')}, ${key('Down')} or ${key('+')}, ${key('-')}: more or fewer readers a second`,
    `${key('f')}  flush: the cache is empty`,
    `${key('k')}  kill Redis: it comes back empty, half a second later`,
    `${key('h')}  this page, and back      ${key('q')}  quit`,
    '',
    'A remedy is a deployment: what waits in the queue is gone. The lesson:',
    'chapters/05-pitfalls/02-cold-cache.md',
  ]);

const key = (name: string): string => bold(name);

const percent = (value: number): string => (Number.isFinite(value) ? `${WHOLE.format(value)} %` : '–');

/** A row that the terminal would break is cut, and loses its styles. */
const rows = (columns: number, lines: readonly string[]): string =>
  lines
    .map((line) => {
      const plain = stripVTControlCharacters(line);
      return plain.length > columns ? cut(plain, columns) : line.trimEnd();
    })
    .join('\n');
