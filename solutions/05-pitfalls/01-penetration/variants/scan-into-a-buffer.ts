import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import { withDeadline } from '#kit/given';
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
} from '../given';

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

/** The header: "-" or "+" (complete), then the id of the build. */
const HEADER_BYTES = 37;
const LOCK_KEY = '{vouchers}:lock';
const SCANNED_KEY = '{vouchers}:scanned';

/** The id of the build that the filter has, or of a new one. */
const BEGIN = `
  local found = redis.call('GETRANGE', KEYS[1], 1, 36)
  if #found == #ARGV[1] and string.byte(found) ~= 0 then return found end
  redis.call('SETRANGE', KEYS[1], 1, ARGV[1])
  return ARGV[1]`;

/** Ors the bits that were scanned into the filter that creations use, and completes it, if it is still the same one. */
const PUBLISH = `
  local filter, scanned = unpack(KEYS)
  local build, bits = unpack(ARGV)
  if redis.call('GETRANGE', filter, 1, 36) == build then
    redis.call('SET', scanned, bits)
    redis.call('BITOP', 'OR', filter, filter, scanned)
    redis.call('DEL', scanned)
    redis.call('SETRANGE', filter, 0, '+')
  end`;

/** The scan fills a buffer of this process; the hit path asks the entry first, and the filter after a miss only. */
export function createVouchers({
  redis,
  db,
  absentTtlMs,
  deadlineMs = DEADLINE_MS,
  onError,
}: Options): Vouchers {
  const slotKey = (code: string) => `vouchers:slot:${hash(code).readUInt16LE(30) % MAX_ABSENT}`;

  async function find(code: string): Promise<Voucher | null> {
    if (!isCode(code)) return null;
    const known = await withDeadline(ask(code), deadlineMs).catch((error: unknown) => {
      onError?.(error);
      return 'no answer' as const;
    });
    if (known === 'absent') return null;
    if (typeof known === 'object') return known;
    const voucher = await selectVoucher(db, code);
    if (known === 'unknown') store(code, voucher).catch((error: unknown) => onError?.(error));
    return voucher;
  }

  async function ask(code: string): Promise<Voucher | 'absent' | 'unknown'> {
    const [entry, absent] = await redis.mget(voucherKey(code), slotKey(code));
    const voucher = entry ? decode(entry) : undefined;
    if (voucher) return voucher;
    if (absent === code) return 'absent';
    const reading = redis.multi().getrange(FILTER_KEY, 0, 0);
    for (const position of positions(code)) reading.getbit(FILTER_KEY, position);
    const [header, ...bits] = (await reading.exec())?.map(([, answer]) => answer) ?? [];
    if (header === '+') return bits.every((bit) => bit === 1) ? 'unknown' : 'absent';
    rebuildOnce().catch((error: unknown) => onError?.(error));
    return 'unknown';
  }

  async function store(code: string, voucher: Voucher | null): Promise<void> {
    if (voucher) await redis.psetex(voucherKey(code), VOUCHER_TTL_MS, encode(voucher));
    else await redis.psetex(slotKey(code), absentTtlMs, code);
  }

  /** Enters before the INSERT, so that the filter is never behind, and after it, if the filter was lost meanwhile. */
  async function create(voucher: Voucher): Promise<void> {
    const { code } = voucher;
    if (!isCode(code)) throw new InvalidCodeError();
    await withDeadline(enter(code), deadlineMs);
    await insertVoucher(db, voucher);
    const after = Promise.all([enter(code), store(code, voucher), redis.del(slotKey(code))]);
    await withDeadline(after, deadlineMs).catch((error: unknown) => onError?.(error));
  }

  async function enter(code: string): Promise<void> {
    const sets = positions(code).flatMap((position) => ['SET', 'u1', position, 1]);
    await redis.call('BITFIELD', FILTER_KEY, ...sets);
  }

  async function rebuildOnce(): Promise<void> {
    const locked = await redis.set(LOCK_KEY, '1', 'PX', REBUILD_LOCK_MS, 'NX');
    if (locked !== null) await rebuild();
  }

  async function rebuild(): Promise<void> {
    const build = String(await redis.eval(BEGIN, 1, FILTER_KEY, randomUUID()));
    const bits = Buffer.alloc(HEADER_BYTES + FILTER_BITS / 8);
    for await (const codes of scanCodes(db)) {
      // As SETBIT counts: bit 0 is the highest one of byte 0.
      for (const position of codes.flatMap(positions)) {
        const byte = position >> 3;
        bits[byte] = (bits[byte] ?? 0) | (0x80 >> (position & 7));
      }
    }
    await redis.eval(PUBLISH, 2, FILTER_KEY, SCANNED_KEY, build, bits);
  }

  return { find, create, rebuild };
}

function positions(code: string): number[] {
  const view = new DataView(Uint8Array.from(hash(code)).buffer);
  return Array.from(
    { length: HASHES },
    (_, nth) => 8 * HEADER_BYTES + (view.getUint32(4 * nth) % FILTER_BITS),
  );
}
