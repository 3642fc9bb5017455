import { readFileSync } from 'node:fs';
import ts from 'typescript';

/** A TypeScript file as a tree, with the parents of its nodes. */
export const openCode = (path: string): ts.SourceFile =>
  ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.Latest, true);

/** All nodes of a file, in its order. */
export function* nodesOf(node: ts.Node): Generator<ts.Node> {
  yield node;
  const children: ts.Node[] = [];
  node.forEachChild((child) => {
    children.push(child);
  });
  for (const child of children) yield* nodesOf(child);
}

/** What a file says to people in strings: without the names of modules. */
export function stringsOf(file: ts.SourceFile): string[] {
  return [...nodesOf(file)].flatMap((node) => {
    if (ts.isStringLiteral(node) && !isModuleName(node)) return [node.text];
    if (ts.isNoSubstitutionTemplateLiteral(node)) return [node.text];
    if (!ts.isTemplateExpression(node)) return [];
    return [
      [node.head, ...node.templateSpans.map(({ literal }) => literal)].map(({ text }) => text).join('…'),
    ];
  });
}

const isModuleName = ({ parent }: ts.StringLiteral): boolean =>
  ts.isImportDeclaration(parent) || ts.isExportDeclaration(parent);

/** A comment without its marks. */
export interface Comment {
  readonly text: string;
  /** A docstring of something that the file exports, or of a member of it. */
  readonly isContract: boolean;
}

export function commentsOf(file: ts.SourceFile): Comment[] {
  const found = new Map<number, Comment>();
  for (const node of nodesOf(file)) {
    for (const { pos, end } of ts.getLeadingCommentRanges(file.text, node.getFullStart()) ?? []) {
      if (found.has(pos)) continue;
      const text = file.text
        .slice(pos, end)
        .replace(/^\/\*\*?|\*\/$/g, '')
        .replace(/^[ \t]*(?:\*|\/\/) ?/gm, '')
        .replace(/\s+/g, ' ')
        .trim();
      const isDoc = file.text.startsWith('/**', pos);
      found.set(pos, { text, isContract: isDoc && isExported(node) });
    }
  }
  return [...found.values()];
}

/** The statement is, or the member belongs to one that is. */
function isExported(node: ts.Node): boolean {
  for (let at = node; at.parent; at = at.parent) {
    if (at.parent.kind !== ts.SyntaxKind.SourceFile) continue;
    return ts.canHaveModifiers(at) && ts.getModifiers(at)?.[0]?.kind === ts.SyntaxKind.ExportKeyword;
  }
  return false;
}
