import type { Connection, Pool } from 'mysql2/promise';

/** Tables of the shop and of the social network that a lab can ask for. */
export type TableName = keyof typeof TABLES;

interface Table {
  readonly create: string;
  readonly columns: readonly string[];
  readonly rows: readonly (readonly unknown[])[];
}

const TABLES = {
  users: {
    create: `CREATE TABLE users (
      id BIGINT UNSIGNED PRIMARY KEY, email VARCHAR(190) NOT NULL UNIQUE, name VARCHAR(100) NOT NULL,
      locale CHAR(5) NOT NULL, created_at DATETIME(3) NOT NULL)`,
    columns: ['id', 'email', 'name', 'locale', 'created_at'],
    rows: [
      [1, 'ada@example.org', 'Ada Lindqvist', 'sv-SE', '2025-01-03 09:15:00.125'],
      [2, 'ben@example.org', 'Ben Okafor', 'en-GB', '2025-02-11 17:40:21.000'],
      [3, 'chloe@example.org', 'Chloé Durand', 'fr-FR', '2025-03-29 23:59:59.999'],
    ],
  },
  products: {
    create: `CREATE TABLE products (
      id BIGINT UNSIGNED PRIMARY KEY, name VARCHAR(200) NOT NULL, price DECIMAL(10,2) NOT NULL,
      stock INT NOT NULL, category_id INT NOT NULL, updated_at DATETIME(3) NOT NULL)`,
    columns: ['id', 'name', 'price', 'stock', 'category_id', 'updated_at'],
    rows: [
      [1, 'Enamel mug, 350 ml', '12.90', 140, 1, '2025-05-01 08:00:00.000'],
      [2, 'Beech cutting board', '34.00', 12, 1, '2025-05-02 08:30:00.250'],
      [3, 'Reading lamp, brass', '119.95', 0, 2, '2025-05-03 10:05:00.000'],
    ],
  },
} as const satisfies Record<string, Table>;

/** Creates the named tables, empty. */
export async function createTables(db: Connection, names: readonly TableName[]): Promise<void> {
  for (const name of names) await db.query(TABLES[name].create);
}

/** Puts exactly the small data set into the named tables. */
export async function fillTables(db: Pool, names: readonly TableName[]): Promise<void> {
  for (const name of names) {
    const { columns, rows } = TABLES[name];
    await db.query(`DELETE FROM ${name}`);
    await db.query(`INSERT INTO ${name} (${columns.join(', ')}) VALUES ?`, [rows]);
  }
}
