import { expect, test } from 'vitest';
import { Memo } from './memo';

// Short, because some subjects of this lab never settle, and are there to show what is said of that.
const LIMIT_MS = 1000;

test('a second get does not load again', { timeout: LIMIT_MS }, async () => {
  const loaded: string[] = [];
  const cache = new Memo(async (key) => {
    loaded.push(key);
    return key;
  });
  for (const key of ['a', 'b', 'a']) await cache.get(key);
  expect(loaded).toEqual(['a', 'b']);
});

test('each key has its own value', { timeout: LIMIT_MS }, async () => {
  const cache = new Memo(async (key) => key.toUpperCase());
  const values = [await cache.get('x'), await cache.get('y'), await cache.get('x')];
  expect(values).toEqual(['X', 'Y', 'X']);
});
