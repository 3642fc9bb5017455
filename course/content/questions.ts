import { existsSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import type { Nodes, RootContent } from 'mdast';
import { readText } from '../base/files';
import { ROOT } from '../base/root';
import { parse, plain, type Section, sections, source, within } from './markdown';

export const LEVELS = ['junior', 'mid', 'senior', 'staff'] as const;
export type Level = (typeof LEVELS)[number];

/** One question of the bank. A field that the file lacks is empty: `npm run verify` says which. */
export interface Question {
  /** Stable, because the progress of cards hangs on it. The id of a lesson marks the lesson's own question. */
  readonly id: string;
  /** The absolute path of its file. */
  readonly file: string;
  readonly line: number;
  readonly asked: string;
  readonly level: string;
  /** The lesson that explains it: `2.1 Cache-aside`, and its absolute path. */
  readonly lesson: Link;
  /** A test that proves the strong answer: its name, and its absolute path. */
  readonly proof: Link;
  /** Markdown, as it is written. */
  readonly weak: string;
  readonly good: string;
  /** As one says it aloud, in quotation marks. */
  readonly strong: string;
  readonly followUps: readonly string[];
  readonly redFlag: string;
}

export interface Link {
  readonly label: string;
  readonly path: string;
}

export const BANK = join(ROOT, 'chapters/06-interviews/questions');

/** Every question of the course, by topic. */
export function questions(folder = BANK): Question[] {
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .filter((file) => file.endsWith('.md') && file !== 'README.md')
    .sort()
    .flatMap((file) => questionsIn(join(folder, file)));
}

export function questionsIn(file: string): Question[] {
  const text = readText(file);
  const { children } = parse(text);
  const lines = children.flatMap((node) =>
    node.type === 'heading' && node.depth === 2 ? [node.position?.start.line ?? 0] : [],
  );
  return sections(children, 2).map((section, at) => read(file, text, section, lines[at] ?? 0));
}

function read(file: string, text: string, { title, content }: Section, line: number): Question {
  const said = (lead: string) => partOf(text, content, lead);
  const facts = content.find(({ type }) => type === 'paragraph');
  const links = [...within(facts ? [facts] : [])].flatMap((node) =>
    node.type === 'link' ? [{ label: plain(node), path: join(dirname(file), node.url) }] : [],
  );
  const [lesson = NOWHERE, proof = NOWHERE] = links;
  return {
    id: /<!-- id: (\S+) -->/.exec(source(text, content))?.[1] ?? '',
    file,
    line,
    // A task ends with a full stop in a text, and without one in a heading.
    asked: /[?!.]$/.test(title) ? title : `${title}.`,
    level: (facts ? plain(facts) : '').split(' ')[0] ?? '',
    lesson,
    proof,
    weak: said('Weak'),
    good: said('Good'),
    strong: said('Strong'),
    followUps: points(text, blocksOf(content, 'If they go on')),
    redFlag: said('Red flag'),
  };
}

const NOWHERE: Link = { label: '', path: '' };

const LEADS = ['Weak', 'Good', 'Strong', 'In 30 seconds', 'If they go on', 'Red flag'];

/** From the paragraph that begins with `lead` in bold to the next lead. */
function blocksOf(content: readonly RootContent[], lead: string): readonly RootContent[] {
  const start = content.findIndex((block) => leadOf(block) === lead);
  if (start < 0) return [];
  const length = content.slice(start + 1).findIndex((block) => leadOf(block) !== undefined);
  return content.slice(start, length < 0 ? undefined : start + 1 + length);
}

function leadOf(block: RootContent): string | undefined {
  if (block.type !== 'paragraph') return undefined;
  const [first] = block.children;
  return first?.type === 'strong' ? LEADS.find((lead) => plain(first).startsWith(lead)) : undefined;
}

/** What follows the lead, without it and its full stop or colon. */
const partOf = (text: string, content: readonly RootContent[], lead: string): string =>
  source(text, blocksOf(content, lead))
    .replace(/^\*\*.+?\*\*[.:]?\s*/, '')
    .trim();

const points = (text: string, blocks: readonly Nodes[]): string[] =>
  blocks.flatMap((block) =>
    block.type === 'list' ? block.children.map((item) => source(text, item.children)) : [],
  );

/** The lesson's own question, as its "In an interview" has it. */
export function asInLesson(question: Question, lesson: string): string {
  const here = (markdown: string) => relinked(markdown, question.file, lesson);
  return [
    `**${question.asked}**`,
    `**In 30 seconds.** ${here(question.strong)}`,
    '**If they go on.**',
    question.followUps.map((point) => `- ${here(point)}`).join('\n'),
    `**Red flag**: ${here(question.redFlag)}`,
  ].join('\n\n');
}

/** Markdown of one file with its relative links as another file writes them. */
const relinked = (markdown: string, from: string, to: string): string =>
  markdown.replace(/\]\((?![a-z]+:|#)([^)]+)\)/g, (_, url) => {
    return `](${relative(dirname(to), join(dirname(from), url))})`;
  });

const PLACE = /(<!-- question -->\n)[\s\S]*?(<!-- \/question -->)/;

/** A lesson with its own question as the bank has it; undefined where it has no place for one. */
export const withQuestion = (lesson: string, path: string, own: Question): string | undefined =>
  PLACE.test(lesson)
    ? lesson.replace(PLACE, (_, open, end) => `${open}\n${asInLesson(own, path)}\n\n${end}`)
    : undefined;
