import { copyFileSync, writeFileSync } from 'node:fs';
import { labs } from '../catalog';
import { syncSnippets } from '../proof/snippets';
import { sealFor } from '../seal';

/** `npm run sync`, for authors: writes what is derived: pristine starters, seals of tests, code in lessons. */
export function sync(): number {
  for (const lab of labs()) {
    copyFileSync(lab.files.starter, lab.files.pristine);
    writeFileSync(lab.files.seal, sealFor(lab));
    syncSnippets(lab.files.lesson);
  }
  console.log('Starters, seals and snippets are in step.');
  return 0;
}
