import { readFileSync } from 'node:fs';
import type { Lab } from './catalog';

/** What the tests of a lab must be able to reach. */
export interface Needs {
  readonly servers: boolean;
  readonly cluster: boolean;
}

/** Told by what its test file imports. */
export function needsOf({ files }: Lab): Needs {
  try {
    const text = readFileSync(files.test, 'utf8');
    return { servers: text.includes("from '#kit/servers'"), cluster: text.includes("from '#kit/cluster'") };
  } catch {
    return { servers: false, cluster: false };
  }
}
