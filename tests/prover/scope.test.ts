import { expect, test } from 'vitest';
import { scopeOf } from '../../course/proof/scope';

const touched = (...files: string[]) => {
  const { labs, pages, tests } = scopeOf(files);
  return { labs: labs.map(({ id }) => id), pages: pages.map(({ id }) => id), tests };
};

test.each([
  ['a starter', 'labs/01-fundamentals/04-lru/lru.ts'],
  ['a mistake', 'solutions/01-fundamentals/04-lru/mistakes/any.diff'],
  ['a lesson', 'chapters/01-fundamentals/04-lru.md'],
])('%s touches its lab alone', (_, file) => {
  expect(touched(file)).toEqual({ labs: ['lru'], pages: [], tests: false });
});

test('a page without a lab touches its claims alone', () => {
  expect(touched('chapters/03-invalidation/08-staleness.md')).toEqual({
    labs: [],
    pages: ['staleness'],
    tests: false,
  });
});

test('a screen touches the tests of the course, and no lab', () => {
  expect(touched('course/screen/answer.ts')).toEqual({ labs: [], pages: [], tests: true });
});

test.each(['course/kit/proxy.ts', 'package-lock.json'])('%s touches everything', (file) => {
  const { labs, pages, tests } = touched(file);
  expect(labs).toContain('lru');
  expect(pages).toContain('staleness');
  expect(tests).toBe(true);
});

test('a text beside the lessons touches no lesson', () => {
  expect(touched('README.md', 'chapters/GLOSSARY.md')).toEqual({ labs: [], pages: [], tests: false });
});
