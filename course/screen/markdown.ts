import type { Nodes, RootContent, Table } from 'mdast';
import { parse, plain } from '../content/markdown';
import { bold, folded, width, wrap } from './terminal';

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
    case 'table':
      return tableText(block, indent);
    default:
      return wrap(plain(block), indent);
  }
}

const GAP = '  ';

/** In columns; the widest ones are folded until the rows fit. */
function tableText({ children }: Table, indent: string): string {
  const rows = children.map((row) => row.children.map(plain));
  const widths = (rows[0] ?? []).map((_, at) => Math.max(1, ...rows.map((row) => row[at]?.length ?? 0)));
  const room = width() - indent.length - GAP.length * (widths.length - 1);
  for (let over = sum(widths) - room; over > 0 && sum(widths) > widths.length; over--) {
    widths[widths.indexOf(Math.max(...widths))] = Math.max(...widths) - 1;
  }
  return rows.map((row) => rowText(row, widths, indent)).join('\n');
}

function rowText(row: readonly string[], widths: readonly number[], indent: string): string {
  const cells = widths.map((room, at) => folded(row[at] ?? '', room));
  const height = Math.max(...cells.map((lines) => lines.length));
  return Array.from({ length: height }, (_, line) => {
    const parts = widths.map((room, at) => (cells[at]?.[line] ?? '').padEnd(room));
    return (indent + parts.join(GAP)).trimEnd();
  }).join('\n');
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, each) => total + each, 0);
