import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { RootContent } from 'mdast';
import { readText } from '../base/files';
import { ROOT } from '../base/root';
import type { Lesson } from './bank';
import { isDrill, type Lab, labs } from './catalog';
import { parse, plain, sections, within } from './markdown';

/** The main part of an interview: a system to design, or a small lab. */
export interface Task {
  readonly kind: 'design' | 'drill';
  readonly id: string;
  readonly title: string;
  /** The absolute path of its page. */
  readonly file: string;
  /** Of a drill. */
  readonly lab: Lab | undefined;
}

const PROMPTS = join(ROOT, 'chapters/06-interviews/12-design-prompts');
const require = createRequire(import.meta.url);

export function tasks(): Task[] {
  const drills = labs()
    .filter(isDrill)
    .map((lab) => ({ kind: 'drill' as const, id: lab.id, title: lab.title, file: lab.files.lesson, lab }));
  return [...designPrompts(), ...drills];
}

function designPrompts(): Task[] {
  if (!existsSync(PROMPTS)) return [];
  return readdirSync(PROMPTS)
    .filter((name) => name.endsWith('.md') && name !== 'README.md')
    .sort()
    .map((name) => {
      const file = join(PROMPTS, name);
      const title = /^# (.+)$/m.exec(readText(file))?.[1] ?? name;
      return { kind: 'design', id: `design:${name.slice(0, -'.md'.length)}`, title, file, lab: undefined };
    });
}

/** The headings of a page by what they are for. */
export const HEADINGS = {
  design: { asked: 'The prompt', clarified: 'Ask first', rubric: 'Rubric' },
  drill: { asked: 'The interviewer', clarified: 'Clarifying questions', rubric: 'Rubric' },
} as const;

/** What a design is compared with, in order. */
export const DESIGN_PARTS = [
  'Requirements',
  'Numbers',
  'Design',
  'Write path',
  'Staleness',
  'Failure modes',
  'Cost',
] as const;

/** A page's sections by their headings. Tables are told from paragraphs. */
export function partsOf({ file }: Task): Map<string, readonly RootContent[]> {
  const {
    gfmTable,
  }: typeof import('micromark-extension-gfm-table') = require('micromark-extension-gfm-table');
  const { gfmTableFromMarkdown }: typeof import('mdast-util-gfm-table') = require('mdast-util-gfm-table');
  const options = { extensions: [gfmTable()], mdastExtensions: [gfmTableFromMarkdown()] };
  const { children } = parse(readText(file), options);
  return new Map(sections(children, 2).map(({ title, content }) => [title, content.map(inWords)]));
}

/** A diagram is a program: a terminal says where to see it. */
const inWords = (block: RootContent): RootContent =>
  block.type === 'code' && block.lang === 'mermaid'
    ? { type: 'paragraph', children: [{ type: 'text', value: '(The diagram is on the page.)' }] }
    : block;

/** The lessons that a page links to, in its order. */
export function lessonsIn(task: Task, all: readonly Lesson[]): Lesson[] {
  const links = [...within([...partsOf(task).values()].flat())].flatMap((node) =>
    node.type === 'link' && plain(node) !== '' ? [join(dirname(task.file), node.url.replace(/#.*/, ''))] : [],
  );
  return [...new Set(links)].flatMap((path) => all.find(({ file }) => file === path) ?? []);
}
