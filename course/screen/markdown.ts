import type { Nodes, RootContent } from 'mdast';
import { parse, plain } from '../content/markdown';
import { bold, wrap } from './terminal';

/** Markdown as a terminal shows it: wrapped, without marks. What is folded on a page is shown. */
export const asText = (markdown: string | readonly RootContent[], indent = ''): string =>
  (typeof markdown === 'string' ? parse(markdown).children : markdown)
    .map((block) => blockText(block, indent))
    .filter((text) => text !== '')
    .join('\n\n');

function blockText(block: Nodes, indent: string): string {
  switch (block.type) {
    case 'html':
    case 'definition':
      return '';
    case 'heading':
      return indent + bold(plain(block));
    case 'code':
      return block.value.replace(/^/gm, `${indent}  `);
    case 'blockquote':
      return asText(block.children, indent);
    case 'list':
      return block.children
        .map((item, at) => {
          const mark = block.ordered ? `${(block.start ?? 1) + at}. ` : '- ';
          const text = asText(item.children, indent + ' '.repeat(mark.length));
          return indent + mark + text.trimStart();
        })
        .join('\n');
    default:
      return wrap(plain(block), indent);
  }
}
