import { expect, test } from 'vitest';
import { bold, foldRows, whole } from '../course/screen/terminal';

// Without a terminal: 80 columns.

test('a row that is too wide is broken at a space, below what its label is followed by', () => {
  const long = 'npm run solution -- drill-token-lock';
  expect(foldRows(`Compare  ${whole(long)}, ${whole('npm run mistakes -- drill-token-lock')}`)).toBe(
    `Compare  ${long},\n         npm run mistakes -- drill-token-lock`,
  );
  expect(foldRows(`  ${'·'.repeat(60)}  ${whole('12 of 47 labs, 11 more with Core')}`)).toBe(
    `  ${'·'.repeat(60)}\n  12 of 47 labs, 11 more with Core`,
  );
});

test('what fits stays as it is, and so does a word that is wider than the terminal', () => {
  const rows = ['a  b', `File  ${'x'.repeat(90)}`, bold('word '.repeat(15)), ''];
  expect(foldRows(rows.join('\n'))).toBe(rows.join('\n'));
});
