import type { Redis } from 'ioredis';
import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { withDeadline } from '#kit/given';
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
  type Page,
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
} from './given';

export interface Shop {
  /** The page, or null when there is no such product in this category. */
  page(address: Address): Promise<Page | null>;
  /** Products whose name contains the text, the most viewed first. In production: @throws InvalidSearchError */
  search(search: Search): Promise<readonly Listed[]>;
  /** When a write resolves, the parts that show it are gone from Redis. */
  setPrice(product: number, price: string): Promise<void>;
  addReview(product: number, review: Review): Promise<void>;
  /** Moves it to another category. */
  move(product: number, category: number): Promise<void>;
  /** Takes `pieces`, a whole number from 1. When fewer are left, it takes nothing and returns false. */
  buy(product: number, pieces: number): Promise<boolean>;
}

export interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  /** In production: called with each error of Redis and of `decode`. It never throws. */
  readonly onCacheError?: (error: unknown) => void;
  /** In production: how long MySQL may take to load a part, or to search (ms). */
  readonly loadMs?: number;
}

/** One entry, and how to load it again. */
interface Wanted {
  readonly key: string;
  readonly part: Part;
  load(): Promise<Value>;
}

/** Product pages whose parts are cached separately. `given.ts` has the parts, keys, TTLs, codec and SQL. */
export function createShop({ redis, db, onCacheError = () => {}, loadMs = LOAD_MS }: Options): Shop {
  const report = (error: unknown): undefined => void onCacheError(error);

  // #region read
  /** One question to Redis; MySQL loads what it lacks. Undefined for an optional part that MySQL does not give. */
  async function get(wanted: readonly Wanted[], optional: ReadonlySet<Part> = new Set()) {
    const cached = await redis.mgetBuffer(wanted.map(({ key }) => key)).catch(report);
    return Promise.all(
      wanted.map(async ({ key, part, load }, i) => {
        const hit = decoded(part, cached?.[i]);
        if (hit !== undefined) return hit;
        const loading = withDeadline(load(), loadMs);
        const value = await (optional.has(part) ? loading.catch(() => undefined) : loading);
        // Without an answer to the MGET, a SET would only cost a second deadline.
        if (cached && value !== undefined) {
          await redis.set(key, encode(value), 'PX', ttlOf(part, value)).catch(report);
        }
        return value;
      }),
    );
  }

  function decoded(part: Part, bytes: Buffer | null | undefined): Value | undefined {
    try {
      return bytes ? decode(part, bytes) : undefined;
    } catch (error) {
      return report(error);
    }
  }
  // #endregion

  /** Never rejects: the write is committed, whatever Redis says. */
  const forget = (...keys: string[]) => redis.del(keys).catch(report);

  return {
    // #region page
    async page(at) {
      const wanted = PARTS.map((part): Wanted => {
        const id = idOf(part, at);
        return { key: partKey(part, id), part, load: () => loadPart(db, part, id) };
      });
      const values = await get(wanted, OPTIONAL);
      return toPage(at, Object.fromEntries(PARTS.map((part, i) => [part, values[i]])));
    },
    // #endregion

    // #region search
    async search({ text, page, size }) {
      requireAnswerable({ text, page, size });
      // MySQL is asked with the very text that the key is made of: what shares an entry is one question.
      const asked = folded(text);
      const load = async () => {
        const [found] = await db.query<(Listed & RowDataPacket)[]>(
          `${SELECT_FOUND} ORDER BY view_count DESC, id LIMIT ? OFFSET ?`,
          [`%${escapedForLike(asked)}%`, size, (page - 1) * size],
        );
        return found;
      };
      const [found] = await get([{ key: `search:${size}:${page}:${asked}`, part: 'list', load }]);
      return found as readonly Listed[];
    },
    // #endregion

    // #region writes
    async setPrice(product, price) {
      const category = await updatePrice(db, product, price);
      if (category !== null) await forget(partKey('core', product), partKey('list', category));
    },

    async addReview(product, review) {
      await insertReview(db, product, review);
      await forget(partKey('rating', product));
    },

    async move(product, category) {
      const from = await updateCategory(db, product, category);
      if (from === null) return;
      await forget(partKey('core', product), partKey('list', from), partKey('list', category));
    },

    async buy(product, pieces) {
      if (!Number.isInteger(pieces) || pieces < 1) return false;
      const [{ affectedRows }] = await db.query<ResultSetHeader>(
        'UPDATE products SET stock = stock - ? WHERE id = ? AND stock >= ?',
        [pieces, product, pieces],
      );
      await forget(partKey('stock', product));
      return affectedRows > 0;
    },
    // #endregion
  };
}

// #region rules
/** When several rules hold, the shortest TTL wins. */
function ttlOf(part: Part, value: Value): number {
  if (value === null) return TTL_MS.absent;
  if ('left' in value && value.left < LOW_STOCK) return TTL_MS.lowStock;
  if ('views' in value && value.views > POPULAR_VIEWS) return TTL_MS.popularStock;
  return TTL_MS[part];
}

/** The letters a to z without case and accents, as every collation compares them that ignores both. Nothing else. */
const folded = (text: string): string =>
  text
    .normalize('NFD')
    .replace(/([a-z])\p{M}*/giu, (_, letter: string) => letter.toLowerCase())
    .normalize('NFC');

const escapedForLike = (text: string): string => text.replace(/[\\%_]/g, '\\$&');

function requireAnswerable({ text, page, size }: Search): void {
  const isWithin = (n: number, most: number) => Number.isInteger(n) && n >= 1 && n <= most;
  if (text.length > LARGEST.text || !isWithin(page, LARGEST.page) || !isWithin(size, LARGEST.size)) {
    throw new InvalidSearchError(`a search has at most ${JSON.stringify(LARGEST)}`);
  }
}
// #endregion
