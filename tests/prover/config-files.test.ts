import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { ROOT } from '../../course/base/root';
import { checkConfigFiles } from '../../course/proof/config-files';

const COMPOSE = 'docker-compose.yml';
const DEVCONTAINER = '.devcontainer/devcontainer.json';
const WORKFLOW = '.github/workflows/verify.yml';

/** File, what is replaced by what, and what must be said. */
const BREAKAGES: readonly (readonly [string, string, string, RegExp])[] = [
  [COMPOSE, '"127.0.0.1:17001', '"17001', /ports: 17001-17003:17001-17003 is open to the network/],
  [
    COMPOSE,
    'image: redis:8',
    'imagine: redis:8',
    /services › redis must NOT have additional properties \(imagine\)/,
  ],
  [COMPOSE, 'services:', 'services: [', /^docker-compose.yml:\d+:\d+: .+ Correct the YAML there.$/],
  [DEVCONTAINER, '"name":', 'name', /^.devcontainer\/devcontainer.json:4: .+ Correct the JSON there.$/],
  [DEVCONTAINER, 'npm run doctor', 'npm run doctors', /package.json has no script doctors/],
  [WORKFLOW, 'contents: read', 'contents: write', /permissions must be "contents: read" alone/],
  [WORKFLOW, '    timeout-minutes: 40\n', '', /jobs › verify has no timeout-minutes/],
  [WORKFLOW, 'matrix.os }}', 'matrix.oss }}', /property "oss" is not defined/],
];

test.each(BREAKAGES)('%s: %s', async (file, from, to, problem) => {
  const root = mkdtempSync(join(tmpdir(), 'course-config-'));
  onTestFinished(() => rmSync(root, { recursive: true }));
  for (const part of [COMPOSE, '.devcontainer', '.github', 'package.json']) {
    cpSync(join(ROOT, part), join(root, part), { recursive: true });
  }
  const text = readFileSync(join(root, file), 'utf8');
  expect(text).toContain(from);
  expect(await checkConfigFiles(root)).toEqual([]);
  writeFileSync(
    join(root, file),
    text.replace(from, () => to),
  );
  expect(await checkConfigFiles(root)).toEqual([expect.stringMatching(problem)]);
});
