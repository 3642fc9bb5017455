import { SHORT } from '../content/lesson';
import { interviewProblems } from './interview';
import { countProse, fieldsOf, headingsOf, type Page } from './page';

const DRILL = {
  headings: ['The interviewer', 'Clarifying questions', 'Rubric', 'Follow-ups'],
  words: { atLeast: 150, atMost: 400 },
};

/** A page without a lab: a drill, or an overview of a chapter or a question that several lessons share. */
export const pageProblems = (id: string, page: Page): string[] =>
  id.startsWith('drill-') ? drillProblems(page) : overviewProblems(page);

function drillProblems(page: Page): string[] {
  const { headings, words } = DRILL;
  const written = countProse(page.blocks);
  return [
    ...titleProblems(page),
    ...(headingsOf(page.blocks, 2).join() === headings.join()
      ? []
      : [`the headings must be: ${headings.join(', ')}`]),
    ...(written < words.atLeast || written > words.atMost
      ? [`${written} words: make them ${words.atLeast} to ${words.atMost}`]
      : []),
  ];
}

/** Between its first and its last two headings an overview is free. */
function overviewProblems(page: Page): string[] {
  const headings = headingsOf(page.blocks, 2);
  const [first, interview, more] = [headings[0], ...headings.slice(-2)];
  const isRight = first === SHORT && interview === 'In an interview' && more === 'Read more';
  return [
    ...titleProblems(page),
    ...(isRight ? [] : [`the headings must begin with ${SHORT} and end with In an interview, Read more`]),
    ...interviewProblems(page),
  ];
}

const titleProblems = (page: Page): string[] =>
  fieldsOf(page).title === undefined ? ['the front matter lacks "title": add it'] : [];
