import { existsSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { ROOT } from '../base/root';
import { type Overview, overviews } from '../content/catalog';

/** Something with a measure: a lab, a lesson without a lab, or a file of `course/claims/extra`. */
export interface Target {
  readonly id: string;
  /** `1.4 LRU` */
  readonly title: string;
  /** Absolute paths. */
  readonly measure: string;
  readonly record: string;
  /** Where the record is shown; none for an extra measure. */
  readonly lesson?: string;
  /** Pages in a folder of the lesson's name, which show it too. */
  readonly further?: readonly string[];
}

/** Of a lab, or of a lesson without one. */
export const targetOf = ({ id, number, title, files }: Overview): Target => ({
  id,
  title: `${number} ${title}`,
  measure: files.measure,
  record: join(dirname(files.measure), 'measured.json'),
  lesson: files.lesson,
  further: furtherPages(files.lesson),
});

/** `05-prompts.md` may have its details in `05-prompts/*.md`. */
function furtherPages(lesson: string): string[] {
  const folder = lesson.replace(/\.md$/, '');
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.md'))
    .sort()
    .map((file) => join(folder, file));
}

export const overviewTargets = (): Target[] => overviews().map(targetOf);

export const hasMeasure = ({ measure }: Target): boolean => existsSync(measure);

/** `course/claims/extra/runner.ts` is measured as `runner`, and belongs to no lesson. */
export function extraTargets(folder = join(ROOT, 'course/claims/extra')): Target[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.ts'))
    .sort()
    .map((file) => {
      const id = file.slice(0, -'.ts'.length);
      return { id, title: id, measure: join(folder, file), record: join(folder, `${id}.measured.json`) };
    });
}
