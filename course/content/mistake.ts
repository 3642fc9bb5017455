import { readFileSync } from 'node:fs';
import { applyPatch } from 'diff';

/** A plausible wrong solution: a diff on the solution under the lines that tell its story. */
export interface Mistake {
  readonly title: string;
  readonly why: string;
  /** The names of the tests that must reject it, one or more. */
  readonly rejectedBy: readonly string[];
  readonly patch: string;
}

/** @throws when a header line is missing */
export function readMistake(path: string): Mistake {
  const text = readFileSync(path, 'utf8');
  const start = text.search(/^--- /m);
  const header = text.slice(0, start);
  const fields = (name: string): [string, ...string[]] => {
    const [first, ...others] = valuesOf(name, header);
    if (start < 0 || !first) throw new Error(`${path}: the line "${name}: …" is missing above the diff`);
    return [first, ...others];
  };
  return {
    title: fields('Mistake')[0],
    why: fields('Why')[0],
    rejectedBy: fields('Rejected-by'),
    patch: text.slice(start),
  };
}

/** The same line of a diff that may have other faults. */
export const rejectedBy = (path: string): string[] => valuesOf('Rejected-by', readFileSync(path, 'utf8'));

/** What a learner reads of a mistake. */
export function storyOf(path: string): string[] {
  const text = readFileSync(path, 'utf8');
  return [...valuesOf('Mistake', text), ...valuesOf('Why', text)];
}

const valuesOf = (name: string, text: string): string[] =>
  [...text.matchAll(new RegExp(`^${name}: (.+)$`, 'gm'))].map(([, value = '']) => value.trim());

/** The solution with the mistake in it. @throws when the diff does not fit the solution any more */
export function applyMistake(solution: string, path: string): string {
  const patched = applyPatch(readFileSync(solution, 'utf8'), readMistake(path).patch);
  if (patched === false) throw new Error(`${path} does not apply to the solution: make the diff again`);
  return patched;
}
