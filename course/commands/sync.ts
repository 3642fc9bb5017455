import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { shown } from '../base/root';
import { labs, overviews } from '../content/catalog';
import { sealFor } from '../content/seal';
import { syncSnippets } from '../proof/snippets';

/** `npm run sync`, for authors: writes what is derived: pristine starters, seals of tests, code in lessons. */
export function sync(): number {
  for (const lab of labs()) {
    // A lab that is being written lacks some of them: verify says which.
    step(lab.files.starter, () => copyFileSync(lab.files.starter, lab.files.pristine));
    step(lab.files.test, () => writeFileSync(lab.files.seal, sealFor(lab)));
    step(lab.files.lesson, () => syncLesson(lab.files.lesson));
  }
  for (const { files } of overviews()) syncLesson(files.lesson);
  console.log('Starters, seals and snippets are in step.');
  return 0;
}

function step(needs: string, write: () => void): void {
  if (existsSync(needs)) write();
  else console.log(`${shown(needs)} is missing: skipped`);
}

function syncLesson(path: string): void {
  const before = readFileSync(path, 'utf8');
  const after = syncSnippets(before);
  if (after !== before) writeFileSync(path, after);
}
