import { basename, dirname, join, resolve } from 'node:path';
import type { Plugin } from 'vite';
import { applyMistake } from '../mistake.ts';

/** What a lab's tests are run against: `attempt` (the learner's file), `solution`, or `mistakes/NAME`. */
export type Subject = 'attempt' | 'starter' | 'solution' | `mistakes/${string}`;

const ROOT = resolve(import.meta.dirname, '../..');
const LABS = join(ROOT, 'labs');

/**
 * The one place that decides which file `./lru` means inside `lru.test.ts`.
 * `choose` is asked for each lab folder (`01-fundamentals/04-lru`).
 */
export function subjectResolver(choose: (labFolder: string) => Subject): Plugin {
  return {
    name: 'subject',
    enforce: 'pre',
    resolveId(source, importer) {
      if (!importer?.startsWith(LABS) || !/\.test\.ts(\?|$)/.test(importer) || !source.startsWith('./'))
        return;
      const folder = dirname(importer).slice(LABS.length + 1);
      const subject = choose(folder);
      const solution = join(ROOT, 'solutions', folder, `${basename(source, '.ts')}.ts`);
      if (subject === 'attempt') return;
      if (subject === 'starter') return solution.replace(/[^/]+$/, 'starter.ts');
      return subject === 'solution' ? solution : `${solution}?${subject}`;
    },
    load(id) {
      const [file, subject] = id.split('?');
      if (!file || !subject?.startsWith('mistakes/')) return;
      return applyMistake(file, join(dirname(file), `${subject}.diff`));
    },
  };
}
