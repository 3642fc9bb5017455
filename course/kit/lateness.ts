import type { Redis } from 'ioredis';
import { leave } from './faulty-redis';
import { outcome } from './waiting';

/** How often a call is tried that seems late: on a busy machine, the first tries can be. */
const TRIES = 5;

/**
 * By how much a call takes longer than `reference`, which runs beside it: a busy machine delays both. The best of up to
 * five tries, each on what `open` opens; the first that is tolerated ends them.
 */
export async function lateness<Opened extends { readonly redis: Redis }>({
  open,
  call,
  reference,
  toleratedMs,
}: {
  readonly open: () => Promise<Opened>;
  readonly call: (opened: Opened) => Promise<unknown>;
  readonly reference: () => Promise<unknown>;
  readonly toleratedMs: number;
}): Promise<{ result: unknown; lateMs: number }> {
  let best = { result: undefined as unknown, lateMs: Number.POSITIVE_INFINITY };
  for (let tries = 0; tries < TRIES && best.lateMs >= toleratedMs; tries++) {
    const opened = await open();
    const [called, compared] = await Promise.all([timed(() => outcome(call(opened))), timed(reference)]);
    leave(opened.redis);
    const lateMs = Math.floor(called.ms - compared.ms);
    if (lateMs < best.lateMs) best = { result: called.value, lateMs };
    if (called.value === 'still waiting') break;
  }
  return best;
}

/** What `action` comes to, and how long it took (ms). */
export async function timed<T>(action: () => Promise<T>): Promise<{ value: T; ms: number }> {
  const start = performance.now();
  const value = await action();
  return { value, ms: performance.now() - start };
}
