import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../base/root';

const FENCE = /^```(\w*) ?([^\n]*)\n([\s\S]*?)^```$/gm;
/** In a list, in a quotation, of tildes or of more backticks. */
const OTHER_FENCE = /^[ \t>*+\-\d.)]*(`{3,}|~{3,})(.*)$[\s\S]*?\1/gm;
/** Languages whose blocks are code that could drift; terminal output, diagrams and plain text are not. */
const CODE = new Set(['ts', 'js', 'typescript', 'javascript', 'sql', 'lua', 'python', 'py', '']);

/** What is wrong with the code blocks of a Markdown text: one sentence each. */
export function snippetProblems(markdown: string): string[] {
  const blocks = [...markdown.matchAll(FENCE)].flatMap(([, language = '', info = '', body = '']) => {
    const source = sourceOf(info);
    if (source) {
      const text = region(source);
      if (text === undefined) return [`${source} does not exist: name a file, and a region that is in it`];
      return text === body ? [] : [`the block from ${source} differs from the file: npm run sync`];
    }
    if (!CODE.has(language) || /^(fragment|wrong)\b/.test(info)) return [];
    const [first] = body.trim().split('\n');
    return [`the block "${first}" has no source: mark it file=PATH#REGION, fragment or wrong`];
  });
  const overlooked = [...markdown.replace(FENCE, '').matchAll(OTHER_FENCE)];
  return [
    ...blocks,
    ...overlooked.map(
      ([, fence, info]) => `the block "${fence}${info}" is overlooked: begin its line with three backticks`,
    ),
  ];
}

/** Puts the files' present text into a lesson's blocks. */
export function syncSnippets(lesson: string): void {
  if (!existsSync(lesson)) return;
  const before = readFileSync(lesson, 'utf8');
  const after = before.replace(FENCE, (block, language, info) => {
    const source = sourceOf(info);
    const text = source && region(source);
    return text ? `\`\`\`${language} ${info}\n${text}\`\`\`` : block;
  });
  if (after !== before) writeFileSync(lesson, after);
}

const sourceOf = (info: string): string | undefined => /^file=(\S+)/.exec(info)?.[1];

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
