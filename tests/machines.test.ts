import { rmSync } from 'node:fs';
import { afterAll, expect, test } from 'vitest';
import { type Change, type ScratchCourse, scratchCourse } from './prover/scratch';
import { run } from './support/course';

/** What differs from one machine, and one checkout, to the next. */

const courses: ScratchCourse[] = [];

function openCourse(changes: Readonly<Record<string, Change>>): ScratchCourse {
  const course = scratchCourse(changes);
  courses.push(course);
  return course;
}

afterAll(() => {
  for (const { root } of courses) rmSync(root, { recursive: true, force: true });
});

const asHandedOut: Change = () => {};

/** A lab whose tests ask for servers. */
const onServers: Change = (files) => {
  const checks = files.get('checks.ts') ?? '';
  files.set('checks.ts', `import { useServers } from '#kit/servers';\n${checks}\nuseServers();\n`);
};

test('a lab that needs no servers runs where none start', async () => {
  const { root } = openCourse({ 'on-servers': onServers, alone: asHandedOut });
  const nowhere = { REDIS_URL: 'redis://127.0.0.1:1', MYSQL_URL: 'mysql://root@127.0.0.1:1' };
  const { code, output } = await run(root, ['course/cli.cjs', 'test', 'all'], nowhere);
  expect(output).toMatch(/99\.1 .*could not be run/);
  expect(output).toMatch(/99\.2 .*0 of 2 tests pass/);
  expect(output).toContain('Nothing listens at');
  expect(code).toBe(2);
});
