import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Code } from 'mdast';
import { ROOT } from '../base/root';
import { parse, within } from '../content/markdown';
import type { Page } from './page';

/** Languages whose blocks are code that could drift; terminal output, diagrams and plain text are not. */
const CODE = new Set(['ts', 'js', 'typescript', 'javascript', 'sql', 'lua', 'python', 'py', '']);

/** What is wrong with the code blocks of a page: one sentence each. */
export function snippetProblems({ blocks }: Page): string[] {
  return [...within(blocks)].flatMap((node) => (node.type === 'code' ? codeProblems(node) : []));
}

function codeProblems(block: Code): string[] {
  const file = sourceOf(block);
  if (file) {
    const text = region(file);
    if (text === undefined) return [`${file} does not exist: name a file, and a region that is in it`];
    if (!isPlain(block)) return [`the block from ${file} is indented: begin its line with three backticks`];
    return text === `${block.value}\n` ? [] : [`the block from ${file} differs from the file: npm run sync`];
  }
  if (!CODE.has(block.lang ?? '') || /^(fragment|wrong)\b/.test(block.meta ?? '')) return [];
  const [first] = block.value.trim().split('\n');
  return [`the block "${first}" has no source: mark it file=PATH#REGION, fragment or wrong`];
}

/** Puts the files' present text into a lesson's blocks. */
export function syncSnippets(text: string): string {
  const blocks = [...within([parse(text)])].filter((node) => node.type === 'code' && isPlain(node));
  // From the last to the first: the places of those before it stay.
  return blocks.reverse().reduce((lesson, block) => {
    if (block.type !== 'code') return lesson;
    const file = sourceOf(block);
    const code = file && region(file);
    const { start, end } = block.position ?? {};
    if (!code || !start || !end) return lesson;
    const fenced = `\`\`\`${block.lang} ${block.meta}\n${code}\`\`\``;
    return lesson.slice(0, start.offset) + fenced + lesson.slice(end.offset);
  }, text);
}

const sourceOf = ({ meta }: Code): string | undefined => /^file=(\S+)/.exec(meta ?? '')?.[1];

/** At the beginning of its line, where `sync` can write it. */
const isPlain = ({ position }: Code): boolean => position?.start.column === 1;

/** `solutions/…/lru.ts#get`: the region's lines without its common indent; undefined when it is not there. */
function region(source: string): string | undefined {
  const [file = '', name] = source.split('#');
  const path = join(ROOT, file);
  if (!existsSync(path)) return undefined;
  const lines = readFileSync(path, 'utf8').split('\n');
  if (name === undefined) return lines.join('\n');
  const start = lines.findIndex((line) => line.trim() === `// #region ${name}`);
  const length = lines.slice(start + 1).findIndex((line) => line.trim().startsWith('// #endregion'));
  if (start < 0 || length < 0) return undefined;
  return `${dedent(lines.slice(start + 1, start + 1 + length)).join('\n')}\n`;
}

function dedent(lines: readonly string[]): string[] {
  const indents = lines.filter((line) => line.trim()).map((line) => line.length - line.trimStart().length);
  return lines.map((line) => line.slice(Math.min(...indents)));
}
