import { expect, onTestFinished, test } from 'vitest';
import { scratchCourse } from './scratch';

const LAB = 'labs/01-fundamentals/04-lru';
const SOLUTION = 'solutions/01-fundamentals/04-lru/lru.ts';
const STACK_LAB = 'labs/01-fundamentals/01-hit-or-miss';
const STACK_SOLUTION = 'solutions/01-fundamentals/01-hit-or-miss/hit-or-miss.ts';

type Course = ReturnType<typeof scratchCourse>;

function course(): Course {
  const scratch = scratchCourse();
  onTestFinished(() => scratch.end());
  return scratch;
}

/** The lab solved, with one passage replaced. */
function solved(scratch: Course, from = '', to = ''): void {
  const solution = scratch.read(SOLUTION);
  if (!solution.includes(from)) throw new Error(`the solution has no "${from}" any more: correct this test`);
  scratch.write(`${LAB}/lru.ts`, solution.replace(from, to));
}

const GET = '    const entry = this.#entries.get(key);\n    if (entry === undefined) return undefined;\n';

const PEEK = 'return this.#entries.get(key)?.value;';

/** What a learner may do to the course, and the exit code that `npm test -- lru` answers with. */
const scenarios: Record<string, { code: number; prepare(scratch: Course): void; args?: readonly string[] }> =
  {
    'not implemented': { code: 1, prepare: () => {} },
    red: {
      code: 1,
      prepare: (scratch) =>
        solved(scratch, '    this.#use(entry);\n    return entry.value;', '    return entry.value;'),
    },
    green: { code: 0, prepare: (scratch) => solved(scratch) },
    'syntax error': {
      code: 1,
      prepare: (scratch) => solved(scratch, 'get size(): number {', 'get size(: number {'),
    },
    'type error': {
      code: 0,
      prepare: (scratch) =>
        solved(
          scratch,
          'return this.#entries.has(key);',
          "const no: number = 'text';\n    return no !== undefined && this.#entries.has(key);",
        ),
    },
    'missing export': { code: 1, prepare: (scratch) => solved(scratch, 'export class Lru', 'class Lru') },
    'endless loop': { code: 1, prepare: (scratch) => solved(scratch, GET, `${GET}    while (true) {}\n`) },
    'process exit': { code: 1, prepare: (scratch) => solved(scratch, GET, `${GET}    process.exit(0);\n`) },
    'unhandled rejection': {
      code: 1,
      prepare: (scratch) =>
        solved(scratch, PEEK, `Promise.reject(new Error('nobody listens'));\n    ${PEEK}`),
    },
    'emptied test': {
      code: 1,
      prepare(scratch) {
        solved(scratch);
        scratch.write(`${LAB}/lru.test.ts`, '');
      },
    },
    'edited test': {
      code: 1,
      prepare(scratch) {
        solved(scratch);
        scratch.write(`${LAB}/lru.test.ts`, `${scratch.read(`${LAB}/lru.test.ts`)}\n// easier now\n`);
      },
    },
    'missing test': { code: 1, prepare: (scratch) => scratch.remove(`${LAB}/lru.test.ts`) },
    'missing starter': { code: 1, prepare: (scratch) => scratch.remove(`${LAB}/lru.ts`) },
    'unknown name': { code: 2, prepare: () => {}, args: ['test', 'lur'] },
    'unknown command': { code: 2, prepare: () => {}, args: ['tset'] },
  };

test.concurrent.for(Object.entries(scenarios))(
  '%s',
  { timeout: 60_000 },
  async ([name, { code, prepare, args }], { expect, onTestFinished }) => {
    const scratch = scratchCourse();
    onTestFinished(() => scratch.end());
    prepare(scratch);
    const ended = await scratch.run(args ?? ['test', 'lru']);
    await expect(ended.output).toMatchFileSnapshot(`texts/${name.replaceAll(' ', '-')}.txt`);
    expect(ended.code).toBe(code);
  },
);

test('a promise that never settles and a connection left open are told, on real servers', {
  timeout: 60_000,
}, async () => {
  const scratch = course();
  const solution = scratch.read(STACK_SOLUTION);
  const load = '    const start = now();\n    const [rows]';
  scratch.write(
    `${STACK_LAB}/hit-or-miss.ts`,
    solution.replace(load, `    await new Promise(() => {});\n${load}`),
  );
  const hung = await scratch.run(['test', 'hit-or-miss']);
  await expect(hung.output).toMatchFileSnapshot('texts/never-settles.txt');
  expect(hung.code).toBe(1);

  const opened = solution
    .replace("import type { Redis } from 'ioredis';", "import { Redis } from 'ioredis';")
    .replace(load, `    new Redis(redis.options);\n${load}`);
  scratch.write(`${STACK_LAB}/hit-or-miss.ts`, opened);
  const left = await scratch.run(['test', 'hit-or-miss']);
  expect(left.output).toContain('left something open');
  expect(left.code).toBe(1);
});

test('no servers, an old Node and a damaged progress file are told', { timeout: 60_000 }, async () => {
  const scratch = course();
  const refused = await scratch.run(['test', 'hit-or-miss'], {
    REDIS_URL: 'redis://127.0.0.1:1',
    MYSQL_URL: 'mysql://root@127.0.0.1:1',
  });
  await expect(refused.output).toMatchFileSnapshot('texts/no-servers.txt');
  expect(refused.code).toBe(2);

  scratch.write('old.cjs', "Object.defineProperty(process.versions, 'node', { value: '18.20.4' });");
  const old = await scratch.node(['-r', './old.cjs', 'course/cli.cjs', 'test']);
  await expect(old.output).toMatchFileSnapshot('texts/old-node.txt');
  expect(old.code).toBe(2);

  await scratch.run(['test', 'lru']);
  scratch.write('.course/progress.json', '{"passed":');
  const damaged = await scratch.run(['list']);
  await expect(damaged.output).toMatchFileSnapshot('texts/damaged-progress.txt');
  expect(damaged.code).toBe(0);
});
