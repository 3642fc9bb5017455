import { existsSync } from 'node:fs';
import ts from 'typescript';
import type { Lab } from '../content/catalog';
import { nodesOf, openCode } from './code';

export const PARTS = ['Core', 'In production'] as const;
export type Part = (typeof PARTS)[number];

/** One promise of a lab: a test, or all cases of a `test.each`, by its title without the placeholders. */
export interface Rung {
  readonly title: string;
  /** The `describe` that it stands in; undefined outside of one. */
  readonly part: string | undefined;
  /** How long the test is. */
  readonly lines: number;
  /** Whether it has cases, whose names begin with the title. */
  readonly each: boolean;
}

/** Whether a lab is a ladder: the others are of the old form. */
export const isLadder = (lab: Lab): boolean => rungsOf(lab).some(({ part }) => part === 'Core');

const known = new Map<string, readonly Rung[]>();

/** The tests of a lab in their order, as its test file has them. */
export function rungsOf({ files }: Lab): readonly Rung[] {
  if (!existsSync(files.test)) return [];
  const rungs = known.get(files.test) ?? readRungs(openCode(files.test));
  known.set(files.test, rungs);
  return rungs;
}

export const inPart = (rungs: readonly Rung[], part: Part): Rung[] =>
  rungs.filter((rung) => rung.part === part);

/** Whether a test of a run, by its name, is this rung or a case of it. */
export const isOf = ({ title, each }: Rung, name: string): boolean =>
  each ? name.startsWith(title) : name === title;

function readRungs(file: ts.SourceFile): Rung[] {
  return [...nodesOf(file)].flatMap((node) => {
    const call = titled(node, ['test', 'it']);
    if (!call) return [];
    const [from, to] = [node.getStart(), node.end].map((at) => file.getLineAndCharacterOfPosition(at).line);
    return [
      {
        title: call.each ? withoutPlaceholders(call.title) : call.title,
        part: describedBy(node),
        lines: Number(to) - Number(from) + 1,
        each: call.each,
      },
    ];
  });
}

/** `test('title', …)`, `test.each(cases)('title', …)`, `describe('title', …)`. */
function titled(
  node: ts.Node,
  names: readonly string[],
): { readonly title: string; readonly each: boolean } | undefined {
  if (!ts.isCallExpression(node)) return undefined;
  const [name, ...modifiers] = node.expression.getText().split(/[.(]/);
  if (!names.includes(name ?? '')) return undefined;
  const [title] = node.arguments;
  if (!title || !ts.isStringLiteralLike(title)) return undefined;
  return { title: title.text, each: ['each', 'for'].includes(modifiers[0] ?? '') };
}

function describedBy(node: ts.Node): string | undefined {
  for (let at = node.parent; at; at = at.parent) {
    const group = titled(at, ['describe']);
    if (group) return group.title;
  }
  return undefined;
}

/** "a damaged entry is a miss: %s" has cases; its promise ends before them. */
const withoutPlaceholders = (title: string): string => title.replace(/[\s:,(]*(?:%\w|\$[\w.]+).*$/, '');

/** The ladder as it stands in the lesson, between its marks. */
export function ladderText(lab: Lab): string {
  const rungs = rungsOf(lab);
  const list = (part: Part) => inPart(rungs, part).map(({ title }, at) => `${at + 1}. ${escaped(title)}`);
  const [core, production] = [list('Core'), list('In production')];
  const parts =
    production.length > 0 ? ['Core:', '', ...core, '', 'In production:', '', ...production] : core;
  return parts.join('\n');
}

const escaped = (title: string): string => title.replace(/[<*_[\]]/g, '\\$&');

const LADDER = /(<!-- ladder -->\n)[\s\S]*?(<!-- \/ladder -->)/;

/** The lesson with the ladder as the tests have it now; undefined where it has no place for it. */
export const withLadder = (lesson: string, lab: Lab): string | undefined =>
  LADDER.test(lesson)
    ? lesson.replace(LADDER, (_, open, end) => `${open}${ladderText(lab)}\n${end}`)
    : undefined;
