import { existsSync } from 'node:fs';
import { shown } from '../base/root';
import { targetOf } from '../claims/targets';
import { isDrill, type Lab, type Overview } from '../content/catalog';
import { ladderLessonProblems } from './ladder-lesson';
import { drillProblems, pageProblems, promptProblems } from './other-pages';
import { fieldsOf, openPage, type Page } from './page';
import { figureProblems } from './text';

/** What the lesson of a lab owes its readers. One sentence each with file and remedy. */
export function lessonProblems(lab: Lab): string[] {
  const { lesson } = lab.files;
  // That it is missing is told where the lab is proven.
  if (!existsSync(lesson)) return [];
  const page = openPage(lesson);
  const formProblems = isDrill(lab) ? drillProblems : ladderLessonProblems;
  return [
    ...[...titleProblems(lab, page), ...formProblems(lab, page)].map(
      (problem) => `${shown(lesson)}: ${problem}`,
    ),
    ...figureProblems(targetOf(lab)),
  ];
}

/** The same of a page without a lab. */
export function overviewProblems(overview: Overview): string[] {
  const { lesson } = overview.files;
  const page = openPage(lesson);
  const target = targetOf(overview);
  return [
    ...[...titleProblems(overview, page), ...pageProblems(page)].map(
      (problem) => `${shown(lesson)}: ${problem}`,
    ),
    ...(target.further ?? []).flatMap((path) =>
      promptProblems(openPage(path)).map((problem) => `${shown(path)}: ${problem}`),
    ),
    ...figureProblems(target),
  ];
}

/** The catalogue reads titles by hand, because a parser of YAML takes longer to load than most commands run. */
function titleProblems({ title: read }: Pick<Lab, 'title'>, page: Page): string[] {
  const { title } = fieldsOf(page);
  if (typeof title !== 'string' || title.trim() === read) return [];
  return [
    `the title is "${title.trim()}" to a parser of YAML and "${read}" to the course: write title: ${title.trim()} on one line`,
  ];
}
