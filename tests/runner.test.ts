import { appendFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { unknownName } from '../course/commands/test';
import { labs } from '../course/content/catalog';
import { type Change, type ScratchCourse, scratchCourse } from './prover/scratch';
import { type Ended, Learner, run } from './support/course';

/** The learner's file: the solution, with one passage replaced. */
const attempt =
  (passage = '', replacement = ''): Change =>
  (files) => {
    const solution = files.get('memo.ts') ?? '';
    if (!solution.includes(passage)) throw new Error(`the solution does not hold ${passage}`);
    files.set('pristine', files.get('starter.ts') ?? '');
    files.set(
      'starter.ts',
      solution.replace(passage, () => replacement),
    );
  };

const KNOWN = 'const known = this.#values.get(key);';
const inGet = (code: string) => attempt(KNOWN, `${code}\n    ${KNOWN}`);

/** A lab that provides a part. */
const provides =
  (change: Change): Change =>
  (files) => {
    change(files);
    files.set('given.ts', 'export const LIMIT = 100;\n');
  };

/** A lab that provides it in a folder of parts, and a solution that uses it. */
const providesParts =
  (change: Change): Change =>
  (files) => {
    change(files);
    files.set('given.ts', "export { LIMIT } from './parts/limit';\n");
    files.set('parts/limit.ts', 'export const LIMIT = 100;\n');
  };

/** A lab on servers, in whose test Redis goes away. */
const losesRedis: Change = (files) => {
  attempt()(files);
  files.set(
    'checks.ts',
    `import { expect, test } from 'vitest';
import { useServers } from '#kit/servers';
import { Memo } from './memo';

const servers = useServers();

test('a second get does not load again', { timeout: 400 }, async () => {
  await servers.redis.call('shutdown', 'nosave').catch(() => {});
  const cache = new Memo(async (key) => String(await servers.redis.get(key)));
  expect(await cache.get('a')).toBe('a');
});
`,
  );
};

/** A lab of two parts. The solution passes Core and the first test of production. */
const ladder =
  (change: Change): Change =>
  (files) => {
    change(files);
    const [head = '', ...tests] = (files.get('checks.ts') ?? '').split(/\n(?=test\()/);
    const production = [
      `test('a load that fails is not kept', async () => {
  let loads = 0;
  const cache = new Memo(async (key) => {
    if (loads++ === 0) throw new Error('the source is away');
    return key;
  });
  await cache.get('a').catch(() => {});
  expect(await cache.get('a')).toBe('a');
});`,
      `test('callers at the same time share a load', async () => {
  let loads = 0;
  const cache = new Memo(async (key) => {
    loads++;
    return key;
  });
  await Promise.all(['a', 'a', 'a'].map((key) => cache.get(key)));
  expect(loads, 'three callers at once must cause one load').toBe(1);
});`,
    ];
    const part = (name: string, all: readonly string[]) =>
      `describe('${name}', () => {\n${all.join('\n')}\n});\n`;
    files.set(
      'checks.ts',
      [
        head.replace('{ expect', '{ describe, expect'),
        part('Core', tests),
        part('In production', production),
      ].join('\n'),
    );
  };

/** A lab on servers whose test fails after some requests. */
const asksServers: Change = (files) => {
  attempt()(files);
  files.set(
    'checks.ts',
    `import { expect, test } from 'vitest';
import { useServers } from '#kit/servers';
import { Memo } from './memo';

const servers = useServers('products');

test('a second get does not load again', async () => {
  const cache = new Memo(async (key) => {
    await servers.redis.set(key, 'a text that is rather long, so that nobody wants to see the whole of it', 'PX', 5000);
    const [rows] = await servers.db.query('SELECT id, price FROM products WHERE id = ?', [1]);
    return JSON.stringify(rows);
  });
  await cache.get('a');
  expect(await servers.redis.get('b\\0\\x1b[2J'), 'the entry must be there').not.toBeNull();
});
`,
  );
};

/** What is done to a lab, the exit code of its run, and what becomes of its files before it. */
type Scenario = readonly [code: number, change: Change, spoil?: (lab: string) => void];

const SCENARIOS: Readonly<Record<string, Scenario>> = {
  green: [0, attempt()],
  red: [1, inGet("console.log('asked for', key);\n    this.#values.clear();")],
  // The compiler finds it, and the tests run all the same.
  'type-error': [1, attempt('this.#values.set(key, value);', 'this.#values.keep(key, value);')],
  decorator: [1, attempt('async get(key: string)', '@logged async get(key: string)')],
  'syntax-error': [1, attempt('async get(key: string)', 'async get(key: string')],
  'missing-export': [1, attempt('export class', 'class')],
  'default-export': [1, attempt('export class', 'export default class')],
  'process-exit': [1, inGet('process.exit(0);')],
  'unhandled-rejection': [1, inGet("Promise.reject(new Error('nobody listens'));")],
  'thrown-in-a-timer': [1, inGet("setTimeout(() => { throw new Error('nobody catches'); }, 20);")],
  'left-open': [1, inGet('setInterval(() => this.#values.clear(), 60_000);')],
  'open-timer': [1, inGet('setTimeout(() => this.#values.clear(), 10_000);')],
  'printed-to-stdout': [1, inGet("process.stdout.write('asked\\n');\n    this.#values.clear();")],
  core: [1, ladder(attempt())],
  'core-red': [1, ladder(inGet('this.#values.clear();'))],
  requests: [1, asksServers],
  'never-settles': [1, inGet('await new Promise(() => {});')],
  'dead-redis': [2, losesRedis],
  'missing-starter': [1, () => {}, (lab) => rmSync(`${lab}.ts`)],
  'missing-test': [1, () => {}, (lab) => rmSync(`${lab}.test.ts`)],
  'emptied-test': [1, attempt(), (lab) => truncateSync(`${lab}.test.ts`)],
  'edited-test': [1, attempt(), (lab) => appendFileSync(`${lab}.test.ts`, '// easier now\n')],
  'edited-given': [
    1,
    provides(attempt()),
    (lab) => appendFileSync(join(lab, '../given.ts'), '// easier now\n'),
  ],
  'edited-part': [
    1,
    providesParts(attempt()),
    (lab) => appendFileSync(join(lab, '../parts/limit.ts'), '// easier now\n'),
  ],
  'missing-part': [1, providesParts(attempt()), (lab) => rmSync(join(lab, '../parts/limit.ts'))],
  'edited-test-red': [1, () => {}, (lab) => appendFileSync(`${lab}.test.ts`, '// easier now\n')],
  // The last of each learner: they cost a process.
  crash: [1, inGet("process.kill(process.pid, 'SIGKILL');\n    await new Promise(() => {});")],
  'endless-loop': [1, inGet('while (true) {}')],
};

const courses: ScratchCourse[] = [];

/** A course of these labs, after one that is solved in none: the current lab. */
function openCourse(scenarios: Readonly<Record<string, Scenario>>): ScratchCourse {
  const changes = Object.entries(scenarios).map(([name, [, change]]) => [name, change] as const);
  const course = scratchCourse({ memo: () => {}, ...Object.fromEntries(changes) });
  for (const [name, [, , spoil]] of Object.entries(scenarios)) {
    spoil?.(join(course.root, 'labs', course.place(name), name));
  }
  courses.push(course);
  return course;
}

/** What the runner said of each lab: two learners, one for each core, go through the labs one by one. */
const answers = new Map<string, Ended>();
let course: ScratchCourse;

beforeAll(async () => {
  course = openCourse({ 'on-servers': [2, losesRedis] });
  const all = Object.entries(SCENARIOS);
  await Promise.all([0, 1].map((learner) => goThrough(all.filter((_, index) => index % 2 === learner))));
}, 120_000);

async function goThrough(scenarios: readonly (readonly [string, Scenario])[]): Promise<void> {
  const learner = new Learner(openCourse(Object.fromEntries(scenarios)).root);
  for (const [name] of scenarios) {
    answers.set(name, await learner.test(name));
    // Core was green before, so the second run is about production.
    if (name === 'core') answers.set('production', await learner.test(name));
  }
  learner.leave();
}

afterAll(() => {
  for (const { root } of courses) rmSync(root, { recursive: true });
});

const npmTest = (name: string, env = {}) => run(course.root, ['course/cli.cjs', 'test', name], env);

async function expectKept(name: string, ended: Ended | undefined, code: number): Promise<void> {
  const output = ended?.output.replace(/\b99\.\d+/g, '99.<n>').replace(/99-proof\/\d+-/g, '99-proof/<n>-');
  await expect(output).toMatchFileSnapshot(`texts/${name}.txt`);
  expect(ended?.code).toBe(code);
}

test.each(Object.entries(SCENARIOS))('%s', async (name, [code]) => {
  await expectKept(name, answers.get(name), code);
});

test('production, once Core is green', async () => {
  await expectKept('production', answers.get('production'), 1);
});

test('an unknown name and an unknown command are answered with the nearest', async () => {
  await expectKept('unknown-name', await npmTest('mmeo'), 2);
  await expectKept('unknown-command', await run(course.root, ['course/cli.cjs', 'tset']), 2);
});

test('a lesson without a lab is named as one', () => {
  expect(unknownName('3.8', labs())).toBe(
    '3.8 How stale is it? has no lab: read chapters/03-invalidation/08-staleness.md',
  );
});

test('no servers', async () => {
  const nowhere = { REDIS_URL: 'redis://127.0.0.1:1', MYSQL_URL: 'mysql://root@127.0.0.1:1' };
  await expectKept('no-servers', await npmTest('on-servers', nowhere), 2);
});

test('an old Node', async () => {
  writeFileSync(
    join(course.root, 'old.cjs'),
    "Object.defineProperty(process.versions, 'node', { value: '18.20.4' });",
  );
  await expectKept('old-node', await run(course.root, ['-r', './old.cjs', 'course/cli.cjs', 'test']), 2);
});

test('a damaged progress file is set aside, and one that cannot be written stops nothing', {
  timeout: 60_000,
}, async () => {
  const { root } = openCourse({});
  writeFileSync(join(root, '.course'), '');
  await expectKept('progress-not-saved', await run(root, ['course/cli.cjs', 'hint']), 0);
  rmSync(join(root, '.course'));
  await run(root, ['course/cli.cjs', 'hint']);
  const noList = '{"version":2,"passed":{},"failing":{},"hints":{},"production":null}';
  for (const damaged of ['{"passed":', noList]) {
    writeFileSync(join(root, '.course/progress.json'), damaged);
    await expectKept('damaged-progress', await run(root, ['course/cli.cjs', 'hint']), 0);
  }
});
