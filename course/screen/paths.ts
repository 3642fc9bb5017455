import { shown } from '../base/root';
import { labs } from '../content/catalog';
import { minutesOf, type Path, type Step } from '../content/paths';
import { readProgress } from '../run/progress';
import { isDone, type Standing, standingOf } from '../run/standing';
import { standingMark } from './standing';
import { bold, cyan, dim, width, wrap } from './terminal';

/**
 * A path with the learner's state. The pointer is at the first lab that is not done as far as the path asks; when
 * all are done, at what comes after the last.
 */
export function pathScreen(path: Path): string {
  const progress = readProgress();
  const known = new Map(labs().map((lab) => [lab.files.lesson, lab]));
  const standings = new Map<Step, Standing>();
  const steps = path.groups.flatMap((group) => group.steps);
  for (const step of steps) {
    const lab = step.lesson === undefined ? undefined : known.get(step.lesson);
    if (lab && step.kind !== 'Read') standings.set(step, standingOf(lab, progress));
  }
  const open = [...standings].find(([{ kind }, standing]) => !isDone(kind, standing))?.[0];
  const current = open ?? steps[steps.findLastIndex((step) => standings.has(step)) + 1];
  const room = Math.max(...steps.map(({ text }) => text.length)) + 1;
  const row = (step: Step) => {
    const { kind, text, lesson } = step;
    const standing = standings.get(step);
    const pointer = step === current ? cyan('›') : ' ';
    const end = `${`${minutesOf(step)} min`.padEnd(7)} ${kind === 'Read' && lesson ? shown(lesson) : ''}`;
    // Left out where it would not fit: two rows for a step are hard to read.
    const fits = `› · ${kind.padEnd(9)} ${text.padEnd(room)} ${end}`.length <= width();
    const shownEnd = (fits ? end : end.slice(0, 7)).trimEnd();
    return `${pointer} ${standing ? standingMark(standing) : ' '} ${kind.padEnd(9)} ${text.padEnd(room)} ${dim(shownEnd)}`;
  };
  const groups = path.groups.map(({ title, steps: own }) => [bold(title), ...own.map(row)].join('\n'));
  const minutes = steps.reduce((sum, step) => sum + minutesOf(step), 0);
  return [
    bold(path.title),
    wrap(path.about),
    ...groups,
    dim(`${Math.round(minutes / 60)} hours by the lessons' estimates`),
  ].join('\n\n');
}
