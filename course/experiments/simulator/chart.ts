import { dim } from '../../screen/terminal';
import { short } from './figures';
import { markOf } from './marks';
import { BELADY } from './policies';
import type { Simulation } from './simulate';

const ROWS = 15;
/** Before the picture: the numbers of its axis. */
const AXIS = 7;
const MORE = '+';

interface Cell {
  readonly text: string;
  readonly paint: (text: string) => string;
}

const EMPTY: Cell = { text: ' ', paint: (text) => text };
const BELOW: Cell = { text: '·', paint: dim };

/**
 * Miss ratio over size, a letter for each policy. Letters of one row stand side by side, as many as fit to the next size. What
 * is dotted lies below Belady: no policy gets there.
 */
export function chart({ sizes, curves, requests }: Simulation, columns: number): string[] {
  const room = columns - AXIS - 1;
  const slot = Math.max(1, Math.floor(room / sizes.length));
  const ratios = curves.map(({ misses }) => misses.map((count) => count / requests));
  const most = Math.max(0.1, Math.ceil(Math.max(...ratios.flat()) * 10) / 10);
  const rowOf = (ratio: number) => ROWS - 1 - Math.round((ratio / most) * (ROWS - 1));

  const cells = Array.from({ length: ROWS }, () => Array.from({ length: slot * sizes.length }, () => EMPTY));
  const belady = curves.findIndex(({ policy }) => policy === BELADY);
  sizes.forEach((_, at) => {
    const ground = rowOf(ratios[belady]?.[at] ?? 0);
    cells.forEach((row, index) => {
      if (index > ground) row.fill(BELOW, at * slot, (at + 1) * slot);
      const here = curves.filter((_, curve) => rowOf(ratios[curve]?.[at] ?? 0) === index);
      lettersOf(here, slot).forEach((cell, offset) => {
        row[at * slot + offset] = cell;
      });
    });
  });
  return [
    ...cells.map((row, index) => `${label(index, most)} │${drawn(row)}`),
    `${' '.repeat(AXIS - 1)}└${'─'.repeat(slot * sizes.length)}`,
    ' '.repeat(AXIS) + sizeLabels(sizes, slot),
  ].map((row) => row.trimEnd());
}

/** `L LRU  F FIFO  …` */
export const legend = ({ curves }: Simulation): string =>
  curves.map(({ policy }) => `${markOf(policy).paint(markOf(policy).letter)} ${policy}`).join('  ');

function lettersOf(curves: readonly { readonly policy: string }[], slot: number): Cell[] {
  const all = curves.map(({ policy }) => ({ text: markOf(policy).letter, paint: markOf(policy).paint }));
  return all.length <= slot ? all : [...all.slice(0, slot - 1), { ...EMPTY, text: MORE }];
}

function label(row: number, most: number): string {
  const isShown = row % ((ROWS - 1) / 2) === 0;
  const percent = most * (1 - row / (ROWS - 1)) * 100;
  return (isShown ? `${Math.round(percent)} %` : '').padStart(AXIS - 2);
}

/** Neighbours of one style are painted together. */
function drawn(row: readonly Cell[]): string {
  let text = '';
  for (let at = 0; at < row.length; ) {
    const { paint } = row[at] ?? EMPTY;
    let end = at;
    while (row[end]?.paint === paint) end++;
    text += paint(
      row
        .slice(at, end)
        .map((cell) => cell.text)
        .join(''),
    );
    at = end;
  }
  return text;
}

/** As many as have room, each below the first letter of its size. */
function sizeLabels(sizes: readonly number[], slot: number): string {
  let text = '';
  sizes.forEach((size, at) => {
    if (text.length === 0 || text.length + 2 <= at * slot) text = text.padEnd(at * slot) + short(size);
  });
  return text;
}
