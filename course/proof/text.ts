import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shown } from '../base/root';
import { readRecord } from '../claims/record';
import { hasMeasure, type Target } from '../claims/targets';
import { stalePages } from '../claims/write';
import { within } from '../content/markdown';
import { anchorsOf, openPage, type Page } from './page';
import { snippetProblems } from './snippets';

/** What is wrong with one Markdown file: links, anchors, code blocks. One sentence each with file and remedy. */
export function textProblems(path: string): string[] {
  const page = openPage(path);
  return [...snippetProblems(page), ...linkProblems(page)].map((problem) => `${shown(path)}: ${problem}`);
}

/** Figures come from the record, and from nowhere else. */
export function figureProblems(target: Target): string[] {
  const { lesson, further = [] } = target;
  if (!lesson || !existsSync(lesson)) return [];
  for (const page of [lesson, ...further]) {
    const [marker] = /<!-- measured:.+? -->/.exec(openPage(page).text) ?? [];
    if (marker && !readRecord(target.record)) {
      return [`${shown(page)}: nothing was measured for ${marker}: npm run measure -- ${target.id} --write`];
    }
  }
  if (!hasMeasure(target)) return [];
  try {
    return stalePages(target);
  } catch (error) {
    return [`${shown(lesson)}: ${error instanceof Error ? error.message : error}`];
  }
}

function linkProblems(page: Page): string[] {
  const links = [...within(page.blocks)].flatMap((node) =>
    node.type === 'link' || node.type === 'image' || node.type === 'definition' ? [node.url] : [],
  );
  return links.flatMap((link) => {
    if (/^[a-z]+:/.test(link)) return [];
    const [file = '', anchor] = link.split('#');
    const target = file === '' ? page.path : join(dirname(page.path), decodeURIComponent(file));
    if (!existsSync(target)) return [`the link ${link} leads nowhere: correct it or add ${shown(target)}`];
    if (anchor === undefined || !target.endsWith('.md')) return [];
    return anchorsOf(openPage(target)).has(anchor)
      ? []
      : [`the link ${link} names no heading of ${shown(target)}: correct the one or the other`];
  });
}
