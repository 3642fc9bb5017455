import { once } from 'node:events';
import { join } from 'node:path';
import { forkScript } from '#claims';
import type { Seen } from './readers';

/** 1,000 readers of a cold key over all processes; then 20 in each of a key whose TTL ends again and again. */
export async function inProcesses(
  name: string,
  url: string,
  processes: number,
  steadyMs: number,
): Promise<Seen> {
  const children = Array.from({ length: processes }, () =>
    forkScript(join(import.meta.dirname, 'readers.ts'), [
      name,
      url,
      String(1_000 / processes),
      String(steadyMs),
    ]),
  );
  const answers = () => Promise.all(children.map(async (child) => (await once(child, 'message'))[0]));
  const tell = (word: string) => {
    for (const child of children) child.send(word);
  };
  try {
    await answers();
    const heard = answers();
    tell('cold');
    const cold: Seen[] = await heard;
    const filled = answers();
    tell('steady');
    await filled;
    const steady: Seen[] = await answers();
    const sum = (counts: readonly number[]) => counts.reduce((total, count) => total + count, 0);
    return {
      coldLoads: sum(cold.map(({ coldLoads }) => coldLoads)),
      steadyLoads: sum(steady.map(({ steadyLoads }) => steadyLoads)),
      blocked: sum(steady.map(({ blocked }) => blocked)),
      oldestMs: Math.max(...steady.map(({ oldestMs }) => oldestMs)),
    };
  } finally {
    for (const child of children) child.kill();
  }
}
