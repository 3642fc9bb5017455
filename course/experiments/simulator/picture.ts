import { accessSync, constants, existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { messageOf } from '../../base/files';
import { Refusal } from '../../base/refusal';
import { drawPlot } from '../../claims/plot';
import { counted } from './figures';
import type { Simulation } from './simulate';

/** At the end of each picture: it may be written over. */
const MADE_HERE = '<!-- made by npm run simulate -->\n';

/** @throws {Refusal} where a picture cannot go: to be asked before a long run */
export function requireFree(path: string): void {
  try {
    accessSync(dirname(path), constants.W_OK);
  } catch (error) {
    throw cannotWrite(path, error);
  }
  if (!existsSync(path)) return;
  if (!statSync(path).isFile() || !readFileSync(path, 'utf8').endsWith(MADE_HERE)) {
    throw new Refusal(`${path} exists, and npm run simulate did not make it. Name another file: --svg=FILE`);
  }
}

/** @throws {Refusal} where the file cannot be written */
export function writePicture(path: string, name: string, simulation: Simulation): void {
  requireFree(path);
  try {
    writeFileSync(path, drawPicture(name, simulation) + MADE_HERE);
  } catch (error) {
    throw cannotWrite(path, error);
  }
}

const cannotWrite = (path: string, error: unknown): Refusal =>
  new Refusal(`${path} cannot be written: ${messageOf(error)}. Name another file: --svg=FILE`);

export const drawPicture = (name: string, { sizes, curves, requests, distinct }: Simulation): string =>
  drawPlot({
    name: 'simulate',
    title: `Miss ratio over cache size: ${name}, ${counted(requests, 'request')} for ${counted(distinct, 'key')}`,
    x: { label: 'entries', scale: 'log' },
    y: { label: 'miss ratio (%)', scale: 'linear' },
    series: curves.map(({ policy, misses }) => ({
      name: policy,
      points: sizes.map((size, at) => [size, ((misses[at] ?? 0) / requests) * 100] as const),
    })),
  });
