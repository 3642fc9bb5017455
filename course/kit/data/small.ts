import type { Connection, Pool } from 'mysql2/promise';
import { insertInto, type Row, SCHEMA, type TableName } from './schema';

export type { TableName } from './schema';

/** Small enough to know by heart. The order within a row is that of `columns` in schema.ts. */
const ROWS: Record<TableName, readonly Row[]> = {
  users: [
    [1, 'ada@example.org', 'Ada Lindqvist', 'sv-SE', '2025-01-03 09:15:00.125'],
    [2, 'ben@example.org', 'Ben Okafor', 'en-GB', '2025-02-11 17:40:21.000'],
    [3, 'chloe@example.org', 'Chloé Durand', 'fr-FR', '2025-03-29 23:59:59.999'],
  ],
  categories: [
    [1, null, 'Kitchen', 'kitchen'],
    [2, null, 'Lighting', 'lighting'],
    [3, 1, 'Mugs', 'mugs'],
  ],
  brands: [
    [1, 'Nordlys'],
    [2, 'Fern & Field'],
    [3, 'Okumura'],
  ],
  products: [
    [1, 'Enamel mug, 350 ml', '12.90', 140, 1, '2025-05-01 08:00:00.000', 1, 'White, with a blue rim.'],
    [2, 'Beech cutting board', '34.00', 12, 1, '2025-05-02 08:30:00.250', 2, 'Oiled by hand.'],
    [3, 'Reading lamp, brass', '119.95', 0, 2, '2025-05-03 10:05:00.000', null, ''],
  ],
  product_images: [
    [1, 1, 1, '/img/1-front.webp'],
    [2, 1, 2, '/img/1-side.webp'],
    [3, 2, 1, '/img/2-front.webp'],
    [4, 3, 1, '/img/3-front.webp'],
  ],
  reviews: [
    [1, 1, 2, 5, 'Survived two winters of camping.', '2025-05-04 19:02:11.500'],
    [2, 1, 3, 4, 'The rim chips when you drop it.', '2025-05-06 07:45:00.000'],
    [3, 2, 1, 3, 'Smaller than it looks.', '2025-05-07 12:00:00.000'],
    [4, 1, 1, 5, 'Bought four more.', '2025-05-09 21:30:30.030'],
  ],
  inventory: [
    [1, 'BER', 100, '2025-05-01 08:00:00.000'],
    [1, 'LYS', 40, '2025-05-01 08:00:00.000'],
    [2, 'BER', 12, '2025-05-02 08:30:00.250'],
    [3, 'BER', 0, '2025-05-03 10:05:00.000'],
  ],
  orders: [
    [1, 2, 1, 2, '25.80', 'shipped', '2025-05-03 18:20:00.000'],
    [2, 3, 1, 1, '12.90', 'shipped', '2025-05-04 09:00:00.000'],
    [3, 1, 2, 1, '34.00', 'placed', '2025-05-10 10:10:10.100'],
  ],
  posts: [
    [1, 1, 'First coffee from the new mug.', '2025-05-05 06:30:00.000'],
    [2, 2, 'Bread day.', '2025-05-05 08:00:00.000'],
    // Two posts of the same millisecond: a feed needs a second order.
    [3, 2, 'The crust held.', '2025-05-05 11:45:00.000'],
    [4, 3, 'Lamp is up.', '2025-05-05 11:45:00.000'],
    [5, 1, 'Second coffee.', '2025-05-06 06:31:00.000'],
  ],
  // Ada follows both others, Ben follows Ada, and Chloé follows nobody.
  follows: [
    [1, 2, '2025-04-01 10:00:00.000'],
    [1, 3, '2025-04-02 10:00:00.000'],
    [2, 1, '2025-04-03 10:00:00.000'],
  ],
  likes: [
    [1, 2, '2025-05-05 06:40:00.000'],
    [1, 3, '2025-05-05 07:10:00.000'],
    [3, 1, '2025-05-05 12:00:00.000'],
  ],
  comments: [
    [1, 1, 2, 'Which roast?', '2025-05-05 06:41:00.000'],
    [2, 1, 1, 'A light one.', '2025-05-05 06:44:00.000'],
    [3, 3, 1, 'Send the recipe.', '2025-05-05 12:01:00.000'],
  ],
  events: [
    [1, 2, 1, 'view', null, '2025-05-03 18:10:00.000'],
    [2, 2, 1, 'cart', null, '2025-05-03 18:15:00.000'],
    [3, 2, 1, 'purchase', '25.80', '2025-05-03 18:20:00.000'],
    [4, 3, 1, 'view', null, '2025-05-04 08:55:00.000'],
    [5, 3, 1, 'purchase', '12.90', '2025-05-04 09:00:00.000'],
    [6, 1, 3, 'view', null, '2025-05-09 20:00:00.000'],
    [7, 1, 2, 'view', null, '2025-05-10 10:00:00.000'],
    [8, 1, 2, 'purchase', '34.00', '2025-05-10 10:10:10.100'],
  ],
};

/** Creates the named tables, empty; what had those names is dropped. */
export async function createTables(db: Connection | Pool, names: readonly TableName[]): Promise<void> {
  for (const name of names) {
    await db.query(`DROP TABLE IF EXISTS ${name}`);
    await db.query(SCHEMA[name].create);
  }
}

/** Puts exactly the small data set into the named tables. One commit: this runs before every test. */
export async function fillTables(db: Pool, names: readonly TableName[]): Promise<void> {
  if (names.length === 0) return;
  const connection = await db.getConnection();
  try {
    await connection.query('SET SESSION innodb_lock_wait_timeout = 1');
    await connection.beginTransaction();
    for (const name of names) {
      await connection.query(`DELETE FROM ${name}`);
      await connection.query(`${insertInto(name)} ?`, [ROWS[name]]);
    }
    await connection.commit();
    await connection.query('SET SESSION innodb_lock_wait_timeout = DEFAULT');
    connection.release();
  } catch (error) {
    connection.destroy();
    throw isLockWait(error)
      ? new Error('a transaction is still open: commit or roll back on every path, also after an error', {
          cause: error,
        })
      : error;
  }
}

const isLockWait = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ER_LOCK_WAIT_TIMEOUT';
