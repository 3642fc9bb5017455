import type { RowDataPacket } from 'mysql2/promise';
import { expect, test } from 'vitest';
import { loadShop } from '../course/claims/data/large';
import { createTables, fillTables, type TableName } from '../course/kit/data/small';
import { useServers } from '../course/kit/servers';

const servers = useServers('users', 'products', 'posts', 'likes');

test('the large shop is complete, and its tables agree with each other', async () => {
  await loadShop(servers.db);
  expect(await numbers(COUNTS)).toEqual({ users: 2000, products: 10_000, reviews: 50_000, events: 200_000 });
  expect(await numbers(DISAGREEMENTS)).toEqual({ stock: 0, amounts: 0, nobody: 0, selfFollowers: 0 });
}, 60_000);

test('loading again repairs what a measure has changed, and leaves the rest', async () => {
  await loadShop(servers.db);
  const before = await numbers(FINGERPRINT);
  await servers.db.query('UPDATE products SET stock = stock - 1 WHERE id = 7');
  await servers.db.query('DROP TABLE brands');
  expect(await numbers('SELECT SUM(stock * id) AS stock FROM products')).not.toEqual({ stock: before.stock });

  const repaired = await servers.work(() => loadShop(servers.db));
  expect(await numbers(FINGERPRINT)).toEqual(before);
  expect(repaired.sql('create_table'), 'products, brands, and the checksums that are there').toBe(3);
}, 60_000);

test('a transaction that a test has left open is named, not waited for', async () => {
  await createTables(servers.db, ['users']);
  await fillTables(servers.db, ['users']);
  const forgotten = await servers.db.getConnection();
  await forgotten.beginTransaction();
  await forgotten.query("UPDATE users SET name = 'x'");
  try {
    await expect(fillTables(servers.db, ['users'])).rejects.toThrow('a transaction is still open');
  } finally {
    await forgotten.rollback();
    forgotten.release();
  }
});

const COUNTS = `SELECT ${(['users', 'products', 'reviews', 'events'] satisfies TableName[])
  .map((name) => `(SELECT COUNT(*) FROM ${name}) AS ${name}`)
  .join(', ')}`;

const DISAGREEMENTS = `SELECT
  (SELECT COUNT(*) FROM products p WHERE stock <>
    (SELECT COALESCE(SUM(on_hand), 0) FROM inventory i WHERE i.product_id = p.id)) AS stock,
  (SELECT COUNT(*) FROM events e JOIN products p ON p.id = e.product_id
    WHERE (kind = 'purchase' AND amount <> price) OR (kind = 'purchase') <> (amount IS NOT NULL)) AS amounts,
  (SELECT COUNT(*) FROM reviews LEFT JOIN users ON users.id = user_id WHERE users.id IS NULL) AS nobody,
  (SELECT COUNT(*) FROM follows WHERE follower_id = followed_id) AS selfFollowers`;

const FINGERPRINT = 'SELECT SUM(stock * id) AS stock, (SELECT COUNT(*) FROM brands) AS brands FROM products';

async function numbers(sql: string): Promise<Record<string, number>> {
  const [rows] = await servers.db.query<RowDataPacket[]>(sql);
  return Object.fromEntries(Object.entries(rows[0] ?? {}).map(([name, value]) => [name, Number(value)]));
}
