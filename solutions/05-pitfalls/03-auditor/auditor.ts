import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import {
  type Clock,
  DEADLINE_MS,
  decode,
  FIELDS,
  idOf,
  KEY_PATTERN,
  MAX_FOLLOWED,
  mostExpected,
  type ReadUsers,
  ROWS_PER_SECOND,
  UnreadableEntryError,
  type User,
} from './given';

/** A stale entry. */
export interface Finding {
  /** In production: its fingerprint. */
  readonly key: string;
  /** Null: the entry says "there is no such user". */
  readonly entryVersion: number | null;
  /** Null: there is no row. */
  readonly rowVersion: number | null;
}

export interface Report {
  readonly samples: number;
  readonly stale: number;
  /** `stale / samples`; null without samples. */
  readonly rate: number | null;
  /** The rate of the whole cache is at most this (95 % confidence): see `mostExpected`. 1 without samples. */
  readonly atMost: number;
  /** In production: suspects without a second look. Not counted in `samples`; `atMost` counts them as stale. */
  readonly undecided?: number;
  /** In production: for how long the oldest stale entry is known to be stale (ms); null if there is none. */
  readonly oldestMs?: number | null;
}

export interface Options {
  readonly redis: Redis;
  /** Reads the primary, which gets all writes. */
  readonly primary: ReadUsers;
  /** Reads a replica, which may lag by minutes. */
  readonly replica: ReadUsers;
  /** How long an entry may lag behind its row (ms). */
  readonly graceMs: number;
  readonly clock: Clock;
  /** It never throws. */
  readonly onStale: (finding: Finding) => void;
  /** In production: how many rows per second you may read from the primary; ROWS_PER_SECOND if absent. */
  readonly rowsPerSecond?: number;
  /** In production: how long Redis or the primary may take (ms of real time); DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: the text to report in place of a key; the key itself if absent. */
  readonly fingerprint?: (key: string) => string;
  /** In production: called with each failure of a server, and for each entry that cannot be decoded. It never throws. */
  readonly onError?: (error: unknown) => void;
}

export interface Auditor {
  /**
   * Compares the entries of users in Redis with their rows.
   * @param samples how many entries; fewer if there are fewer. An entry may come twice
   * @param signal in production: ends the audit, which then reports what it has
   */
  audit(samples: number, signal?: AbortSignal): Promise<Report>;
}

/** An entry and its row, as they were at `at` (by the clock). */
interface Look {
  readonly key: string;
  readonly entry: User | null;
  readonly row: User | null;
  readonly at: number;
}

export function createAuditor({
  redis,
  primary,
  graceMs,
  clock,
  onStale,
  rowsPerSecond = ROWS_PER_SECOND,
  deadlineMs = DEADLINE_MS,
  fingerprint = (key) => key,
  onError = () => {},
}: Options): Auditor {
  const followed = new Map<string, { readonly first: Look; seenAt: number }>();
  let nextRowAt = 0;
  let [cursor, batch]: [string, string[]] = ['0', []];

  // #region audit
  async function audit(samples: number, signal = new AbortController().signal): Promise<Report> {
    let [fresh, stale] = [0, 0];
    const suspects: Look[] = [];
    try {
      await follow(signal);
      for await (const key of keys(signal)) {
        const look = await lookAt(key, signal);
        if (look && isSame(look.entry, look.row)) fresh++;
        else if (look) suspects.push(look);
        if (fresh + suspects.length >= samples) break;
      }
      for (let first = suspects[0]; first; first = suspects[0]) {
        const wait = first.at + graceMs - clock.now();
        if (wait > 0) await clock.sleep(wait, signal);
        const second = await lookAt(first.key, signal);
        suspects.shift();
        if (second && isStillOld(second, first.row)) {
          stale++;
          found(first, second);
        } else fresh++;
      }
    } catch (error) {
      if (!signal.aborted) onError(error);
    }
    return report(fresh, stale, suspects.length);
  }
  // #endregion

  // #region walk
  /** Goes on where the last audit ended, and ends after a whole pass. */
  async function* keys(signal: AbortSignal): AsyncGenerator<string> {
    for (let starts = 0; ; ) {
      // What is left of a batch is for the next audit: else its keys would never have their turn.
      for (let key = batch.pop(); key !== undefined; key = batch.pop()) yield key;
      if (cursor === '0' && ++starts === 2) return;
      signal.throwIfAborted();
      const scan = redis.scan(cursor, 'MATCH', KEY_PATTERN, 'COUNT', 100);
      [cursor, batch] = await withDeadline(scan, deadlineMs);
    }
  }
  // #endregion

  // #region look
  /** Undefined where there is nothing that a reader could get. The entry is read first: a cache does not run ahead. */
  async function lookAt(key: string, signal: AbortSignal): Promise<Look | undefined> {
    const id = idOf(key);
    if (id === null) return undefined;
    await pace(signal);
    signal.throwIfAborted();
    // Unlike GET, MGET does not fail at a value of another type.
    const [bytes] = await withDeadline(redis.mgetBuffer(key), deadlineMs);
    if (!bytes) return undefined;
    let entry: User | null;
    try {
      entry = decode(bytes);
    } catch {
      // The error quotes the bytes.
      onError(new UnreadableEntryError(fingerprint(key)));
      return undefined;
    }
    const rows = await withDeadline(primary([id]), deadlineMs);
    return { key, entry, row: rows.get(id) ?? null, at: clock.now() };
  }

  async function pace(signal: AbortSignal): Promise<void> {
    const at = Math.max(nextRowAt, clock.now());
    nextRowAt = at + 1000 / rowsPerSecond;
    if (at > clock.now()) await clock.sleep(at - clock.now(), signal);
  }
  // #endregion

  // #region follow
  function found(first: Look, { key, entry, row, at }: Look): void {
    if (followed.has(key)) return;
    if (followed.size < MAX_FOLLOWED) followed.set(key, { first, seenAt: at });
    const [entryVersion, rowVersion] = [entry?.version ?? null, row?.version ?? null];
    onStale({ key: fingerprint(key), entryVersion, rowVersion });
  }

  /** No samples: these are looked at because they were stale. */
  async function follow(signal: AbortSignal): Promise<void> {
    for (const [key, known] of followed) {
      const look = await lookAt(key, signal);
      const isKnown = look?.entry?.version === known.first.entry?.version;
      if (look && isKnown && !isSame(look.entry, look.row)) known.seenAt = look.at;
      else followed.delete(key);
    }
  }

  function report(fresh: number, stale: number, undecided: number): Report {
    const samples = fresh + stale;
    const all = samples + undecided;
    const ages = [...followed.values()].map(({ first, seenAt }) => seenAt - first.at);
    return {
      samples,
      stale,
      undecided,
      rate: samples > 0 ? stale / samples : null,
      atMost: all > 0 ? Math.min(1, mostExpected(stale + undecided) / all) : 1,
      oldestMs: ages.length > 0 ? Math.max(...ages) : null,
    };
  }
  // #endregion

  return { audit };
}

// #region compare
function isSame(entry: User | null, row: User | null): boolean {
  if (entry === null || row === null) return entry === row;
  return FIELDS.every((field) => entry[field].valueOf() === row[field].valueOf());
}

/** Older than the row that the first look saw: newer writes have their own grace. */
function isStillOld({ entry, row }: Look, first: User | null): boolean {
  if (isSame(entry, row) || isSame(entry, first)) return false;
  if (first === null) return row === null;
  return (entry?.version ?? 0) <= first.version;
}
// #endregion
