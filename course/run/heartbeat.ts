import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { writeSync } from 'node:fs';
import type { Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { clearRequests, lastRequests } from '../kit/requests';
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

let test: string | undefined;
beforeAll(() => void tell({ begins: 'hooks' }));
beforeEach(({ task }) => {
  test = task.name;
  clearRequests();
  tell({ begins: 'test', name: task.name, part: partCalled(task.suite?.name), limitMs: task.timeout });
});
afterEach(({ task }) => {
  if (task.result?.state === 'fail') Object.assign(task.meta, { requests: lastRequests() });
});

const connections: { socket: Socket; test: string | undefined }[] = [];
const connects = (message: unknown) => {
  connections.push({ socket: (message as { socket: Socket }).socket, test });
};
subscribe('net.client.socket', connects);

const intervals: { timer: NodeJS.Timeout; test: string | undefined }[] = [];
const realSetInterval = globalThis.setInterval;
globalThis.setInterval = ((...args: Parameters<typeof setInterval>) => {
  const timer = realSetInterval(...args);
  intervals.push({ timer, test });
  return timer;
}) as typeof setInterval;

/** What nobody closed, in words; the first of each kind names the test that opened it. */
function leftOpen(): string[] {
  const open = connections.filter(({ socket }) => !socket.destroyed);
  const ticking = intervals.filter(({ timer }) => timer.hasRef());
  return [
    ...(open[0]
      ? [`${open.length} connection${open.length === 1 ? '' : 's'} to a server${by(open[0])}`]
      : []),
    ...(ticking[0]
      ? [`${ticking.length} setInterval timer${ticking.length === 1 ? '' : 's'}${by(ticking[0])}`]
      : []),
  ];
}

const by = (first: { test: string | undefined }): string =>
  first.test === undefined ? ', opened while the file was loaded' : `, first in the test "${first.test}"`;

// Registered before the test file's own hooks, so it runs after them: what is open now, nobody will close.
afterAll(async () => {
  for (let turn = 0; leftOpen().length > 0 && turn < 20; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  clearInterval(heartbeat);
  unsubscribe('net.client.socket', connects);
  globalThis.setInterval = realSetInterval;
  const left = leftOpen();
  if (left.length > 0) throw new Error(`LEFT OPEN: ${left.join('\n')}`);
});
