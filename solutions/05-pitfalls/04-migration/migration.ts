import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import {
  CacheError,
  type Codec,
  DEADLINE_MS,
  entryKey,
  guarded,
  MAX_COMPARISONS,
  type Mode,
  type Outcome,
  pack,
  RECHECK_MS,
  requireSettings,
  type Settings,
  type Side,
  type Step,
  unpack,
} from './given';

export interface Rollout<T> {
  /**
   * The value of `id` for this user: from `load`, or from Redis. Rejects with what `load` rejects with.
   * In production: a comparison may call `load` again, even after the call has ended, so `load` must only read.
   */
  get(id: string, user: string, load: () => Promise<T>): Promise<T>;
  /**
   * Called after a write of `id` has committed: deletes its entries.
   * In production: if Redis has not confirmed the deletes, it rejects with a CacheError in mode `on`, and resolves in other modes.
   */
  invalidate(id: string): Promise<void>;
}

export interface Options<T> {
  readonly redis: Redis;
  readonly name: string;
  readonly codec: Codec<T>;
  /** In production: the codec versions of other deployed releases, older or newer. */
  readonly otherVersions?: readonly string[];
  /** How long an entry lives (ms). */
  readonly ttlMs: number;
  /** Read at each call. In production: it may throw, or return anything. */
  readonly settings: () => Settings;
  /** In production: DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: RECHECK_MS if absent. */
  readonly recheckMs?: number;
  /** Called once for each call in mode `shadow`, or `on` inside the ramp; not when Redis fails. Never throws. */
  readonly onOutcome?: (mode: Mode, outcome: Outcome) => void;
  /** In production: called with a CacheError for each failure. Never throws. */
  readonly onError?: (error: unknown) => void;
}

/** One call of `get`. */
interface Call<T> {
  readonly id: string;
  readonly load: () => Promise<T>;
  readonly epoch: number;
  /** Whether mode and epoch are still those that the call began with. */
  isCurrent(): boolean;
}

/** A cache around a read that can be rolled out, and removed, in steps. Keys and codec are in `given.ts`. */
export function createRollout<T>({
  redis,
  name,
  codec,
  otherVersions = [],
  ttlMs,
  settings,
  deadlineMs = DEADLINE_MS,
  recheckMs = RECHECK_MS,
  onOutcome = () => {},
  onError = () => {},
}: Options<T>): Rollout<T> {
  let comparisons = 0;
  const keyOf = (side: Side, id: string, version = codec.version) => entryKey(name, side, version, id);

  // #region get
  /** What holds now, for this user: outside of the ramp, mode `on` is off. */
  function route(user?: string): { mode: Mode; epoch: number } {
    try {
      const { mode, rampPercent, epoch } = requireSettings(settings());
      const isOutside = mode === 'on' && user !== undefined && placeOf(name, user) >= rampPercent;
      return { mode: isOutside ? 'off' : mode, epoch };
    } catch (error) {
      onError(new CacheError('settings', error));
      // Without the epoch, nothing in Redis may be served.
      return { mode: 'off', epoch: 0 };
    }
  }

  async function get(id: string, user: string, load: () => Promise<T>): Promise<T> {
    const { mode, epoch } = route(user);
    if (mode === 'off') return load();
    const isCurrent = () => {
      const now = route(user);
      return now.mode === mode && now.epoch === epoch;
    };
    const call: Call<T> = { id, load, epoch, isCurrent };
    return mode === 'on' ? serve(call) : shadow(call);
  }

  async function serve(call: Call<T>): Promise<T> {
    const found = await lookup('live', call).catch((error) => void onError(error));
    // The kill switch may have come while Redis worked.
    if (found && call.isCurrent()) {
      onOutcome('on', found === 'miss' ? 'miss' : 'hit');
      if (found !== 'miss') return found.value;
    }
    const value = await call.load();
    // After a failed GET, a SET would only cost a second deadline.
    if (found === 'miss') void store('live', call, value);
    return value;
  }
  // #endregion

  // #region shadow
  async function shadow(call: Call<T>): Promise<T> {
    const value = await call.load();
    if (call.isCurrent() && comparisons >= MAX_COMPARISONS) onOutcome('shadow', 'skipped');
    else if (call.isCurrent()) {
      comparisons++;
      compare(call, value)
        .then((outcome) => onOutcome('shadow', outcome), onError)
        .finally(() => comparisons--);
    }
    return value;
  }

  async function compare(call: Call<T>, value: T): Promise<Outcome> {
    // From the first await on, the caller may change its value: the copy stands for it.
    const copy = guarded('decode', () => codec.decode(guarded('encode', () => codec.encode(value))));
    const isFaithful = codec.equal(value, copy);
    const first = await lookup('shadow', call);
    if (first === 'miss') await store('shadow', call, copy);
    if (first === 'miss') return 'miss';
    if (isFaithful && codec.equal(copy, first.value)) return 'hit';
    // A write may have come between the load and the GET, or its invalidation may be under way.
    await sleep(recheckMs);
    if (!call.isCurrent()) return 'skipped';
    const fresh = await inTime('load', call.load());
    const second = await lookup('shadow', call);
    return second === 'miss' || codec.equal(fresh, second.value) ? 'hit' : 'mismatch';
  }
  // #endregion

  // #region entries
  async function lookup(side: Side, { id, epoch }: Call<T>): Promise<{ value: T } | 'miss'> {
    const entry = await inTime('get', redis.getBuffer(keyOf(side, id)));
    if (entry === null) return 'miss';
    try {
      const { filledIn, bytes } = guarded('decode', () => unpack(entry));
      return filledIn === epoch ? { value: guarded('decode', () => codec.decode(bytes)) } : 'miss';
    } catch (error) {
      onError(error);
      return 'miss';
    }
  }

  /** Never rejects. Encodes at once: the caller may change its value later. */
  async function store(side: Side, { id, epoch, isCurrent }: Call<T>, value: T): Promise<void> {
    if (!isCurrent()) return;
    try {
      const bytes = guarded('encode', () => codec.encode(value));
      // The epoch of the begin of the call, which is not later than the load.
      await inTime('set', redis.set(keyOf(side, id), pack(epoch, bytes), 'PX', ttlMs));
    } catch (error) {
      onError(error);
    }
  }

  async function invalidate(id: string): Promise<void> {
    // Whatever the mode: other processes may have other settings already, and run other versions.
    const versions = [codec.version, ...otherVersions];
    const keys = versions.flatMap((version) => [keyOf('live', id, version), keyOf('shadow', id, version)]);
    // A DEL for each key: in a cluster they may be in different slots.
    const deleted = inTime('del', Promise.all(keys.map((key) => redis.del(key))));
    if (route().mode === 'on') await deleted;
    else deleted.catch(onError);
  }
  // #endregion

  const inTime = <R>(step: Step, answer: Promise<R>): Promise<R> =>
    withDeadline(answer, deadlineMs).catch((error) => {
      throw new CacheError(step, error);
    });

  return { get, invalidate };
}

// #region place
/** Where a user stands from 0 to 100: the same in each process, and at each ramp. */
function placeOf(name: string, user: string): number {
  // With the name in it, the same users are not the first in each rollout.
  const hash = createHash('sha256')
    .update(JSON.stringify([name, user]))
    .digest();
  return (hash.readUInt32BE() / 2 ** 32) * 100;
}
// #endregion
