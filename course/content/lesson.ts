import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { shown } from '../base/root';
import type { Lab } from './catalog';

/** The first sentence of the insight: what was learned, in one line. */
export function insight(lab: Lab): string {
  if (!existsSync(lab.files.lesson)) return '';
  const body = readFileSync(lab.files.lesson, 'utf8').replace(/^---[\s\S]*?\n---\n/, '');
  const paragraph = body.split(/\n{2,}/).find((block) => block.trim() && !block.startsWith('#')) ?? '';
  const text = paragraph
    .replaceAll('\n', ' ')
    .replace(/<!--.*?-->/g, '')
    .replace(/[*_`]/g, '')
    .trim();
  return /^.*?[.!?](?=\s|$)/.exec(text)?.[0] ?? text;
}

/** What hints.md holds for one test. */
export interface Help {
  /** Where the lesson tells of it: `chapters/…/04-lru.md#a-read-that-does-not-refresh`. */
  readonly read: string | undefined;
  /** Smallest first. */
  readonly hints: readonly string[];
}

export function helpFor(lab: Lab, test: string): Help {
  const section = hintSections(lab).get(test) ?? '';
  const link = /^\[Read:[^\]]*\]\(([^)]+)\)/m.exec(section)?.[1];
  const hints = section
    .split(/^\d+\. /m)
    .slice(1)
    .map((hint) => hint.replace(/\s*\n\s*/g, ' ').trim());
  return { read: link && shown(join(dirname(lab.files.hints), link)), hints };
}

/** Sections of hints.md by test name. */
export function hintSections(lab: Lab): Map<string, string> {
  if (!existsSync(lab.files.hints)) return new Map();
  const parts = readFileSync(lab.files.hints, 'utf8').split(/^## /m).slice(1);
  return new Map(
    parts.map((part) => {
      const end = part.indexOf('\n');
      return [part.slice(0, end).trim().replaceAll('`', ''), part.slice(end + 1)] as const;
    }),
  );
}
