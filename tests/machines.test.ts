import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import { writeRemedy } from '../course/base/files';
import { ROOT } from '../course/base/root';
import { type Change, type ScratchCourse, scratchCourse } from './prover/scratch';
import { run } from './support/course';

/** What differs from one machine, and one checkout, to the next. */

vi.setConfig({ testTimeout: 60_000 });

const courses: ScratchCourse[] = [];

function openCourse(changes: Readonly<Record<string, Change>>): ScratchCourse {
  const course = scratchCourse(changes);
  courses.push(course);
  return course;
}

afterAll(() => {
  for (const { root } of courses) rmSync(root, { recursive: true, force: true });
});

const asHandedOut: Change = () => {};

/** A lab whose tests ask for servers. */
const onServers: Change = (files) => {
  const checks = files.get('checks.ts') ?? '';
  files.set('checks.ts', `import { useServers } from '#kit/servers';\n${checks}\nuseServers();\n`);
};

test('a lab that needs no servers runs where none start', async () => {
  const { root } = openCourse({ 'on-servers': onServers, alone: asHandedOut });
  const nowhere = { REDIS_URL: 'redis://127.0.0.1:1', MYSQL_URL: 'mysql://root@127.0.0.1:1' };
  const { code, output } = await run(root, ['course/cli.cjs', 'test', 'all'], nowhere);
  expect(output).toMatch(/99\.1 .*could not be run/);
  expect(output).toMatch(/99\.2 .*0 of 2 tests pass/);
  expect(output).toContain('Nothing listens at');
  expect(code).toBe(2);
});

const cli = (course: ScratchCourse, ...args: string[]) => run(course.root, ['course/cli.cjs', ...args]);

/** The learner's file of a lab. */
const fileOf = (course: ScratchCourse, lab: string) =>
  join(course.root, 'labs', course.place(lab), `${lab}.ts`);

function commitAll({ root }: ScratchCourse): void {
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=course', '-c', 'user.email=course@localhost', ...args], {
      cwd: root,
    });
  git('init', '--quiet');
  git('add', 'labs', 'solutions');
  git('commit', '--quiet', '--message=as handed out');
}

test('a lab whose folder is lost is listed as missing, and reset brings it back', async () => {
  const course = openCourse({ lost: asHandedOut, kept: asHandedOut });
  commitAll(course);
  const folder = join(course.root, 'labs', course.place('lost'));
  const files = ['lost.ts', 'lost.test.ts', 'hints.md'].map((file) => join(folder, file));
  const before = files.map((file) => readFileSync(file, 'utf8'));
  rmSync(folder, { recursive: true });

  expect((await cli(course, 'list')).output).toMatch(/99\.1 .*its folder is missing: npm run reset -- lost/);
  const red = await cli(course, 'test', 'lost');
  expect(red.output).toMatch(/lost\.ts is not there[\s\S]*npm run reset -- lost/);
  expect(red.code).toBe(1);

  expect((await cli(course, 'reset', 'lost')).code).toBe(0);
  expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(before);
  expect((await cli(course, 'list')).output).not.toContain('missing');
});

test('the doctor says that the labs are gone', async () => {
  const course = openCourse({ lost: asHandedOut });
  rmSync(join(course.root, 'labs'), { recursive: true });
  const { code, output } = await cli(course, 'doctor');
  expect(output).toContain('Not ready. The labs are missing. Bring them back: npm run reset -- all');
  expect(code).toBe(2);
});

test("a folder of the learner's own among the labs is not a lab", async () => {
  const course = openCourse({ memo: asHandedOut });
  mkdirSync(join(course.root, 'labs/99-proof/99-notes'));
  expect((await cli(course, 'list')).output).not.toContain('notes');
  expect((await cli(course, 'test', '99-notes')).code).toBe(2);
});

test('a folder in the place of a file is named, by each command that reads it', async () => {
  const course = openCourse({ memo: asHandedOut });
  rmSync(fileOf(course, 'memo'));
  mkdirSync(fileOf(course, 'memo'));
  for (const command of ['test', 'solution', 'reset']) {
    const { code, output } = await cli(course, command, 'memo');
    expect(output.trim()).toMatch(/^labs\/.*\/memo\.ts is a folder, .*Move the folder away\.$/);
    expect(code).toBe(2);
  }
});

test.skipIf(process.getuid?.() === 0)('a file that may not be read is named, with the remedy', async () => {
  const course = openCourse({ memo: asHandedOut });
  chmodSync(fileOf(course, 'memo'), 0o000);
  const { code, output } = await cli(course, 'test', 'memo');
  expect(output.trim()).toMatch(
    /^labs\/.*\/memo\.ts may not be read by you\. Allow it: chmod u\+rw labs\/.*$/,
  );
  expect(code).toBe(2);
});

test('a user without a name can do everything', async () => {
  const course = openCourse({ 'on-servers': onServers });
  // As on OpenShift, which runs containers under a number that no passwd file knows.
  writeFileSync(
    join(course.root, 'nobody.cjs'),
    "require('node:os').userInfo = () => { throw new Error('uv_os_get_passwd returned ENOENT'); };",
  );
  const { code, output } = await run(course.root, ['-r', './nobody.cjs', 'course/cli.cjs', 'test']);
  expect(output).toContain('0 of 2 tests pass');
  expect(code).toBe(1);
});

test('the remedy for a file that cannot be written follows from why', () => {
  const because = (code: string) => writeRemedy(Object.assign(new Error(code), { code }));
  expect(because('EROFS')).toMatch(/read-only: copy the folder/);
  expect(because('ENOSPC')).toMatch(/disk is full/);
  expect(because('EACCES')).toMatch(/chown/);
});

test('a path that Vite cannot read is refused with the way out, and an unusual one is not', async () => {
  const { root } = openCourse({ memo: asHandedOut });
  const within = (name: string) => {
    const folder = join(`${root}-paths`, name);
    mkdirSync(dirname(folder), { recursive: true });
    cpSync(root, folder, { recursive: true, verbatimSymlinks: true });
    return folder;
  };
  onTestFinished(() => rmSync(`${root}-paths`, { recursive: true }));
  for (const name of ['C#', 'a%20b', 'what?', 'back\\slash', 'new\nline']) {
    const { code, output } = await run(within(name), ['course/cli.cjs', 'test']);
    expect(output).toMatch(/^The course cannot run under a path that holds ".+": <course>\nMove its folder/);
    expect(code).toBe(2);
  }
  const { output } = await run(within(`it's "ünï cödé" & 日本 (1)`), ['course/cli.cjs', 'test']);
  expect(output).toContain('0 of 2 tests pass');
});

test('a package that is missing is named with the remedy', async () => {
  const { root } = openCourse({ alone: asHandedOut });
  rmSync(join(root, 'node_modules'));
  mkdirSync(join(root, 'node_modules'));
  for (const name of readdirSync(join(ROOT, 'node_modules'))) {
    if (name !== 'diff') symlinkSync(join(ROOT, 'node_modules', name), join(root, 'node_modules', name));
  }
  const { code, output } = await run(root, ['course/cli.cjs', 'solution']);
  expect(output).toBe('The package diff of the course is not installed. Run: npm ci\n');
  expect(code).toBe(2);
});

test('npm has no install script to warn of', () => {
  const read = (file: string) => JSON.parse(readFileSync(join(ROOT, file), 'utf8'));
  const packages: Record<string, { hasInstallScript?: true }> = read('package-lock.json').packages;
  const scripts = Object.keys(packages).filter((path) => packages[path]?.hasInstallScript);
  const decided = read('package.json').allowScripts;
  expect(
    scripts.map((path) => path.replace(/^.*node_modules\//, '')).filter((name) => !(name in decided)),
  ).toEqual([]);
});
