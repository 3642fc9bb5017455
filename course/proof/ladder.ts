import { existsSync } from 'node:fs';
import ts from 'typescript';
import type { Lab } from '../content/catalog';
import { PARTS, type Part, partCalled } from '../run/messages';
import { nodesOf, openCode } from './code';

/** One promise of a lab: a test, or a `test.each` with all of its cases. */
export interface Rung {
  readonly title: string;
  /** The `describe` that it stands in; empty outside of one. */
  readonly group: string;
  readonly part: Part | undefined;
  /** How long the test is. */
  readonly lines: number;
}

const known = new Map<string, readonly Rung[]>();

/** The tests of a lab in their order, as its test file has them. */
export function rungsOf({ files }: Lab): readonly Rung[] {
  if (!existsSync(files.test)) return [];
  const rungs = known.get(files.test) ?? readRungs(openCode(files.test));
  known.set(files.test, rungs);
  return rungs;
}

export const titlesIn = (lab: Lab, part: Part): string[] =>
  rungsOf(lab).flatMap((rung) => (rung.part === part ? [rung.title] : []));

function readRungs(file: ts.SourceFile): Rung[] {
  return [...nodesOf(file)].flatMap((node) => {
    const title = titleOf(node, ['test', 'it']);
    if (title === undefined) return [];
    const [from, to] = [node.getStart(), node.end].map((at) => file.getLineAndCharacterOfPosition(at).line);
    const group = groupOf(node);
    return [{ title, group, part: partCalled(group), lines: Number(to) - Number(from) + 1 }];
  });
}

/** Of `test('title', …)`, `test.each(cases)('title', …)`, `describe('title', …)`. */
function titleOf(node: ts.Node, names: readonly string[]): string | undefined {
  if (!ts.isCallExpression(node)) return undefined;
  const [name = ''] = node.expression.getText().split(/[.(]/);
  const [title] = node.arguments;
  return names.includes(name) && title && ts.isStringLiteralLike(title) ? title.text : undefined;
}

function groupOf(node: ts.Node): string {
  for (let at = node.parent; at; at = at.parent) {
    const title = titleOf(at, ['describe']);
    if (title !== undefined) return title;
  }
  return '';
}

/** The ladder as it stands in the lesson, between its marks. */
function ladderText(lab: Lab): string {
  const list = (part: Part) => titlesIn(lab, part).map((title, at) => `${at + 1}. ${escaped(title)}`);
  const [core, production] = [list('core'), list('production')];
  const rest = production.length > 0 ? ['', `${PARTS.production}:`, '', ...production] : [];
  return [`${PARTS.core}:`, '', ...core, ...rest].join('\n');
}

const escaped = (title: string): string => title.replace(/[<*_[\]]/g, '\\$&');

const LADDER = /(<!-- ladder -->\n)[\s\S]*?(<!-- \/ladder -->)/;

/** A lesson with the ladder as the tests have it now; undefined where it has no place for one. */
export const withLadder = (lesson: string, lab: Lab): string | undefined =>
  LADDER.test(lesson)
    ? lesson.replace(LADDER, (_, open, end) => `${open}${ladderText(lab)}\n${end}`)
    : undefined;
