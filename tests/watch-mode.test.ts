import { copyFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { scratchCourse } from './prover/scratch';
import { Terminal } from './support/terminal';

const LONG_MS = 60_000;

const course = scratchCourse({}, { ladder: () => {} });
afterAll(() => rmSync(course.root, { recursive: true, force: true }));

const place = course.place('ladder');
const starter = join(course.root, 'labs', place, 'ladder.ts');
const take = (file: string) => copyFileSync(join(course.root, 'solutions', place, file), starter);
const start = () => new Terminal(course.root, 'exec node course/cli.cjs start');
const shows = (terminal: Terminal, text: string | RegExp) =>
  expect.poll(() => terminal.output, { timeout: LONG_MS, interval: 20 }).toMatch(text);

/** Presses a key and forgets what was shown before. */
function press(terminal: Terminal, key: string): void {
  terminal.output = '';
  terminal.type(key);
}

async function leave(terminal: Terminal): Promise<void> {
  terminal.type('q');
  expect(await terminal.ended).toBe(0);
}

describe.runIf(process.platform === 'linux')('watch mode', { timeout: 2 * LONG_MS }, () => {
  test('a green Core is a success until the learner goes on to production, and then on later days too', async () => {
    take('core.ts');
    const first = start();
    await shows(first, /◐ Core passes[\s\S]+watching labs/);
    await leave(first);

    const second = start();
    await shows(second, /◐ Core passes[\s\S]+watching labs/);
    expect(second.output).not.toContain('✗');
    press(second, 'p');
    await shows(second, /In production: 0 of [\s\S]+watching labs/);
    await leave(second);

    const third = start();
    await shows(third, /In production: 0 of [\s\S]+watching labs/);
    press(third, 'p');
    await shows(third, /◐ Core passes[\s\S]+watching labs/);
    await leave(third);
  });

  test('a reset says where the attempt is, during the run and below its answer', async () => {
    take('core.ts');
    const terminal = start();
    await shows(terminal, /◐ Core passes[\s\S]+watching labs/);
    press(terminal, 'r');
    await shows(terminal, /Core: 0 of [\s\S]+Your attempt is kept[\s\S]+watching labs/);
    expect(terminal.output).toContain('Next  h for a hint');
    press(terminal, 'h');
    await shows(terminal, /1\. [\s\S]+(more: h|s shows one way)[\s\S]+watching labs/);
    // Another run of the same file does not take the words away.
    press(terminal, '\r');
    await shows(terminal, /Core: 0 of [\s\S]+Your attempt is kept[\s\S]+watching labs/);
    // Core was green once, and is not now.
    press(terminal, 's');
    await shows(terminal, /\/core\.ts[\s\S]+watching labs/);
    await leave(terminal);
  });
});
