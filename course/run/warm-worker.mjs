// The entry of a worker thread that is started before it is needed: it loads what lab tests load, then Vitest's own worker.
import { workerData } from 'node:worker_threads';

await Promise.all([import('ioredis'), import('mysql2/promise'), import('vitest')].map((load) => load.catch(() => {})));
await import(workerData.entrypoint);
