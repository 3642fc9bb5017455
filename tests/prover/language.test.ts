import { expect, test } from 'vitest';
import { BANNED, bannedIn } from '../../course/proof/banned';

/** One sentence or more for each entry of the list, in its order. */
const BAD: readonly (readonly string[])[] = [
  ['peek and has are no use of the entry', 'A delete is no eviction.', 'where it is\nno miss'],
  ['It stays for ever.'],
  ['Whoever reads it waits.', 'for whomever it may concern'],
  ['Who joins a load waits for it.', 'It ends. What is stored stays.', 'who leaves leaves the others alone'],
  ['It is refused for want of memory.', 'It would else be read.'],
  ['a dear load', 'The dearest query comes first.'],
  ['Mend the syntax and save.', 'It is mended.'],
  ['The caller is told of it.', 'as they have been told'],
  ['onEvict hears of each entry.', 'hear of it'],
  ['That is the matter of its readers.'],
  ['The latter is cheaper.', "another's lock"],
  ['a DEL that is owed', 'It is a debt.'],
  ['a crowd of readers'],
  ["Let's dive in.", 'a blazing cache'],
];

const GOOD = [
  'There is no entry, and there was no miss.',
  'It is no longer there, and no older than its TTL.',
  'Who reads it? What is stored?',
  'He asks: who reads it.',
  'what it got: 3',
  'Recommended: forever, hear, told, deadline.',
];

test('each entry of the list finds its examples', () => {
  expect(BAD).toHaveLength(BANNED.length);
  for (const [at, { remedy }] of BANNED.entries()) {
    for (const text of BAD[at] ?? []) {
      expect(
        bannedIn(text).map((found) => found.remedy),
        text,
      ).toContain(remedy);
    }
  }
});

test.each(GOOD)('not banned: %s', (text) => {
  expect(bannedIn(text)).toEqual([]);
});
