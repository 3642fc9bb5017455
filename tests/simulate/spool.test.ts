import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { BLOCK } from '../../course/experiments/simulator/blocks';
import { Spool } from '../../course/experiments/simulator/spool';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'spool-'));
  vi.stubEnv('TMPDIR', folder);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});

test('blocks come back as they were written, in any order, and no file has a name meanwhile', () => {
  const spool = new Spool();
  const full = new Int32Array(BLOCK).map((_, at) => at * 7);
  spool.write(1, Int32Array.of(3, 2 ** 31 - 1));
  spool.write(0, full);
  expect([...spool.read(1)]).toEqual([3, 2 ** 31 - 1]);
  expect(spool.read(0)).toEqual(full);
  expect([...spool.read(2)]).toEqual([]);
  expect(readdirSync(folder)).toEqual([]);
  spool.close();
});

test('a temporary folder that takes nothing is named, with what to do', () => {
  const spool = new Spool();
  spool.close();
  // As with a full disk: the system refuses the write.
  expect(() => spool.write(0, Int32Array.of(1))).toThrow(
    `The trace cannot be kept in the temporary folder ${folder}: EBADF`,
  );
  rmSync(folder, { recursive: true });
  expect(() => new Spool()).toThrow('Set TMPDIR to a folder with room');
});
