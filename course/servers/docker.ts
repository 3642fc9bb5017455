import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const LIMIT = { timeout: 2000, killSignal: 'SIGKILL' } as const;

/** A Docker engine answers within 2 s, and `docker compose` is there. */
export async function dockerWorks(): Promise<boolean> {
  try {
    await Promise.all([run('docker', ['info'], LIMIT), run('docker', ['compose', 'version'], LIMIT)]);
    return true;
  } catch {
    return false;
  }
}

/** Whether the engine has an image already: a test cannot wait for a download. */
export async function hasImage(image: string): Promise<boolean> {
  try {
    await run('docker', ['image', 'inspect', image], LIMIT);
    return true;
  } catch {
    return false;
  }
}
