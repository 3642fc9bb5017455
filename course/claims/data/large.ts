import type { Pool, PoolConnection, RowDataPacket } from 'mysql2/promise';
import { insertInto, type Row, SCHEMA, type TableName } from '../../kit/data/schema';
import { REPEATS, SHOP } from './large-shop';
import { SOCIAL } from './large-social';

const ROWS: Readonly<Record<TableName, () => Iterable<Row>>> = { ...SHOP, ...SOCIAL };
const TABLES = Object.keys(SCHEMA) as TableName[];

/** Characters. A longer statement gains nothing, and leaves the server waiting while it is put together. */
const STATEMENT_LENGTH = 64_000;

/**
 * The large data set: 10k products, 50k reviews, 200k events and what belongs to them, the same rows each time.
 * A table that holds them already stays; one that a measure has changed is made again.
 */
export async function loadShop(db: Pool): Promise<void> {
  const connection = await db.getConnection();
  try {
    const changed = await changedTables(connection);
    if (changed.length === 0) return;
    for (const name of changed) await load(connection, name);
    await remember(connection);
    await connection.query(`ANALYZE TABLE ${changed.join(', ')}`);
  } finally {
    connection.release();
  }
}

async function load(connection: PoolConnection, name: TableName): Promise<void> {
  await connection.query(`DROP TABLE IF EXISTS ${name}`);
  await connection.query(SCHEMA[name].create);
  await connection.beginTransaction();
  // The next statement is put together while the server works on this one.
  let inserted: Promise<unknown> = Promise.resolve();
  for (const statement of inserts(name)) {
    await inserted;
    inserted = connection.query(statement);
  }
  await inserted;
  for (const statement of REPEATS[name] ?? []) await connection.query(statement);
  await connection.commit();
}

function* inserts(name: TableName): Iterable<string> {
  let tuples = '';
  for (const row of ROWS[name]()) {
    tuples += `${tuples === '' ? '' : ','}(${row.map(literal).join(',')})`;
    if (tuples.length < STATEMENT_LENGTH) continue;
    yield `${insertInto(name)} ${tuples}`;
    tuples = '';
  }
  if (tuples !== '') yield `${insertInto(name)} ${tuples}`;
}

/** Only for the words of this folder: no quotes and no backslashes are in them. User input is bound, never written out. */
const literal = (value: string | number | null) => (typeof value === 'string' ? `'${value}'` : String(value));

/** The servers' own checksums, of the tables as they were when they had been loaded. */
async function changedTables(connection: PoolConnection): Promise<TableName[]> {
  await connection.query(
    'CREATE TABLE IF NOT EXISTS shop_checksums (name VARCHAR(64) PRIMARY KEY, checksum BIGINT NULL)',
  );
  const [kept] = await connection.query<RowDataPacket[]>('SELECT name, checksum FROM shop_checksums');
  const loaded = new Map(kept.map((row) => [row.name, row.checksum]));
  if (loaded.size === 0) return TABLES;
  const now = await checksums(connection);
  return TABLES.filter((name) => now.get(name) === null || now.get(name) !== loaded.get(name));
}

async function remember(connection: PoolConnection): Promise<void> {
  await connection.query('REPLACE INTO shop_checksums (name, checksum) VALUES ?', [
    [...(await checksums(connection))],
  ]);
}

/** Null for a table that is not there. */
async function checksums(connection: PoolConnection): Promise<Map<TableName, number | null>> {
  const [rows] = await connection.query<RowDataPacket[]>(`CHECKSUM TABLE ${TABLES.join(', ')}`);
  return new Map(TABLES.map((name, index) => [name, rows[index]?.Checksum ?? null]));
}
