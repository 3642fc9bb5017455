import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { readText } from '../base/files';
import { shown } from '../base/root';
import type { Lab } from './catalog';
import { parse, plain, type Section, sections, source, within } from './markdown';

/** The heading of what a reader in a hurry reads. */
export const SHORT = 'In 60 seconds';

/** What was learned, in one line: the first point of "In 60 seconds". A drill teaches nothing new: empty. */
export function insight(lab: Lab): string {
  if (!existsSync(lab.files.lesson)) return '';
  const { children } = parse(readFileSync(lab.files.lesson, 'utf8'));
  const short = sections(children, 2).find(({ title }) => title === SHORT);
  const point = [...within(short?.content ?? [])].find(({ type }) => type === 'listItem');
  return point ? plain(point) : '';
}

/** What hints.md holds for one test. */
export interface Help {
  /** Where the lesson tells of it: `chapters/…/04-lru.md#a-read-that-does-not-refresh`. */
  readonly read: string | undefined;
  /** Smallest first. */
  readonly hints: readonly string[];
}

export function helpFor(lab: Lab, test: string): Help {
  const { content = [] } = hintSections(lab).get(test) ?? {};
  const links = [...within(content)].filter((node) => node.type === 'link');
  const read = links.find((link) => plain(link).startsWith('Read:'))?.url;
  const text = content.length > 0 ? readText(lab.files.hints) : '';
  return {
    read: read && shown(join(dirname(lab.files.hints), read)),
    hints: content
      .flatMap((node) => (node.type === 'list' && node.ordered ? node.children : []))
      .map((item) => source(text, item.children).replace(/\s*\n\s*/g, ' ')),
  };
}

/** Sections of hints.md by test name. */
export function hintSections(lab: Lab): Map<string, Section> {
  if (!existsSync(lab.files.hints)) return new Map();
  const { children } = parse(readText(lab.files.hints));
  return new Map(sections(children, 2).map((section) => [section.title, section]));
}
