import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import type { PoolOptions, PoolRunnerInitializer, PoolWorker } from 'vitest/node';

const ENTRY = join(import.meta.dirname, 'warm-worker.mjs');
const VITEST_WORKER = join(dirname(require.resolve('vitest/node')), 'workers/threads.js');

/**
 * Vitest's worker threads with the next one started ahead. Each run still gets a fresh thread, and none waits while
 * it loads Vitest, ioredis and mysql2.
 */
export function warmThreads(): PoolRunnerInitializer {
  let spare: Worker | undefined = startThread();
  const take = () => {
    const thread = spare ?? startThread();
    spare = undefined;
    return thread;
  };
  const createPoolWorker = (_options: PoolOptions): PoolWorker => {
    let thread: Worker | undefined;
    const running = () => {
      thread ??= take();
      return thread;
    };
    return {
      name: 'warm-threads',
      on: (event, callback) => running().on(event, callback),
      off: (event, callback) => running().off(event, callback),
      send: (message) => running().postMessage(message),
      deserialize: (data) => data,
      async start() {
        running();
      },
      async stop() {
        await thread?.terminate();
        thread = undefined;
        spare ??= startThread();
      },
    };
  };
  return { name: 'warm-threads', createPoolWorker };
}

function startThread(): Worker {
  const thread = new Worker(ENTRY, {
    workerData: { entrypoint: pathToFileURL(VITEST_WORKER).href },
    env: { ...process.env, VITEST: 'true', TEST: 'true' },
  });
  // One that dies while it waits is noticed by the run that takes it.
  thread.on('error', () => {});
  return thread;
}
