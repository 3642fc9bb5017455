import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { transaction, withDeadline } from '#kit/given';
import {
  DEADLINE_MS,
  decode,
  encode,
  FILTER_BITS,
  FILTER_KEY,
  HASHES,
  hash,
  InvalidCodeError,
  insertVoucher,
  isCode,
  MAX_ABSENT,
  REBUILD_LOCK_MS,
  scanCodes,
  selectVoucher,
  VOUCHER_TTL_MS,
  type Voucher,
  voucherKey,
} from './given';

export interface Vouchers {
  /** The voucher, or null when there is none. Rejects with the error of MySQL. */
  find(code: string): Promise<Voucher | null>;
  /**
   * Resolves when every process finds the voucher. Rejects with the error of MySQL; in production, also with
   * InvalidCodeError, or when the code could not be entered into the filter: then there is no voucher.
   */
  create(voucher: Voucher): Promise<void>;
  /** Adds to the filter all codes that MySQL has when it is called. */
  rebuild(): Promise<void>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** The TTL of an absence (ms). */
  readonly absentTtlMs: number;
  /** In production: the longest that Redis may take to answer (ms); DEADLINE_MS if absent. */
  readonly deadlineMs?: number;
  /** In production: called with each error of Redis. It never throws. */
  readonly onError?: (error: unknown) => void;
}

// #region layout
/** The filter begins with a bit that says "complete", and the token of its build. All of it is lost together. */
const COMPLETE_BIT = 0;
const TOKEN_AT = 1;
const TOKEN_LENGTH = 16;
const HEADER_BITS = 8 * (TOKEN_AT + TOKEN_LENGTH);

/** The bits of a code: each number is made of four other bytes of its hash. */
function positions(code: string): number[] {
  const bytes = hash(code);
  return Array.from(
    { length: HASHES },
    (_, nth) => HEADER_BITS + (bytes.readUInt32LE(4 * nth) % FILTER_BITS),
  );
}

/** Absences share MAX_ABSENT keys: a new one takes the place of another one. Bytes 28 to 31 set no bit. */
const absentKey = (code: string): string => `vouchers:absent:${hash(code).readUInt32LE(28) % MAX_ABSENT}`;
// #endregion

const LOCK_KEY = '{vouchers}:rebuild';

/** The token of the filter. A filter that has none (%z is a byte 0) gets the one that is given. */
const BEGIN = `
  local token, first, last = unpack(ARGV)
  local found = redis.call('GETRANGE', KEYS[1], first, last)
  if string.match(found, '[^%z]') then return found end
  redis.call('SETRANGE', KEYS[1], first, token)
  return token`;

/** A filter that was lost since the build began has another token, or none: it is not complete. */
const COMPLETE = `
  local token, first, last, bit = unpack(ARGV)
  if redis.call('GETRANGE', KEYS[1], first, last) == token then redis.call('SETBIT', KEYS[1], bit, 1) end`;

/** The vouchers of a shop, behind a cache and a Bloom filter. */
export function createVouchers({
  redis,
  db,
  absentTtlMs,
  deadlineMs = DEADLINE_MS,
  onError = () => {},
}: Options): Vouchers {
  /** What Redis answers; undefined when it does not, and that is reported. */
  const ask = <T>(answer: Promise<T>): Promise<T | undefined> =>
    withDeadline(answer, deadlineMs).catch((error: unknown) => {
      onError(error);
      return undefined;
    });

  // #region find
  async function find(code: string): Promise<Voucher | null> {
    if (!isCode(code)) return null;
    // Sent together: one round trip, and one deadline.
    const [entries, mayExist] = await Promise.all([
      ask(redis.mget(voucherKey(code), absentKey(code))),
      passesFilter(code),
    ]);
    const cached = entries?.[0] && decode(entries[0]);
    if (cached) return cached;
    if (entries?.[1] === code || !mayExist) return null;
    const voucher = await selectVoucher(db, code);
    // Without an answer from Redis, a SET would only cost a second deadline.
    if (entries) await ask(remember(code, voucher));
    return voucher;
  }

  function remember(code: string, voucher: Voucher | null): Promise<unknown> {
    return voucher
      ? redis.set(voucherKey(code), encode(voucher), 'PX', VOUCHER_TTL_MS)
      : redis.set(absentKey(code), code, 'PX', absentTtlMs);
  }

  /** False only when a complete filter does not have the code. One command: the filter may be lost between two. */
  async function passesFilter(code: string): Promise<boolean> {
    const reads = [COMPLETE_BIT, ...positions(code)].flatMap((position) => ['GET', 'u1', position]);
    const bits = await ask(redis.call('BITFIELD_RO', FILTER_KEY, ...reads) as Promise<number[]>);
    if (!bits) return true;
    const [complete, ...set] = bits;
    if (complete === 1) return !set.includes(0);
    void rebuildOnce().catch(onError);
    return true;
  }
  // #endregion

  // #region create
  async function create(voucher: Voucher): Promise<void> {
    const { code } = voucher;
    if (!isCode(code)) throw new InvalidCodeError();
    await transaction(db, async (connection) => {
      await insertVoucher(connection, voucher);
      // Before the commit: nobody sees a row that the filter does not have. After the INSERT: a scan waits for its row.
      await withDeadline(enter([code]), deadlineMs);
    });
    // An entry goes before an absence, also before one that a slow reader stores later.
    await ask(Promise.all([remember(code, voucher), redis.del(absentKey(code))]));
  }

  async function enter(codes: readonly string[]): Promise<void> {
    await Promise.all(
      codes.map((code) =>
        redis.call(
          'BITFIELD',
          FILTER_KEY,
          ...positions(code).flatMap((position) => ['SET', 'u1', position, 1]),
        ),
      ),
    );
  }
  // #endregion

  // #region rebuild
  /** Builds that overlap have the same token, so the first one that ends completes the filter. */
  async function rebuild(): Promise<void> {
    const last = TOKEN_AT + TOKEN_LENGTH - 1;
    const fresh = randomBytes(TOKEN_LENGTH / 2).toString('hex');
    const token = String(await redis.eval(BEGIN, 1, FILTER_KEY, fresh, TOKEN_AT, last));
    // Into the filter that creations use too: a new filter would lack the codes that came during the scan.
    for await (const codes of scanCodes(db)) await enter(codes);
    await redis.eval(COMPLETE, 1, FILTER_KEY, token, TOKEN_AT, last, COMPLETE_BIT);
  }

  /** In one process. The lock is not released: it also bounds how often the table is scanned. */
  async function rebuildOnce(): Promise<void> {
    if (await redis.set(LOCK_KEY, '1', 'PX', REBUILD_LOCK_MS, 'NX')) await rebuild();
  }
  // #endregion

  return { find, create, rebuild };
}
