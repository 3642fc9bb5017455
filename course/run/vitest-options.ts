import { join } from 'node:path';
import type { InlineConfig } from 'vitest/node';

/** A test that waits longer than this is told that something never settled. */
export const TEST_TIMEOUT_MS = 6000;

/** The same in a proof, where six test files at a time share the cores. */
export const PROOF_TIMEOUT_MS = 20_000;

/** What a bare `npx vitest` and the course's own runner share. */
export const testOptions = {
  pool: 'threads',
  testTimeout: TEST_TIMEOUT_MS,
  // Taking turns on a shared server may take longer than any test.
  hookTimeout: 70_000,
  setupFiles: [join(import.meta.dirname, 'heartbeat.ts')],
  // A learner reads our messages; Vitest's own error pages stay unused.
  printConsoleTrace: false,
} satisfies InlineConfig;
