import type { Redis } from 'ioredis';
import type { Pool } from 'mysql2/promise';
import {
  decode,
  encode,
  FILTER_BITS,
  FILTER_KEY,
  HASHES,
  hash,
  insertVoucher,
  scanCodes,
  selectVoucher,
  VOUCHER_TTL_MS,
  type Voucher,
  voucherKey,
} from './given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly absentTtlMs: number;
}

// #region core
/** The textbook version: right while the filter is complete, and Redis answers. */
export function createVouchers({ redis, db, absentTtlMs }: Options) {
  async function find(code: string): Promise<Voucher | null> {
    const text = await redis.get(voucherKey(code));
    const cached = text === null ? undefined : decode(text);
    if (cached !== undefined) return cached;
    if (await isAbsent(code)) return null;
    const voucher = await selectVoucher(db, code);
    await redis.set(voucherKey(code), encode(voucher), 'PX', voucher ? VOUCHER_TTL_MS : absentTtlMs);
    return voucher;
  }

  async function isAbsent(code: string): Promise<boolean> {
    // Without a filter, all codes pass.
    if ((await redis.exists(FILTER_KEY)) === 0) return false;
    const bits = await Promise.all(positions(code).map((position) => redis.getbit(FILTER_KEY, position)));
    return bits.includes(0);
  }

  async function enter(codes: readonly string[]): Promise<void> {
    await Promise.all(codes.flatMap(positions).map((position) => redis.setbit(FILTER_KEY, position, 1)));
  }

  return {
    find,
    async create(voucher: Voucher): Promise<void> {
      await insertVoucher(db, voucher);
      await enter([voucher.code]);
      await redis.del(voucherKey(voucher.code));
    },
    async rebuild(): Promise<void> {
      for await (const codes of scanCodes(db)) await enter(codes);
    },
  };
}

/** The bits of a code: each number is made of four other bytes of its hash. */
function positions(code: string): number[] {
  const bytes = hash(code);
  return Array.from({ length: HASHES }, (_, nth) => bytes.readUInt32LE(4 * nth) % FILTER_BITS);
}
// #endregion
