import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import GithubSlugger from 'github-slugger';
import { shown } from '../base/root';
import { readRecord } from '../claims/record';
import { hasMeasure, type Target, targetOf } from '../claims/targets';
import { stalePages } from '../claims/write';
import type { Lab } from '../content/catalog';
import { snippetProblems } from './snippets';

const HEADINGS = [
  'How it works',
  'In code',
  'What breaks it',
  'Measured',
  'The lab',
  'In an interview',
  'Read more',
];
const WORDS = { atLeast: 900, atMost: 1800 };

/** What is wrong with one Markdown file: links, anchors, code blocks. One sentence each with file and remedy. */
export function textProblems(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return [...snippetProblems(text), ...linkProblems(path, text)].map(
    (problem) => `${shown(path)}: ${problem}`,
  );
}

/** What the lesson of a lab owes its readers beyond that. */
export function lessonProblems(lab: Lab): string[] {
  const { lesson } = lab.files;
  // That it is missing is told where the lab is proven.
  if (!existsSync(lesson)) return [];
  const text = readFileSync(lesson, 'utf8');
  const front = /^---\n([\s\S]*?)\n---\n/.exec(text)?.[1] ?? '';
  const missing = ['title', 'minutes', 'guide'].filter(
    (field) => !new RegExp(`^${field}: \\S`, 'm').test(front),
  );
  const headings = [...withoutCode(text).matchAll(/^## (.+)$/gm)].map(([, heading]) => heading);
  const words = countWords(text);
  return [
    ...missing.map((field) => `${shown(lesson)}: the front matter lacks "${field}": add it`),
    ...(headings.join() === HEADINGS.join()
      ? []
      : [`${shown(lesson)}: the headings must be: ${HEADINGS.join(', ')}`]),
    ...(words < WORDS.atLeast || words > WORDS.atMost
      ? [`${shown(lesson)}: ${words} words: make them ${WORDS.atLeast} to ${WORDS.atMost}`]
      : []),
    ...figureProblems(targetOf(lab), lesson),
  ];
}

/** A lesson without a lab owes its figures. */
export const overviewProblems = (target: Target): string[] =>
  target.lesson && hasMeasure(target) ? figureProblems(target, target.lesson) : [];

/** Figures come from the record, and from nowhere else. */
function figureProblems(target: Target, lesson: string): string[] {
  const [marker] = /<!-- measured:.+? -->/.exec(readFileSync(lesson, 'utf8')) ?? [];
  if (marker && !readRecord(target.record)) {
    return [`${shown(lesson)}: nothing was measured for ${marker}: npm run measure -- ${target.id} --write`];
  }
  try {
    return stalePages(target);
  } catch (error) {
    return [`${shown(lesson)}: ${error instanceof Error ? error.message : error}`];
  }
}

/** Prose only: no front matter, code, tables, figures or link targets. */
function countWords(text: string): number {
  const prose = withoutCode(text)
    .replace(/^---\n[\s\S]*?\n---\n/, '')
    .replace(/<!-- measured:(table|(?:plot|matrix) [\w-]+) -->[\s\S]*?<!-- \/measured -->/g, '')
    .replace(/<!--.*?-->/g, '')
    .replace(/^\|.*$/gm, '')
    .replace(/\]\([^)]*\)/g, ']');
  return prose.match(/[\p{L}\p{N}][\p{L}\p{N}'’.-]*/gu)?.length ?? 0;
}

function linkProblems(path: string, text: string): string[] {
  const links = [...withoutCode(text).matchAll(/\]\(<?([^)\s>]+)>?(?: "[^"]*")?\)/g)].map(
    ([, target = '']) => target,
  );
  return links.flatMap((link) => {
    if (/^[a-z]+:/.test(link)) return [];
    const [file = '', anchor] = link.split('#');
    const target = file === '' ? path : join(dirname(path), decodeURIComponent(file));
    if (!existsSync(target)) return [`the link ${link} leads nowhere: correct it or add ${shown(target)}`];
    if (anchor === undefined || !target.endsWith('.md')) return [];
    return anchors(target).has(anchor)
      ? []
      : [`the link ${link} names no heading of ${shown(target)}: correct the one or the other`];
  });
}

function anchors(path: string): Set<string> {
  const slugger = new GithubSlugger();
  const headings = withoutCode(readFileSync(path, 'utf8')).matchAll(/^#{1,6} (.+)$/gm);
  return new Set(
    [...headings].map(([, heading = '']) =>
      slugger.slug(heading.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replace(/[`*]/g, '')),
    ),
  );
}

const withoutCode = (text: string): string =>
  text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, (code) => code.replace(/[[\]()#]/g, ''));
