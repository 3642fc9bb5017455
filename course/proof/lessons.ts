import { existsSync } from 'node:fs';
import { shown } from '../base/root';
import { type Target, targetOf } from '../claims/targets';
import type { Lab } from '../content/catalog';
import { isLadder } from './ladder';
import { oldLessonProblems } from './old-form';
import { fieldsOf, openPage, type Page } from './page';
import { figureProblems } from './text';

/** What the lesson of a lab owes its readers. One sentence each with file and remedy. */
export function lessonProblems(lab: Lab): string[] {
  const { lesson } = lab.files;
  // That it is missing is told where the lab is proven.
  if (!existsSync(lesson)) return [];
  const page = openPage(lesson);
  return [
    ...[...titleProblems(lab, page), ...(isLadder(lab) ? [] : oldLessonProblems(page))].map(
      (problem) => `${shown(lesson)}: ${problem}`,
    ),
    ...figureProblems(targetOf(lab)),
  ];
}

/** The same of the a page without a lab. */
export const overviewProblems = (page: Target): string[] => figureProblems(page);

/** The catalogue reads titles by hand, because a parser of YAML takes longer to load than most commands run. */
function titleProblems(lab: Lab, page: Page): string[] {
  const { title } = fieldsOf(page);
  if (typeof title !== 'string' || title.trim() === lab.title) return [];
  return [
    `the title is "${title.trim()}" to a parser of YAML and "${lab.title}" to the course: write title: ${title.trim()} on one line`,
  ];
}
