import { readFileSync } from 'node:fs';
import { applyPatch } from 'diff';

/** A plausible wrong solution: a diff on the solution under three lines that tell its story. */
export interface Mistake {
  readonly title: string;
  readonly why: string;
  /** The name of the test that must reject it. */
  readonly rejectedBy: string;
  readonly patch: string;
}

/** @throws when a header line is missing */
export function readMistake(path: string): Mistake {
  const text = readFileSync(path, 'utf8');
  const start = text.search(/^--- /m);
  const header = text.slice(0, start);
  const field = (name: string): string => {
    const value = new RegExp(`^${name}: (.+)$`, 'm').exec(header)?.[1];
    if (start < 0 || !value) throw new Error(`${path}: the line "${name}: …" is missing above the diff`);
    return value.trim();
  };
  return {
    title: field('Mistake'),
    why: field('Why'),
    rejectedBy: field('Rejected-by'),
    patch: text.slice(start),
  };
}

/** The solution with the mistake in it. @throws when the diff does not fit the solution any more */
export function applyMistake(solution: string, path: string): string {
  const patched = applyPatch(readFileSync(solution, 'utf8'), readMistake(path).patch);
  if (patched === false) throw new Error(`${path} does not apply to the solution: make the diff again`);
  return patched;
}
