import { signal } from './gate';

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
