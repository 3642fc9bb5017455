import { describe, expect, test } from 'vitest';
import { LIMIT, type Load } from './given';
import { Memo } from './memo';

// Short, because some subjects of this lab never settle, and are there to show what is said of that.
const LIMIT_MS = 1000;

describe('Core', () => {
  test('a second get does not load again', { timeout: LIMIT_MS }, async () => {
    const { loaded, load } = counted();
    const cache = new Memo(load);
    for (const key of ['a', 'b', 'a']) await cache.get(key);
    expect(loaded).toEqual(['a', 'b']);
  });

  test('each key has its own value', { timeout: LIMIT_MS }, async () => {
    const cache = new Memo(async (key) => key.toUpperCase());
    expect([await cache.get('x'), await cache.get('y')]).toEqual(['X', 'Y']);
  });

  test('a load that fails is not kept', async () => {
    let loads = 0;
    const cache = new Memo(async (key) => {
      loads++;
      if (loads === 1) throw new Error('the database is away');
      return key;
    });
    await cache.get('a').catch(() => {});
    expect(await cache.get('a').catch(String)).toBe('a');
  });
});

describe('In production', () => {
  test('callers at the same time share a load', async () => {
    const { loaded, load } = counted();
    const cache = new Memo(load);
    await Promise.all(['a', 'a', 'a'].map((key) => cache.get(key)));
    expect(loaded).toEqual(['a']);
  });

  test('the oldest value makes room for a new one', async () => {
    const { loaded, load } = counted();
    const cache = new Memo(load);
    const keys = Array.from({ length: LIMIT + 1 }, (_, index) => `key ${index}`);
    for (const key of [...keys, 'key 0']) await cache.get(key);
    expect(loaded).toEqual([...keys, 'key 0']);
  });
});

function counted(): { readonly loaded: string[]; readonly load: Load } {
  const loaded: string[] = [];
  return {
    loaded,
    load: async (key) => {
      loaded.push(key);
      return key;
    },
  };
}
