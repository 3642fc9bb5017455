import type { Redis } from 'ioredis';
import type { Pool, ResultSetHeader, RowDataPacket } from 'mysql2/promise';
import { withDeadline } from '#kit/given';
import * as given from '../given';

interface Options {
  readonly redis: Redis;
  readonly db: Pool;
  readonly onCacheError?: (error: unknown) => void;
  readonly loadMs?: number;
}

export const createShop = (options: Options) => new CachedShop(options);

/** A class. Five GETs in a pipeline are one round trip too, and nobody waits for the fill. */
class CachedShop {
  readonly #redis: Redis;
  readonly #db: Pool;
  readonly #onCacheError: (error: unknown) => void;

  readonly #loadMs: number;

  constructor({ redis, db, onCacheError = () => {}, loadMs = given.LOAD_MS }: Options) {
    this.#loadMs = loadMs;
    this.#redis = redis;
    this.#db = db;
    this.#onCacheError = onCacheError;
  }

  async page(at: given.Address): Promise<given.Page | null> {
    const pipeline = this.#redis.pipeline();
    for (const part of given.PARTS) pipeline.getBuffer(given.partKey(part, given.idOf(part, at)));
    const answers = await pipeline.exec().catch((error: unknown) => {
      this.#onCacheError(error);
      return null;
    });
    const failed = answers === null || answers.some(([error]) => error !== null);
    const parts: Partial<Record<given.Part, given.Value>> = {};
    await Promise.all(
      given.PARTS.map(async (part, i) => {
        const [error, bytes] = answers?.[i] ?? [];
        if (error) this.#onCacheError(error);
        const value = await this.#part(
          part,
          given.idOf(part, at),
          Buffer.isBuffer(bytes) ? bytes : null,
          !failed,
        );
        if (value !== undefined) parts[part] = value;
      }),
    );
    return given.toPage(at, parts);
  }

  async #part(part: given.Part, id: number, bytes: Buffer | null, mayStore: boolean) {
    try {
      if (bytes) return given.decode(part, bytes);
    } catch (error) {
      this.#onCacheError(error);
    }
    try {
      const value = await withDeadline(given.loadPart(this.#db, part, id), this.#loadMs);
      if (mayStore) this.#store(given.partKey(part, id), value, this.#ttlMs(part, value));
      return value;
    } catch (error) {
      if (given.OPTIONAL.has(part)) return undefined;
      throw error;
    }
  }

  #store(key: string, value: given.Value, ttlMs: number): void {
    this.#redis.psetex(key, ttlMs, given.encode(value)).catch(this.#onCacheError);
  }

  #ttlMs(part: given.Part, value: given.Value): number {
    if (value === null) return given.TTL_MS.absent;
    const rules: number[] = [];
    if ('left' in value && value.left < given.LOW_STOCK) rules.push(given.TTL_MS.lowStock);
    if ('views' in value && value.views > given.POPULAR_VIEWS) rules.push(given.TTL_MS.popularStock);
    return rules.length > 0 ? Math.min(...rules) : given.TTL_MS[part];
  }

  async search({ text, page, size }: given.Search): Promise<readonly given.Listed[]> {
    const { LARGEST } = given;
    const isValid =
      [page, size].every((each) => Number.isSafeInteger(each) && each > 0) &&
      page <= LARGEST.page &&
      size <= LARGEST.size &&
      text.length <= LARGEST.text;
    if (!isValid) throw new given.InvalidSearchError('no such page of results');
    const asked = [...text.normalize('NFC')].map(base).join('');
    const key = `search:${JSON.stringify([asked, page, size])}`;
    let mayStore = true;
    try {
      const bytes = await this.#redis.getBuffer(key);
      if (bytes) return given.decode('list', bytes) as readonly given.Listed[];
    } catch (error) {
      this.#onCacheError(error);
      mayStore = error instanceof TypeError;
    }
    const searching = this.#db.query<(given.Listed & RowDataPacket)[]>(
      `${given.SELECT_FOUND} ESCAPE '|' ORDER BY view_count DESC, id DESC LIMIT ? OFFSET ?`,
      [`%${asked.replaceAll(/[|%_]/g, '|$&')}%`, size, (page - 1) * size],
    );
    const [found] = await withDeadline(searching, this.#loadMs);
    if (mayStore) this.#store(key, found, given.TTL_MS.list);
    return found;
  }

  async setPrice(product: number, price: string): Promise<void> {
    const category = await given.updatePrice(this.#db, product, price);
    await this.#forget([given.partKey('core', product), given.partKey('list', category ?? 0)]);
  }

  async addReview(product: number, review: given.Review): Promise<void> {
    await given.insertReview(this.#db, product, review);
    await this.#forget([given.partKey('rating', product)]);
  }

  async move(product: number, category: number): Promise<void> {
    const from = await given.updateCategory(this.#db, product, category);
    await this.#forget([
      given.partKey('core', product),
      ...[from ?? category, category].map((id) => given.partKey('list', id)),
    ]);
  }

  async buy(product: number, pieces: number): Promise<boolean> {
    if (!(pieces >= 1 && Number.isSafeInteger(pieces))) return false;
    const [{ affectedRows }] = await this.#db.query<ResultSetHeader>(
      'UPDATE products SET stock = stock - ? WHERE id = ? AND stock - ? >= 0',
      [pieces, product, pieces],
    );
    if (affectedRows === 0) return false;
    await this.#forget([given.partKey('stock', product)]);
    return true;
  }

  async #forget(keys: readonly string[]): Promise<void> {
    try {
      await this.#redis.unlink(...keys);
    } catch (error) {
      this.#onCacheError(error);
    }
  }
}

/** A letter of the Latin-1 and Latin Extended-A blocks without its accent, and small. */
function base(letter: string): string {
  const [first = ''] = letter.normalize('NFD');
  return /^[a-zA-Z]$/.test(first) ? first.toLowerCase() : letter;
}
