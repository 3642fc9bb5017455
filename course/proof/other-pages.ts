import type { Lab } from '../content/catalog';
import { SHORT } from '../content/lesson';
import { fieldProblems, ladderProblems } from './ladder-lesson';
import { countProse, fieldsOf, headingsOf, type Page } from './page';

const DRILL = {
  headings: ['The interviewer', 'Clarifying questions', 'Rubric', 'Follow-ups'],
  words: { atLeast: 150, atMost: 400 },
};

/** What an interviewer says and looks for, beside a lab that is built against a clock. */
export function drillProblems(lab: Lab, page: Page): string[] {
  const { headings, words } = DRILL;
  const written = countProse(page.blocks);
  return [
    ...fieldProblems(page, false),
    ...(headingsOf(page.blocks, 2).join() === headings.join()
      ? []
      : [`the headings must be: ${headings.join(', ')}`]),
    ...ladderProblems(lab, page),
    ...(written < words.atLeast || written > words.atMost
      ? [`${written} words: make them ${words.atLeast} to ${words.atMost}`]
      : []),
  ];
}

/** A page without a lab. Between its first and its last two headings it is free. */
export function pageProblems(page: Page): string[] {
  const headings = headingsOf(page.blocks, 2);
  const [first, interview, more] = [headings[0], ...headings.slice(-2)];
  const isRight = first === SHORT && interview === 'In an interview' && more === 'Read more';
  return [
    ...(fieldsOf(page).title === undefined ? ['the front matter lacks "title": add it'] : []),
    ...(isRight ? [] : [`the headings must begin with ${SHORT} and end with In an interview, Read more`]),
  ];
}

const PROMPT = {
  headings: [
    'The prompt',
    'Ask first',
    'Requirements',
    'Numbers',
    'Design',
    'Write path',
    'Staleness',
    'Failure modes',
    'Cost',
    'Rubric',
  ],
  words: { atLeast: 500, atMost: 800 },
};

/** A page in the folder of an overview: a system to design. `npm run interview` finds its parts by their headings. */
export function promptProblems({ blocks, text }: Page): string[] {
  const { headings, words } = PROMPT;
  const written = countProse(blocks);
  return [
    ...(headingsOf(blocks, 2).join() === headings.join()
      ? []
      : [`the headings must be: ${headings.join(', ')}`]),
    ...(text.includes('```mermaid') ? [] : ['it has no diagram: draw the design in mermaid']),
    ...(written < words.atLeast || written > words.atMost
      ? [`${written} words: make them ${words.atLeast} to ${words.atMost}`]
      : []),
  ];
}
