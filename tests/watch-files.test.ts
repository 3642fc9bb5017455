import { mkdirSync, mkdtempSync, renameSync, rmSync, type WatchListener, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { watchFolder } from '../course/commands/watch-files';

const system = vi.hoisted(() => ({ watchersLeft: true }));

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>();
  const watch = (folder: string, listener: WatchListener<string>) => {
    if (system.watchersLeft) return fs.watch(folder, listener);
    throw Object.assign(new Error('EMFILE: too many open files, watch'), { code: 'EMFILE' });
  };
  return { ...fs, watch };
});

let parent: string;
let lab: string;
let changes: number;

beforeEach(() => {
  system.watchersLeft = true;
  parent = mkdtempSync(join(tmpdir(), 'watch-files-'));
  onTestFinished(() => rmSync(parent, { recursive: true }));
  lab = join(parent, '04-lru');
  makeLab();
  changes = 0;
});

function makeLab(): void {
  mkdirSync(lab);
  for (const file of ['lru.ts', 'lru.test.ts', 'hints.md']) write(file);
}

let versions = 0;
const write = (file: string) => writeFileSync(join(lab, file), `version ${++versions}`);

function watchLab(): void {
  const stop = watchFolder(lab, () => {
    changes += 1;
  });
  onTestFinished(stop);
}

/** Does `change`, and waits until it is told. */
async function expectTold(change: () => void): Promise<void> {
  const before = changes;
  change();
  await expect.poll(() => changes, { timeout: 10_000, interval: 10 }).toBeGreaterThan(before);
}

/** Longer than two looks. */
const QUIET_MS = 700;

test("the learner's file, a file of their own and one in a folder of their own are watched", async () => {
  mkdirSync(join(lab, 'parts'));
  watchLab();
  await expectTold(() => write('lru.ts'));
  await expectTold(() => write('ring.ts'));
  await expectTold(() => write('ring.ts'));
  await expectTold(() => write('parts/node.ts'));
  await expectTold(() => rmSync(join(lab, 'ring.ts')));
});

test('what an editor puts beside a file on saving is not told, and the save is', async () => {
  watchLab();
  for (const file of ['4913', '.lru.ts.swp', '#lru.ts#', 'lru.ts~', '.#lru.ts', 'lru.ts___jb_tmp___']) {
    write(file);
    rmSync(join(lab, file));
  }
  await sleep(QUIET_MS);
  expect(changes).toBe(0);
  await expectTold(() => {
    write('lru.ts.tmp.7');
    renameSync(join(lab, 'lru.ts.tmp.7'), join(lab, 'lru.ts'));
  });
});

test('a folder that goes and comes back goes on being watched', async () => {
  watchLab();
  await expectTold(() => rmSync(lab, { recursive: true }));
  await expectTold(makeLab);
  await expectTold(() => write('lru.ts'));
  // A branch switch, in one go.
  await expectTold(() => {
    rmSync(lab, { recursive: true });
    makeLab();
  });
  await expectTold(() => write('lru.ts'));
});

test('where the system has no watcher left, changes are found all the same', async () => {
  system.watchersLeft = false;
  watchLab();
  await expectTold(() => write('lru.ts'));
});

test('nothing is told after the end', async () => {
  const stop = watchFolder(lab, () => {
    changes += 1;
  });
  write('lru.ts');
  stop();
  write('lru.ts');
  await sleep(QUIET_MS);
  expect(changes).toBe(0);
});
