import { createHash } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Pool, RowDataPacket } from 'mysql2/promise';
import { transaction, withDeadline } from '#kit/given';
import {
  type Address,
  decode,
  encode,
  InvalidSearchError,
  idOf,
  insertReview,
  LARGEST,
  type Listed,
  LOAD_MS,
  LOW_STOCK,
  loadPart,
  OPTIONAL,
  PARTS,
  type Part,
  POPULAR_VIEWS,
  partKey,
  type Review,
  SELECT_FOUND,
  type Search,
  TTL_MS,
  toPage,
  updateCategory,
  updatePrice,
  type Value,
} from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly onCacheError?: (error: unknown) => void;
  readonly loadMs?: number;
}

/** All fills of a page in one script, and a sale that locks its row. */
export function createShop({ redis, db, onCacheError = () => {}, loadMs = LOAD_MS }: Options) {
  async function fill(entries: readonly { key: string; value: Value; ttlMs: number }[]): Promise<void> {
    if (entries.length === 0) return;
    const keys = entries.map(({ key }) => key);
    const args = entries.flatMap(({ value, ttlMs }) => [encode(value), ttlMs]);
    await redis.eval(FILL, keys.length, ...keys, ...args).catch(onCacheError);
  }

  function hitIn(part: Part, bytes: Buffer | null | undefined): Value | undefined {
    if (!bytes) return undefined;
    try {
      return decode(part, bytes);
    } catch (error) {
      onCacheError(error);
      return undefined;
    }
  }

  async function page(at: Address) {
    const keys = PARTS.map((part) => partKey(part, idOf(part, at)));
    let answer: (Buffer | null)[] | undefined;
    try {
      answer = await redis.mgetBuffer(...keys);
    } catch (error) {
      onCacheError(error);
    }
    const parts = new Map<Part, Value>();
    const missing: Part[] = [];
    PARTS.forEach((part, i) => {
      const hit = hitIn(part, answer?.[i]);
      if (hit === undefined) missing.push(part);
      else parts.set(part, hit);
    });
    const loads = await Promise.allSettled(
      missing.map((part) => withDeadline(loadPart(db, part, idOf(part, at)), loadMs)),
    );
    const fresh: { key: string; value: Value; ttlMs: number }[] = [];
    for (const [i, part] of missing.entries()) {
      const load = loads[i];
      if (load?.status === 'fulfilled') {
        parts.set(part, load.value);
        fresh.push({ key: partKey(part, idOf(part, at)), value: load.value, ttlMs: ttlOf(part, load.value) });
      } else if (!OPTIONAL.has(part)) throw load?.reason;
    }
    if (answer) await fill(fresh);
    return toPage(at, Object.fromEntries(parts));
  }

  async function search({ text, page, size }: Search): Promise<readonly Listed[]> {
    for (const [value, most] of [
      [text.length + 1, LARGEST.text + 1],
      [page, LARGEST.page],
      [size, LARGEST.size],
    ] as const) {
      if (!(Number.isInteger(value) && value >= 1 && value <= most))
        throw new InvalidSearchError('too large');
    }
    const pattern = `%${fold(text).replace(/[%_\\]/g, (special) => `\\${special}`)}%`;
    const digest = createHash('sha256').update(pattern).digest('base64url');
    const key = `search:${digest}:${page}:${size}`;
    const answer = await redis.getBuffer(key).catch((error: unknown) => {
      onCacheError(error);
      return undefined;
    });
    const hit = hitIn('list', answer);
    if (hit !== undefined) return hit as readonly Listed[];
    const sql = `${SELECT_FOUND} ORDER BY view_count DESC, id ASC LIMIT ?, ?`;
    const searching = db.query<(Listed & RowDataPacket)[]>(sql, [pattern, (page - 1) * size, size]);
    const [rows] = await withDeadline(searching, loadMs);
    if (answer !== undefined) await fill([{ key, value: rows, ttlMs: TTL_MS.list }]);
    return rows;
  }

  async function buy(product: number, pieces: number): Promise<boolean> {
    if (!Number.isInteger(pieces) || pieces < 1) throw new RangeError('pieces: a whole number from 1');
    const sold = await transaction(db, async (connection) => {
      const [[row]] = await connection.query<RowDataPacket[]>(
        'SELECT stock FROM products WHERE id = ? FOR UPDATE',
        [product],
      );
      if (!row || row.stock < pieces) return false;
      await connection.query('UPDATE products SET stock = ? WHERE id = ?', [row.stock - pieces, product]);
      return true;
    });
    if (sold) await forget(partKey('stock', product));
    return sold;
  }

  const forget = (...keys: string[]) => redis.del(...keys).then(() => {}, onCacheError);

  return {
    page,
    search,
    buy,
    async setPrice(product: number, price: string) {
      const category = await updatePrice(db, product, price);
      await forget(partKey('core', product), ...(category === null ? [] : [partKey('list', category)]));
    },
    async addReview(product: number, review: Review) {
      await insertReview(db, product, review);
      await forget(partKey('rating', product));
    },
    async move(product: number, category: number) {
      const from = await updateCategory(db, product, category);
      if (from === null) return;
      await forget(partKey('core', product), partKey('list', category), partKey('list', from));
    },
  };
}

const FILL = `
  for i, key in ipairs(KEYS) do
    redis.call('SET', key, ARGV[2 * i - 1], 'PX', ARGV[2 * i])
  end`;

function ttlOf(part: Part, value: Value): number {
  if (value === null) return TTL_MS.absent;
  if ('left' in value) {
    if (value.left < LOW_STOCK) return TTL_MS.lowStock;
    if (value.views > POPULAR_VIEWS) return TTL_MS.popularStock;
  }
  return TTL_MS[part];
}

const fold = (text: string): string =>
  text
    .normalize('NFD')
    .replace(/[A-Z]/g, (letter) => letter.toLowerCase())
    .replace(/(?<=[a-z])\p{M}+/gu, '')
    .normalize('NFC');
