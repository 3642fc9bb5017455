import { defineConfig } from 'vitest/config';
import { type Subject, subjectResolver } from './course/runner/subject.ts';
import { testOptions } from './course/runner/vitest-options.ts';

// A bare `npx vitest run labs/...` tests the learner's file; COURSE_SUBJECT=solution or mistakes/NAME chooses another.
const subject = (process.env.COURSE_SUBJECT ?? 'attempt') as Subject;

// As in the runner: code that takes local time for UTC must not pass because the two are one here.
process.env.TZ = 'America/New_York';

export default defineConfig({
  plugins: [subjectResolver(subject)],
  test: {
    ...testOptions,
    // The beacon belongs to the course's own runner, and speaks of labs.
    setupFiles: [],
    include: ['labs/**/*.test.ts', 'tests/**/*.test.ts'],
    maxWorkers: 1,
    globalSetup: './course/runner/global-setup.ts',
  },
});
