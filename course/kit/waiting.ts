import { setTimeout as sleep } from 'node:timers/promises';
import { onTestFinished } from 'vitest';

/** What a promise comes to, or a text to compare with when it comes to nothing within `ms`. Rejects as it does. */
export const soon = <T>(promise: Promise<T>, ms = 1_000): Promise<T | 'still waiting'> =>
  Promise.race([promise, sleep(ms, 'still waiting' as const, { ref: false })]);

/** As {@link soon}; a rejection is a text to compare with too. */
export const outcome = <T>(promise: Promise<T>, ms?: number): Promise<T | string> =>
  soon<T | string>(
    promise.catch((error: unknown) => `rejected: ${error}`),
    ms,
  );

/** What a call rejects with; what it gives where it does not. For `toBeInstanceOf` and `toMatchObject`. */
export async function rejectionOf(call: () => unknown): Promise<unknown> {
  try {
    return await call();
  } catch (error) {
    // An attempt that is not written yet is told as such.
    if (error instanceof Error && error.message === 'not implemented') throw error;
    return error;
  }
}

/** Waits for something that no promise stands for; after a second the test goes on without it. */
export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  // Not by Date: a test may have set it.
  const start = performance.now();
  // What is not so at once is asked for less and less often: asking is work for the servers.
  for (let waited = 0; !(await condition()) && waited < 1_000; waited = performance.now() - start) {
    await sleep(Math.min(1 + waited / 20, 10));
  }
}

/** The texts of what nobody has caught since the call; the test runner does not see it meanwhile. */
export function unhandledRejections(): () => readonly string[] {
  const listeners = process.listeners('unhandledRejection');
  const seen: string[] = [];
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (reason) => seen.push(String(reason)));
  onTestFinished(() => {
    process.removeAllListeners('unhandledRejection');
    for (const listener of listeners) process.on('unhandledRejection', listener);
  });
  return () => seen;
}
