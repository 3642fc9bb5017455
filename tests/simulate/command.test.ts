import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, onTestFinished, test, vi } from 'vitest';
import { ROOT } from '../../course/base/root';
import { parse } from '../../course/commands/options';
import { COMMANDS } from '../../course/commands/table';
import { learnersEnv } from '../support/course';

/** They start processes, or read whole traces, on a machine that may be busy. */
vi.setConfig({ testTimeout: 30_000 });

function simulate(args: readonly string[], input?: Buffer) {
  const temporary = mkdtempSync(join(tmpdir(), 'simulate-'));
  onTestFinished(() => rmSync(temporary, { recursive: true }));
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(ROOT, 'course/cli.cjs'), 'simulate', ...args],
    {
      cwd: temporary,
      env: { ...learnersEnv(), TMPDIR: temporary },
      input: input ?? '',
      encoding: 'utf8',
    },
  );
  return { status, stdout, stderr, temporary };
}

test('a trace comes through a pipe, and its misses go into one', () => {
  const { status, stdout, stderr, temporary } = simulate(
    ['--csv', '--sizes=3,2'],
    gzipSync('a\nb\nc\nd\na\nb\n'),
  );
  expect(stdout).toBe(
    'entries,requests,LRU,FIFO,LFU,SIEVE,S3-FIFO,W-TinyLFU,Belady\n2,6,6,6,6,6,6,5,5\n3,6,6,6,6,6,6,4,4\n',
  );
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(readdirSync(temporary)).toEqual([]);
});

test('a report is printed, and its picture goes where --svg says', () => {
  const { status, stdout, temporary } = simulate(
    ['--svg=picture.svg', '--bytes', '500'],
    Buffer.from('a\nb\na\nc\n'),
  );
  expect(stdout).toContain('the standard input: 4 requests for 3 keys');
  expect(stdout).toContain('500 bytes');
  expect(stdout).toContain(join(temporary, 'picture.svg'));
  expect(readFileSync(join(temporary, 'picture.svg'), 'utf8')).toContain('<svg');
  expect(status).toBe(0);
});

test.each([
  [['no-such-trace'], 'There is no file'],
  [[], 'the standard input holds no request'],
])('%j is refused', (args, message) => {
  const { status, stderr } = simulate(args);
  expect(stderr).toContain(message);
  expect(status).toBe(2);
});

test.each(['0', '1,,2', '1,2,', 'all', '-3', Array(33).fill(1).join()])('--sizes=%s is refused', (sizes) => {
  const { simulate: command } = COMMANDS;
  if (!command) throw new Error('there is no command simulate');
  expect(() => parse('simulate', command, [`--sizes=${sizes}`])).toThrow(
    '--sizes takes 1 to 32 whole numbers',
  );
});
