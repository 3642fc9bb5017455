import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { shown } from '../base/root';
import { type Lab, labs, type Overview, overviews } from '../content/catalog';
import { type Question, questions, withQuestion } from '../content/questions';
import { sealFor } from '../content/seal';
import { withLadder } from '../proof/ladder';
import { syncSnippets } from '../proof/snippets';

/** `npm run sync`, for authors: writes what is derived: pristine starters, seals, and in lessons code, ladders and questions. */
export function sync(): number {
  const bank = questions();
  const ownOf = ({ id }: Lab | Overview) => bank.find((question) => question.id === id);
  for (const lab of labs()) {
    // A lab that is being written lacks some of them: verify says which.
    step(lab.files.starter, () => copyFileSync(lab.files.starter, lab.files.pristine));
    step(lab.files.test, () => writeFileSync(lab.files.seal, sealFor(lab)));
    step(lab.files.lesson, () => syncLesson(lab.files.lesson, lab, ownOf(lab)));
  }
  for (const page of overviews()) syncLesson(page.files.lesson, undefined, ownOf(page));
  console.log('Starters, seals, and the code, ladders and questions in lessons are in step.');
  return 0;
}

function step(needs: string, write: () => void): void {
  if (existsSync(needs)) write();
  else console.log(`${shown(needs)} is missing: skipped`);
}

/** @param lab the lesson's, where it has one */
function syncLesson(path: string, lab: Lab | undefined, own: Question | undefined): void {
  const before = readFileSync(path, 'utf8');
  const climbed = (lab && withLadder(before, lab)) ?? before;
  const asked = (own && withQuestion(climbed, path, own)) ?? climbed;
  const after = syncSnippets(asked);
  if (after !== before) writeFileSync(path, after);
}
