import { copyFileSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test, vi } from 'vitest';
import { scratchCourse } from './prover/scratch';
import { run } from './support/course';
import { Terminal } from './support/terminal';

/** They start processes, or read whole traces, on a machine that may be busy. */
vi.setConfig({ testTimeout: 30_000 });

/** A drill's page beside the lab `memo`. */
const PAGE = `---
title: "Drill: memo"
guide: ["11"]
minutes: { core: 25 }
---
# Drill

## The interviewer

"Write a cache of one value." Its words:

- no key
- no end

## Clarifying questions

- *Is it bounded?* It is one value.

## Rubric

Any.

## Follow-ups

- *And two?* Two.
`;

const course = scratchCourse({ 'drill-once': (files) => files.set('lesson.md', PAGE) });
afterAll(() => rmSync(course.root, { recursive: true, force: true }));

const place = course.place('drill-once');
const starter = join(course.root, 'labs', place, 'drill-once.ts');
const state = join(course.root, '.course/drills.json');
const drill = (...args: string[]) => run(course.root, ['course/cli.cjs', 'drill', ...args]);
const solve = () => copyFileSync(join(course.root, 'solutions', place, 'drill-once.ts'), starter);
/** As if the clock had been started so many minutes earlier. */
const letPass = (minutes: number) => {
  const drills = JSON.parse(readFileSync(state, 'utf8'));
  drills.underWay.at -= minutes * 60_000;
  writeFileSync(state, JSON.stringify(drills));
};

test('a drill runs against a clock that survives its command, and never fails by time', {
  timeout: 60_000,
}, async () => {
  const begun = await drill('once');
  expect(begun.output).toMatch(
    /"Write a cache of one value\."[\s\S]+- no key\n- no end[\s\S]+0:0\d of 25:00/,
  );
  expect(begun.code).toBe(0);

  letPass(12);
  const red = await drill('once');
  expect(red.output).toMatch(/0 of 2 tests pass[\s\S]+12:\d\d of 25:00/);
  expect(red.code).toBe(1);

  letPass(15);
  expect((await drill()).output).toMatch(/once +27:\d\d, 2:\d\d over/);
  solve();
  const green = await drill('99.1');
  expect(green.output).toContain('all 2 tests pass');
  expect(green.code).toBe(0);
  expect((await drill()).output).toMatch(/● 99\.1 +once +27:\d\d\n/);

  expect((await drill('once', '--again')).output).toMatch(/Your attempt is kept[\s\S]+0:0\d of 25:00/);
  expect(readFileSync(starter, 'utf8')).toContain('not implemented');
  letPass(500);
  expect((await drill()).output).not.toMatch(/of 25:00|over/);
});

test('a name that is no drill is refused with the nearest', async () => {
  expect(await drill('onc')).toMatchObject({
    code: 2,
    output: expect.stringContaining('Did you mean once?'),
  });
  expect(await drill('once', 'x')).toMatchObject({ code: 2 });
});

test('damaged times are set aside', async () => {
  const noTime = '{"version":1,"done":{},"underWay":{"lab":"drill-once","at":"noon"}}';
  for (const damaged of ['{', noTime]) {
    writeFileSync(state, damaged);
    const { output, code } = await drill();
    expect(output).toMatch(/The drills file could not be read[\s\S]+99\.1 +once/);
    expect(code).toBe(0);
  }
});

test.runIf(process.platform === 'linux')(
  'at a terminal the clock goes on, and tells what to practise',
  { timeout: 60_000 },
  async () => {
    const begin = () => new Terminal(course.root, 'exec node course/cli.cjs drill once --again');
    const shows = (terminal: Terminal, text: string | RegExp) =>
      expect.poll(() => terminal.output, { timeout: 30_000, interval: 20 }).toMatch(text);
    // The pass of the test before would lie after the clock's start, once that is put back.
    rmSync(join(course.root, '.course/progress.json'));
    const terminal = begin();
    await shows(terminal, /0:0[1-9] of 25:00/);
    terminal.type('\r');
    await shows(terminal, '0 of 2 tests pass');
    letPass(25);
    await shows(terminal, /25:00 are over: 0 of 2 tests pass[\s\S]+drill-once\.md#rubric/);
    solve();
    await shows(terminal, /Done in 25:\d\d/);
    terminal.type('q');
    expect(await terminal.ended).toBe(0);

    const refused = begin();
    await shows(refused, /Your attempt in\s+\S*drill-once\.ts\s+is\s+kept in[\s\S]+q\s+leaves/);
    refused.type('q');
    expect(await refused.ended).toBe(0);
    expect(readFileSync(starter, 'utf8')).not.toContain('not implemented');

    const interrupted = begin();
    await shows(interrupted, 'Enter begins');
    interrupted.type('\r');
    await shows(interrupted, /0:0\d of 25:00/);
    interrupted.type('\x03');
    expect(await interrupted.ended).toBe(130);
    expect(interrupted.output).toContain('the clock goes on: npm run drill -- once');
  },
);
