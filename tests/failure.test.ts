import { expect, test } from 'vitest';
import { explain } from '../course/screen/failure';

test('a value that must be another one is shown once, without the words of Vitest', () => {
  const rows = explain({
    name: 'AssertionError',
    message:
      "name in Redis: the old entry must be gone: expected 'Mug' not to be 'Mug' // Object.is equality",
    expected: 'Mug',
    actual: 'Mug',
  });
  expect(rows.join('\n')).toBe(
    '  name in Redis: the old entry must be gone\n  expected  another value\n  seen      Mug',
  );
});
