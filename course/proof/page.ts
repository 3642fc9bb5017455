import { existsSync, readFileSync } from 'node:fs';
import GithubSlugger from 'github-slugger';
import type { Nodes, RootContent } from 'mdast';
import { gfmTableFromMarkdown } from 'mdast-util-gfm-table';
import { gfmTable } from 'micromark-extension-gfm-table';
import { parse as parseYaml } from 'yaml';
import type { Lab } from '../content/catalog';
import { frontMatter, parse, plain, within } from '../content/markdown';

/** A Markdown file, read and parsed once. */
export interface Page {
  readonly path: string;
  readonly text: string;
  /** What is on it, from top to bottom: headings, paragraphs, lists, … */
  readonly blocks: readonly RootContent[];
}

const pages = new Map<string, Page>();

export function openPage(path: string): Page {
  const known = pages.get(path);
  if (known) return known;
  const text = readFileSync(path, 'utf8');
  const tables = { extensions: [gfmTable()], mdastExtensions: [gfmTableFromMarkdown()] };
  const page = { path, text, blocks: parse(text, tables).children };
  pages.set(path, page);
  return page;
}

/** The front matter; empty where there is none, or none that could be read. */
export function fieldsOf({ text }: Page): Readonly<Record<string, unknown>> {
  try {
    const fields: unknown = parseYaml(frontMatter(text));
    return typeof fields === 'object' && fields !== null ? { ...fields } : {};
  } catch {
    return {};
  }
}

/** A lab whose starter is complete and wrong: `starter: defects` in the lesson's front matter. */
export const hasDefects = ({ files }: Lab): boolean =>
  existsSync(files.lesson) && fieldsOf(openPage(files.lesson)).starter === 'defects';

/** What `#…` of a link may name. */
export function anchorsOf({ blocks }: Page): ReadonlySet<string> {
  const slugger = new GithubSlugger();
  const headings = [...within(blocks)].filter(({ type }) => type === 'heading');
  return new Set(headings.map((heading) => slugger.slug(plain(heading))));
}

export const headingsOf = (blocks: readonly RootContent[], depth: number): string[] =>
  blocks.flatMap((block) => (block.type === 'heading' && block.depth === depth ? [plain(block)] : []));

/** Words of prose: without headings, code, tables, names of tests and what is generated, with what is folded. */
export const countProse = (blocks: readonly RootContent[]): number =>
  countWords(paragraphs(blocks).map(ownText).join('\n'));

function ownText(node: Nodes): string {
  if (node.type === 'text') return node.value;
  if (node.type === 'link' && node.url.endsWith('.test.ts')) return '';
  return 'children' in node ? written(node.children).map(ownText).join('') : '';
}

export const countWords = (text: string): number =>
  text.match(/[\p{L}\p{N}][\p{L}\p{N}'’.-]*/gu)?.length ?? 0;

/** What the paragraphs say, also those of lists and quotations, a line each. */
export const prose = (blocks: readonly RootContent[]): string => paragraphs(blocks).map(plain).join('\n');

const paragraphs = (blocks: readonly RootContent[]): Nodes[] =>
  [...within(written(blocks))].filter(({ type }) => type === 'paragraph');

const GENERATED = /^<!-- (?:measured:.+?|ladder) -->/;
const END = /<!-- \/(?:measured|ladder) -->/;

/** Without what stands between markers, which a program writes. */
function written(nodes: readonly Nodes[]): Nodes[] {
  let generated = false;
  return nodes.filter((node) => {
    if (node.type !== 'html') return !generated;
    if (GENERATED.test(node.value)) generated = true;
    if (END.test(node.value)) generated = false;
    return false;
  });
}
