import { type ChildProcess, spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ROOT } from '../../base/root';
import { labs } from '../../content/catalog';
import { openSession } from '../../run/session';
import { openServers } from '../../servers/open';
import { defineMeasure, median } from '../claims';

/** A lab on Redis and MySQL: the one that makes the runner wait most. */
const LAB = 'hit-or-miss';

/** How long a learner waits, against a bare `vitest run` of the same file and the same solution on servers that are up. */
export default defineMeasure({
  async run({ quick }) {
    const lab = labs().find(({ id }) => id === LAB);
    if (!lab) throw new Error(`there is no lab ${LAB}`);
    const course = copyWithSolution(lab.files.starter, lab.files.solution);
    const servers = await openServers();
    const session = openSession(async () => servers, { eager: true });
    const bare: number[] = [];
    const cold: number[] = [];
    const save: number[] = [];
    try {
      await session.run(lab);
      for (let round = 0; round < (quick ? 3 : 9); round++) {
        bare.push(
          await time(process.execPath, ['node_modules/vitest/vitest.mjs', 'run', `labs/${lab.place}`], ROOT, {
            COURSE_SUBJECT: 'solution',
            REDIS_URL: servers.redis,
            MYSQL_URL: servers.mysql,
          }),
        );
        cold.push(await time('npm', ['test', '--', LAB], course));
        const began = performance.now();
        await session.run(lab);
        save.push(performance.now() - began);
      }
    } finally {
      await session.close();
      rmSync(course, { recursive: true, force: true });
    }
    return {
      claims: [
        { name: 'bare', says: 'bare vitest run, servers up', value: median(bare), unit: 'ms' },
        {
          name: 'cold-against-bare',
          says: 'npm test, private Redis and MySQL started and ended, against the bare run',
          value: ratio(cold, bare),
          unit: '×',
          atMost: 1.3,
        },
        {
          name: 'save-against-bare',
          says: 'watch mode, from the save to the answer, against the bare run',
          value: ratio(save, bare),
          unit: '×',
          // A learner's file there is the starter as often as not; red or green takes the same time.
          atMost: 0.2,
        },
      ],
    };
  },
});

/** Median of the rounds' own ratios: a slow second spoils one round and not the result. */
const ratio = (ours: readonly number[], theirs: readonly number[]): number =>
  median(ours.map((ms, round) => ms / (theirs[round] ?? Number.NaN)));

/** The course with one lab solved, so that nothing of the learner's is touched. */
function copyWithSolution(starter: string, solution: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'caching-deep-dive-'));
  for (const part of ['course', 'labs', 'chapters', 'solutions', 'package.json', 'tsconfig.json']) {
    cpSync(join(ROOT, part), join(folder, part), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
  writeFileSync(starter.replace(ROOT, folder), readFileSync(solution));
  return folder;
}

function time(
  command: string,
  args: readonly string[],
  cwd: string,
  env: Record<string, string> = {},
): Promise<number> {
  const began = performance.now();
  const { REDIS_URL: _redis, MYSQL_URL: _mysql, ...inherited } = process.env;
  const child: ChildProcess = spawn(command, args, {
    cwd,
    env: { ...inherited, ...env },
    stdio: 'ignore',
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(performance.now() - began);
      else reject(new Error(`${command} ${args.join(' ')} ended with ${code}`));
    });
  });
}
