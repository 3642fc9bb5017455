import { writeSync } from 'node:fs';
import { afterAll, beforeEach } from 'vitest';

/**
 * Runs inside the worker, beside the lab's tests. It tells the watchdog which test is about to run, synchronously:
 * an endless loop in the test would leave any other message unsent. Then it looks at what the tests left behind.
 */
const fd = Number(process.env.COURSE_BEACON_FD ?? 0);
const socketsAtStart = openSockets();

beforeEach(({ task }) => {
  if (fd > 0) writeSync(fd, `${JSON.stringify(task.name)}\n`);
});

// Registered before the test file's own hooks, so it runs after them: what is open now, nobody will close.
afterAll(async () => {
  let left = openSockets() - socketsAtStart;
  for (let turn = 0; left > 0 && turn < 20; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    left = openSockets() - socketsAtStart;
  }
  if (left > 0) {
    throw new Error(`LEFT OPEN: ${left} connection${left === 1 ? '' : 's'} to a server`);
  }
});

function openSockets(): number {
  return process.getActiveResourcesInfo().filter((resource) => resource === 'TCPSocketWrap').length;
}
