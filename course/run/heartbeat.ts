import { writeSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { clearRequests, lastRequests } from '../kit/requests';
import { watchOpen } from './left-open';
import { type Heartbeat, partCalled } from './messages';

/**
 * Runs inside the worker, beside the lab's tests. It tells the watchdog what begins, synchronously: an endless loop
 * would leave any other message unsent. At the end it looks for what the tests left behind.
 */
const fd = Number(process.env.COURSE_HEARTBEAT_FD ?? 0);
const tell = (beat: Heartbeat) => fd > 0 && writeSync(fd, `${JSON.stringify(beat)}\n`);

tell({ begins: 'load' });
// A thread that turns and gets nowhere waits for something; one that does not turn is in a loop.
const heartbeat = setInterval(() => tell({ begins: 'nothing' }), 250).unref();

// What goes to the worker's own output is lost; the console of a test is shown to the learner.
process.stdout.write = (chunk: string | Uint8Array): boolean => {
  console.log(String(chunk).replace(/\n$/, ''));
  return true;
};

const open = watchOpen();
beforeAll(() => void tell({ begins: 'hooks' }));
beforeEach(({ task }) => {
  open.testBegins(task.name);
  clearRequests();
  tell({ begins: 'test', name: task.name, part: partCalled(task.suite?.name), limitMs: task.timeout });
});
afterEach(({ task }) => {
  if (task.result?.state === 'fail') Object.assign(task.meta, { requests: lastRequests() });
});

// Registered before the test file's own hooks, so it runs after them: what is open now, nobody will close.
afterAll(async () => {
  await open.closing();
  clearInterval(heartbeat);
  const left = open.end();
  if (left.length > 0) throw new Error(`LEFT OPEN: ${left.join('\n')}`);
});
