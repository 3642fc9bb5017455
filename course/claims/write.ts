import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shown } from '../base/root';
import { type MeasuredRecord, readRecord, serialise } from './record';
import { plots, render } from './render';
import type { Target } from './targets';

/** What a record shows in the chapter: the lesson with its figures, and a file for each plot. */
export function pages({ id, lesson, further = [] }: Target, record: MeasuredRecord): Map<string, string> {
  if (!lesson || !existsSync(lesson)) return new Map();
  const images = join(dirname(lesson), 'images');
  return new Map([
    ...[lesson, ...further].map((path): [string, string] => [
      path,
      render(readFileSync(path, 'utf8'), record, id),
    ]),
    ...plots(record, id).map(([file, svg]): [string, string] => [join(images, file), svg]),
  ]);
}

/** Pages that say something else than the record: they were edited by hand, or never written. */
export function stalePages(target: Target, record = readRecord(target.record)): string[] {
  if (!record) return [];
  return [...pages(target, record)]
    .filter(([path, text]) => !existsSync(path) || readFileSync(path, 'utf8') !== text)
    .map(
      ([path]) =>
        `${shown(path)} is not what measured.json says. Run npm run measure -- ${target.id} --write.`,
    );
}

/** Writes the record and its pages, and removes the plots that are no more. @returns the files that changed */
export function write(target: Target, record: MeasuredRecord): string[] {
  // Rendered first: a wrong marker must leave everything as it was.
  const files = pages(target, record).set(target.record, serialise(record));
  const before = readRecord(target.record);
  const gone = before ? [...pagesOf(target, before)].filter((path) => !files.has(path)) : [];
  for (const path of gone) rmSync(path, { force: true });

  const changed = [...files].filter(
    ([path, text]) => !existsSync(path) || readFileSync(path, 'utf8') !== text,
  );
  for (const [path, text] of changed) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
  }
  return changed.map(([path]) => path);
}

const pagesOf = ({ id, lesson }: Target, record: MeasuredRecord): string[] =>
  lesson ? plots(record, id).map(([file]) => join(dirname(lesson), 'images', file)) : [];
