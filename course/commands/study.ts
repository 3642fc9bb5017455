import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTwoFilesPatch } from 'diff';
import { readText } from '../base/files';
import { Refusal } from '../base/refusal';
import { shown } from '../base/root';
import { chapters, isHere, type Lab, labs, mistakesOf } from '../content/catalog';
import { helpFor, hintSections } from '../content/lesson';
import { readMistake } from '../content/mistake';
import { PATHS, paths } from '../content/paths';
import { countHint, failingTest, recordPath } from '../run/progress';
import { currentLab, isPassed, isStarter, standingOf } from '../run/standing';
import { pathScreen } from '../screen/paths';
import { labTitle, pathLine, progressBar, standingMark, suggest } from '../screen/standing';
import { bold, cyan, dim, foldRows, green, red, wrap } from '../screen/terminal';
import { choose } from './test';

/** `npm run hint`: the next hint for the test that failed last. */
export function hint(names: readonly string[]): number {
  console.log(hintFor(one(names)));
  return 0;
}

/** @param keys in watch mode a key does what a command does elsewhere */
export function hintFor(lab: Lab, keys = false): string {
  const red = failingTest(lab);
  if (red === undefined && isPassed(lab)) {
    return `${labTitle(lab)} is passed: no test of it is red.\nWhat others get wrong in it: ${cyan(`npm run mistakes -- ${lab.id}`)}`;
  }
  const failing = red || [...hintSections(lab).keys()][0];
  if (failing === undefined) return `${labTitle(lab)} has no hints.`;
  const { read, hints } = helpFor(lab, failing);
  if (hints.length === 0) return `There is no hint for "${failing}". Read ${shown(lab.files.lesson)}.`;
  const seen = countHint(lab, failing, hints.length);
  const lines = hints.slice(0, seen).map((text, index) => wrap(`${index + 1}. ${text}`, '  '));
  const more =
    seen < hints.length
      ? `${hints.length - seen} more: ${keys ? cyan('h') : suggest('npm run hint', lab)}`
      : `that was the last; ${cyan(keys ? 's' : `npm run solution -- ${lab.id}`)} shows one way`;
  return [
    bold(labTitle(lab)),
    failing,
    '',
    ...lines,
    '',
    ...(read ? [`${dim('Read')}  ${read}`] : []),
    dim(more),
  ].join('\n');
}

/** `npm run solution`: the learner's file against the solution, or the one of Core; plain where little is alike. */
export function solution(names: readonly string[], { core }: { core: boolean }): number {
  console.log(solutionFor(one(names), core));
  return 0;
}

/** @param core against the solution of Core, also where Core was green */
export function solutionFor(lab: Lab, core = false): string {
  const { starter } = lab.files;
  const standing = standingOf(lab);
  const isCoreNext = standing === 'open' || (standing === 'core' && isStarter(lab));
  const ofCore = existsSync(lab.files.core) && (core || isCoreNext);
  const solved = ofCore ? lab.files.core : lab.files.solution;
  const mine = existsSync(starter) ? readText(starter) : '';
  // Marks for the lessons, which quote from here.
  const theirs = readFileSync(solved, 'utf8').replace(/^.*\/\/ #(?:end)?region.*\n/gm, '');
  if (mine === theirs) return `${shown(starter)} equals ${ofCore ? 'the solution of Core' : 'the solution'}.`;
  const patch = createTwoFilesPatch(shown(starter), shown(solved), mine, theirs);
  const removed = patch.split('\n').filter((row) => row.startsWith('-')).length;
  // Most of it is written anew: then the file is easier to read than a diff.
  if (removed > mine.split('\n').length / 2) return `${bold(shown(solved))}\n\n${theirs.trimEnd()}`;
  return paint(patch);
}

/** `npm run list`: every lab with its state, or the steps of a path. */
export function list(path: string | undefined): number {
  console.log(path === undefined ? overview() : stepsOf(path));
  return 0;
}

/** The path is followed from now on. @throws {Refusal} with the names of the paths */
function stepsOf(name: string): string {
  const known = paths();
  const path = known.find(({ id }) => id === name.toLowerCase());
  if (!path) {
    const ids = known.map(({ id }) => id).join(', ');
    throw new Refusal(
      `No path is called "${name}". There are: ${ids}. They are described in ${shown(PATHS)}.`,
    );
  }
  const hasSteps = path.groups.length > 0;
  recordPath(hasSteps ? path.id : null);
  if (!hasSteps) return `${overview()}\n\n${dim('What comes next is the next lab in this order.')}`;
  const end = dim('You follow this path: npm start and npm test go on with its next lab, until you run');
  return `${pathScreen(path)}\n\n${end}\n${cyan('npm run list -- --path everything')}`;
}

export function overview(): string {
  const all = labs();
  const current = currentLab(all);
  return chapters()
    .map(({ id, number }) => {
      const own = all.filter(({ chapter }) => chapter === id);
      const passed = own.filter(isPassed).length;
      const heading = `${bold(`${number} ${id}`)}  ${dim(own.length > 0 ? `${passed} of ${own.length}` : 'not written yet')}`;
      return [heading, ...own.map((lab) => overviewRow(lab, lab.id === current?.id))].join('\n');
    })
    .join('\n');
}

function overviewRow(lab: Lab, isCurrent: boolean): string {
  const standing = standingOf(lab);
  const missing = isHere(lab) ? '' : `  its folder is missing: npm run reset -- ${lab.id}`;
  const note = (standing === 'passed earlier' ? '  earlier version' : '') + missing;
  const pointer = isCurrent ? cyan('›') : ' ';
  return `${pointer} ${standingMark(standing)} ${lab.number.padEnd(4)} ${lab.title.padEnd(30)} ${dim(lab.id + note)}`;
}

/** Where the learner stands, in two or three lines. */
export function standing(): string {
  const lab = currentLab(labs());
  const now = lab
    ? `${dim('Now')}  ${bold(labTitle(lab))}: ${shown(lab.files.lesson)}`
    : 'Every lab is passed.';
  return foldRows([progressBar(), now, ...pathLine(5)].join('\n'));
}

/** `npm run mistakes`: what people get wrong in a lab that the learner has passed. */
export function mistakes(names: readonly string[]): number {
  const lab = one(names, (labs) => labs.filter(isPassed).at(-1));
  if (!isPassed(lab)) {
    const where = `${labTitle(lab)}: ${standingOf(lab) === 'core' ? 'Core passes' : 'not passed yet'}`;
    throw new Refusal(
      `${where}. Its mistakes open when all tests pass: they would give the solution away.\nGo on with it: npm test -- ${lab.id}`,
    );
  }
  const stories = mistakesOf(lab).map((mistake) => {
    const { title, why, rejectedBy, patch } = readMistake(join(lab.files.mistakes, `${mistake}.diff`));
    return [
      bold(title),
      wrap(why),
      ...rejectedBy.map((test) => dim(`rejected by: ${test}`)),
      '',
      paint(patch),
    ].join('\n');
  });
  console.log(stories.join('\n'));
  return 0;
}

/** Commands about one lab take one name, or mean the current lab (or what `otherwise` picks). */
function one(
  names: readonly string[],
  otherwise: (all: readonly Lab[]) => Lab | undefined = currentLab,
): Lab {
  const lab = names.length > 0 ? choose(names)[0] : (otherwise(labs()) ?? labs()[0]);
  if (!lab) throw new Refusal('There is no lab here. Is this a complete copy of the course?');
  return lab;
}

const paint = (patch: string): string =>
  patch
    .split('\n')
    .map((row) => (row.startsWith('+') ? green(row) : row.startsWith('-') ? red(row) : row))
    .join('\n');
