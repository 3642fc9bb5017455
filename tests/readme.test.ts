import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { ROOT } from '../course/base/root';
import { COMMANDS } from '../course/commands/table';
import { labs } from '../course/content/catalog';
import { rungsOf } from '../course/proof/ladder';
import { wordsOf } from './support/picture';

const README = readFileSync(join(ROOT, 'README.md'), 'utf8');

test('the README lists every command that learners have', () => {
  const listed = [...README.matchAll(/^\| `npm (?:run )?(\w+)` \|/gm)].map(([, name]) => name);
  const { sync: _forAuthors, ...commands } = COMMANDS;
  expect(listed.sort()).toEqual(Object.keys(commands).sort());
});

test('the picture of a red run shows what the README has as text', () => {
  const [, screen] = /\$ npm test -- cache-aside\n\n([\s\S]*?)\n```/.exec(README) ?? [];
  const words = wordsOf(readFileSync(join(ROOT, 'chapters/images/red.svg'), 'utf8'));
  expect(words).toBe(screen?.replace(/\n\n/g, '\n'));
});

test('the sample screen of the README has the tests that the lab has', () => {
  const [screen = '', id] = /\$ npm test -- ([\w-]+)\n[\s\S]*?```/.exec(README) ?? [];
  const lab = labs().find((each) => each.id === id);
  if (!lab) throw new Error(`README.md shows a run of "${id}", which is not a lab`);
  const core = rungsOf(lab).filter(({ part }) => part === 'core');
  const shown = [...screen.matchAll(/^ {2}[✓✗] (.+)$/gm)].map(([, title]) => title);
  expect(shown).toEqual(core.map(({ title }) => title));
});
