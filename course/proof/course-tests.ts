import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, shown } from '../base/root';
import { runTool } from './tools';

const REPORT = join(ROOT, '.course/coverage');

/** The course's own tests, counting the lines of course/ that they reach. @returns problems; none is a pass */
export const runCourseTests = (): Promise<string[]> =>
  runTool('vitest', [
    ...['run', 'tests/', '--maxWorkers', '2', '--reporter', 'dot'],
    ...['--coverage', '--coverage.include', 'course/**/*.ts', '--coverage.reporter', 'json-summary'],
    ...['--coverage.reportsDirectory', shown(REPORT)],
  ]);

/** A figure and no proof: what runs in the processes that the tests start, such as commands, is not counted. */
export function coverageNote(): string {
  const summary: { total: { lines: { pct: number } } } = JSON.parse(
    readFileSync(join(REPORT, 'coverage-summary.json'), 'utf8'),
  );
  return `${summary.total.lines.pct} % of the lines of course/ run in the tests' own processes`;
}
