import { existsSync, readFileSync } from 'node:fs';
import type { Lab } from './catalog';
import type { LabRun, TestError } from './runner/messages';
import type { Outcome } from './runner/run';
import { testFile } from './seal';

/** What a run means for the learner. Each verdict has one screen (report.ts). */
export type Verdict =
  | { readonly kind: 'passed'; readonly run: LabRun }
  | { readonly kind: 'red'; readonly run: LabRun }
  /** The run ended early, and why; `test` was running. */
  | {
      readonly kind: 'stopped';
      readonly why: Stop;
      readonly test?: string | undefined;
      readonly detail: string;
    }
  /** The files are not such that a run could count. */
  | {
      readonly kind: 'void';
      readonly why: 'starter missing' | 'test missing' | 'test emptied' | 'test edited';
    };

export type Stop =
  | 'endless loop'
  | 'never settles'
  | 'crash'
  | 'syntax error'
  | 'missing export'
  | 'process.exit'
  | 'unhandled rejection'
  | 'left open'
  | 'load error';

/** What can be said before anything runs. */
export function beforeRun(lab: Lab): Verdict | undefined {
  if (!existsSync(lab.files.starter)) return { kind: 'void', why: 'starter missing' };
  const file = testFile(lab);
  if (file === 'missing' || file === 'emptied') return { kind: 'void', why: `test ${file}` };
  const missing = missingExports(lab);
  if (missing.length > 0) return { kind: 'stopped', why: 'missing export', detail: missing.join(', ') };
  return undefined;
}

export function judge(lab: Lab, outcome: Outcome): Verdict {
  if (outcome.kind === 'hung')
    return { kind: 'stopped', why: 'endless loop', test: outcome.test, detail: '' };
  if (outcome.kind === 'crashed') {
    return {
      kind: 'stopped',
      why: 'crash',
      test: outcome.test,
      detail: `${outcome.how}\n${outcome.output}`.trim(),
    };
  }
  const run = outcome.runs.find(({ place }) => place === lab.place);
  if (!run) return { kind: 'stopped', why: 'load error', detail: 'the test file ran no test' };
  return stopOf(run, outcome.unhandled) ?? verdictOf(lab, run);
}

function verdictOf(lab: Lab, run: LabRun): Verdict {
  if (run.tests.length === 0 || run.tests.some(({ state }) => state !== 'passed'))
    return { kind: 'red', run };
  return testFile(lab) === 'as handed out' ? { kind: 'passed', run } : { kind: 'void', why: 'test edited' };
}

function stopOf(run: LabRun, unhandled: readonly TestError[]): Verdict | undefined {
  const stop = (why: Stop, detail: string, test?: string): Verdict => ({
    kind: 'stopped',
    why,
    detail,
    test,
  });
  for (const { name, error } of run.tests) {
    if (error && /process\.exit unexpectedly called/.test(error.message))
      return stop('process.exit', place(error), name);
    if (error && /timed out in \d+ms/.test(error.message)) return stop('never settles', '', name);
  }
  const [fileError] = run.fileErrors;
  if (fileError) {
    if (/^LEFT OPEN/.test(fileError.message)) {
      const othersPass = run.tests.every(({ state }) => state === 'passed');
      return othersPass ? stop('left open', fileError.message.replace('LEFT OPEN: ', '')) : undefined;
    }
    if (/process\.exit unexpectedly called/.test(fileError.message))
      return stop('process.exit', place(fileError));
    const syntax = /PARSE_ERROR|SyntaxError|Transform failed|Unexpected token|Parse failure|Expected/.test(
      `${fileError.name} ${fileError.message}`,
    );
    return stop(syntax ? 'syntax error' : 'load error', fileError.message);
  }
  const [stray] = unhandled;
  if (stray && run.tests.every(({ state }) => state === 'passed')) {
    return stop(
      'unhandled rejection',
      [stray.message, stray.at && `at ${stray.at}`].filter(Boolean).join('\n'),
    );
  }
  return undefined;
}

const place = (error: TestError): string => (error.at ? `at ${error.at}` : '');

/** Values that the starter exports and the learner's file does not. */
function missingExports(lab: Lab): string[] {
  if (!existsSync(lab.files.pristine)) return [];
  const mine = readFileSync(lab.files.starter, 'utf8');
  const all = readFileSync(lab.files.pristine, 'utf8').matchAll(
    /^export (?:async )?(?:abstract )?(?:function\*?|class|const|let) (\w+)/gm,
  );
  return [...all]
    .map(([, name]) => String(name))
    .filter((name) => !new RegExp(`^\\s*export\\b[^;]*?\\b${name}\\b`, 'm').test(mine));
}
