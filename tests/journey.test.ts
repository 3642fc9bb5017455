import { expect, onTestFinished, test } from 'vitest';
import { scratchCourse } from './support/scratch';

const LAB = 'labs/02-strategies/01-cache-aside/cache-aside.ts';
const SOLVED = 'solutions/02-strategies/01-cache-aside';

test('a learner comes from red over ◐ to ● with the commands of the README', {
  timeout: 90_000,
}, async () => {
  const course = scratchCourse();
  onTestFinished(() => course.end());

  expect((await course.run(['test'])).output).toContain('1.1 Hit or miss');
  const red = await course.run(['test', '2.1']);
  expect(red.code).toBe(1);
  expect(red.output).toContain('Core: 0 of 6 tests pass');
  expect(red.output).toContain('In production: 10 tests, after Core');
  expect(red.output).toContain('not implemented yet');

  // Named last, it is the current lab.
  const [first, second] = [await course.run(['hint']), await course.run(['hint'])];
  expect(first.output).toContain('1. ');
  expect(second.output).toContain('2. ');
  expect((await course.run(['mistakes', 'cache-aside'])).code).toBe(2);
  expect((await course.run(['solution'])).output).toContain(`${SOLVED}/core.ts\n\nimport`);

  const starter = course.read(LAB);
  course.write(LAB, course.read(`${SOLVED}/core.ts`));
  const coreAlone = await course.run(['test', '--core']);
  expect(coreAlone.output).toContain('◐ Core passes: 6 tests');
  expect(coreAlone.code).toBe(0);
  const core = await course.run(['test']);
  expect(core.output).toContain('◐ In production: 0 of 10 tests pass');
  expect(core.code).toBe(1);
  expect((await course.run(['list'])).output).toMatch(/◐ 2\.1/);
  expect((await course.run(['mistakes', '2.1'])).output).toContain('Core passes. Its mistakes open when');

  course.write(LAB, course.read(`${SOLVED}/cache-aside.ts`));
  const green = await course.run(['test']);
  expect(green.output).toContain('● all 16 tests pass');
  expect(green.code).toBe(0);

  expect((await course.run(['list'])).output).toMatch(/● 2\.1/);
  expect((await course.run(['mistakes', '2.1'])).output).toContain('rejected by');
  const reset = await course.run(['reset', 'cache-aside']);
  expect(reset.output).toContain('.course/attempts/cache-aside-<time>.ts');
  expect(course.read(LAB)).toBe(starter);
  expect((await course.run(['test'])).output).toContain('1.1 Hit or miss');
});

test('a learner who follows a path is led from lab to lab of it, as far as it asks', {
  timeout: 90_000,
}, async () => {
  const course = scratchCourse();
  onTestFinished(() => course.end());

  const path = await course.run(['list', '--path', 'interview']);
  expect(path.output).toContain('You follow this path');
  expect(path.output).toMatch(/› · Core {6}1\.4 LRU/);
  expect((await course.run(['list'])).output).toMatch(/› · 1\.4/);

  course.write(LAB, course.read(`${SOLVED}/core.ts`));
  const core = await course.run(['test', '2.1', '--core']);
  expect(core.output).toContain('Next     2.6 Stale-while-revalidate: npm test -- stale-while-revalidate');
  expect(core.output).toContain('Path     npm run list -- --path interview');
  // Its Core is all that the path asks.
  expect((await course.run(['list'])).output).toMatch(/› · 1\.4/);

  await course.run(['list', '--path', 'everything']);
  expect((await course.run(['list'])).output).toMatch(/› ◐ 2\.1/);
});
