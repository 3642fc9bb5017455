import { type Lab, labs } from '../content/catalog';
import { readProgress } from '../run/progress';
import { currentLab, followedPath, nextLab, type Standing, standingOf } from '../run/standing';
import { cyan, dim, green, whole, yellow } from './terminal';

export const labTitle = (lab: Lab): string => `${lab.number} ${lab.title}`;

export const MARKS: Readonly<Record<Standing, string>> = {
  open: '·',
  core: '◐',
  passed: '●',
  'passed earlier': '●',
};

export const standingMark = (standing: Standing): string => {
  const paint = { open: dim, core: yellow, passed: green, 'passed earlier': green }[standing];
  return paint(MARKS[standing]);
};

/** One mark a lab, and the counts in words, for `foldRows`. */
export function progressBar(): string {
  const progress = readProgress();
  const all = labs().map((lab) => standingOf(lab, progress));
  const passed = all.filter((standing) => standing.startsWith('passed')).length;
  const core = all.filter((standing) => standing === 'core').length;
  const more = core > 0 ? `, ${core} more with Core` : '';
  return `${all.map(standingMark).join('')}  ${whole(`${passed} of ${all.length} labs${more}`)}`;
}

/** A command about a lab: the current one needs no name. */
export const suggest = (command: string, lab: Lab): string =>
  cyan(currentLab(labs())?.id === lab.id ? command : `${command} -- ${lab.id}`);

/** The lab to go on with after `lab`: the next of the path or of the course, then from its beginning. */
export const labAfter = (lab: Lab): Lab | undefined => nextLab(labs(), lab);

/** Where the steps between the labs are, for a learner who follows a path. @param room of the label */
export function pathLine(room: number): string[] {
  const path = followedPath();
  return path ? [`${dim('Path'.padEnd(room))}${cyan(`npm run list -- --path ${path.id}`)}`] : [];
}
