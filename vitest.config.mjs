import { createRequire } from 'node:module';
import { defineConfig } from 'vitest/config';

// For a bare `npx vitest run labs/...`; the course's own runner has its options from the same place.
const require = createRequire(import.meta.url);
require('./course/typescript.cjs');
const { subjectResolver } = require('./course/run/subject.ts');
const { testOptions } = require('./course/run/vitest-options.ts');

// As in the runner: code that takes local time for UTC must not pass because the two are one here.
process.env.TZ = 'America/New_York';

export default defineConfig({
  // COURSE_SUBJECT=solution, core, variants/NAME or mistakes/NAME tests another file than the learner's.
  plugins: [subjectResolver(process.env.COURSE_SUBJECT ?? 'attempt')],
  test: {
    ...testOptions,
    // The heartbeat belongs to the course's own runner, and speaks of labs.
    setupFiles: [],
    include: ['labs/**/*.test.ts', 'tests/**/*.test.ts'],
    maxWorkers: 1,
    globalSetup: './course/run/global-setup.ts',
  },
});
