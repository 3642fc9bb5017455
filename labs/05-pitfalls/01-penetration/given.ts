import { createHash } from 'node:crypto';
import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';

/** The tests create it. */
export const CREATE_VOUCHERS = `CREATE TABLE IF NOT EXISTS vouchers (
  code VARCHAR(16) CHARACTER SET ascii COLLATE ascii_bin PRIMARY KEY,
  percent INT NOT NULL
)`;

export interface Voucher {
  readonly code: string;
  /** The discount. */
  readonly percent: number;
}

/** The TTL of a voucher (ms). */
export const VOUCHER_TTL_MS = 10 * 60_000;

export const voucherKey = (code: string): string => `voucher:${code}`;

/** The text of an entry. `encode(null)` is the text of an absence. */
export const encode = (voucher: Voucher | null): string => JSON.stringify(voucher);

/** The reverse of `encode`; undefined when the text is not an entry. */
export function decode(text: string): Voucher | null | undefined {
  try {
    const { code, percent } = JSON.parse(text) ?? { code: null };
    if (code === null) return null;
    return typeof code === 'string' && typeof percent === 'number' ? { code, percent } : undefined;
  } catch {
    return undefined;
  }
}

/** The filter: one string in Redis, without a TTL. */
export const FILTER_KEY = '{vouchers}:filter';

/** How many vouchers the shop plans to have. */
export const CAPACITY = 300;
export const BITS_PER_CODE = 10;
export const FILTER_BITS = CAPACITY * BITS_PER_CODE;

/** How many bits each code sets. */
export const HASHES = 7;

/** 32 bytes that look random. */
export const hash = (code: string): Buffer => createHash('sha256').update(code).digest();

/** In production: how long Redis may take to answer (ms), if the options have no `deadlineMs`. */
export const DEADLINE_MS = 50;

/** In production: how many absences Redis may hold at a time. */
export const MAX_ABSENT = 50;

/** In production: `find` does not start a second rebuild within this time (ms). */
export const REBUILD_LOCK_MS = 10_000;

/** In production: whether a text can be a code. */
export const isCode = (text: string): boolean => typeof text === 'string' && /^[A-Z0-9]{4,16}$/.test(text);

/** In production. */
export class InvalidCodeError extends TypeError {
  override readonly name = 'InvalidCodeError';

  constructor() {
    super('a code has 4 to 16 characters, each of A to Z or 0 to 9');
  }
}

export async function selectVoucher(db: Pool, code: string): Promise<Voucher | null> {
  const [rows] = await db.query<(Voucher & RowDataPacket)[]>(
    'SELECT code, percent FROM vouchers WHERE code = ?',
    [code],
  );
  return rows[0] ? { ...rows[0] } : null;
}

/** Rejects when the code exists already. */
export async function insertVoucher(db: Pool | PoolConnection, { code, percent }: Voucher): Promise<void> {
  await db.query('INSERT INTO vouchers (code, percent) VALUES (?, ?)', [code, percent]);
}

const PAGE = 100;

/** All codes of the table, page by page. In production: a page waits for rows in it that are not committed yet. */
export async function* scanCodes(db: Pool): AsyncGenerator<readonly string[]> {
  let after = '';
  for (let codes: readonly string[] | undefined; codes === undefined || codes.length === PAGE; ) {
    const [rows] = await db.query<({ code: string } & RowDataPacket)[]>(
      'SELECT code FROM vouchers WHERE code > ? ORDER BY code LIMIT ? LOCK IN SHARE MODE',
      [after, PAGE],
    );
    codes = rows.map(({ code }) => code);
    after = codes.at(-1) ?? after;
    if (codes.length > 0) yield codes;
  }
}
