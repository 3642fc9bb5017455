import { setTimeout as sleep } from 'node:timers/promises';

/** How long a load takes, and the TTL of what expires. */
export const LOAD_MS = 100;
export const TTL_MS = 1_000;

/** What a promise comes to in time, or a word for it. */
export const within = (ms: number, promise: Promise<unknown>): Promise<unknown> =>
  Promise.race([promise.catch(() => 'rejects'), sleep(ms, 'pending', { ref: false })]);

/** A load that ends when the measure says so. */
export function heldLoad(value: unknown) {
  let end = () => {};
  let begin = () => {};
  const begun = new Promise<void>((resolve) => {
    begin = resolve;
  });
  const ended = new Promise<unknown>((resolve) => {
    end = () => resolve(value);
  });
  const load = () => {
    begin();
    return ended;
  };
  return { load, begun, end: () => end() };
}
