import { onTestFinished } from 'vitest';
import { signal } from './gate';
import type { LabServers } from './servers';
import { soon } from './waiting';

/** A load that a test counts. */
export interface CountedLoad<V> {
  loads: number;
  load(): Promise<V>;
}

/** Each load gives the same value at once. */
export function countedLoad<V>(value: V): CountedLoad<V> {
  const source = {
    loads: 0,
    async load() {
      source.loads++;
      return value;
    },
  };
  return source;
}

export interface HeldLoad<V> extends CountedLoad<V> {
  /** Resolves when the first load has begun. */
  readonly begun: Promise<void>;
  /** Ends every load, those still to come too. */
  end(): void;
  fail(error: Error): void;
}

/** Loads that end when the test says so; they do not heed a signal. */
export function heldLoad<V>(value: V): HeldLoad<V> {
  const { promise: begun, fire } = signal();
  let end = () => {};
  let fail: (error: Error) => void = () => {};
  const ended = new Promise<V>((resolve, reject) => {
    end = () => resolve(value);
    fail = reject;
  });
  // A load that fails before anyone awaits it belongs to the test, not to the process.
  ended.catch(() => {});
  const source = {
    loads: 0,
    begun,
    load() {
      source.loads++;
      fire();
      return ended;
    },
    end: () => end(),
    fail: (error: Error) => fail(error),
  };
  return source;
}

/** Waits until a load has begun; a call that ends without it, or never begins it, does not hang the test. */
export async function begun(source: HeldLoad<unknown>, call: Promise<unknown>): Promise<void> {
  await soon(Promise.race([source.begun, call]));
}

/** A load that gives no answer. Does it still run `afterMs` after it has begun? */
export function hungLoad(afterMs: number, { heedsSignal = false } = {}) {
  let fail: (error: Error) => void = () => {};
  const source = {
    signal: undefined as AbortSignal | undefined,
    stillRan: false,
    load(signal?: AbortSignal) {
      source.signal = signal;
      const look = () => {
        source.stillRan = !signal?.aborted;
      };
      // A shorter deadline that begins with the load is before this look on a slow machine too: its timer begins earlier,
      // and all timers that are due have run before the second setImmediate.
      setImmediate(() => setTimeout(() => setImmediate(look), afterMs).unref());
      return new Promise<never>((_, reject) => {
        fail = reject;
        if (heedsSignal) signal?.addEventListener('abort', () => reject(new Error('the query was killed')));
      });
    },
    fail: (error: Error) => fail(error),
  };
  return source;
}

/** Its loads give "load 1", "load 2" and so on; one that is held ends when it is released. */
export function numberedLoads({ redis }: Pick<LabServers, 'redis'>) {
  const holds: Promise<void>[] = [];
  const source = {
    loads: 0,
    /** The next load that is not held yet. */
    hold() {
      const { promise, fire } = signal();
      holds[Math.max(source.loads, holds.length)] = promise;
      onTestFinished(fire);
      return { release: fire };
    },
    async load(): Promise<{ name: string }> {
      const number = ++source.loads;
      // A real source takes its time: readers that miss at the same time have missed by then.
      await redis.ping();
      await redis.ping();
      await holds[number - 1];
      return { name: `load ${number}` };
    },
  };
  return source;
}
