import { expect, test } from 'vitest';
import { labs } from '../../course/content/catalog';
import { fileOf, halving, type Trial, trialsOf } from '../../course/proof/trials';
import type { LabRun, Task } from '../../course/run/messages';
import type { RunResult } from '../../course/run/runner';

const trials = labs()
  .slice(0, 3)
  .flatMap((lab) => trialsOf(lab));
const [solution, starter, mistake, ...others] = trials;
if (!solution || !starter || !mistake) throw new Error('These tests need a lab: is chapters/ complete?');

const crash: RunResult = {
  kind: 'crashed',
  test: 'a test',
  tests: [],
  how: 'It was ended by SIGKILL.',
  output: '',
};

test.each<[RunResult, string]>([
  [crash, 'ends the test process in the test "a test" (It was ended by SIGKILL.)'],
  [{ kind: 'hung', by: 'loop', test: 'a test', tests: [] }, 'hangs in the test "a test"'],
  [{ kind: 'hung', by: 'wait', test: undefined, tests: [] }, 'hangs while it is loaded'],
  [
    { kind: 'ran', runs: [], unhandled: [{ name: 'Error', message: 'boom' }] },
    'throws where no test sees it (boom)',
  ],
])('the mistake that spoils the run of all is found: %j', async (outcome, what) => {
  const { runs, lost } = await halving(
    trials,
    runner(outcome, (asked) => asked.has(mistake)),
  );
  expect(lost).toEqual([`${fileOf(mistake)}: ${what}: it may fail by an assertion only`]);
  expect(runs).toHaveLength(trials.length - 1);
});

test('of several, each is found', async () => {
  const spoilers = [solution, starter, ...others.slice(-1)];
  const { lost } = await halving(
    trials,
    runner(crash, (asked) => spoilers.some((trial) => asked.has(trial))),
  );
  expect(lost).toEqual(
    spoilers.map((trial) => expect.stringContaining(`${fileOf(trial)}: ends the test process`)),
  );
});

test('what goes wrong only together does not go unsaid', async () => {
  const { lost } = await halving(
    trials,
    runner(crash, (asked) => asked.has(solution) && asked.has(mistake) && asked.size === trials.length),
  );
  expect(lost).toEqual([
    expect.stringMatching(/and those after it: one ends the test process .* none does alone/),
  ]);
});

test('a subject that was not run does not pass for one that was', async () => {
  const forgetful = async (tasks: readonly Task[]): Promise<RunResult> => {
    const outcome = await runner(crash, () => false)(tasks);
    return outcome.kind === 'ran' ? { ...outcome, runs: outcome.runs.slice(1) } : outcome;
  };
  const { lost } = await halving(trials, forgetful);
  expect(lost).toEqual([`${fileOf(solution)}: was not run: look at its name`]);
});

/** Ends in `outcome` where the trials that it is asked for are `spoilt`; runs them where they are not. */
function runner(outcome: RunResult, spoilt: (asked: ReadonlySet<Trial>) => boolean) {
  return async (tasks: readonly Task[]): Promise<RunResult> => {
    const asked = trials.filter(({ lab, subject }) =>
      tasks.some((task) => task.place === lab.place && task.subject === subject),
    );
    if (spoilt(new Set(asked))) return outcome;
    const runs = asked.map(
      ({ lab, subject }): LabRun => ({
        place: lab.place,
        subject,
        tests: [],
        fileErrors: [],
        ms: 1,
        printed: '',
      }),
    );
    return { kind: 'ran', runs, unhandled: [] };
  };
}
