const TICK_MS = 4;
/** A process that was paused longer has lost its readers too: they do not come all at once. */
const PAUSE_AT_MOST_MS = 100;
const BUCKET_MS = 50;

/**
 * Calls `issue` so many times a second, by elapsed time: readers do not wait for one another, and slow answers do not make
 * them fewer. @returns ends it
 */
export function openLoop(perSecond: () => number, issue: () => void): () => void {
  let last = performance.now();
  let due = 0;
  const timer = setInterval(() => {
    const now = performance.now();
    due += (Math.min(now - last, PAUSE_AT_MOST_MS) / 1000) * perSecond();
    last = now;
    for (; due >= 1; due--) issue();
  }, TICK_MS);
  return () => clearInterval(timer);
}

/** How many were asked, and how many of them got an answer in time, by the moment at which they asked. */
export class Goodput {
  readonly #asked = new Map<number, number>();
  readonly #good = new Map<number, number>();

  /** @param answer resolves when the reader has its answer; an answer after `deadline` is worth nothing */
  count(answer: Promise<unknown>, deadline: number): void {
    const bucket = bucketOf(performance.now());
    add(this.#asked, bucket);
    answer.then(
      () => {
        if (performance.now() <= deadline) add(this.#good, bucket);
      },
      () => {},
    );
  }

  /** Of those who asked from `from` to `to` (ms, by performance.now), in whole buckets: the share in percent. */
  percent(from: number, to: number): number {
    const asked = sum(this.#asked, from, to);
    return asked === 0 ? Number.NaN : (sum(this.#good, from, to) / asked) * 100;
  }

  good(from: number, to: number): number {
    return sum(this.#good, from, to);
  }

  asked(from: number, to: number): number {
    return sum(this.#asked, from, to);
  }

  /** For a load without an end. */
  forget(before: number): void {
    for (const map of [this.#asked, this.#good]) {
      for (const bucket of map.keys()) if (bucket < bucketOf(before)) map.delete(bucket);
    }
  }
}

const bucketOf = (ms: number): number => Math.floor(ms / BUCKET_MS);

function add(counts: Map<number, number>, bucket: number): void {
  counts.set(bucket, (counts.get(bucket) ?? 0) + 1);
}

function sum(counts: ReadonlyMap<number, number>, from: number, to: number): number {
  let total = 0;
  for (let bucket = bucketOf(from); bucket < bucketOf(to); bucket++) total += counts.get(bucket) ?? 0;
  return total;
}
