import { nearest } from '../base/nearest';
import { Refusal } from '../base/refusal';
import { shown } from '../base/root';
import { onEnd } from '../base/signals';
import { find, type Lab, labs, overviews } from '../content/catalog';
import { chooseProduction, recordNamed } from '../run/progress';
import { openSession, type RunOptions, type Session } from '../run/session';
import { currentLab, standingOf } from '../run/standing';
import type { Answer, Verdict } from '../run/verdict';
import { notRunLine, printAnswer, summaryLine } from '../screen/answer';

/** `npm test`: the current lab once, or those that are named. @returns the exit code */
export async function test(names: readonly string[], how: RunOptions): Promise<number> {
  const chosen = choose(names);
  const [only, ...others] = chosen;
  // What the screen of a green Core names as the way on.
  if (only && others.length === 0 && !how.core && standingOf(only) === 'core') chooseProduction(only, true);
  const session = openSession();
  onEnd(() => session.close());
  try {
    return await runLabs(session, chosen, how);
  } finally {
    await session.close();
  }
}

/** Runs the labs and tells what came of them. @returns the exit code */
export async function runLabs(
  session: Session,
  chosen: readonly Lab[],
  how: RunOptions = {},
): Promise<number> {
  const answers: Answer[] = [];
  // Why a lab could not be run. The other labs may need nothing of what it needs.
  const reasons = new Set<string>();
  for (const lab of chosen) {
    try {
      const answer = await session.run(lab, how);
      answers.push(answer);
      if (chosen.length > 1) console.log(summaryLine(answer));
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      reasons.add(error.message);
      if (chosen.length > 1) console.log(notRunLine(lab));
    }
  }
  const red = answers.filter(({ verdict }) => !isGreen(verdict, how));
  const shown = red[0] ?? answers.at(-1);
  if (chosen.length > 1) console.log();
  if (shown) await printAnswer(shown);
  if (reasons.size === 0) return red.length > 0 ? 1 : 0;
  if (shown) console.log();
  throw new Refusal([...reasons].join('\n\n'));
}

/** All that ran passed. */
const isGreen = ({ kind }: Verdict, { core }: RunOptions): boolean =>
  kind === 'passed' || (kind === 'core' && core === true);

/** The labs that `names` mean; with no name the current one, or all when everything is passed. */
export function choose(names: readonly string[]): Lab[] {
  const all = labs();
  if (names.length === 0) {
    const current = currentLab(all);
    return current ? [current] : all;
  }
  const { found, unknown } = find(names, all);
  if (unknown.length > 0) throw new Refusal(unknownName(unknown[0] ?? '', all));
  const [only, ...others] = found;
  if (only && others.length === 0) recordNamed(only);
  return found;
}

export function unknownName(name: string, all: readonly Lab[]): string {
  const page = overviews().find(({ id, number }) => id === name || number === name);
  if (page) return `${page.number} ${page.title} has no lab: read ${shown(page.files.lesson)}`;
  const known = [...new Set(all.flatMap((lab) => [lab.id, lab.number, lab.chapter]))];
  const near = nearest(name, known);
  const meant = near.length > 0 ? ` Did you mean ${near.join(', ')}?` : '';
  return `No lab is called "${name}".${meant}\nAll labs: npm run list`;
}
