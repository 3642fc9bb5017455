import type { RootContent } from 'mdast';
import { plain, sections } from '../content/markdown';
import { countWords, type Page, prose } from './page';

const ANSWER_WORDS = 80;
const FOLLOW_UPS = { atLeast: 2, atMost: 3 };

/** The paragraphs of "In an interview" that begin in bold, in their order. The question stands before them. */
const LEADS = ['In 30 seconds', 'If they go on', 'Red flag'] as const;

/** "In an interview" can be said: a question, a short answer, what comes next, and what not to say. */
export function interviewProblems({ blocks }: Page): string[] {
  const [section] = sections(blocks, 2).filter(({ title }) => title === 'In an interview');
  if (!section) return [];
  const { content } = section;
  const starts = LEADS.map((lead) => content.findIndex((block) => leads(block, lead)));
  const missing = LEADS.filter((_, at) => starts[at] === -1);
  if (missing.length > 0) {
    return missing.map((lead) => `"In an interview" lacks "${lead}": begin a paragraph with **${lead}**`);
  }
  const [answer = 0, next = 0, flag = 0] = starts;
  const words = countSaid(content.slice(answer, next)) - countLead(LEADS[0]);
  const followUps = content
    .slice(next, flag)
    .reduce((sum, block) => sum + (block.type === 'list' ? block.children.length : 0), 0);
  return [
    ...(countSaid(content.slice(0, answer)) > 0
      ? []
      : [`"In an interview" has no question: write it before "${LEADS[0]}"`]),
    ...(words < 1 || words > ANSWER_WORDS
      ? [`the answer "${LEADS[0]}" has ${words} words: make them 1 to ${ANSWER_WORDS}`]
      : []),
    ...(followUps < FOLLOW_UPS.atLeast || followUps > FOLLOW_UPS.atMost
      ? [
          `"${LEADS[1]}" needs a list of ${FOLLOW_UPS.atLeast} or ${FOLLOW_UPS.atMost} points and has ${followUps}: add or drop some`,
        ]
      : []),
    ...(countSaid(content.slice(flag)) > countLead(LEADS[2])
      ? []
      : [`"${LEADS[2]}" says nothing: write what an interviewer must not hear`]),
  ];
}

function leads(block: RootContent, lead: string): boolean {
  if (block.type !== 'paragraph') return false;
  const [first] = block.children;
  return first?.type === 'strong' && plain(first).startsWith(lead);
}

/** Spoken, a name from the code is a word too. */
const countSaid = (blocks: readonly RootContent[]): number => countWords(prose(blocks));

const countLead = (lead: string): number => lead.split(' ').length;
