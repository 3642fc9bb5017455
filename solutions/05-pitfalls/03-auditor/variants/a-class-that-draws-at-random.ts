import type { Redis } from 'ioredis';
import { withDeadline } from '#kit/given';
import type { Auditor, Finding, Options, Report } from '../auditor';
import {
  DEADLINE_MS,
  decode,
  FIELDS,
  idOf,
  MAX_FOLLOWED,
  mostExpected,
  ROWS_PER_SECOND,
  UnreadableEntryError,
  type User,
  userKey,
} from '../given';

interface Seen {
  readonly id: number;
  readonly entry: User | null;
  readonly row: User | null;
  readonly at: number;
}

/** So many keys of other kinds are drawn in vain before the audit ends. */
const DRAWS_IN_VAIN = 100;

/** One class: RANDOMKEY draws each sample by itself, and the rows of each second are asked for together. */
class RandomAuditor implements Auditor {
  readonly #options: Required<Options>;
  readonly #redis: Redis;
  readonly #followed = new Map<number, { version: number | undefined; since: number; seenAt: number }>();
  #quota = { from: Number.NEGATIVE_INFINITY, rows: 0 };

  constructor(options: Options) {
    this.#options = {
      rowsPerSecond: ROWS_PER_SECOND,
      deadlineMs: DEADLINE_MS,
      fingerprint: (key: string) => key,
      onError: () => {},
      ...options,
    };
    this.#redis = options.redis;
  }

  async audit(samples: number, signal?: AbortSignal): Promise<Report> {
    const suspects: Seen[] = [];
    let fresh = 0;
    let stale = 0;
    try {
      await this.#refresh(signal);
      while (fresh + suspects.length < samples) {
        const drawn = await this.#draw();
        if (drawn === undefined) break;
        const seen = await this.#look(drawn, signal);
        if (seen === undefined) continue;
        if (differs(seen.entry, seen.row)) suspects.push(seen);
        else fresh++;
      }
      const last = suspects.at(-1);
      if (last) await this.#sleep(last.at + this.#options.graceMs - this.#options.clock.now(), signal);
      while (suspects[0]) {
        const first = suspects[0];
        const second = await this.#look(first.id, signal);
        if (second && this.#isStale(first, second)) {
          stale++;
          this.#report(first, second);
        } else fresh++;
        suspects.shift();
      }
    } catch (error) {
      if (!signal?.aborted) this.#options.onError(error);
    }
    const judged = fresh + stale;
    const most = mostExpected(stale + suspects.length) / (judged + suspects.length);
    const ages = [...this.#followed.values()].map(({ since, seenAt }) => seenAt - since);
    return {
      samples: judged,
      stale,
      undecided: suspects.length,
      rate: judged === 0 ? null : stale / judged,
      atMost: Number.isFinite(most) ? Math.min(1, most) : 1,
      oldestMs: ages.length === 0 ? null : Math.max(...ages),
    };
  }

  async #draw(): Promise<number | undefined> {
    for (let draws = 0; draws < DRAWS_IN_VAIN; draws++) {
      const key = await withDeadline(this.#redis.randomkey(), this.#options.deadlineMs);
      if (key === null) return undefined;
      const id = idOf(key);
      if (id !== null && (await this.#read(id)) !== undefined) return id;
    }
    return undefined;
  }

  /** Undefined where there is no entry that can be decoded. */
  async #read(id: number): Promise<User | null | undefined> {
    const key = userKey(id);
    const bytes = await withDeadline(this.#redis.getBuffer(key), this.#options.deadlineMs).catch(
      (error: unknown) => {
        if (String(error).includes('WRONGTYPE')) return null;
        throw error;
      },
    );
    if (bytes === null) return undefined;
    try {
      return decode(bytes);
    } catch {
      this.#options.onError(new UnreadableEntryError(this.#options.fingerprint(key)));
      return undefined;
    }
  }

  async #look(id: number, signal?: AbortSignal): Promise<Seen | undefined> {
    await this.#takeRow(signal);
    signal?.throwIfAborted();
    const entry = await this.#read(id);
    if (entry === undefined) return undefined;
    const rows = await withDeadline(this.#options.primary([id]), this.#options.deadlineMs);
    return { id, entry, row: rows.get(id) ?? null, at: this.#options.clock.now() };
  }

  /** So many rows, then a pause of a second. */
  async #takeRow(signal?: AbortSignal): Promise<void> {
    while (this.#quota.rows >= this.#options.rowsPerSecond && !signal?.aborted) {
      const { from } = this.#quota;
      await this.#sleep(1000, signal);
      if (this.#quota.from === from) this.#quota = { from: this.#options.clock.now(), rows: 0 };
    }
    this.#quota.rows++;
  }

  async #sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms > 0) await this.#options.clock.sleep(ms, signal);
  }

  #isStale(first: Seen, { entry, row }: Seen): boolean {
    if (!differs(entry, row) || !differs(entry, first.row)) return false;
    const wanted = first.row?.version ?? (row === null ? Number.POSITIVE_INFINITY : -1);
    return (entry?.version ?? 0) <= wanted;
  }

  #report(first: Seen, { id, entry, row, at }: Seen): void {
    if (this.#followed.has(id)) return;
    if (this.#followed.size < MAX_FOLLOWED) {
      this.#followed.set(id, { version: entry?.version, since: first.at, seenAt: at });
    }
    const finding: Finding = {
      key: this.#options.fingerprint(userKey(id)),
      entryVersion: entry?.version ?? null,
      rowVersion: row?.version ?? null,
    };
    this.#options.onStale(finding);
  }

  async #refresh(signal?: AbortSignal): Promise<void> {
    for (const [id, known] of [...this.#followed]) {
      const seen = await this.#look(id, signal);
      if (!seen || !differs(seen.entry, seen.row) || seen.entry?.version !== known.version) {
        this.#followed.delete(id);
      } else known.seenAt = seen.at;
    }
  }
}

const differs = (entry: User | null, row: User | null): boolean =>
  entry && row ? FIELDS.some((field) => String(entry[field]) !== String(row[field])) : entry !== row;

export const createAuditor = (options: Options): Auditor => new RandomAuditor(options);
