import { expect, onTestFinished, test } from 'vitest';
import { scratchCourse } from './support/scratch';

const LAB = 'labs/01-fundamentals/01-hit-or-miss/hit-or-miss.ts';

test('a learner comes from red to green with the commands of the README', { timeout: 60_000 }, async () => {
  const course = scratchCourse();
  onTestFinished(() => course.end());

  const red = await course.run(['test']);
  expect(red.code).toBe(1);
  expect(red.output).toContain('1.1 Hit or miss');
  expect(red.output).toContain('not implemented yet');
  expect(red.output).toContain('npm run hint');

  const [first, second] = [await course.run(['hint']), await course.run(['hint'])];
  expect(first.output).toContain('1. ');
  expect(second.output).toContain('2. ');
  expect((await course.run(['mistakes', 'hit-or-miss'])).code).toBe(2);
  expect((await course.run(['solution'])).output).toContain('+++ solutions/01-fundamentals/01-hit-or-miss');

  const starter = course.read(LAB);
  course.write(LAB, course.read('solutions/01-fundamentals/01-hit-or-miss/hit-or-miss.ts'));
  const green = await course.run(['test']);
  expect(green.output).toContain('all 8 tests pass');
  expect(green.output).toContain('1.2 Layers');
  expect(green.code).toBe(0);

  expect((await course.run(['list'])).output).toContain('1 of 6');
  expect((await course.run(['mistakes'])).output).toContain('rejected by');
  const reset = await course.run(['reset', 'hit-or-miss']);
  expect(reset.output).toContain('.course/attempts/hit-or-miss-<time>.ts');
  expect(course.read(LAB)).toBe(starter);
  expect((await course.run(['test'])).output).toContain('1.2 Layers');
});
