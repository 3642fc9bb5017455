import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../course/base/root';

/** Each folder uses only those before it (course/README.md). */
const FOLDERS = 'base content servers kit run screen claims experiments proof commands'.split(' ');
const COURSE = join(ROOT, 'course');
const LINES_AT_MOST = 200;

const files = readdirSync(COURSE, { recursive: true, encoding: 'utf8' })
  .filter((file) => /\.(ts|cjs|mjs|sh)$/.test(file) && !file.endsWith('.d.ts'))
  .map((file) => join(COURSE, file));

const textOf = (file: string) => readFileSync(file, 'utf8');
const folderOf = (file: string) => relative(COURSE, file).split('/')[0] ?? '';

/** Files of course/ that a file imports, and whether only when it is asked for. */
function importsOf(file: string): { to: string; lazy: boolean }[] {
  const found = textOf(file).matchAll(/(?:from|(import\()) ?'(\.{1,2}\/[^']+)'/g);
  return [...found].flatMap(([, lazy, to = '']) => {
    const path = resolve(dirname(file), to);
    const target = [path, `${path}.ts`].find((candidate) => files.includes(candidate));
    return target ? [{ to: target, lazy: lazy !== undefined }] : [];
  });
}

test('a folder imports only from those before it', () => {
  const upward = files.flatMap((file) =>
    importsOf(file)
      .filter(({ to }) => FOLDERS.includes(folderOf(file)) && rank(to) > rank(file))
      .map(({ to }) => `${relative(ROOT, file)} imports ${relative(ROOT, to)}`),
  );
  expect(upward).toEqual([]);
});

test('no import leads back to its file', () => {
  const circles: string[] = [];
  const done = new Set<string>();
  const visit = (file: string, path: readonly string[]) => {
    if (path.includes(file)) circles.push([...path, file].map((each) => relative(COURSE, each)).join(' → '));
    if (done.has(file) || path.includes(file)) return;
    for (const { to, lazy } of importsOf(file)) if (!lazy) visit(to, [...path, file]);
    done.add(file);
  };
  for (const file of files) visit(file, []);
  expect(circles).toEqual([]);
});

test(`no file is longer than ${LINES_AT_MOST} lines, and every folder is one that is named`, () => {
  const long = files
    .map((file) => ({ file: relative(ROOT, file), lines: textOf(file).split('\n').length - 1 }))
    .filter(({ lines }) => lines > LINES_AT_MOST);
  expect(long).toEqual([]);
  const folders = readdirSync(COURSE, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  expect(folders.map(({ name }) => name).filter((name) => !FOLDERS.includes(name))).toEqual([]);
  expect(existsSync(join(COURSE, 'README.md'))).toBe(true);
});

const rank = (file: string) => FOLDERS.indexOf(folderOf(file));
