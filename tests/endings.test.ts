import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { type ScratchCourse, scratchCourse } from './prover/scratch';
import { learnersEnv, run } from './support/course';
import { processesOf, Terminal } from './support/terminal';

/** However a command ends, nothing of it goes on: no process, no folder. */

/** More of them by hand: COURSE_KILLS=50 npx vitest run tests/endings.test.ts */
const KILLS = Number(process.env.COURSE_KILLS ?? 4);
/** Far more than a run of one lab takes, with its servers. */
const LONG_MS = 60_000;

let course: ScratchCourse;
beforeAll(() => {
  course = scratchCourse({
    'on-servers': (files) => {
      const checks = files.get('checks.ts') ?? '';
      files.set('checks.ts', `import { useServers } from '#kit/servers';\n${checks}\nuseServers();\n`);
    },
  });
});
afterAll(() => rmSync(course.root, { recursive: true, force: true }));

/** The temporary folder of one run, by which all that belongs to the run is known. */
function ownTemporary(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'end-')));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function expectNothingLeft(folder: string): Promise<void> {
  const left = () => [...processesOf(folder), ...readdirSync(folder)];
  await expect.poll(left, { timeout: LONG_MS, interval: 50 }).toEqual([]);
}

async function expectShown(terminal: Terminal, text: string): Promise<void> {
  await expect.poll(() => terminal.output, { timeout: LONG_MS, interval: 20 }).toContain(text);
}

test(
  'a reader that leaves early costs neither the exit code nor a stack trace',
  async () => {
    const shell = (command: string) => {
      const child = spawn('sh', ['-c', command], { cwd: course.root, env: learnersEnv() });
      return once(child, 'close');
    };
    // Nobody reads from the first byte on.
    const piped = (args: string) => shell(`{ node course/cli.cjs ${args}; echo $? >code; } 2>err | true`);
    for (const [args, code] of [
      ['doctor', '0'],
      ['test all', '1'],
    ] as const) {
      await piped(args);
      const { output } = await run(course.root, [
        '-p',
        'fs.readFileSync("code", "utf8") + fs.readFileSync("err", "utf8")',
      ]);
      expect(output.trim()).toBe(code);
    }
  },
  LONG_MS,
);

describe.runIf(process.platform === 'linux')('at a terminal', { timeout: 2 * LONG_MS }, () => {
  const watching = (env: Readonly<Record<string, string>>, command = 'exec node course/cli.cjs start') =>
    new Terminal(course.root, command, env);

  test('watch mode ends with q, with Ctrl-C, and with the terminal', async () => {
    for (const [key, code] of [
      ['q', 0],
      ['\x03', 130],
    ] as const) {
      const TMPDIR = ownTemporary();
      const terminal = watching({ TMPDIR });
      await expectShown(terminal, 'watching labs');
      terminal.type(key);
      expect(await terminal.ended).toBe(code);
      await expectNothingLeft(TMPDIR);
    }
  });

  test('a terminal that is gone ends what runs in another session, as `su -c` makes one', async () => {
    const TMPDIR = ownTemporary();
    const terminal = watching({ TMPDIR }, 'setsid --wait node course/cli.cjs start');
    await expectShown(terminal, 'watching labs');
    terminal.hangUp();
    await expectNothingLeft(TMPDIR);
  });

  test.each([
    ['collapse', 'Goodput: 100 %', 'k'],
    ['incident', '1-9 the cause', '5'],
  ])('%s ends with q, with Ctrl-C, and with the terminal, also while it starts', async (name, shown, key) => {
    const ends: readonly (readonly [shown: string, end: (terminal: Terminal) => void, code?: number])[] = [
      [shown, (terminal) => terminal.type('q'), 0],
      [shown, (terminal) => terminal.type(`${key}\x03`), 130],
      [shown, (terminal) => terminal.hangUp()],
      ['starts', (terminal) => terminal.type('\x03')],
      ['starts', (terminal) => terminal.hangUp()],
    ];
    const endOne = async ([shown, end, code]: (typeof ends)[number]) => {
      const TMPDIR = ownTemporary();
      const terminal = watching({ TMPDIR }, `sh -c 'echo starts; exec node course/cli.cjs ${name}'`);
      await expectShown(terminal, shown);
      if (shown === 'starts') await sleep(Math.random() * 3000);
      end(terminal);
      if (code !== undefined) expect(await terminal.ended).toBe(code);
      await expectNothingLeft(TMPDIR);
    };
    await Promise.all(ends.map(endOne));
  });

  test.each([
    // A trace without an end, and one of a million keys that takes seconds for each policy.
    ['reads', 'yes product | node course/cli.cjs simulate', 'Reading: '],
    ['replays', 'seq 1000000 | node course/cli.cjs simulate', ' with '],
  ])('simulate ends with Ctrl-C and with the terminal while it %s', async (_, command, shown) => {
    const endings: readonly ((terminal: Terminal) => void)[] = [
      (terminal) => terminal.type('\x03'),
      (terminal) => terminal.hangUp(),
    ];
    for (const end of endings) {
      const TMPDIR = ownTemporary();
      const terminal = watching({ TMPDIR }, command);
      await expectShown(terminal, shown);
      end(terminal);
      const code = await terminal.ended;
      if (code !== null) expect(code).toBe(130);
      await expectNothingLeft(TMPDIR);
    }
  });

  test(`${KILLS} ends at random moments leave nothing`, { timeout: KILLS * LONG_MS }, async () => {
    const ways = [runAndKill, watchAndKill, watchAndInterrupt, watchAndHangUp];
    const endAtRandom = async (_: unknown, kill: number) => {
      const TMPDIR = ownTemporary();
      const end = ways[kill % ways.length]?.(TMPDIR);
      await sleep(Math.random() * 4000);
      end?.();
      await expectNothingLeft(TMPDIR);
    };
    await Promise.all(Array.from({ length: KILLS }, endAtRandom));
  });

  function runAndKill(TMPDIR: string): () => void {
    const child: ChildProcess = spawn(process.execPath, ['course/cli.cjs', 'test', 'all'], {
      cwd: course.root,
      env: { ...learnersEnv(), TMPDIR },
      stdio: 'ignore',
    });
    return () => child.kill('SIGKILL');
  }

  function watchAndKill(TMPDIR: string): () => void {
    const terminal = watching({ TMPDIR }, `sh -c 'echo pid=$$; exec node course/cli.cjs start'`);
    return () => {
      const [, pid] = /pid=(\d+)/.exec(terminal.output) ?? [];
      if (pid) process.kill(Number(pid), 'SIGKILL');
      else terminal.hangUp();
    };
  }

  function watchAndInterrupt(TMPDIR: string): () => void {
    const terminal = watching({ TMPDIR });
    return () => terminal.type('\x03');
  }

  function watchAndHangUp(TMPDIR: string): () => void {
    const terminal = watching({ TMPDIR });
    return () => terminal.hangUp();
  }
});
