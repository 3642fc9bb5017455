import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { withDeadline } from '#kit/given';
import {
  CacheError,
  DEADLINE_MS,
  entryKey,
  MAX_COMPARISONS,
  RECHECK_MS,
  requireSettings,
  type Settings,
  type Side,
} from '../given';
import type { Options, Rollout } from '../migration';

/** An entry is a JSON text with the epoch and the bytes in base64. The second look asks for both at once, up to twice. */
export function createRollout<T>(options: Options<T>): Rollout<T> {
  const { redis, name, codec, ttlMs, onOutcome = () => {}, onError = () => {} } = options;
  const { deadlineMs = DEADLINE_MS, recheckMs = RECHECK_MS, otherVersions = [] } = options;
  let free = MAX_COMPARISONS;

  const now = (): Settings | undefined => {
    try {
      return requireSettings(options.settings());
    } catch (error) {
      onError(new CacheError('settings', error));
      return undefined;
    }
  };
  const isNow = (begin: Settings) => {
    const current = now();
    return current?.mode === begin.mode && current.epoch === begin.epoch;
  };
  const bounded = async <R>(step: 'get' | 'set' | 'del' | 'load', promise: Promise<R>): Promise<R> => {
    try {
      return await withDeadline(promise, deadlineMs);
    } catch (error) {
      throw new CacheError(step, error);
    }
  };

  async function read(side: Side, id: string, epoch: number): Promise<[T] | []> {
    const text = await bounded('get', redis.get(entryKey(name, side, codec.version, id)));
    if (text === null) return [];
    try {
      const entry: { epoch: number; bytes: string } = JSON.parse(text);
      return entry.epoch === epoch ? [codec.decode(Buffer.from(entry.bytes, 'base64'))] : [];
    } catch (error) {
      onError(new CacheError('decode', error));
      return [];
    }
  }

  const pack = (value: T, epoch: number): string => {
    try {
      return JSON.stringify({ epoch, bytes: codec.encode(value).toString('base64') });
    } catch (error) {
      throw new CacheError('encode', error);
    }
  };
  const write = async (side: Side, id: string, entry: string, begin: Settings) => {
    if (!isNow(begin)) return;
    await bounded('set', redis.set(entryKey(name, side, codec.version, id), entry, 'PX', ttlMs));
  };

  async function compare(id: string, value: T, load: () => Promise<T>, begin: Settings) {
    const entry = pack(value, begin.epoch);
    const seen = structuredClone(value);
    const [first] = await read('shadow', id, begin.epoch);
    if (first === undefined) {
      await write('shadow', id, entry, begin);
      return 'miss';
    }
    if (codec.equal(first, seen)) return 'hit';
    for (let look = 0; look < 2; look++) {
      await sleep(recheckMs);
      const [fresh, [cached]] = [await bounded('load', load()), await read('shadow', id, begin.epoch)];
      if (cached === undefined || codec.equal(fresh, cached)) return 'hit';
    }
    return 'mismatch';
  }

  async function serve(id: string, load: () => Promise<T>, begin: Settings): Promise<T> {
    const found = await read('live', id, begin.epoch).catch((error) => void onError(error));
    if (!found || !isNow(begin)) return load();
    onOutcome('on', found.length > 0 ? 'hit' : 'miss');
    if (found.length > 0) return found[0] as T;
    const value = await load();
    (async () => write('live', id, pack(value, begin.epoch), begin))().catch(onError);
    return value;
  }

  return {
    async get(id, user, load) {
      const begin = now();
      if (begin?.mode === 'on') {
        const place = Number.parseInt(
          createHash('sha1').update(`${name}\0${user}`).digest('hex').slice(0, 8),
          16,
        );
        return place / 0xffffffff < begin.rampPercent / 100 || begin.rampPercent === 100
          ? serve(id, load, begin)
          : load();
      }
      const value = await load();
      if (begin?.mode !== 'shadow' || !isNow(begin)) return value;
      if (free === 0) onOutcome('shadow', 'skipped');
      else {
        free--;
        void compare(id, value, load, begin)
          .then((outcome) => onOutcome('shadow', outcome), onError)
          .then(() => free++);
      }
      return value;
    },

    async invalidate(id) {
      const keys = [codec.version, ...otherVersions].flatMap((version) => [
        entryKey(name, 'live', version, id),
        entryKey(name, 'shadow', version, id),
      ]);
      const deleting = bounded('del', redis.unlink(keys));
      if (now()?.mode === 'on') await deleting;
      else deleting.catch(onError);
    },
  };
}
