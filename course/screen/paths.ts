import { type Lab, labs } from '../content/catalog';
import { minutesOf, type Path, type Step } from '../content/paths';
import { readProgress } from '../run/progress';
import { standingOf } from '../run/standing';
import { standingMark } from './standing';
import { bold, cyan, dim, wrap } from './terminal';

/** A path with the learner's state. The pointer is at the first lab that is not done as far as the path asks. */
export function pathScreen(path: Path): string {
  const progress = readProgress();
  const known = new Map(labs().map((lab) => [lab.files.lesson, lab]));
  const isDone = ({ kind, lesson }: Step): boolean | undefined => {
    const lab = lesson === undefined ? undefined : known.get(lesson);
    if (!lab || kind === 'Read') return undefined;
    const standing = standingOf(lab, progress);
    return standing.startsWith('passed') || (kind === 'Core' && standing === 'core');
  };
  const steps = path.groups.flatMap((group) => group.steps);
  const current = steps.find((step) => isDone(step) === false);
  const row = (step: Step) => {
    const lab = step.lesson === undefined ? undefined : known.get(step.lesson);
    const mark = isDone(step) === undefined ? ' ' : standingMark(standingOf(lab as Lab, progress));
    const pointer = step === current ? cyan('›') : ' ';
    return `${pointer} ${mark} ${step.kind.padEnd(9)} ${step.text.padEnd(34)} ${dim(`${minutesOf(step)} min`)}`;
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
