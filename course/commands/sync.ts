import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { shown } from '../base/root';
import { type Lab, labs, overviews } from '../content/catalog';
import { sealFor } from '../content/seal';
import { withLadder } from '../proof/ladder';
import { syncSnippets } from '../proof/snippets';

/** `npm run sync`, for authors: writes what is derived: pristine starters, seals, code and ladders in lessons. */
export function sync(): number {
  for (const lab of labs()) {
    // A lab that is being written lacks some of them: verify says which.
    step(lab.files.starter, () => copyFileSync(lab.files.starter, lab.files.pristine));
    step(lab.files.test, () => writeFileSync(lab.files.seal, sealFor(lab)));
    step(lab.files.lesson, () => syncLesson(lab.files.lesson, lab));
  }
  for (const { files } of overviews()) syncLesson(files.lesson);
  console.log('Starters, seals, code and ladders in lessons are in step.');
  return 0;
}

function step(needs: string, write: () => void): void {
  if (existsSync(needs)) write();
  else console.log(`${shown(needs)} is missing: skipped`);
}

function syncLesson(path: string, lab?: Lab): void {
  const before = readFileSync(path, 'utf8');
  const after = syncSnippets((lab && withLadder(before, lab)) ?? before);
  if (after !== before) writeFileSync(path, after);
}
