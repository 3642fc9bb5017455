import { chmodSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import { publishedCourse, type Repository } from './support/clone';

/** `npm run update`: a newer version of the course over a clone with work in it. */

const asHandedOut = () => {};
const course = publishedCourse({ first: asHandedOut, second: asHandedOut, third: asHandedOut });
afterAll(course.end);
// Each of these starts processes by the dozen.
vi.setConfig({ testTimeout: 300_000 });

const FIRST = `labs/${course.place('first')}/first.ts`;
const SECOND = `labs/${course.place('second')}/second.ts`;
const TESTS = FIRST.replace('.ts', '.test.ts');

const update = (learner: Repository, env = {}) => learner.course(['update'], env);

/** The upstream course gets a new version. */
function publish(upstream: Repository, files: Readonly<Record<string, string>>): void {
  for (const [path, text] of Object.entries(files)) upstream.write(path, text);
  upstream.commit('A new version');
}

const copies = (learner: Repository) => [...learner.contents('.course/attempts').values()];

describe('the work of a learner', () => {
  test('an attempt is put back where the starter is the same, with its time', async () => {
    const { upstream, learner } = course.pair();
    learner.write(FIRST, '// mine\n');
    const edited = statSync(join(learner.folder, FIRST)).mtimeMs;
    publish(upstream, { 'README.md': '# New\n', [SECOND]: '// a new starter\n' });

    const { code, output } = await update(learner);
    expect(output).toContain(`Your work is back in its place:\n  ${FIRST}`);
    expect(output).toContain('0 of 3 labs');
    expect(code).toBe(0);
    expect(learner.read(FIRST)).toBe('// mine\n');
    expect(statSync(join(learner.folder, FIRST)).mtimeMs).toBeCloseTo(edited, -1);
    expect(learner.read(SECOND)).toBe('// a new starter\n');
    expect(learner.read('README.md')).toBe('# New\n');
    expect(learner.status()).toEqual([`M ${FIRST}`]);
    expect(copies(learner)).toEqual(['// mine\n']);
  });

  test('a changed starter takes its place, and both are named', async () => {
    const { upstream, learner } = course.pair();
    learner.write(FIRST, '// mine\n');
    publish(upstream, { [FIRST]: '// a new starter\n' });

    const { code, output } = await update(learner);
    const copy = `.course/attempts/update-<time>/${FIRST}`;
    expect(output).toContain(`${FIRST}\n    yours  ${copy}\n    both   git diff --no-index ${copy} ${FIRST}`);
    expect(code).toBe(0);
    expect(learner.read(FIRST)).toBe('// a new starter\n');
    expect(copies(learner)).toEqual(['// mine\n']);
  });

  test('an edited test file and a helper are kept with their modes', async () => {
    const { upstream, learner } = course.pair();
    const helper = FIRST.replace('first.ts', 'helper.ts');
    const tests = learner.read(TESTS);
    learner.write(TESTS, `${tests}// a look inside\n`);
    learner.write(helper, '// my helper\n');
    chmodSync(join(learner.folder, helper), 0o700);
    publish(upstream, { [TESTS]: `${tests}// more of it\n` });

    const { output } = await update(learner);
    expect(output).toContain(`back in its place:\n  ${helper}`);
    expect(learner.read(TESTS)).toBe(`${tests}// more of it\n`);
    expect(learner.read(helper)).toBe('// my helper\n');
    expect(statSync(join(learner.folder, helper)).mode & 0o777).toBe(0o700);
    expect(copies(learner).sort()).toEqual(['// my helper\n', `${tests}// a look inside\n`].sort());
  });

  test('a helper where the new version has a file of that name is kept', async () => {
    const { upstream, learner } = course.pair();
    const given = FIRST.replace('first.ts', 'given.ts');
    learner.write(given, '// my helper\n');
    publish(upstream, { [given]: '// what the lab provides\n' });

    const { output } = await update(learner);
    expect(output).toContain(`Changed in the new version`);
    expect(learner.read(given)).toBe('// what the lab provides\n');
    expect(copies(learner)).toEqual(['// my helper\n']);
  });

  test('an attempt follows its lab to another number', async () => {
    const { upstream, learner } = course.pair();
    learner.write(FIRST, '// mine\n');
    learner.write(FIRST.replace('first.ts', 'parts/helper.ts'), '// my helper\n');
    upstream.git('mv', `labs/${course.place('first')}`, 'labs/99-proof/07-first');
    upstream.commit('Another order');

    expect((await update(learner)).code).toBe(0);
    expect(learner.read('labs/99-proof/07-first/first.ts')).toBe('// mine\n');
    expect(learner.read('labs/99-proof/07-first/parts/helper.ts')).toBe('// my helper\n');
    expect(learner.has(`labs/${course.place('first')}`)).toBe(false);
  });

  test('the attempt at a lab that is no longer there is kept', async () => {
    const { upstream, learner } = course.pair();
    learner.write(FIRST, '// mine\n');
    upstream.git('rm', '-r', '--quiet', `labs/${course.place('first')}`);
    upstream.commit('One lab fewer');

    expect((await update(learner)).output).toContain(
      `no longer has. Your files are kept:\n  .course/attempts/`,
    );
    expect(copies(learner)).toEqual(['// mine\n']);
    expect(learner.has(`labs/${course.place('first')}`)).toBe(false);
  });

  test('commits that touch labs/ alone stay, time after time', async () => {
    const { upstream, learner } = course.pair();
    learner.write(FIRST, '// mine\n');
    learner.commit('The first lab');
    const mine = learner.git('rev-parse', 'HEAD');
    for (const version of ['# New\n', '# Newer\n']) {
      publish(upstream, { 'README.md': version });
      expect((await update(learner)).code).toBe(0);
      expect(learner.read('README.md')).toBe(version);
      expect(learner.read(FIRST)).toBe('// mine\n');
    }
    expect(learner.git('merge-base', '--is-ancestor', mine, 'HEAD')).toBe('');
    expect((await update(learner)).output).toBe('The course is up to date.\n');
  });
});

test('a fork is updated from the remote that is called upstream', async () => {
  const { upstream, learner: fork } = course.pair();
  const learner = fork.clone(`${fork.folder}-of-fork`);
  learner.git('remote', 'add', 'upstream', upstream.folder);
  publish(upstream, { 'README.md': '# New\n' });

  expect((await update(learner)).code).toBe(0);
  expect(learner.read('README.md')).toBe('# New\n');
});

test('packages are installed where they have changed', async () => {
  const { upstream, learner } = course.pair();
  // Instead of npm: what it is asked for.
  upstream.write('bin/npm', '#!/bin/sh\necho "asked for: npm $*"\nexit $NPM_EXIT\n');
  chmodSync(join(upstream.folder, 'bin/npm'), 0o755);
  publish(upstream, { 'package-lock.json': '{}\n' });
  const env = { PATH: `${learner.folder}/bin:${process.env.PATH}` };

  const failed = await update(learner, { ...env, NPM_EXIT: '1' });
  expect(failed.output).toContain('Run it again: npm run update');
  expect(failed.code).toBe(2);
  const { code, output } = await update(learner, { ...env, NPM_EXIT: '0' });
  expect(output).toContain('asked for: npm ci');
  expect(code).toBe(0);
  expect((await update(learner, env)).output).toBe('The course is up to date.\n');
});

describe('a clone that cannot be updated is left as it is', () => {
  const mine = { [FIRST]: '// mine\n' };
  const cases: Readonly<Record<string, [(learner: Repository) => void, string]>> = {
    'no clone': [
      ({ folder }) => rmSync(join(folder, '.git'), { recursive: true }),
      'not a git clone of the course',
    ],
    'no remote': [(learner) => learner.git('remote', 'remove', 'origin'), 'git remote add upstream URL'],
    'no network': [
      (learner) => learner.git('remote', 'set-url', 'origin', '/nowhere'),
      'No newer version could be fetched, and nothing was changed.\ngit fetch failed:',
    ],
    'no branch': [(learner) => learner.git('switch', '--quiet', '--detach'), 'git switch main'],
    'a branch that follows none': [
      (learner) => learner.git('switch', '--quiet', '--no-track', '-c', 'mine'),
      'git branch --set-upstream-to=origin/main',
    ],
    'an edited file of the course': [
      (learner) => learner.write('README.md', '# Mine\n'),
      'Files outside of labs/ are not as the course has them:\n  README.md\n',
    ],
    'a file where the new version has one': [(learner) => learner.write('NEW.md', 'mine\n'), '  NEW.md\n'],
    'a file where the new version has a folder': [(learner) => learner.write('docs', 'mine\n'), '  docs\n'],
    'commits outside of labs/': [
      (learner) => {
        learner.write('README.md', '# Mine\n');
        learner.commit('Mine');
      },
      'change files outside of labs/:\n  README.md\n',
    ],
    'a file that is staged and edited': [
      (learner) => {
        learner.git('add', FIRST);
        learner.write(FIRST, '// mine, and more\n');
      },
      `staged, and were edited after that:\n  ${FIRST}\n`,
    ],
    'a merge under way': [
      (learner) => {
        learner.git('switch', '--quiet', '-c', 'mine');
        learner.commit('Mine');
        learner.git('switch', '--quiet', 'main');
        learner.git('merge', '--quiet', '--no-ff', '--no-commit', 'mine');
      },
      'git merge --continue, or git merge --abort',
    ],
  };

  test.for(Object.entries(cases))('%s', async ([, [make, message]]) => {
    const { upstream, learner } = course.pair();
    publish(upstream, { 'NEW.md': 'new\n', 'docs/more.md': 'new\n' });
    for (const [path, text] of Object.entries(mine)) learner.write(path, text);
    make(learner);
    const before = [learner.contents('labs'), learner.read('README.md')];

    const { code, output } = await update(learner);
    expect(output).toContain(message);
    expect(code).toBe(2);
    expect([learner.contents('labs'), learner.read('README.md')]).toEqual(before);
    expect(learner.has('.course/attempts')).toBe(false);
  });
});

/** Each third step, another third each time. All of them by hand: COURSE_KILL_EACH=1 npx vitest run tests/update.test.ts */
const EACH = Number(process.env.COURSE_KILL_EACH ?? 3);

test('an update that is killed at any step loses nothing, and is finished by the next', {
  timeout: 120_000,
}, async () => {
  /** One attempt to put back, one to keep, a helper that moves. */
  const scene = () => {
    const { upstream, learner } = course.pair();
    learner.write(FIRST, '// mine\n');
    learner.write(FIRST.replace('first.ts', 'helper.ts'), '// my helper\n');
    learner.write(SECOND, '// mine too\n');
    upstream.write(SECOND, '// a new starter\n');
    upstream.git('mv', `labs/${course.place('first')}`, 'labs/99-proof/07-first');
    publish(upstream, { 'README.md': '# New\n' });
    return learner;
  };
  const killed = (learner: Repository, at: number) =>
    update(learner, {
      NODE_OPTIONS: `--require ${join(import.meta.dirname, 'support/kill-at.cjs')}`,
      KILL_AT: `${at}`,
      KILL_COUNT: join(learner.folder, '.course/count'),
    });

  const whole = scene();
  expect((await killed(whole, 0)).code).toBe(0);
  const steps = Number(readFileSync(join(whole.folder, '.course/count'), 'utf8'));
  expect(steps).toBeGreaterThan(10);

  for (let at = 1 + Math.floor(Math.random() * EACH); at <= steps; at += EACH) {
    const learner = scene();
    expect((await killed(learner, at)).code, `killed at step ${at}`).toBe(null);
    const everywhere = [...learner.contents('labs').values(), ...copies(learner)];
    expect(everywhere).toEqual(expect.arrayContaining(['// mine\n', '// my helper\n', '// mine too\n']));
    expect(await update(learner)).toMatchObject({ code: 0 });
    expect(learner.contents('labs')).toEqual(whole.contents('labs'));
    expect(learner.status()).toEqual(whole.status());
    expect(learner.has('.course/update.json')).toBe(false);
  }
});

test('what is edited after an interruption is not overwritten', async () => {
  const { upstream, learner } = course.pair();
  learner.write(FIRST, '// mine\n');
  publish(upstream, { [FIRST]: '// a new starter\n' });
  await update(learner);
  // As if it had been killed before it was done.
  const [from, to] = [learner.git('rev-parse', 'HEAD~'), learner.git('rev-parse', 'HEAD')];
  const [copy] = [...learner.contents('.course/attempts').keys()];
  learner.write(
    '.course/update.json',
    JSON.stringify({ version: 1, base: from, to, kept: [{ path: FIRST, copy }] }),
  );
  learner.write(FIRST, '// written since\n');
  expect((await learner.course(['list'])).output).toContain('Finish it: npm run update');

  expect((await update(learner)).output).toContain('Edited after the update was interrupted');
  expect(learner.read(FIRST)).toBe('// written since\n');
});
