import { mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Plugin } from 'vite';
import { ROOT } from '../base/root';
import { givenFor } from '../content/given';
import { applyMistake } from '../content/mistake';

/** What a lab's tests are run against. */
export type Subject =
  | 'attempt'
  | 'starter'
  | 'core'
  | 'solution'
  | `variants/${string}`
  | `mistakes/${string}`;

const LABS = join(ROOT, 'labs');
const PATH_MODULE = '\0subject-file:';

/** The test file of a lab folder (`01-fundamentals/04-lru`), as a module that knows its subject. */
export function testModule(place: string, subject: Subject): string {
  const file = join(LABS, place, `${basename(place).slice(3)}.test.ts`);
  return subject === 'attempt' ? file : `${file}?${new URLSearchParams({ subject })}`;
}

/** The inverse of `testModule`. */
export function subjectOf(moduleId: string): { place: string; subject: Subject | undefined } {
  const [file = '', query] = moduleId.split('?');
  const subject = new URLSearchParams(query).get('subject') ?? undefined;
  return { place: dirname(file).slice(LABS.length + 1), subject: subject as Subject | undefined };
}

/**
 * The one place that decides which file `./lru` means inside `lru.test.ts`; `./lru?file` is that file's path.
 * `usual` is meant where the test module names no subject.
 */
export function subjectResolver(usual: Subject): Plugin {
  return {
    name: 'subject',
    enforce: 'pre',
    resolveId(source, importer) {
      if (!importer) return;
      const inTest = importer.startsWith(LABS) && /\.test\.ts(\?|$)/.test(importer);
      if (!inTest || !source.startsWith('./')) return givenFor(source, importer);
      const { place, subject = usual } = subjectOf(importer);
      const [module = '', query] = source.split('?');
      const file = subjectFile(place, `${basename(module, '.ts')}.ts`, subject);
      return query === 'file' ? PATH_MODULE + file : file;
    },
    load(id) {
      if (id.startsWith(PATH_MODULE)) return `export default ${JSON.stringify(id.slice(PATH_MODULE.length))}`;
    },
  };
}

function subjectFile(place: string, name: string, subject: Subject): string {
  const solution = join(ROOT, 'solutions', place, name);
  // What a lab provides is the same for every subject.
  if (subject === 'attempt' || name === 'given.ts') return join(LABS, place, name);
  if (subject === 'core') return join(dirname(solution), 'core.ts');
  if (subject.startsWith('variants/')) return join(dirname(solution), `${subject}.ts`);
  if (subject === 'starter') return join(dirname(solution), 'starter.ts');
  if (subject === 'solution') return solution;
  // A file and not only a module: other processes of the test load it too.
  const file = join(ROOT, '.course', 'subjects', place, basename(subject), name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, applyMistake(solution, join(dirname(solution), `${subject}.diff`)));
  return file;
}
