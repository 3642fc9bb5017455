import { withDeadline } from '#kit/given';
import type { Auditor, Options, Report } from '../auditor';
import {
  DEADLINE_MS,
  decode,
  FIELDS,
  idOf,
  KEY_PATTERN,
  MAX_FOLLOWED,
  mostExpected,
  ROWS_PER_SECOND,
  UnreadableEntryError,
  type User,
  userKey,
} from '../given';

interface Pair {
  readonly id: number;
  readonly entry: User | null;
  readonly row: User | null;
}

const BATCH = 50;

/** Entries by MGET and rows by IN, a batch at a time; the grace is one pause between two walks over the suspects. */
export function createAuditor(options: Options): Auditor {
  const { redis, primary, graceMs, clock, onStale, onError = () => {}, fingerprint = (key) => key } = options;
  const { rowsPerSecond = ROWS_PER_SECOND, deadlineMs = DEADLINE_MS } = options;
  const inTime = <T>(promise: Promise<T>) => withDeadline(promise, deadlineMs);
  const followed = new Map<number, { first: Pair; since: number; seenAt: number }>();
  /** Ids that a SCAN has given and no audit has looked at. */
  const queue: number[] = [];
  let cursor = '0';
  let lookMayBeginAt = 0;

  /** Those of the ids that have an entry. */
  async function pairs(ids: readonly number[], signal?: AbortSignal): Promise<Pair[]> {
    const found: Pair[] = [];
    for (let left = [...ids]; left.length > 0; ) {
      const batch = left.splice(0, Math.min(BATCH, rowsPerSecond));
      const from = Math.max(clock.now(), lookMayBeginAt);
      // Two batches share no second.
      lookMayBeginAt =
        from + Math.max(1000 * (batch.length / rowsPerSecond), rowsPerSecond < 1000 ? 1000 : 0);
      if (from > clock.now()) await clock.sleep(from - clock.now(), signal);
      signal?.throwIfAborted();
      const texts = await inTime(redis.mgetBuffer(batch.map(userKey)));
      const rows = await inTime(primary(batch));
      batch.forEach((id, at) => {
        const entry = read(id, texts[at] ?? null);
        if (entry !== undefined) found.push({ id, entry, row: rows.get(id) ?? null });
      });
    }
    return found;
  }

  function read(id: number, bytes: Buffer | null): User | null | undefined {
    if (bytes === null) return undefined;
    try {
      return decode(bytes);
    } catch {
      onError(new UnreadableEntryError(fingerprint(userKey(id))));
      return undefined;
    }
  }

  /** Up to so many ids, from where the last call ended; fewer at the end of a pass. */
  async function take(count: number): Promise<number[]> {
    while (queue.length < count) {
      const [next, keys] = await inTime(redis.scan(cursor, 'MATCH', KEY_PATTERN));
      cursor = next;
      queue.push(...keys.map(idOf).filter((id) => id !== null));
      if (cursor === '0') break;
    }
    return queue.splice(0, count);
  }

  async function follow(signal?: AbortSignal): Promise<void> {
    const seen = new Map((await pairs([...followed.keys()], signal)).map((pair) => [pair.id, pair]));
    for (const [id, known] of followed) {
      const pair = seen.get(id);
      if (pair && !equal(pair.entry, pair.row) && pair.entry?.version === known.first.entry?.version) {
        known.seenAt = clock.now();
      } else followed.delete(id);
    }
  }

  async function audit(samples: number, signal?: AbortSignal): Promise<Report> {
    let [fresh, stale] = [0, 0];
    let suspects: Pair[] = [];
    try {
      await follow(signal);
      // The rest of this pass, and the next one. A few at a time, so that a stop leaves what is done.
      for (let ends = 0; ends < 2 && fresh + suspects.length < samples; ) {
        const ids = await take(Math.min(BATCH, samples - fresh - suspects.length));
        if (cursor === '0' && queue.length === 0) ends++;
        const seen = await pairs(ids, signal);
        const differing = seen.filter(({ entry, row }) => !equal(entry, row));
        fresh += seen.length - differing.length;
        suspects.push(...differing);
      }
      const since = clock.now();
      if (suspects.length > 0) await clock.sleep(graceMs, signal);
      const second = new Map(
        (
          await pairs(
            suspects.map(({ id }) => id),
            signal,
          )
        ).map((pair) => [pair.id, pair]),
      );
      for (const first of suspects) {
        const now = second.get(first.id);
        if (!now || !isOlder(now, first.row)) fresh++;
        else {
          stale++;
          if (followed.has(now.id)) continue;
          if (followed.size < MAX_FOLLOWED) followed.set(now.id, { first: now, since, seenAt: clock.now() });
          const [entryVersion, rowVersion] = [now.entry?.version ?? null, now.row?.version ?? null];
          onStale({ key: fingerprint(userKey(now.id)), entryVersion, rowVersion });
        }
      }
      suspects = [];
    } catch (error) {
      if (!signal?.aborted) onError(error);
    }
    const [judged, open] = [fresh + stale, suspects.length];
    return {
      samples: judged,
      stale,
      undecided: open,
      rate: judged > 0 ? stale / judged : null,
      atMost: Math.min(1, mostExpected(stale + open) / (judged + open)),
      oldestMs: Math.max(-1, ...[...followed.values()].map(({ since, seenAt }) => seenAt - since)),
    };
  }

  return {
    async audit(samples, signal) {
      const report = await audit(samples, signal);
      return { ...report, oldestMs: report.oldestMs === -1 ? null : report.oldestMs };
    },
  };
}

function equal(entry: User | null, row: User | null): boolean {
  const text = (user: User) => FIELDS.map((field) => JSON.stringify(user[field])).join();
  return entry !== null && row !== null ? text(entry) === text(row) : entry === row;
}

function isOlder({ entry, row }: Pair, first: User | null): boolean {
  if (equal(entry, row) || equal(entry, first)) return false;
  return first === null ? row === null : (entry?.version ?? 0) <= first.version;
}
