import { createRequire } from 'node:module';
import type { Heading, Nodes, Root, RootContent } from 'mdast';
import type { Options } from 'mdast-util-from-markdown';

const require = createRequire(import.meta.url);
const FENCE = '---\n';

/**
 * A page as a tree, whose places are those of the file. The parser loads with the first page (20 ms): a command that
 * shows nothing of one does not wait for it.
 */
export function parse(text: string, options: Options = {}): Root {
  const { fromMarkdown }: typeof import('mdast-util-from-markdown') = require('mdast-util-from-markdown');
  const end = endOfFrontMatter(text);
  // Blanks in place of the front matter: every offset stays what it is.
  return fromMarkdown(text.slice(0, end).replace(/[^\n]/g, ' ') + text.slice(end), options);
}

/** The YAML above a page; empty where there is none. */
export const frontMatter = (text: string): string =>
  text.slice(FENCE.length, Math.max(FENCE.length, endOfFrontMatter(text) - FENCE.length));

function endOfFrontMatter(text: string): number {
  if (!text.startsWith(FENCE)) return 0;
  const end = text.indexOf(`\n${FENCE}`, FENCE.length - 1);
  return end < 0 ? 0 : end + 1 + FENCE.length;
}

/** A heading with all that stands below it, up to the next one of its depth or above. */
export interface Section {
  readonly title: string;
  readonly content: readonly RootContent[];
}

export function sections(nodes: readonly RootContent[], depth: Heading['depth']): Section[] {
  const starts = nodes.flatMap((node, at) => (node.type === 'heading' && node.depth === depth ? [at] : []));
  return starts.map((start) => {
    const rest = nodes.slice(start + 1);
    const end = rest.findIndex((node) => node.type === 'heading' && node.depth <= depth);
    const heading = nodes[start];
    return { title: heading ? plain(heading) : '', content: end < 0 ? rest : rest.slice(0, end) };
  });
}

/** The nodes and all nodes within them, in the order of the page. */
export function* within(nodes: readonly Nodes[]): Generator<Nodes> {
  for (const node of nodes) {
    yield node;
    if ('children' in node) yield* within(node.children);
  }
}

/** What a reader sees of a node, without markup and comments, on one line. */
export function plain(node: Nodes): string {
  const texts = [...within([node])].map((part) =>
    part.type === 'text' || part.type === 'inlineCode' ? part.value : '',
  );
  return texts.join('').replace(/\s+/g, ' ').trim();
}

/** The nodes as they are written in the file; empty for none. */
export function source(text: string, nodes: readonly Nodes[]): string {
  if (nodes.length === 0) return '';
  return text.slice(nodes[0]?.position?.start.offset, nodes.at(-1)?.position?.end.offset);
}
