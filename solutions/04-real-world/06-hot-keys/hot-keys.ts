import type { Cluster } from 'ioredis';
import { withDeadline } from '#kit/given';
import { baseKey, type Counted, copyKey, type SlotMap, slotMapOf, slotOf, TTL_MS } from './given';

/** Which keys this process reads most, in memory for `counters` keys. */
export interface Detector {
  /** Called for each read. */
  record(key: string): void;
  /** The n highest counts, highest first. In production: of the last windows only. */
  top(n: number): Counted[];
  /** Whether the key was read at least `hotReads` times. In production: recently, and certainly. */
  isHot(key: string): boolean;
}

export interface DetectorOptions {
  readonly counters: number;
  readonly hotReads: number;
  /** In production: the length of a window (ms). Reads of many windows ago do not count. */
  readonly windowMs?: number;
  /** In production: the time (ms). */
  readonly now?: () => number;
}

// #region detector
export function createDetector({
  counters,
  hotReads,
  windowMs = 10_000,
  now = () => performance.now(),
}: DetectorOptions): Detector {
  let current = new Map<string, Counted>();
  let previous = new Map<string, Counted>();
  let endsAt = now() + windowMs;

  /** With one window alone, each hot key would be cold for the first moments of the next. */
  function turn() {
    const late = now() - endsAt;
    if (late < 0) return;
    previous = late < windowMs ? current : new Map();
    current = new Map();
    endsAt += windowMs * (1 + Math.floor(late / windowMs));
  }

  return {
    record(key) {
      turn();
      let { count, error } = current.get(key) ?? { count: 0, error: 0 };
      if (count === 0 && current.size >= counters) {
        const rarest = [...current.values()].reduce((a, b) => (b.count < a.count ? b : a));
        current.delete(rarest.key);
        // It may have been read as often as the key whose counter it takes.
        [count, error] = [rarest.count, rarest.count];
      }
      current.set(key, { key, count: count + 1, error });
    },

    top(n) {
      turn();
      const sums = new Map<string, Counted>();
      for (const { key, count, error } of [...previous.values(), ...current.values()]) {
        const other = sums.get(key) ?? { count: 0, error: 0 };
        sums.set(key, { key, count: other.count + count, error: other.error + error });
      }
      return [...sums.values()].sort((a, b) => b.count - a.count).slice(0, n);
    },

    isHot(key) {
      turn();
      return [current, previous].some((window) => {
        const { count, error } = window.get(key) ?? { count: 0, error: 0 };
        return count - error >= hotReads;
      });
    },
  };
}
// #endregion

// #region copies
/** For each master. To find the one that has a single slot of 16,384 would cost thousands. */
const CANDIDATES = 16;

/** Keys made by `copyKey`: one for each master. In production: a master with very few slots may go without. */
export function copyKeys(key: string, { masters, ownerOf }: SlotMap): string[] {
  const copies = new Map<string, string>();
  for (let n = 0; n < CANDIDATES * masters.length && copies.size < masters.length; n++) {
    const copy = copyKey(key, n);
    const owner = ownerOf(slotOf(copy));
    if (owner !== undefined && !copies.has(owner)) copies.set(owner, copy);
  }
  return [...copies.values()];
}
// #endregion

export interface HotCache {
  /**
   * The value: of a cold key from its base key, of a hot one from a random copy, on a miss from `load`, stored for TTL_MS.
   * @throws what `load` throws
   */
  get(key: string, load: () => Promise<Buffer>): Promise<Buffer>;
  /**
   * Called after the commit: deletes the base key and all copies.
   * @throws unless Redis has confirmed each of them
   */
  invalidate(key: string): Promise<void>;
}

export interface Options {
  readonly client: Cluster;
  readonly detector: Pick<Detector, 'record' | 'isHot'>;
  /** In production: the longest life of a copy (ms). */
  readonly copyTtlMs?: number;
  /** In production: how long a command may take (ms). */
  readonly deadlineMs?: number;
}

export function createHotCache({ client, detector, copyTtlMs = 1000, deadlineMs = 100 }: Options): HotCache {
  const inTime = <T>(answer: Promise<T>) => withDeadline(answer, deadlineMs);
  const copiesOf = async (key: string) => copyKeys(key, await inTime(slotMapOf(client)));
  const read = (redisKey: string) => inTime(client.getBuffer(redisKey));
  /** Nobody waits for it. What could not be stored is a miss later. */
  const store = (redisKey: string, value: Buffer, ms: number) => {
    client.set(redisKey, value, 'PX', ms).catch(() => {});
  };

  // #region get
  const lookups = new Map<string, Promise<Buffer>>();

  async function get(key: string, load: () => Promise<Buffer>): Promise<Buffer> {
    detector.record(key);
    const copies = detector.isHot(key) ? await copiesOf(key).catch(() => []) : [];
    return (await readCopy(copies)) ?? lookup(key, load, copies);
  }

  async function readCopy(copies: readonly string[]): Promise<Buffer | null> {
    const first = Math.floor(Math.random() * copies.length);
    const inTurn = [...copies.slice(first), ...copies.slice(0, first)];
    // The second one is on another master. More of them would cost more deadlines.
    for (const copy of inTurn.slice(0, 2)) {
      try {
        return await read(copy);
      } catch {}
    }
    return null;
  }

  /** One for all callers of this process, until an invalidation ends that. */
  function lookup(key: string, load: () => Promise<Buffer>, copies: readonly string[]): Promise<Buffer> {
    const running = lookups.get(key);
    if (running) return running;
    const isValid = () => lookups.get(key) === started;
    const started = readOrLoad(key, load, copies, isValid).finally(() => {
      if (isValid()) lookups.delete(key);
    });
    lookups.set(key, started);
    return started;
  }

  async function readOrLoad(
    key: string,
    load: () => Promise<Buffer>,
    copies: readonly string[],
    isValid: () => boolean,
  ): Promise<Buffer> {
    const found = await read(baseKey(key)).catch(() => null);
    const value = found ?? (await load());
    if (!isValid()) return value;
    if (!found) store(baseKey(key), value, TTL_MS);
    for (const copy of copies) store(copy, value, copyTtlMs);
    return value;
  }
  // #endregion

  // #region invalidate
  async function invalidate(key: string): Promise<void> {
    lookups.delete(key);
    // First the base key: as long as it is there, a reader may fill a copy from it.
    const base = await Promise.allSettled([inTime(client.unlink(baseKey(key)))]);
    const copies = await Promise.allSettled(
      // This process may have never read the key. To others it may be hot.
      (await copiesOf(key)).map((copy) => inTime(client.unlink(copy))),
    );
    const errors = [...base, ...copies].flatMap((end) => (end.status === 'rejected' ? [end.reason] : []));
    if (errors.length > 0) throw new AggregateError(errors, `the invalidation of ${key} is not confirmed`);
  }
  // #endregion

  return { get, invalidate };
}
