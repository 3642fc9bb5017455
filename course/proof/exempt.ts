import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, shown } from '../base/root';
import { labs, overviews } from '../content/catalog';
import { isLadder } from './ladder';
import { pageLanguage } from './language';
import { pageProblems } from './other-pages';
import { openPage } from './page';

/**
 * Labs, lessons without a lab and pages of the old form: not yet held to the language, and the lessons without a lab not
 * to their form. The list only gets shorter.
 */
export const EXEMPT: ReadonlySet<string> = new Set([]);

/** A Markdown file, by itself or with its lab. */
export function isExempt(path: string): boolean {
  const file = shown(path);
  return EXEMPT.has(file) || EXEMPT.has(file.replace(/^(?:chapters|labs)\/|(?:\/hints)?\.md$/g, ''));
}

/** Entries that are not needed any more. */
export const staleExemptions = (entries: Iterable<string> = EXEMPT): string[] =>
  [...entries]
    .filter((entry) => !isNeeded(entry))
    .map((entry) => `course/proof/exempt.ts: ${entry} needs no exemption: take it off the list`);

function isNeeded(entry: string): boolean {
  const lab = labs().find(({ place }) => place === entry);
  if (lab) return !isLadder(lab);
  const overview = overviews().find(({ files }) => files.lesson === join(ROOT, 'chapters', `${entry}.md`));
  const path = overview?.files.lesson ?? join(ROOT, entry);
  if (!existsSync(path)) return false;
  const form = overview ? pageProblems(overview.id, openPage(path)) : [];
  return form.length > 0 || pageLanguage(path).length > 0;
}
