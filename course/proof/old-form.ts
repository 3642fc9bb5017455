import { countProse, fieldsOf, headingsOf, type Page } from './page';

/** What a lesson owes its readers as long as its lab is no ladder yet. This file goes when the last lab is one. */
const HEADINGS = [
  'How it works',
  'In code',
  'What breaks it',
  'Measured',
  'The lab',
  'In an interview',
  'Read more',
];
const WORDS = { atLeast: 900, atMost: 1800 };

export function oldLessonProblems(page: Page): string[] {
  const fields = fieldsOf(page);
  const words = countProse(page.blocks);
  return [
    ...['title', 'minutes', 'guide']
      .filter((field) => fields[field] === undefined)
      .map((field) => `the front matter lacks "${field}": add it`),
    ...(headingsOf(page.blocks, 2).join() === HEADINGS.join()
      ? []
      : [`the headings must be: ${HEADINGS.join(', ')}`]),
    ...(words < WORDS.atLeast || words > WORDS.atMost
      ? [`${words} words: make them ${WORDS.atLeast} to ${WORDS.atMost}`]
      : []),
  ];
}
