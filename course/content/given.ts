import { existsSync, readdirSync } from 'node:fs';
import { basename, dirname, join, relative, sep } from 'node:path';
import { ROOT } from '../base/root';
import type { Lab } from './catalog';

/** Where subjects live beside labs/, each below the folder of its lab. */
const SUBJECTS = [join(ROOT, 'solutions'), join(ROOT, '.course/subjects')];

/**
 * The one place that knows what `./given` means: what a lab provides stands once, in labs/. A solution, `core.ts`, the
 * pristine starter and a mistake import it as the learner's file does, a variant as `../given`.
 * @returns undefined for every other import
 */
export function givenFor(request: string, importer: string): string | undefined {
  if (!/^\.\.?\/given(\.ts)?$/.test(request)) return undefined;
  const home = SUBJECTS.find((folder) => importer.startsWith(folder + sep));
  if (!home) return undefined;
  const [chapter = '', lab = ''] = relative(home, dirname(importer)).split(sep);
  const file = join(ROOT, 'labs', chapter, lab, basename(request, '.ts').concat('.ts'));
  return existsSync(file) ? file : undefined;
}

/** What a lab provides: `given.ts`, and the parts that it exports. */
export function givenFiles({ files: { given, parts } }: Lab): string[] {
  const names = existsSync(parts) ? readdirSync(parts).filter((name) => name.endsWith('.ts')) : [];
  return [given, ...names.sort().map((name) => join(parts, name))].filter(existsSync);
}
